"""Parsing of requests to speech models into scripts: phones with durations, and the recorded frames to keep."""

import math
import pathlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from feller.app.config import SampleConfig
from feller.app.options import values_of
from feller.app.reporter import Reporter
from feller.app.workflows.speech.recordings import Transcriber, recorded, truncate_clip
from feller.app.workflows.speech.synthesize import phonemize
from feller.core.errors import InputError, UsageError
from feller.data.speech.durations import read_durations
from feller.data.speech.mel import FRAMES
from feller.data.speech.modality import Speech
from feller.data.speech.script import (
    AlignedRecording,
    Script,
    denoising_script,
    editing_script,
    resynthesis_script,
    style_transfer_script,
    text_script,
    voice_prompt_script,
)

SPAN = re.compile(r"(\d{1,6}(?:\.\d*)?|\.\d+):(\d{1,6}(?:\.\d*)?|\.\d+)", re.ASCII)
TASKS = ("denoise", "edit", "content", "voice")
"""Names of the options for tasks that take a recording; at most one of these options can be set."""
NEEDS = (
    ("style", "content", "Name the recording to restyle"),
    ("denoise", "span", "Give start and end in seconds, such as --span 1.2:2.0"),
    ("span", "denoise", "Name the recording that contains it"),
    ("edit", "text", "Give the complete new text"),
    ("voice", "text", "Give the text to speak in this voice"),
    ("durations", "text", "Give the text with these durations"),
)
"""Triples (option, another option that the first option requires, hint for the error message)."""


@dataclass(frozen=True, eq=False)
class SpeechRequest:
    """Request to a speech model: a text, and a function that converts segments of the text to scripts.

    A script lists the phones to synthesize, with durations where these are known, and the recorded frames to keep.
    """

    make_script: Callable[[str], Script]
    """Function from the text of a segment to the script of the segment; it ignores the text if the request has only one
    script."""
    text: str = ""
    """Text that may be split into segments; empty if the request has only one script."""
    prompt_frames: int = 0
    """Number of frames of the voice prompt, which precedes each segment."""


