"""Tokens that come closer to the data in a distance of their own."""

import functools
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import pad_right
from feller.paths.discrete.betas import Beta, ConstantSpeed, Sharpness
from feller.paths.discrete.correctors import Odds
from feller.paths.discrete.rates import KineticOptimal
from feller.paths.discrete.step_rules import Ahead, Increment
from feller.paths.discrete.token_distances import Cost
from feller.paths.discrete.token_path import TokenPath
from feller.spaces.tokens import UniformSource


@dataclass(frozen=True)
class Metric(TokenPath):
    """p_t(x | x_1) = softmax(-beta_t d(x, x_1)): uniform at t = 0, and a token only ever comes closer to its data.

    Source: Shaul et al. 2024, "Flow Matching with General Discrete Paths", arXiv 2412.03487.
    """

    cost: Cost
    schedule: Beta = field(default_factory=ConstantSpeed)

    def __post_init__(self) -> None:
        if isinstance(self.corrector, Odds):
            raise UsageError("Odds needs a mixture path, this one is metric; use Resample")

    @property
    def source(self) -> UniformSource:
        """The law at t = 0."""
        return UniformSource()

    @functools.cached_property
    def beta(self) -> Sharpness:
        """Times -> beta and its derivative."""
        return self.schedule.on(self.cost)

    def log_probabilities(
        self, x_1: Int[Tensor, " m"], t: Float[Tensor, " m"], count: int | None = None
    ) -> Float[Tensor, "m S"]:
        """Return log softmax(-beta d)."""
        beta, d = self.beta(t)[0][:, None], self._rows(x_1, t, count)
        return torch.where(d == 0, 0.0, -beta * d).log_softmax(1)

    def slope(self, x_1: Int[Tensor, " m"], t: Float[Tensor, " m"], count: int | None = None) -> Float[Tensor, "m S"]:
        """Return beta' (mean of d - d)."""
        d = self._rows(x_1, t, count)
        mean = (self.log_probabilities(x_1, t, count).exp() * d).sum(1, keepdim=True)
        return self.beta(t)[1][:, None] * (mean - d)

    def _rows(self, x_1: Tensor, t: Tensor, count: int | None) -> Tensor:
        if count not in (None, self.cost.count):
            raise UsageError(f"the cost of this path has {self.cost.count} symbols, the network answers with {count}")
        return self.cost.rows(x_1).to(t.dtype)

    def most(self, x_t: Int[Tensor, " b *d"], t: Float[Tensor, " b"], s: float, count: int) -> Float[Tensor, " b *d"]:
        """Return the rise of beta times the largest distance: all that a token can come closer."""
        usual = isinstance(self.velocity, KineticOptimal) and isinstance(self.stepping, Increment | Ahead)
        if s >= 1 or self.corrector is not None or not usual:
            return super().most(x_t, t, s, count)
        t = t.double()
        rise = self.beta(torch.full_like(t, s))[0] - self.beta(t)[0]
        return pad_right(rise.nan_to_num(nan=0.0), x_t) * self.cost.farthest(x_t)
