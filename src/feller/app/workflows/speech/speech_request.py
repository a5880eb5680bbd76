"""From what a person asks of a model of speech to scripts."""

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
"""Recordings of which one is worked on."""
NEEDS = (
    ("style", "content", "name the recording that is to be said in that manner"),
    ("denoise", "span", "name from when to when, in seconds, such as --span 1.2:2.0"),
    ("span", "denoise", "name the recording that it is a part of"),
    ("edit", "text", "name what is to be said instead, all of it"),
    ("voice", "text", "name what is to be said in this voice"),
    ("durations", "text", "name what lasts so long"),
)
"""What does not go without another."""


@dataclass(frozen=True, eq=False)
class SpeechRequest:
    """What is to be made."""

    make_script: Callable[[str], Script]
    """Makes a script of a text, or the one script where there is none."""
    text: str = ""
    """What may be said in pieces; empty where there is one script."""
    prompt_frames: int = 0
    """Frames of a recording that stand before each piece."""


def parse_request(config: SampleConfig, kind: Speech, transcribe: Transcriber, reporter: Reporter) -> SpeechRequest:
    """Return what is to be made.

    Args:
        config: What a person asks.
        kind: Of the model.
        transcribe: Finds out what is said in a recording.
        reporter: Hears what was done to recordings.

    Raises:
        InputError: If a file or a text is not what it must be.
        UsageError: If things are asked that exclude each other, or nothing is.
    """
    options, edit = config.speech, config.document.edit
    _check(values_of(options) | {"edit": edit})
    if options.language is not None and kind.inventory.english:
        raise UsageError(
            "is of models of other phones, and this one says English", remedy="Leave it out", argument="language"
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
        room = max(kind.room - len(content.mel), kind.room // 2)
        return _one(style_transfer_script(truncate_clip(clip("style"), room, reporter), content))
    text = options.text or ""
    if edit:
        words = phonemize(kind, text, spells_unknown=options.spell, language=options.language)
        script = _with_table_durations(
            editing_script(_check_length(kind, clip("edit")), text, words), options.durations
        )
        if script.is_unchanged:
            reporter.log("nothing is to change: the recording says this text already, and is written as it is")
        return _one(script)
    phonemize(kind, text, spells_unknown=options.spell, language=options.language)  # all of it, before pieces are
    voice = truncate_clip(clip("voice"), kind.room // 2, reporter) if options.voice else None

    def build(piece: str) -> Script:
        words = phonemize(kind, piece, spells_unknown=options.spell, language=options.language)
        script = text_script(words) if voice is None else voice_prompt_script(voice, words)
        return _with_table_durations(script, options.durations)

    return SpeechRequest(build, text, 0 if voice is None else len(voice.mel))


def _check_length(kind: Speech, clip: AlignedRecording) -> AlignedRecording:
    """Refuse a recording that is longer than any that the model has learned from."""
    if len(clip.mel) > kind.longest:
        raise InputError(
            f"at most the {kind.longest / FRAMES:g} s of what the model has learned from",
            f"{len(clip.mel) / FRAMES:.2f} s",
            "Cut it at a pause",
            place=clip.name,
        )
    return clip


def _one(script: Script) -> SpeechRequest:
    return SpeechRequest(lambda said: script)


def _check(options: Mapping[str, Any]) -> None:
    """Refuse what does not go together."""
    tasks = [name for name in TASKS if options[name]]
    if len(tasks) > 1:
        raise UsageError(f"--{tasks[0]} or --{tasks[1]}", "both", "Choose one", argument=tasks[0])
    for name, other, remedy in NEEDS:
        if options[name] and options[other] in (None, ()):
            raise UsageError(f"needs --{other}: {remedy}", argument=name)
    if options["text"] is None and not tasks:
        raise UsageError(
            'what is to be said? --text "..." (with --voice FILE in the voice of a recording), or --edit, --denoise or'
            " --content FILE"
        )
    if options["span"] is not None:
        _frames(options["span"])
    if options["text"] is None:
        return
    if options["denoise"] or options["content"]:
        raise UsageError("says again what was said", remedy="Leave --text out, or use --edit", argument=tasks[0])
    if not options["text"].strip():
        raise UsageError("words behind --text", "none")


def _frames(span: str) -> tuple[int, int]:
    """Return the first frame that a span touches, and the one behind the last."""
    times = SPAN.fullmatch(span.strip())
    if times is None:
        raise UsageError("FROM:TO in seconds, such as 1.2:2.0", repr(span[:40]), argument="span")
    first, last = (round(float(time) * FRAMES, 6) for time in times.groups())
    if first >= last:
        raise UsageError("FROM:TO in seconds, where TO comes after FROM", repr(span[:40]), argument="span")
    return math.floor(first), math.ceil(last)


def _denoise_script(clip: AlignedRecording, span: str, reporter: Reporter) -> Script:
    """Return the script of a recording without a span; says so where whole phones reach beyond it."""
    first, last = _frames(span)
    if last == len(clip.mel) + 1:  # behind the last whole frame of a sound there may be a part of one
        last -= 1
    script = denoising_script(clip, first, last)
    new = [i for i, part in enumerate(script.parts) if not part.is_recorded and part.length]
    begin, end = script.starts[new[0]], script.starts[new[-1]] + script.lengths[new[-1]]
    if (begin, end) != (first, last):
        reporter.log(f"phones are said again as wholes: {begin / FRAMES:.2f} to {end / FRAMES:.2f} s")
    return script


def _with_table_durations(script: Script, table: str | None) -> Script:
    """Return a script with the durations of a table, which is of all that is wanted."""
    if table is None:
        return script
    path = pathlib.Path(table)
    if not path.is_file():
        raise InputError("a table of durations", "a folder" if path.is_dir() else "none", "Name a file", file=path)
    before, new_parts = script.parts[: script.prompt_length], script.parts[script.prompt_length :]
    durations = read_durations(path, tuple(part.phone for part in new_parts))
    for part, frames in zip(new_parts, durations, strict=True):
        if part.length not in (None, frames):
            raise InputError(
                f"{part.phone} is kept from the recording, where it lasts {part.length}, not {frames}", file=path
            )
    return script.with_durations((*(part.length or 0 for part in before), *durations))
