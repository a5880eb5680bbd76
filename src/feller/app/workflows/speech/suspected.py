"""From sounds that a person names to how likely a run's model made each of them."""

import pathlib
from typing import Any

from feller.app.reporter import Tell
from feller.app.workflows.speech_kind import require_speech
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.data.loading.raw import FoundSpeech
from feller.data.speech.files import find_sounds
from feller.data.speech.mel import log_mels
from feller.data.speech.speech_mel import FRAMES
from feller.evaluation.speech.detector import load_detector
from feller.models.model import Model
from feller.networks.audio.detector import WINDOW

LISTED = 20
"""Sounds that are told one by one; the others are counted."""


def suspect(run: Run, model: Model, samples: str, tell: Tell) -> dict[str, Any]:
    """Ask the detector of a run about sounds.

    Args:
        run: Holds it.
        model: Whose sounds it knows.
        samples: A folder of sounds, or one.
        tell: Hears what it says of each.

    Raises:
        InputError: If there are no sounds, or they are too short.
        UsageError: If the run has no detector yet.
    """
    if not run.detector.is_file():
        raise UsageError(f"{run.path} has no detector yet; train it with: feller evaluate {run.path}")
    detector, mel = load_detector(run.detector), require_speech(model).mel
    found = find_sounds(pathlib.Path(samples))
    mels = log_mels(FoundSpeech(found.values, names=found.names), mel)
    short = [name for name, each in zip(found.names, mels, strict=True) if len(each) < WINDOW]
    if short:
        raise InputError(f"{short[0]}: expected sounds of at least {WINDOW / FRAMES:g} s; leave shorter ones out")
    chances = dict(zip(found.names, detector.chance(mels).tolist(), strict=True))
    for name, chance in [*chances.items()][:LISTED]:
        tell.say(f"{name}: made by this model with a chance of {chance:.0%}, as far as its detector can tell")
    made = sum(chance > 0.5 for chance in chances.values())
    tell.say(f"{made:,} of {len(chances):,} sounds seem to be made by this model; it learned from {detector.data}")
    return {"made": made, "n": len(chances), "chances": {name: round(chance, 4) for name, chance in chances.items()}}
