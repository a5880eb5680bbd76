"""Tabs for speech models: text to speech, and editing, denoising and restyling of recordings."""

import itertools
import pathlib
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.reporter import Reporter
from feller.app.webui.condition_controls import guidance_control, guidance_from
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.tab import Answers, CaptionedImage, OutputKind, PageContext, Tab, TabResult
from feller.app.webui.widgets import canvas, canvas_value, choice, number, read_canvas, seed, sound, text_field
from feller.app.workflows.speech.sample_speech import utter
from feller.app.workflows.speech.synthesize import GUIDANCE
from feller.core.errors import InputError, UsageError
from feller.data.speech.modality import Speech

GROUND, INK = (24, 28, 33), (108, 195, 216)
"""Colours of the waveform's background and line; dark, so that the brush strokes are visible."""


def wave(path: pathlib.Path, size: tuple[int, int]) -> Image.Image:
    """Draw the waveform of a recording: each pixel column shows the minimum and maximum of its samples.

    Raises:
        InputError: If the file is not an audio file.
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
    """Return the duration of a recording in seconds."""
    samples, rate = _read_audio(path)
    return len(samples) / rate


def _read_audio(path: pathlib.Path) -> tuple[np.ndarray, int]:
    from feller.data.speech.audio_io import read_sound  # needs the packages of speech

    sound = read_sound(path).sound
    return np.asarray(sound.samples, dtype=np.float64), sound.sample_rate


REFUSED, SPELLED = "reject", "spell letter by letter"
SPAN_TOLERANCE = 0.01
"""Maximum time in seconds by which a span may extend past the end of the recording, because its duration is shown
rounded."""
MAX_SECONDS = 600.0
"""Maximum duration in seconds of a recording on whose waveform a span can be marked."""
RECORDING_LABEL, TRANSCRIPT_LABEL = "Recording", "Transcript"
VOICE_TRANSCRIPT_LABEL, STYLE_TRANSCRIPT_LABEL = "Transcript of the voice", "Transcript of the style"
STYLE = "Voice and style"
"""Label of the control for voice and style, which error messages quote."""
WAVE = (640, 120)
"""Width and height of the waveform image in pixels."""


def _speech_tab(run: LoadedRun, page: PageContext, controls: dict[str, Any], request: Any, **more: Any) -> Tab | None:
    """Return a tab that generates speech; None for other models.

    `request` is a function from the values of the controls to options of `SampleConfig` and a message; `more` are
    further fields of `Tab`.
    """
    speech = run.modality_as(Speech)
    if speech is None or speech.duration_regressor is None:
        return None
    spelled = {}
    if speech.inventory.english:  # only English uses a dictionary
        spelled = {"spell": choice("Words missing in the dictionary", (REFUSED, SPELLED))}

    def synthesize(answers: Answers, reporter: Reporter) -> TabResult:
        options, message = request(answers)
        options |= {"spell": answers.get("spell") == SPELLED, "out": str(page.new_result_folder() / "speech.wav")}
        config = config_of(SampleConfig, guidance=guidance_from(answers), seed=answers["seed"], **options)
        _, file = utter(run.run, config, reporter=reporter)
        shown = (CaptionedImage("Spectrogram", file.with_suffix(".png")),)
        return TabResult(message=message, sounds=(file,), pictures=shown, files=(file,))

    hint = "Classifier-free guidance: 1 is off, larger values follow text and voice more closely."
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
    """Return a recording and its transcript; raises UsageError with the labels of the controls if either is missing."""
    if file is None:
        raise UsageError("upload a recording first", place=what)
    if not transcript.strip():
        raise UsageError(f'enter the words of the recording into "{transcript_label}"')
    return file, transcript.strip()


def text_to_speech_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that speaks a text; None for other models."""

    def request(answers: Answers) -> tuple[dict[str, Any], str]:
        voice = answers["voice"] and _recording(answers["voice"], answers["said"], "Voice", VOICE_TRANSCRIPT_LABEL)
        return {"text": answers["text"], "voice": voice or (), "speed": answers["speed"]}, ""

    return _speech_tab(
        run,
        page,
        {
            "text": text_field("Text", example="The rest is silence.", lines=3),
            "voice": sound("Voice"),
            "said": text_field(VOICE_TRANSCRIPT_LABEL),
            "speed": number("Speed", 1.0, 0.5, 2.0, is_integer=False),
        },
        request,
        name="Text to speech",
        description="Synthesize a text, optionally in the voice of a recording of a few seconds.",
        button="Synthesize",
    )


