"""Tabs of speech: speak a text, edit and clean recordings."""

import itertools
import pathlib
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.reporter import Reporter
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.tab import (
    Answers,
    CaptionedImage,
    OutputKind,
    PageContext,
    Tab,
    TabResult,
    guidance_control,
    guidance_from,
)
from feller.app.webui.widgets import canvas, canvas_value, choice, number, read_canvas, seed, sound, text
from feller.app.workflows.speech.sample_speech import utter
from feller.app.workflows.speech.synthesize import GUIDANCE
from feller.core.errors import InputError, UsageError
from feller.data.speech.modality import Speech

GROUND, INK = (24, 28, 33), (108, 195, 216)
"""Dark, so that white drawn over it is seen."""


def wave(path: pathlib.Path, size: tuple[int, int]) -> Image.Image:
    """Draw the loudest sample to either side in each column.

    Raises:
        InputError: If it is no sound.
    """
    samples = _read_audio(path)[0]
    width, height = size
    image = Image.new("RGB", size, GROUND)
    pen, top = ImageDraw.Draw(image), max(float(np.abs(samples).max(initial=0.0)), 1e-9)
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    for x, (begin, end) in enumerate(itertools.pairwise(edges)):
        some = samples[begin : max(end, begin + 1)]
        low, high = (float(some.min(initial=0.0)) / top, float(some.max(initial=0.0)) / top)
        middle, half = height / 2, 0.46 * height
        pen.line((x, middle - half * high, x, middle - half * low), fill=INK)
    return image


def length_of(path: pathlib.Path) -> float:
    """Return the seconds of a recording."""
    samples, rate = _read_audio(path)
    return len(samples) / rate


def _read_audio(path: pathlib.Path) -> tuple[np.ndarray, int]:
    from feller.data.speech.audio_io import read_sound  # needs what speech needs

    sound = read_sound(path).sound
    return np.asarray(sound.samples, dtype=np.float64), sound.sample_rate


REFUSED, SPELLED = "are refused", "are said letter by letter"
SPAN_TOLERANCE = 0.01
"""Seconds by which a span may be longer than its recording, of which people see two digits."""
MAX_SECONDS = 600.0
"""Of a recording in which a span is marked."""
RECORDING_LABEL, TRANSCRIPT_LABEL = "Recording", "What is said in it"
VOICE_TRANSCRIPT_LABEL, STYLE_TRANSCRIPT_LABEL = "What is said in that recording", "What is said in that one"
STYLE = "In the voice and manner of"
"""Labels, which messages quote."""
WAVE = (640, 120)
"""Pixels of the picture of a recording."""


def _speech_tab(run: LoadedRun, page: PageContext, controls: dict[str, Any], request: Any, **more: Any) -> Tab | None:
    """Return a tab that says something.

    Args:
        run: The run.
        page: What is around the tab.
        controls: What is set, besides what is set of all that is said.
        request: Answers -> options of what is said, and a line about it.
        more: Name, button and what it does, in words, of the tab.
    """
    speech = run.modality_as(Speech)
    if speech is None or speech.duration_regressor is None:
        return None
    spelled = {}
    if speech.inventory.english:  # only the words of English are looked for in a dictionary
        spelled = {"spell": choice("Words that the dictionary lacks", (REFUSED, SPELLED))}

    def synthesize(answers: Answers, reporter: Reporter) -> TabResult:
        options, message = request(answers)
        options |= {"spell": answers.get("spell") == SPELLED, "out": str(page.new_result_folder() / "speech.wav")}
        config = config_of(SampleConfig, guidance=guidance_from(answers), seed=answers["seed"], **options)
        _, file = utter(run.run, config, reporter=reporter)
        shown = (CaptionedImage("Its spectrogram", file.with_suffix(".png")),)
        return TabResult(message=message, sounds=(file,), pictures=shown, files=(file,))

    hint = "1 is plain, more follows text and voice more sharply."
    weight = guidance_control(hint, maximum=5.0, value=GUIDANCE)
    return Tab(
        controls={**controls, **spelled, "guidance": weight, "seed": seed()},
        handler=synthesize,
        outputs=(OutputKind.SOUNDS, OutputKind.PICTURES, OutputKind.FILES),
        **more,
    )


def _recording(
    file: str | None, transcript: str, what: str = RECORDING_LABEL, transcript_label: str = TRANSCRIPT_LABEL
) -> tuple[str, str]:
    """Return a recording and what is said in it, both of which are needed.

    Args:
        file: The recording.
        transcript: What was typed.
        what: Label of the former.
        transcript_label: Label of the latter.
    """
    if file is None:
        raise UsageError("upload a recording first", place=what)
    if not transcript.strip():
        raise UsageError(f'type the words of the recording into "{transcript_label}"')
    return file, transcript.strip()


