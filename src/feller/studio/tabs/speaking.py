"""Speech: say a text, edit what was said, and say again what was disturbed."""

import pathlib
from typing import Any

from feller.data.speech.modality import Speech
from feller.errors import UsageError
from feller.journeys.speech.sampled import utter
from feller.journeys.speech.say import GUIDANCE
from feller.journeys.speech.wanted import Asked
from feller.journeys.tell import Tell
from feller.studio.controls import Control, Number, Sound, Words
from feller.studio.opened import Opened
from feller.studio.outcome import Outcome, Shown
from feller.studio.tab import Ability, Answers, Kind, Place, Tab
from feller.studio.tabs.sample import seeded

SHOWS = (Kind.SOUNDS, Kind.PICTURES, Kind.FILES)
LONGEST = 600.0
"""Seconds of a recording in which a span is marked."""


def _has(one: Opened, place: Place) -> bool:
    return isinstance(one.modality, Speech) and one.modality.durations is not None


def _usual() -> dict[str, Control]:
    return {
        "guidance": Number(
            label="Guidance",
            hint="1 is plain, more follows text and voice more sharply.",
            value=GUIDANCE,
            least=0.0,
            most=5.0,
            whole=False,
        ),
        "seed": seeded(),
    }


def _made(one: Opened, place: Place, asked: Asked, answers: Answers, tell: Tell, **more: Any) -> Outcome:
    """Say something into a file of the page's own."""
    out = place.scratch.room() / "speech.wav"
    _, file = utter(
        one.run, asked, 1, out=str(out), guidance=answers["guidance"], seed=answers["seed"], tell=tell, **more
    )
    return Outcome(sounds=(file,), pictures=(Shown("Its log mel", file.with_suffix(".png")),), files=(file,))


def _old() -> dict[str, Control]:
    """Return what is set of the recording that is changed."""
    return {"recording": Sound(label="Recording"), "said": Words(label="What is said in it")}


def _recording(path: pathlib.Path | None, said: str, what: str) -> tuple[str, str]:
    """Return a recording and what is said in it, both of which are needed."""
    if path is None:
        raise UsageError(f"{what}: upload a recording first")
    if not said.strip():
        raise UsageError(f"{what}: type what is said in the recording")
    return str(path), said.strip()


def _say(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        voice = _recording(answers["voice"], answers["said"], "Voice") if answers["voice"] is not None else ()
        asked = Asked(text=answers["text"], voice=voice)
        return _made(one, place, asked, answers, tell, speed=answers["speed"])

    return Tab(
        about="Type what is to be said. With a recording, it is said in that voice.",
        controls={
            "text": Words(label="Text", example="The rest is silence.", lines=3),
            "voice": Sound(label="Voice", hint="A few seconds of someone speaking; may be left out."),
            "said": Words(label="What is said in that recording"),
            "speed": Number(label="Speed", value=1.0, least=0.5, most=2.0, whole=False),
            **_usual(),
        },
        does=does,
        shows=SHOWS,
        button="Say it",
    )


def _edit(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        recording = _recording(answers["recording"], answers["said"], "Recording")
        return _made(one, place, Asked(edit=recording, text=answers["text"]), answers, tell)

    return Tab(
        about="Change words of a recording. What both texts say stays the recording itself.",
        controls={
            **_old(),
            "text": Words(label="What it shall say instead, all of it", lines=2),
            **_usual(),
        },
        does=does,
        shows=SHOWS,
        button="Edit",
    )


def _denoise(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        recording = _recording(answers["recording"], answers["said"], "Recording")
        begin, end = answers["begin"], answers["end"]
        if begin >= end:
            raise UsageError(f"the span must end after it begins, got {begin:g} to {end:g} seconds")
        return _made(one, place, Asked(denoise=recording, span=f"{begin:g}:{end:g}"), answers, tell)

    seconds = {"least": 0.0, "most": LONGEST, "whole": False, "slides": False}
    return Tab(
        about="Mark the part of a recording that is disturbed. It is said again from its words and what is around it.",
        controls={
            **_old(),
            "begin": Number(label="From, in seconds", value=0.5, **seconds),
            "end": Number(label="To, in seconds", value=1.0, **seconds),
            **_usual(),
        },
        does=does,
        shows=SHOWS,
        button="Say it again",
    )


SAY = Ability(name="Say", has=_has, tab=_say)
EDIT = Ability(name="Edit", has=_has, tab=_edit)
DENOISE = Ability(name="Denoise", has=_has, tab=_denoise)