def edit_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that edits the words of a recording; None for other models."""

    def request(answers: Answers) -> tuple[dict[str, Any], str]:
        return {"edit": _recording(answers["edit"], answers["said"]), "text": answers["text"]}, ""

    return _speech_tab(
        run,
        page,
        {
            "edit": sound(RECORDING_LABEL),
            "said": text_field(TRANSCRIPT_LABEL),
            "text": text_field("New transcript, complete", lines=2),
        },
        request,
        name="Edit",
        description="Change words of a recording. The parts common to both transcripts are kept.",
        button="Edit",
    )


def denoise_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that regenerates a noisy time span of a recording; None for other models."""

    def request(answers: Answers) -> tuple[dict[str, Any], str]:
        recording = _recording(answers["denoise"], answers["said"])
        begin, end = span(answers, length_of(pathlib.Path(recording[0])))
        return {"denoise": recording, "span": f"{begin:g}:{end:g}"}, f"marked: {begin:.2f} to {end:.2f} s"

    def draw_wave(file: str | None) -> Any:
        try:
            return None if file is None else canvas_value(wave(pathlib.Path(file), WAVE))
        except (InputError, UsageError):
            return None  # the error is shown when the button is pressed

    seconds = {"minimum": 0.0, "maximum": MAX_SECONDS, "is_integer": False, "is_slider": False}
    tab = _speech_tab(
        run,
        page,
        {
            "denoise": sound(RECORDING_LABEL),
            "said": text_field(TRANSCRIPT_LABEL),
            "span": canvas("Mark the span", WAVE, brush=min(WAVE) // 3, own=False, elem_class="wave"),
            "begin": number("Start of the span in seconds", 0.5, hint="Used if no span is marked.", **seconds),
            "end": number("End of the span in seconds", 1.0, **seconds),
        },
        request,
        name="Denoise",
        description="Mark a noisy span of a recording. It is regenerated from the transcript and the context.",
        button="Regenerate",
    )
    return tab and replace(tab, dependent_controls={"span": ("denoise", draw_wave)})


def span(answers: Answers, length: float) -> tuple[float, float]:
    """Return the start and end in seconds of the span marked on the waveform; without a mark, of the entered span.

    Raises:
        UsageError: If the entered span is empty or ends after the recording.
    """
    below, mask = read_canvas(answers["span"])
    if below is not None and mask is not None and (box := mask.getbbox()) is not None:
        begin, end = (round(length * x / below.width, 3) for x in (box[0], box[2]))
        return begin, min(end, length)
    begin, end = answers["begin"], answers["end"]
    if begin >= end:
        raise UsageError("a span that ends after its start", f"{begin:g} to {end:g} seconds")
    if end > length + SPAN_TOLERANCE:
        raise UsageError(
            f"a span within the recording of {length:.2f} seconds", f"a span from {begin:g} to {end:g} seconds"
        )
    return begin, min(end, length)


def restyle_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that speaks a recording again in another voice and style; None for other models."""

    def request(answers: Answers) -> tuple[dict[str, Any], str]:
        content = _recording(answers["content"], answers["said"])
        style = answers["style"] and _recording(answers["style"], answers["style_said"], STYLE, STYLE_TRANSCRIPT_LABEL)
        return {"content": content, "style": style or ()}, ""

    return _speech_tab(
        run,
        page,
        {
            "content": sound(RECORDING_LABEL),
            "said": text_field(TRANSCRIPT_LABEL),
            "style": sound(STYLE),
            "style_said": text_field(STYLE_TRANSCRIPT_LABEL),
        },
        request,
        name="Restyle",
        description="Resynthesize a recording with its timing in the voice and style of another; without one, in a"
        " random voice.",
        button="Convert",
    )
