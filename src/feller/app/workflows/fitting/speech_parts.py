"""What speech needs beside its model: networks that say how long phones last."""

from functools import partial

from feller.app.reporter import Tell
from feller.app.workflows.fitting.auxiliary_networks import Making
from feller.data.batches import shuffled
from feller.data.modality import Dataset
from feller.data.speech.speech_modality import Speech
from feller.models.learned_durations import LearnedDurations
from feller.models.recipes.parts import SpeechParts
from feller.models.spec import Description
from feller.training.optimizer import Training


def make_speech_parts(
    making: Making, parts: SpeechParts, kind: Speech, about: Description, data: Dataset, tell: Tell
) -> Description:
    """Give the networks that say durations their weights: those of the run, or new ones that are learned here.

    Returns:
        What the model is, with hashes of these weights, as the run holds it by now.

    Raises:
        InputError: If a file of the run is damaged, another's, or lost after the model began to learn.
    """
    making.check([*kind.modules])
    for name, lasting, training in (
        ("durations", kind.durations, parts.durations),
        ("rhythm", kind.rhythm, parts.rhythm),
    ):
        if isinstance(lasting, LearnedDurations):
            learned = partial(_learn, making, name, lasting, training, data, tell)
            about = making.made(name, lasting.module, about, learned)
    return about


def _learn(making: Making, name: str, lasting: LearnedDurations, training: Training, data: Dataset, tell: Tell) -> None:
    """Train one of them on the phones of all sounds."""
    phone = data.values["phone"]
    valid = phone >= 0
    examples = {"x_1": data.values["duration"], "given": {"phone": phone.clamp(min=0), "valid": valid}}
    feed = shuffled(examples, training.batch, making.draws(name), valid.sum(1))
    making.learn(name, lasting.rule, feed, lasting.network, training, tell)
