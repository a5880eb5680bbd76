"""Tab: speak a text, edit and clean recordings."""

import itertools
import pathlib
from dataclasses import replace
from typing import Any, cast

import numpy as np
from PIL import Image, ImageDraw

from feller.app.reporter import Tell
from feller.app.webui.controls import Choice, Control, Number, Sound, Wave, Words
from feller.app.webui.loaded_run import Opened
from feller.app.webui.tab import Ability, Answers, Kind, Outcome, Place, Shown, Tab
from feller.app.webui.tabs.sample import seeded
from feller.app.workflows.speech.sample_speech import utter
from feller.app.workflows.speech.speech_request import Asked
from feller.app.workflows.speech.synthesize import GUIDANCE
from feller.core.errors import UsageError
from feller.data.speech.modality import Speech

GROUND, INK = (24, 28, 33), (108, 195, 216)
"""Dark, so that white drawn over it is seen."""


def wave(path: pathlib.Path, size: tuple[int, int]) -> Image.Image:
    """Draw the loudest sample to either side in each column.

    Raises:
        InputError: If it is no sound.
    """
    samples = _samples(path)[0]
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
    samples, rate = _samples(path)
    return len(samples) / rate


def _samples(path: pathlib.Path) -> tuple[np.ndarray, int]:
    from feller.data.speech.audio_io import read_sound  # needs what speech needs

    found = read_sound(path).sound
    return np.asarray(found.samples, dtype=np.float64), found.rate


SHOWS = (Kind.SOUNDS, Kind.PICTURES, Kind.FILES)
REFUSED, SPELLED = "are refused", "are said letter by letter"
SPELL = ("--spell",)
ROUNDED = 0.01
"""Seconds by which a span may be longer than its recording, of which people see two digits."""
LONGEST = 600.0
"""Seconds of a recording in which a span is marked."""
OLD, OLD_SAID = "Recording", "What is said in it"
VOICE_SAID, STYLE, STYLE_SAID = (
    "What is said in that recording",
    "In the voice and manner of",
    "What is said in that one",
)
"""Labels, which messages quote."""
WAVE = (640, 120)
"""Pixels of its picture."""


def _has(one: Opened, place: Place) -> bool:
    return isinstance(one.modality, Speech) and one.modality.durations is not None


def _usual(one: Opened) -> dict[str, Control]:
    """Return what is set of all that is said; only the words of English are looked for in a dictionary."""
    kind = cast(Speech, one.modality)
    spelled = Choice(label="Words that the dictionary lacks", options=(REFUSED, SPELLED), value=REFUSED, flags=SPELL)
    return {
        **({"spelled": spelled} if kind.inventory.english else {}),
        "guidance": Number(
            label="Guidance",
            hint="1 is plain, more follows text and voice more sharply.",
            value=GUIDANCE,
            least=0.0,
            most=5.0,
            whole=False,
            flags=("--guidance",),
        ),
        "seed": seeded(),
    }


def _made(one: Opened, place: Place, asked: Asked, answers: Answers, tell: Tell, **more: Any) -> Outcome:
    """Say something into a file of the page's own."""
    out = place.scratch.room() / "speech.wav"
    asked = replace(asked, spelled=answers.get("spelled") == SPELLED)
    _, file = utter(
        one.run, asked, 1, out=str(out), guidance=answers["guidance"], seed=answers["seed"], tell=tell, **more
    )
    return Outcome(sounds=(file,), pictures=(Shown("Its spectrogram", file.with_suffix(".png")),), files=(file,))


def _old(flag: str) -> dict[str, Control]:
    """Return what is set of the recording that is changed."""
    return {"recording": Sound(label=OLD, flags=(flag,)), "said": Words(label=OLD_SAID)}


def _recording(path: pathlib.Path | None, said: str, what: str, said_in: str) -> tuple[str, str]:
    """Return a recording and what is said in it, both of which are needed.

    Args:
        path: Of the recording.
        said: What was typed.
        what: Label of the former.
        said_in: Label of the latter.
    """
    if path is None:
        raise UsageError(f"{what}: upload a recording first")
    if not said.strip():
        raise UsageError(f'type the words of the recording into "{said_in}"')
    return str(path), said.strip()


