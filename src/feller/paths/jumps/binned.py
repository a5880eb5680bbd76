"""Jumps whose rates a network answers directly, in bins, with a velocity beside them if asked for."""

import functools
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from feller.core.errors import UsageError, check_number
from feller.core.pytree import pad_right
from feller.core.rng import Draw, categorical
from feller.paths.discrete.token_distribution import marks
from feller.paths.jumps.conditional_path import Law
from feller.paths.jumps.endpoint_support import Circle, Grid, Interval
from feller.paths.jumps.gaussian import GaussianLaw
from feller.paths.jumps.von_mises import VonMisesLaw
from feller.paths.path import Path, Times
from feller.paths.processes import Characteristics, Jumps
from feller.paths.schedules import Linear
from feller.spaces.space import Points

_NEVER = -1e30
"""Log of a rate that is 0."""


@dataclass(frozen=True, kw_only=True)
class Binned(Path):
    """The network answers, for each part, logits of the bin a jump lands in, its rate, and with a share a velocity.

    Answers are [b, ..., bins + 1], or + 2: the rate is softplus of its number over 1 - t, so that what is learned stays
    bounded. The loss is `InfinitesimalKL` over all bins but the state's own, with a velocity `RatesAndVelocity`.
    `Jump`, with one posterior for both, needs no intensities; this is the paper's own form.

    Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587.
    """

    law: Law = field(default_factory=GaussianLaw)
    bins: Grid = field(default_factory=lambda: Interval(-1.65, 1.65))
    """Where jumps land: early ones to data in [-1, 1] come as far as 1.618."""
    share: float | None = None
    """Of the jumps, the rest is the flow; None for jumps alone and answers without a velocity."""

    def __post_init__(self) -> None:
        check_number("share", self.share, least=0, most=1)
        if self.law.event or isinstance(self.bins, Circle) != isinstance(self.law, VonMisesLaw):
            raise UsageError("bins are Interval or Lattice for a Gaussian law, Circle for a von Mises law")

    @property
    def jumps(self) -> bool:
        """Whether anything jumps."""
        return self.share != 0

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, draw: Draw | None = None) -> Tensor:
        """Carry x_0, independent of the data, along the law of x_1; there is nothing to draw."""
        return self.law.sample(x_0, x_1, pad_right(t, x_1))

    def target(self, x_t: Points, x_0: Points, x_1: Points, t: Tensor) -> Float[Tensor, "b *d K"]:
        """Return (1 - t) times the rates to bins given the data, 0 to the state's own; with a share, the velocity."""
        t = pad_right(t, x_1)
        out = self.law.slope(x_t, x_1, t).neg().clamp(min=0) * (1 - t)
        rates = torch.where(self._own(x_t), 0.0, out.to(x_t.dtype)[..., None] * self.landing(x_1, t))
        if self.share is None:
            return rates
        if isinstance(self.law, GaussianLaw):
            velocity = self.law.schedule.slope(x_0, x_1, t)  # without a quotient of small numbers near t = 1
        else:
            velocity = self.law.velocity(x_t, x_1, t)
        return torch.cat([rates, velocity[..., None].to(rates.dtype)], -1)

    def landing(self, x_1: Points, t: Tensor) -> Float[Tensor, "b *d K"]:
        """Return the chance of each bin, from the density of landings at its centre; the data's own where none has."""
        centres = self.bins.centres.to(device=x_1.device, dtype=x_1.dtype)
        z, t = x_1[..., None], t[..., None]
        log_odds = self.law.slope(centres, z, t).clamp(min=0).log() + self.law.log_density(centres, z, t)
        none = log_odds.isneginf().all(-1, keepdim=True)
        home = functional.one_hot(self.bins.target(x_1), len(centres)).to(x_1.dtype)
        return torch.where(none, home, torch.where(none, 0.0, log_odds).softmax(-1))

    def _own(self, x: Tensor) -> Tensor:
        """Mark the bin that each part is in, [..., K]."""
        return self.bins.target(x)[..., None] == torch.arange(len(self.bins.centres), device=x.device)

    def read(self, prediction: Float[Tensor, "b *d n"], x_t: Points, t: Tensor) -> Tensor:
        """Return the log of (1 - t) times the rates to bins, of the state's own far below all; a velocity as it is."""
        count = len(self.bins.centres)
        wanted = count + 1 + (self.share is not None)
        if prediction.shape[-1] != wanted:
            raise UsageError(f"answers of {wanted} numbers, {count} of them for bins", prediction.shape)
        rate = _log_softplus(prediction[..., count : count + 1])
        rates = torch.where(self._own(x_t), _NEVER, rate + prediction[..., :count].log_softmax(-1))
        return torch.cat([rates, prediction[..., count + 1 :]], -1)

    def start(self, x_0: Tensor) -> Tensor:
        """Start as the law does."""
        return self.law.start(x_0)

    def characteristics(self, prediction: Float[Tensor, "b *d n"], x_t: Points, t: Times) -> Characteristics:
        """Return the jumps of the answer, and with a share the sum of both."""
        read, count = self.read(prediction, x_t, t), len(self.bins.centres)
        rates = read[..., :count].exp()
        share = 1.0 if self.share is None else self.share
        velocity = (1 - share) * prediction[..., -1].to(x_t.dtype) if share < 1 else None

        if not self.jumps:
            return Characteristics(velocity)

        @functools.cache
        def hazard(s: float) -> Tensor:
            return share * rates.sum(-1).double() * pad_right(self._growth(t, s), x_t)

        def land(s: float, which: Tensor, draw: Draw) -> Tensor:
            u, v = marks(draw, which), marks(draw, which)
            if s < 1:
                return self.bins.pick(self.bins.centres.to(x_t.device), categorical(rates[which], u), v)
            x, odds = x_t[which], prediction[..., :count][which].softmax(-1)  # all jump: some to the bin they are in
            index = categorical(odds, u)
            stays = index == self.bins.target(x)
            return torch.where(stays, x.double(), self.bins.pick(self.bins.centres.to(x_t.device), index, v))

        return Characteristics(velocity, jumps=Jumps(hazard, land))

    def _growth(self, t: Times, s: float) -> Tensor:
        """Return the integral of the rate's growth until s with the state held, for a rate of 1 / (1 - t) at t."""
        left = (1 - t.double()) / max(1 - s, 1e-300)
        straight = isinstance(self.law, GaussianLaw) and isinstance(self.law.schedule, Linear)
        return (left.square() - 1) / 2 if straight else left.log()


def _log_softplus(x: Tensor) -> Tensor:
    """Return log log(1 + e^x), which is x far below 0."""
    return torch.where(x < -15, x, functional.softplus(x.clamp(min=-15)).log())