def text_to_speech_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that says a text."""

    def request(answers: Answers) -> tuple[dict[str, Any], str]:
        voice = answers["voice"] and _recording(answers["voice"], answers["said"], "Voice", VOICE_TRANSCRIPT_LABEL)
        return {"text": answers["text"], "voice": voice or (), "speed": answers["speed"]}, ""

    return _speech_tab(
        run,
        page,
        {
            "text": text("Text", example="The rest is silence.", lines=3),
            "voice": sound("Voice"),
            "said": text(VOICE_TRANSCRIPT_LABEL),
            "speed": number("Speed", 1.0, 0.5, 2.0, is_integer=False),
        },
        request,
        name="Say",
        about="Type what is to be said. With a recording, a few seconds of someone speaking, it is said in that voice.",
        button="Say it",
    )


def edit_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that changes words of a recording."""

    def request(answers: Answers) -> tuple[dict[str, Any], str]:
        return {"edit": _recording(answers["edit"], answers["said"]), "text": answers["text"]}, ""

    return _speech_tab(
        run,
        page,
        {
            "edit": sound(RECORDING_LABEL),
            "said": text(TRANSCRIPT_LABEL),
            "text": text("What it shall say instead, all of it", lines=2),
        },
        request,
        name="Edit",
        about="Change words of a recording. What both texts say stays the recording itself.",
        button="Edit",
    )


def denoise_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that says a disturbed part of a recording again."""

    def request(answers: Answers) -> tuple[dict[str, Any], str]:
        recording = _recording(answers["denoise"], answers["said"])
        begin, end = span(answers, length_of(pathlib.Path(recording[0])))
        return {"denoise": recording, "span": f"{begin:g}:{end:g}"}, f"marked: {begin:.2f} to {end:.2f} s"

    def draw_wave(file: str | None) -> Any:
        try:
            return None if file is None else canvas_value(wave(pathlib.Path(file), WAVE))
        except (InputError, UsageError):
            return None  # the button says so

    seconds = {"minimum": 0.0, "maximum": MAX_SECONDS, "is_integer": False, "is_slider": False}
    tab = _speech_tab(
        run,
        page,
        {
            "denoise": sound(RECORDING_LABEL),
            "said": text(TRANSCRIPT_LABEL),
            "span": canvas("Mark the part here", WAVE, brush=min(WAVE) // 3, own=False, elem_class="wave"),
            "begin": number("Or from, in seconds", 0.5, hint="Where nothing is drawn.", **seconds),
            "end": number("To, in seconds", 1.0, **seconds),
        },
        request,
        name="Denoise",
        about="Mark the part of a recording that is disturbed. It is said again from its words and what is around it.",
        button="Say it again",
    )
    return tab and replace(tab, dependent_controls={"span": ("denoise", draw_wave)})


def span(answers: Answers, length: float) -> tuple[float, float]:
    """Return the seconds of what is drawn over the wave, or else of what is typed.

    Args:
        answers: What was set.
        length: Seconds of the recording.

    Raises:
        UsageError: If what is typed does not end after it begins, or ends after the recording.
    """
    below, mask = read_canvas(answers["span"])
    if below is not None and mask is not None and (box := mask.getbbox()) is not None:
        begin, end = (round(length * x / below.width, 3) for x in (box[0], box[2]))
        return begin, min(end, length)
    begin, end = answers["begin"], answers["end"]
    if begin >= end:
        raise UsageError("the span to end after it begins", f"{begin:g} to {end:g} seconds")
    if end > length + SPAN_TOLERANCE:
        raise UsageError(
            f"the recording is {length:.2f} seconds long", found=f"a span from {begin:g} to {end:g} seconds"
        )
    return begin, min(end, length)


def restyle_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that says a recording again in another manner."""

    def request(answers: Answers) -> tuple[dict[str, Any], str]:
        content = _recording(answers["content"], answers["said"])
        style = answers["style"] and _recording(answers["style"], answers["style_said"], STYLE, STYLE_TRANSCRIPT_LABEL)
        return {"content": content, "style": style or ()}, ""

    return _speech_tab(
        run,
        page,
        {
            "content": sound(RECORDING_LABEL),
            "said": text(TRANSCRIPT_LABEL),
            "style": sound(STYLE),
            "style_said": text(STYLE_TRANSCRIPT_LABEL),
        },
        request,
        name="Restyle",
        about="Say a recording again, as it was timed, in the voice and manner of another; without one, in any voice.",
        button="Say it so",
    )
