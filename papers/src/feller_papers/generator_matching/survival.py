"""Baseline step rules of jumps.

Source: Holderrieth et al. 2024, arXiv 2410.20587, appendix.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from feller.paths.jumps.conditional_path import ConditionalPath
from feller.paths.jumps.jump_step_rules import JumpStepRule


@dataclass(frozen=True)
class FrozenRate(JumpStepRule):
    """Constant rate of time t: survival probability exp(-h rate), with too few jumps near t = 1."""

    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        """Return h d/dt log p."""
        slope = path.time_derivative(x, z, t)
        return (s - t).to(slope.dtype) * slope


@dataclass(frozen=True)
class AtStart(JumpStepRule):
    """Step rule whose jumps land by the law at t instead of s."""

    rule: JumpStepRule

    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        """Return the value of the inner rule."""
        return self.rule.log_density_change(path, x, z, t, s)

    def hazard(self, number: Tensor) -> Tensor:
        """Return the value of the inner rule."""
        return self.rule.hazard(number)

    def destination_times(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the start time for both ends."""
        return t, t
