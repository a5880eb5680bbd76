"""How many jumps a step of finite length expects with the state held, and where they land.

Source: Holderrieth et al. 2024, arXiv 2410.20587, appendix; `MaximalCoupling` is the maximal coupling of two laws.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.paths.jumps.conditional_path import ConditionalPath, JumpStepRule


@dataclass(frozen=True)
class MaximalCoupling(JumpStepRule):
    """Keep what the laws at t and s have in common, and move the rest: one part given its end is exact at any step."""

    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        return path.log_density_change(x, z, t, s)

    def destination_times(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return t, s


@dataclass(frozen=True)
class IntegratedRate(JumpStepRule):
    """Integrate the rate's own (1 - t)^-3 with all else held, for numbers on straight paths; land at s.

    The correction R of the paper: nothing survives the step to t = 1.
    """

    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        return path.integrated_derivative(x, z, t, s)


@dataclass(frozen=True)
class EulerJump(JumpStepRule):
    """A coin with the chance h rate, at most 1: the plain Euler step."""

    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        slope = path.time_derivative(x, z, t)
        return (s - t).to(slope.dtype) * slope

    def hazard(self, number: Tensor) -> Tensor:
        """Return the hazard of the coin, infinite for a chance of 1."""
        return -torch.log1p(-number.clamp(max=1))
