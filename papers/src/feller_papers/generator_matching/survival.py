"""Expected numbers of jumps in a step, and where they land, that are worse than the usual: for comparison.

Source: Holderrieth et al. 2024, arXiv 2410.20587, appendix.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from feller.paths.jumps.conditional_path import ConditionalPath
from feller.paths.jumps.jump_step_rules import JumpStepRule


@dataclass(frozen=True)
class Frozen(JumpStepRule):
    """The rate at t all along: exp(-h rate) survive; for comparison, as too few jump near t = 1."""

    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        """Return h d/dt log p."""
        slope = path.time_derivative(x, z, t)
        return (s - t).to(slope.dtype) * slope


@dataclass(frozen=True)
class AtStart(JumpStepRule):
    """Another way, whose jumps land where they would at t, not at s; for comparison."""

    way: JumpStepRule

    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        """Return that of the other way."""
        return self.way.log_density_change(path, x, z, t, s)

    def hazard(self, number: Tensor) -> Tensor:
        """Return that of the other way."""
        return self.way.hazard(number)

    def destination_times(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Land where the law rises at t."""
        return t, t
