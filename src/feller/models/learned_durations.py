"""A network that says how long phones last, with how it is asked."""

from dataclasses import dataclass, field

from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.rng import Draws
from feller.data.speech.phones import PLACES
from feller.data.speech.speech_durations import Durations
from feller.models.infilling import infill_durations
from feller.networks.audio.frame_infiller import Infiller, InfillerNetwork
from feller.networks.blocks.time_conditioning import NoTime, TimeToken
from feller.sampling.sampler_config import Sampling
from feller.spaces import Euclidean
from feller.training.objectives.duration_infilling import DurationInfilling


@dataclass(frozen=True)
class LearnedDurations(Durations):
    """Durations by infilling, at once or drawn."""

    architecture: Infiller
    phones: int
    """Of the inventory."""
    rule: DurationInfilling
    sampling: Sampling = field(default_factory=lambda: Sampling("midpoint", 16))
    """Of those that are drawn."""
    network: InfillerNetwork = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        built = self.architecture.build((1, 1), {"phone": self.phones}, Draws(0))
        object.__setattr__(self, "network", built)

    @classmethod
    def at_once(cls, dial: int, phones: int, seen: Int64[Tensor, " n"]) -> "LearnedDurations":
        """Return one that says the likeliest durations, of a size; see `Infiller.sized`."""
        return cls(
            Infiller.sized(dial, NoTime(), kin=len(PLACES)),
            phones,
            DurationInfilling.at_once(Euclidean()).standardised(seen),
        )

    @classmethod
    def drawn(cls, dial: int, phones: int, seen: Int64[Tensor, " n"]) -> "LearnedDurations":
        """Return one that draws durations, others each time, of a size; see `Infiller.sized`."""
        return cls(
            Infiller.sized(dial, TimeToken(), kin=len(PLACES)),
            phones,
            DurationInfilling.drawn(Euclidean()).standardised(seen),
        )

    @property
    def module(self) -> InfillerNetwork:
        """The network."""
        return self.network

    def fill(
        self,
        duration: Int64[Tensor, "b m"],
        kept: Bool[Tensor, "b m"],
        phone: Int64[Tensor, "b m"],
        *,
        draws: Draws,
        valid: Bool[Tensor, "b m"] | None = None,
    ) -> Int64[Tensor, "b m"]:
        """Return durations in frames; those that are kept stay as they are."""
        return infill_durations(
            self.network.eval(), self.rule, duration, kept, phone, draws=draws, valid=valid, sampling=self.sampling
        )
