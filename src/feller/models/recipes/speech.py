"""Recipes of speech: infilling transformer and vocoder."""

from dataclasses import dataclass, replace

from feller.core.errors import UsageError
from feller.data.modality import Dataset
from feller.data.speech.modality import Speech
from feller.data.speech.phones import PLACES
from feller.data.speech.sounds import Sounds
from feller.models.infilling import LearnedDurations
from feller.models.recipes.recipe import Recipe, SpeechParts, need
from feller.networks.audio.frame_infiller import Infiller
from feller.networks.audio.spectral_vocoder import SpectralVocoder
from feller.paths import Affine
from feller.paths.schedules import LinearSigmaMin
from feller.sampling.sampler_config import SamplerConfig
from feller.training.objectives.frame_infilling import Infilling
from feller.training.objectives.reconstruction import Vocoding, usual_windows
from feller.training.optimizer import Training


@dataclass(frozen=True)
class Effort:
    """How much is spent on a model of speech."""

    network: Infiller
    """Fills in frames."""
    batch: int
    at_once: int
    """Frames of a sound that are learned at once; longer ones are cut at random."""
    lr: float
    minutes: float
    lasting: int
    """Dial of the networks that say how long phones last; see `Infiller.sized`."""
    steps: int
    """Of their training."""


KIN = len(PLACES)
"""A phone is alike in all places of a word."""
SIZES = {
    "tiny": Effort(
        Infiller(64, 2, 2, kin=KIN, local=8), batch=8, at_once=400, lr=2e-3, minutes=1.0, lasting=1, steps=100
    ),
    "small": Effort(
        Infiller(96, 4, 4, kin=KIN, local=12), batch=8, at_once=400, lr=2e-3, minutes=20.0, lasting=2, steps=800
    ),
    "base": Effort(
        Infiller.sized(8, kin=KIN, local=16), batch=16, at_once=1600, lr=5e-4, minutes=600.0, lasting=4, steps=10_000
    ),
}
CALLS = 8
"""Of the network for a sound: quality does not rise with more."""


def speech(data: Dataset, size: str) -> Recipe:
    """Flow matching of hidden frames on straight paths, and networks that say how long the phones of a text last.

    Source: Le et al. 2023, "Voicebox", arXiv 2306.15687.
    """
    kind, effort = need(data.modality, Speech, "speech", "a folder of sounds with their texts"), SIZES[size]
    if "phone" not in data.values:
        raise UsageError("the recipe `speech` needs to know what is said", remedy="Write a text beside each sound")
    kind = replace(kind, at_once=effort.at_once)
    if kind.durations is None:
        phones, seen = len(kind.inventory), data.values["duration"][data.values["phone"] >= 0]
        kind = replace(
            kind,
            durations=LearnedDurations.at_once(effort.lasting, phones, seen),
            rhythm=LearnedDurations.drawn(effort.lasting, phones, seen),
        )
    lasting = Training(batch=16, lr=2e-3, warmup=50, decay=0.5, average=0.99, steps=effort.steps)
    return Recipe(
        modality=kind,
        architecture=effort.network,
        objective=Infilling(Affine(LinearSigmaMin()), kind.space(), longest=effort.at_once),
        parts=SpeechParts(durations=lasting, rhythm=lasting),
        sampling=SamplerConfig("midpoint", CALLS),
        train=Training(
            batch=effort.batch,
            lr=effort.lr,
            warmup=200,
            decay=0.5,
            average=0.999,
            clip=0.5,
            minutes=effort.minutes,
        ),
    )


VOCODER_SIZES = {"tiny": (64, 2, 2.0), "small": (192, 6, 20.0), "base": (384, 8, 120.0)}
"""Features, blocks and minutes."""
PIECE = 32
"""Frames that are learned at once."""


def vocoder(data: Dataset, size: str) -> Recipe:
    """Sounds are resynthesised from their log mels; no texts are needed.

    On one processor it needs a tenth of the time of Griffin-Lim. After two minutes of training it made better digits at
    8 kHz, as judged by networks for voices and for quality; after five, worse sentences at 16 kHz: those want more.
    """
    modality = need(data.modality, Sounds, "vocoder", "a folder of sounds")
    mel = modality.mel
    width, depth, minutes = VOCODER_SIZES[size]
    windows = usual_windows(mel.fft)
    piece = max(PIECE, -(-windows[-1] // mel.hop)) * mel.hop
    return Recipe(
        architecture=SpectralVocoder(mel, width, depth),
        objective=Vocoding(modality.space(), windows=windows, piece=piece),
        train=Training(batch=16, lr=2e-3, minutes=minutes),
    )
