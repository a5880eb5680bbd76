"""Speech: a transformer that fills in log mels, told the phone of each frame and the frames around."""

from dataclasses import dataclass, replace

from feller.data.modality import Dataset
from feller.data.speech.modality import Speech
from feller.errors import UsageError
from feller.infilling import Infilling
from feller.infilling.learned_durations import LearnedDurations
from feller.networks.infiller import Infiller
from feller.paths import Affine
from feller.recipes.parts import SpeechParts
from feller.recipes.recipe import Recipe, need
from feller.sampling import Sampling
from feller.schedules import LinearTo
from feller.train.optimiser import Training


@dataclass(frozen=True)
class Effort:
    """How much is spent on a model of speech."""

    dial: int
    """Of the network that fills in frames; see `Infiller.sized`."""
    batch: int
    lr: float
    minutes: float
    lasting: int
    """Dial of the networks that say how long phones last."""
    steps: int
    """Of their training."""


SIZES = {
    "tiny": Effort(dial=2, batch=8, lr=2e-3, minutes=1.0, lasting=1, steps=100),
    "small": Effort(dial=3, batch=8, lr=1e-3, minutes=20.0, lasting=2, steps=1500),
    "base": Effort(dial=8, batch=16, lr=3e-4, minutes=600.0, lasting=4, steps=10_000),
}
CALLS = 8
"""Of the network for a sound: quality does not rise with more."""


def speech(data: Dataset, size: str) -> Recipe:
    """Flow matching of hidden frames on straight paths, and networks that say how long the phones of a text last.

    Source: Le et al. 2023, "Voicebox", arXiv 2306.15687.
    """
    kind, effort = need(data.modality, Speech, "speech", "a folder of sounds with their texts"), SIZES[size]
    if "phone" not in data.values:
        raise UsageError("the recipe `speech` needs to know what is said; write a text beside each sound")
    if kind.durations is None:
        phones = len(kind.inventory)
        kind = replace(
            kind,
            durations=LearnedDurations.at_once(effort.lasting, phones),
            rhythm=LearnedDurations.drawn(effort.lasting, phones),
        )
    lasting = Training(batch=16, lr=2e-3, warmup=50, decay=0.5, average=0.99, steps=effort.steps)
    return Recipe(
        modality=kind,
        architecture=Infiller.sized(effort.dial),
        objective=Infilling(Affine(LinearTo()), kind.space()),
        parts=SpeechParts(durations=lasting, rhythm=replace(lasting, steps=3 * effort.steps)),
        sampling=Sampling("midpoint", CALLS),
        train=Training(
            batch=effort.batch,
            lr=effort.lr,
            warmup=100,
            decay=0.5,
            average=0.995,
            clip=0.2,
            minutes=effort.minutes,
        ),
    )
