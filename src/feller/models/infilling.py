"""Infilling of frames and durations by a trained network; observed frames stay bit for bit."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond, zero_invalid
from feller.core.rng import Rng
from feller.data.speech.durations import Durations, log_durations
from feller.data.speech.phones import PLACES
from feller.networks.audio.frame_infiller import Infiller, InfillerNetwork
from feller.networks.blocks.time_conditioning import NoTime, TimeToken
from feller.paths import Affine, Network
from feller.sampling import simulate
from feller.sampling.guidance import cfg
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Euclidean
from feller.training.objectives.duration_infilling import DurationInfilling
from feller.training.objectives.frame_infilling import noise_like

TOLD = ("phone", "context", "known")
"""Conditions that guidance leaves out together."""
SAMPLING = SamplerConfig(nfe=32)


@torch.no_grad()
def infill(
    network: Network,
    path: Affine | None,
    frames: Float[Tensor, "b n bands"],
    kept: Bool[Tensor, "b marks"],
    phone: Int[Tensor, "b labels"],
    *,
    draws: Rng,
    valid: Bool[Tensor, "b n"] | None = None,
    sampling: SamplerConfig = SAMPLING,
    guidance: float = 1.0,
) -> Float[Tensor, "b n bands"]:
    """Return frames of which those that are kept are copies, and the others new; padding is zero.

    A kept frame has a state, too: on its way from the noise to itself, as the network saw it in training. So what a
    loss over hidden frames never taught, its velocity, is not asked for.

    Args:
        network: Was trained by `Infilling`.
        path: What it learned.
        frames: Where they are kept; elsewhere they mean nothing.
        kept: True is kept.
        phone: Label of each frame.
        draws: Source of the noise.
        valid: What is no padding; by default all.
        sampling: Solver, and network calls for each sample; guidance looks twice in each.
        guidance: 1 is the plain conditional; the paper writes guidance - 1.

    Raises:
        InputError: If frames become infinite.
    """
    if not frames.shape[:2] == kept.shape == phone.shape:
        raise UsageError(
            f"as many marks and labels as frames {tuple(frames.shape[:2])}",
            f"{tuple(kept.shape)} and {tuple(phone.shape)}",
            "Spread labels by their durations first",
        )
    valid = torch.ones_like(kept) if valid is None else valid
    known = kept & valid
    context = zero_invalid(frames, known)
    given = {"valid": valid, "phone": phone, "context": context, "known": known}
    guided = cfg(network, guidance, droppable=TOLD)
    if path is None:
        x = guided(torch.zeros_like(frames), frames.new_zeros(len(frames)), given)
    else:
        x = _drawn(guided, path, given, draws, sampling)
    if not zero_invalid(x, valid & ~known).isfinite().all():
        raise InputError("frames became infinite: the model is damaged or was trained too little")
    return torch.where(known[:, :, None], frames, zero_invalid(x, valid))


def infill_durations(
    network: Network,
    rule: DurationInfilling,
    durations: Int[Tensor, "b m"],
    kept: Bool[Tensor, "b m"],
    phone: Int[Tensor, "b m"],
    *,
    draws: Rng,
    valid: Bool[Tensor, "b m"] | None = None,
    sampling: SamplerConfig = SAMPLING,
    guidance: float = 1.0,
) -> Int[Tensor, "b m"]:
    """Return whole durations of which those that are kept stay, and the others are new; padding lasts 0.

    Arguments and errors are those of `infill`, but for `rule`, by which the network was trained: without a path each is
    the nearest to its median, else they are drawn.
    """
    valid = torch.ones_like(kept) if valid is None else valid
    known = kept & valid
    told = rule.encode(log_durations(torch.where(known, durations, 0)))
    x = infill(network, rule.path, told, kept, phone, draws=draws, valid=valid, sampling=sampling, guidance=guidance)
    return torch.where(known, durations, rule.decode(x).where(valid, 0))


def _drawn(
    network: Network, path: Affine, given: Cond, draws: Rng, sampling: SamplerConfig
) -> Float[Tensor, "b n bands"]:
    """Follow the path from noise; what is known is at each time where its own noise would have it."""
    route, solver, times = sampling.resolve(path, Euclidean())
    context, known = given["context"], given["known"][:, :, None]
    x_0 = zero_invalid(noise_like(context, draws.fold_in("source")), given["valid"])

    def beside(x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        return network(torch.where(known, path.sample(x_0, context, t), x_t), t, given)

    return simulate(route.process(beside, given), path.initial_state(x_0), times, solver, draws)


@dataclass(frozen=True)
class LearnedDurations(Durations):
    """Durations by infilling, at once or drawn."""

    architecture: Infiller
    phones: int
    """Of the inventory."""
    rule: DurationInfilling
    sampling: SamplerConfig = field(default_factory=lambda: SamplerConfig("midpoint", 16))
    """Of those that are drawn."""
    network: InfillerNetwork = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        built = self.architecture.build((1, 1), {"phone": self.phones}, Rng(0))
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
        draws: Rng,
        valid: Bool[Tensor, "b m"] | None = None,
    ) -> Int64[Tensor, "b m"]:
        """Return durations in frames; those that are kept stay as they are."""
        return infill_durations(
            self.network.eval(), self.rule, duration, kept, phone, draws=draws, valid=valid, sampling=self.sampling
        )
