"""Whether a model's sounds can be told from recorded ones, and from those that went through its vocoder alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.data.speech.griffin_lim import Vocoder
from feller.data.speech.speech_mel import Mel
from feller.evaluation.speech.detector import SIZE, TRAINING, Detector, fit_detector
from feller.evaluation.speech.told import Apart
from feller.training.objectives.span_masks import Segments
from feller.training.optimizer import Training

SHARES = (0.3, 0.5, 0.9)
"""Of a sound that a model fills in."""
ORIGINAL, RESYNTHESISED = "original", "resynthesised"

Mels = Sequence[Float[Tensor, "_ bands"]]


@dataclass(frozen=True, eq=False)
class Sounds:
    """The same utterances as they were recorded, through the vocoder, and as a model filled them in."""

    original: Mels
    """Log mels of the recordings."""
    resynthesised: Mels
    """These, made into sounds by the vocoder and analysed again."""
    generated: Mapping[float, Mels]
    """For each share that was hidden, what a model made, through the same vocoder and analysed again."""

    def __post_init__(self) -> None:
        counts = {len(self.original), len(self.resynthesised), *map(len, self.generated.values())}
        if len(counts) > 1:
            raise UsageError(f"expected as many sounds of each kind, got {sorted(counts)}")


@dataclass(frozen=True)
class Found:
    """How well a detector of one kind did."""

    against: str
    """What generated sounds were told from: `original`, where a vocoder's traces count, or `resynthesised`."""
    share: float
    """Of each sound that was generated."""
    apart: Apart
    detector: Detector


def find_traces(
    train: Sounds, test: Sounds, draws: Draws, *, size: int = SIZE, training: Training = TRAINING
) -> tuple[Found, ...]:
    """Train a detector for each share in both settings of the paper, and test it on other sounds.

    Args:
        train: To learn from.
        test: Sounds of which no part was learned from.
        draws: Source of all randomness.
        size: Of the networks.
        training: Of each.
    """
    found = []
    for against, real, unseen in (
        (ORIGINAL, train.original, test.original),
        (RESYNTHESISED, train.resynthesised, test.resynthesised),
    ):
        for share, made in train.generated.items():
            detector = fit_detector(real, made, draws.named(against, share), size=size, training=training)
            found.append(Found(against, share, detector.apart(unseen, test.generated[share]), detector))
    return tuple(found)


def vocoded(mels: Mels, settings: Mel, vocoder: Vocoder) -> list[Float[Tensor, "_ bands"]]:
    """Return the log mels of what a vocoder makes of log mels."""
    return [settings.log_mel(vocoder.samples(mel, settings)) for mel in mels]


def hiding(share: float) -> Segments:
    """Return what hides one piece of a sound that is this share of it, never all."""
    return Segments(0.0, share, share)