def _say(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        voice = (
            _recording(answers["voice"], answers["said"], "Voice", VOICE_SAID) if answers["voice"] is not None else ()
        )
        asked = Asked(text=answers["text"], voice=voice)
        return _made(one, place, asked, answers, tell, speed=answers["speed"])

    return Tab(
        about="Type what is to be said. With a recording, it is said in that voice.",
        controls={
            "text": Words(label="Text", example="The rest is silence.", lines=3, flags=("--text",)),
            "voice": Sound(
                label="Voice", hint="A few seconds of someone speaking; may be left out.", flags=("--voice",)
            ),
            "said": Words(label=VOICE_SAID),
            "speed": Number(label="Speed", value=1.0, least=0.5, most=2.0, whole=False, flags=("--speed",)),
            **_usual(one),
        },
        does=does,
        shows=SHOWS,
        button="Say it",
    )


def _edit(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        recording = _recording(answers["recording"], answers["said"], OLD, OLD_SAID)
        return _made(one, place, Asked(edit=recording, text=answers["text"]), answers, tell)

    return Tab(
        about="Change words of a recording. What both texts say stays the recording itself.",
        controls={
            **_old("--edit"),
            "text": Words(label="What it shall say instead, all of it", lines=2, flags=("--text",)),
            **_usual(one),
        },
        does=does,
        shows=SHOWS,
        button="Edit",
    )


def _denoise(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        recording = _recording(answers["recording"], answers["said"], OLD, OLD_SAID)
        begin, end = _span(answers, recording[0])
        found = _made(one, place, Asked(denoise=recording, span=f"{begin:g}:{end:g}"), answers, tell)
        return replace(found, said=f"marked: {begin:.2f} to {end:.2f} s")

    seconds = {"least": 0.0, "most": LONGEST, "whole": False, "slides": False}
    return Tab(
        about="Mark the part of a recording that is disturbed. It is said again from its words and what is around it.",
        controls={
            **_old("--denoise"),
            "wave": Wave(label="Mark the part here", of="recording", size=WAVE, draw=wave, flags=("--span",)),
            "begin": Number(label="Or from, in seconds", hint="Where nothing is drawn.", value=0.5, **seconds),
            "end": Number(label="To, in seconds", value=1.0, **seconds),
            **_usual(one),
        },
        does=does,
        shows=SHOWS,
        button="Say it again",
    )


def _span(answers: Answers, recording: str) -> tuple[float, float]:
    """Return the seconds of what is drawn over the wave, or else of what is typed.

    Raises:
        UsageError: If the latter does not end after it begins, or ends after the recording.
    """
    length = length_of(pathlib.Path(recording))
    if answers["wave"] is not None:
        begin, end = (round(share * length, 3) for share in answers["wave"])
        return begin, min(end, length)
    begin, end = answers["begin"], answers["end"]
    if begin >= end:
        raise UsageError(f"the span must end after it begins, got {begin:g} to {end:g} seconds")
    if end > length + ROUNDED:
        raise UsageError(f"the recording is {length:.2f} seconds long, got a span from {begin:g} to {end:g} seconds")
    return begin, min(end, length)


def _restyle(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        content = _recording(answers["recording"], answers["said"], OLD, OLD_SAID)
        style = answers["style"]
        style = () if style is None else _recording(style, answers["style_said"], STYLE, STYLE_SAID)
        return _made(one, place, Asked(content=content, style=style), answers, tell)

    return Tab(
        about="Say a recording again, as it was timed, in the voice and manner of another; without one, in any voice.",
        controls={
            **_old("--content"),
            "style": Sound(label=STYLE, hint="May be left out.", flags=("--style",)),
            "style_said": Words(label=STYLE_SAID),
            **_usual(one),
        },
        does=does,
        shows=SHOWS,
        button="Say it so",
    )


SAY = Ability(name="Say", has=_has, tab=_say)
EDIT = Ability(name="Edit", has=_has, tab=_edit)
DENOISE = Ability(name="Denoise", has=_has, tab=_denoise)
RESTYLE = Ability(name="Restyle", has=_has, tab=_restyle)
