"""Expected numbers of jumps in a step, and where they land, that are worse than the usual: for comparison.

Source: Holderrieth et al. 2024, arXiv 2410.20587, appendix.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from feller.paths.jumps.conditional_path import Law
from feller.paths.jumps.jump_step_rules import Survival


@dataclass(frozen=True)
class Frozen(Survival):
    """The rate at t all along: exp(-h rate) survive; for comparison, as too few jump near t = 1."""

    def change(self, law: Law, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return h d/dt log p."""
        slope = law.slope(x, z, t)
        return (s - t).to(slope.dtype) * slope


@dataclass(frozen=True)
class AtStart(Survival):
    """Another way, whose jumps land where they would at t, not at s; for comparison."""

    way: Survival

    def change(self, law: Law, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return that of the other way."""
        return self.way.change(law, x, z, t, s)

    def expected(self, number: Tensor) -> Tensor:
        """Return that of the other way."""
        return self.way.expected(number)

    def landing(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Land where the law rises at t."""
        return t, t