def parse_request(config: SampleConfig, kind: Speech, transcribe: Transcriber, reporter: Reporter) -> SpeechRequest:
    """Parse the options of `feller sample` into a request, which converts its text to scripts for the speech model.

    A script lists the phones to synthesize, with durations where these are known, and the recorded frames to keep.

    Raises:
        InputError: If a file or text is invalid.
        UsageError: If options exclude each other, or if no option requests speech.
    """
    options, edit = config.speech, config.document.edit
    _check(values_of(options) | {"edit": edit})
    if options.language is not None and kind.inventory.english:
        raise UsageError(
            "applies only to models of languages other than English", remedy="Leave it out", argument="language"
        )

    def clip(flag: str) -> AlignedRecording:
        pair = edit if flag == "edit" else getattr(options, flag)
        return recorded(kind, pair, f"--{flag}", transcribe, reporter, spells_unknown=options.spell)

    if options.denoise:
        return _one(_denoise_script(_check_length(kind, clip("denoise")), options.span or "", reporter))
    if options.content:
        content = _check_length(kind, clip("content"))
        if not options.style:
            return _one(resynthesis_script(content))
        max_frames = max(kind.room - len(content.mel), kind.room // 2)
        return _one(style_transfer_script(truncate_clip(clip("style"), max_frames, reporter), content))
    text = options.text or ""
    if edit:
        phones = phonemize(kind, text, spells_unknown=options.spell, language=options.language)
        script = _with_table_durations(
            editing_script(_check_length(kind, clip("edit")), text, phones), options.durations
        )
        if script.is_unchanged:
            reporter.log("the recording already has this text; it is written unchanged")
        return _one(script)
    phonemize(kind, text, spells_unknown=options.spell, language=options.language)  # validates the whole text first
    voice = truncate_clip(clip("voice"), kind.room // 2, reporter) if options.voice else None

    def build(segment: str) -> Script:
        phones = phonemize(kind, segment, spells_unknown=options.spell, language=options.language)
        script = text_script(phones) if voice is None else voice_prompt_script(voice, phones)
        return _with_table_durations(script, options.durations)

    return SpeechRequest(build, text, 0 if voice is None else len(voice.mel))


def _check_length(modality: Speech, clip: AlignedRecording) -> AlignedRecording:
    if len(clip.mel) > modality.longest:
        raise InputError(
            f"at most {modality.longest / FRAMES:g} s, the length of the longest training recording",
            f"{len(clip.mel) / FRAMES:.2f} s",
            "Split the recording at a pause",
            place=clip.name,
        )
    return clip


def _one(script: Script) -> SpeechRequest:
    return SpeechRequest(lambda text: script)


def _check(options: Mapping[str, Any]) -> None:
    """Raise a UsageError for options that are incompatible, or require another one that is missing."""
    tasks = [name for name in TASKS if options[name]]
    if len(tasks) > 1:
        raise UsageError(f"--{tasks[0]} or --{tasks[1]}", "both", "Choose one", argument=tasks[0])
    for name, other, remedy in NEEDS:
        if options[name] and options[other] in (None, ()):
            raise UsageError(f"requires --{other}", remedy=remedy, argument=name)
    if options["text"] is None and not tasks:
        raise UsageError(
            '--text "..." (optionally with --voice FILE), or --edit, --denoise or --content FILE', "none of these"
        )
    if options["span"] is not None:
        _frames(options["span"])
    if options["text"] is None:
        return
    if options["denoise"] or options["content"]:
        raise UsageError(
            "keeps the text of the recording, so it excludes --text",
            remedy="Leave --text out, or use --edit",
            argument=tasks[0],
        )
    if not options["text"].strip():
        raise UsageError("words", "an empty text", argument="text")


def _frames(span: str) -> tuple[int, int]:
    """Parse a time span in seconds into its first frame and its end frame, which is exclusive."""
    match = SPAN.fullmatch(span.strip())
    if match is None:
        raise UsageError("FROM:TO in seconds, such as 1.2:2.0", repr(span[:40]), argument="span")
    begin, end = (round(float(time) * FRAMES, 6) for time in match.groups())
    if begin >= end:
        raise UsageError("FROM:TO in seconds, with FROM before TO", repr(span[:40]), argument="span")
    return math.floor(begin), math.ceil(end)


def _denoise_script(clip: AlignedRecording, span: str, reporter: Reporter) -> Script:
    """Return the script that regenerates a time span; logs a note if the span was extended to whole phones."""
    start, stop = _frames(span)
    if stop == len(clip.mel) + 1:  # the recording may end with a partial frame
        stop -= 1
    script = denoising_script(clip, start, stop)
    new_indices = [i for i, part in enumerate(script.parts) if not part.is_recorded and part.length]
    begin, end = script.starts[new_indices[0]], script.starts[new_indices[-1]] + script.lengths[new_indices[-1]]
    if (begin, end) != (start, stop):
        reporter.log(f"extended to whole phones: {begin / FRAMES:.2f} to {end / FRAMES:.2f} s")
    return script


def _with_table_durations(script: Script, table: str | None) -> Script:
    if table is None:
        return script
    path = pathlib.Path(table)
    if not path.is_file():
        raise InputError("a table of durations", "a folder" if path.is_dir() else "none", "Name a file", file=path)
    prompt_parts, new_parts = script.parts[: script.prompt_length], script.parts[script.prompt_length :]
    durations = read_durations(path, tuple(part.phone for part in new_parts))
    for part, length in zip(new_parts, durations, strict=True):
        if part.length not in (None, length):
            raise InputError(
                f"{part.length} frames for {part.phone}, which is kept from the recording",
                f"{length} frames",
                file=path,
            )
    return script.with_durations((*(part.length or 0 for part in prompt_parts), *durations))
