"""Jumps of numbers, angles and rotations, flows with the same marginals, and all between."""

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.rng import Draw, categorical
from feller.paths.discrete.token_distribution import marks, times_at
from feller.paths.jumps.conditional_path import Law
from feller.paths.jumps.endpoint_support import Circle, DrawEnd, Ends, Finish, Grid, Interval, MeanEnd
from feller.paths.jumps.gaussian import GaussianLaw
from feller.paths.jumps.jump_step_rules import Explicit, Survival
from feller.paths.jumps.von_mises import VonMisesLaw
from feller.paths.path import Path
from feller.paths.processes import Characteristics, Jumps
from feller.paths.schedules import Linear


@dataclass(frozen=True, kw_only=True)
class Jump(Path):
    """Each part of a state follows a law given its end z; the network tells the law of z given the whole state.

    From one answer come the flow of the mean conditional velocity, the jumps of the mean conditional rates, and every
    sum of shares of both, chosen when sampling. Train a grid of ends with the cross-entropy, a point with squares.
    Jumps of several parts in one step are independent given the state: small steps where parts depend on each other.

    Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587.
    """

    law: Law = field(default_factory=GaussianLaw)
    ends: Ends = field(default_factory=Interval)
    share: float = 0.5
    """Of the jumps: 0 is the flow alone, 1 jumps alone."""
    survival: Survival | None = None
    """How a step expects jumps and lands them; None for the usual way of the law."""
    corrector: float = 0.0
    """So many times more jumps, and as many back in time, which keep the marginals."""
    last: Finish = field(default_factory=DrawEnd)

    def __post_init__(self) -> None:
        check_number("share", self.share, least=0, most=1)
        check_number("corrector", self.corrector, least=0, below=float("inf"))
        fits = self.law.event == 0 and isinstance(self.ends, Circle) == isinstance(self.law, VonMisesLaw)
        if isinstance(self.ends, Grid) and not fits:
            raise UsageError(
                f"{type(self.law).__name__} does not end on {type(self.ends).__name__}",
                remedy="Give Circle to a von Mises law, Interval or Lattice to a Gaussian one, Point to rotations",
            )
        straight = isinstance(self.law, GaussianLaw) and isinstance(self.law.schedule, Linear)
        if isinstance(self._way, Explicit) and not straight:
            raise UsageError(
                f"Explicit is known for numbers on straight paths, not for {self.law}", remedy="Use Overlap()"
            )

    @property
    def jumps(self) -> bool:
        """Whether anything jumps, if only at the end."""
        return self.share > 0 or not isinstance(self.last, MeanEnd)

    @property
    def _way(self) -> Survival:
        return self.survival or (self.law.beside if 0 < self.share < 1 else self.law.usual)

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, draw: Draw | None = None) -> Tensor:
        """Carry x_0, independent of the data, along the law of x_1; there is nothing to draw."""
        return self.law.sample(x_0, x_1, self._clock(t, x_1))

    def target(self, x_t: Tensor, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """Return which end the data are."""
        return self.ends.target(x_1)

    def read(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Add to logits what the state itself says about where it ends."""
        return self.ends.read(self.law, prediction, x_t, self._clock(t, x_t))

    def start(self, x_0: Tensor) -> Tensor:
        """Start as the law does."""
        return self.law.start(x_0)

    def _clock(self, t: Tensor, x: Tensor) -> Tensor:
        """Return times in the shape of the parts; one entry where all are one."""
        if t.stride(0) == 0 and len(t):
            t = t[:1]
        return t.reshape(-1, *(1,) * (x.ndim - self.law.event - 1))

    def characteristics(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Characteristics:
        """Return (1 - share) of the flow and share of the jumps."""
        p, z = self.ends.candidates(self.read(prediction, x_t, t), self.law.event)
        velocity = None
        if self.share < 1:
            velocity = (1 - self.share) * self.law.mean_velocity(x_t, z, p, self._clock(t, x_t)).to(x_t.dtype)
        return Characteristics(velocity, jumps=self._jumps(p, z, x_t, t) if self.jumps else None)

    def _jumps(self, p: Tensor, z: Tensor, x_t: Tensor, t: Tensor) -> Jumps:
        """Mix the jumps to all ends: who jumps is decided without drawing an end."""
        event = self.law.event
        parts = x_t.shape[: x_t.ndim - event]

        @functools.cache
        def hazard(s: float) -> Tensor:
            if s >= 1 or self.share == 0:
                number = torch.inf if s >= 1 else 0.0
                return torch.full((1,) * len(parts), number, dtype=torch.float64, device=x_t.device).expand(parts)
            chance = (p * self._chance(x_t, z, self._clock(t, x_t), s)).sum(-1)
            return -torch.log1p(-chance.double().clamp(max=1)).expand(parts)

        def land(s: float, which: Tensor, draw: Draw) -> Tensor:
            rows = which.flatten().nonzero()[:, 0]
            x, time = x_t.flatten(0, len(parts) - 1)[rows], times_at(t, rows, which)
            mine = p.flatten(0, -2)[rows]
            end = z if z.ndim == 1 else z.flatten(0, len(parts) - 1)[rows]
            u, v, *more = (marks(draw, which) for _ in range(2 + self.law.numbers))
            jumps = s < 1 and self.share > 0
            odds = mine * self._chance(x, end, time, s) if jumps else mine
            none = odds.sum(-1, keepdim=True) <= 0  # a later call may see no reason to jump
            index = categorical(torch.where(none, mine, odds), u)
            if not jumps:
                return self.last.chosen(self.ends, mine, end, index, v)
            return self._land(x, end, index, time, s, v, torch.stack(more, -1))

        return Jumps(hazard, land)

    def _change(self, x: Tensor, z: Tensor, t: Tensor, s: float) -> Tensor:
        """Return the change of log p, [..., K], towards ends [K] or [..., K, *event]."""
        t = t.double()[..., None]
        return self._way.change(self.law, x.unsqueeze(-1 - self.law.event), z, t, torch.full_like(t, s))

    def _chance(self, x: Tensor, z: Tensor, t: Tensor, s: float) -> Tensor:
        """Return the chance to jump by s towards each end, [..., K]."""
        change = self._change(x, z, t, s)
        number = change.neg().clamp_(min=0).mul_(self.share * (1 + self.corrector))
        if self.corrector:
            number = number + self.share * self.corrector * change.clamp(min=0)
        return -torch.expm1(-self._way.expected(number))

    def _land(self, x: Tensor, z: Tensor, index: Tensor, t: Tensor, s: float, v: Tensor, more: Tensor) -> Tensor:
        """Return where rows land at s: where the law of their end rises, or back in time where it falls."""
        end, begin = self.ends.pick(z, index, v), t.double()
        a, b = self._way.landing(begin, torch.full_like(begin, s))
        landed = self.law.gather(end, a, b, more)
        if not self.corrector:
            return landed
        change = self._change(x, z, t, s).gather(-1, index[:, None])[:, 0]
        back = change > 0
        return torch.where(back.reshape(-1, *(1,) * self.law.event), self.law.scatter(end, a, b, more), landed)
