"""How many jumps a step of finite length expects with the state held, and where they land.

Source: Holderrieth et al. 2024, arXiv 2410.20587, appendix; `Overlap` is the maximal coupling of two laws.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.paths.jumps.conditional_path import Law, Survival


@dataclass(frozen=True)
class Overlap(Survival):
    """Keep what the laws at t and s have in common, and move the rest: one part given its end is exact at any step."""

    def change(self, law: Law, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return log p_s - log p_t."""
        return law.change(x, z, t, s)

    def landing(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Land where the law at s is above that at t."""
        return t, s


@dataclass(frozen=True)
class Explicit(Survival):
    """Integrate the rate's own (1 - t)^-3 with all else held, for numbers on straight paths; land at s.

    The correction R of the paper: nothing survives the step to t = 1.
    """

    def change(self, law: Law, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return the closed form."""
        return law.explicit(x, z, t, s)


@dataclass(frozen=True)
class Coin(Survival):
    """A coin with the chance h rate, at most 1: the plain Euler step."""

    def change(self, law: Law, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return h d/dt log p."""
        slope = law.slope(x, z, t)
        return (s - t).to(slope.dtype) * slope

    def expected(self, number: Tensor) -> Tensor:
        """Return the hazard of the coin, infinite for a chance of 1."""
        return -torch.log1p(-number.clamp(max=1))
