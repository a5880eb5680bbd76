"""Finite-step jump rules: expected number of jumps at a fixed state, and destinations.

Source: Holderrieth et al. 2024, arXiv 2410.20587, appendix.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.paths.jumps.conditional_path import ConditionalPath, JumpStepRule


@dataclass(frozen=True)
class MaximalCoupling(JumpStepRule):
    """Maximal coupling of the distributions at t and s: exact at any step size, for one entry given its endpoint."""

    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        return path.log_density_change(x, z, t, s)

    def destination_times(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return t, s


@dataclass(frozen=True)
class IntegratedRate(JumpStepRule):
    """Integral of the jump rate over the step at a fixed state, for numbers on straight paths.

    The factor (1 - t)^-3 of the rate is integrated exactly.

    This is the correction R of arXiv 2410.20587. Destinations are sampled at time s. In the step to t = 1 every entry
    jumps.
    """

    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        return path.integrated_derivative(x, z, t, s)


@dataclass(frozen=True)
class EulerJump(JumpStepRule):
    """Euler step for jumps: the jump probability is step size times rate, at most 1."""

    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        derivative = path.time_derivative(x, z, t)
        return (s - t).to(derivative.dtype) * derivative

    def hazard(self, number: Tensor) -> Tensor:
        return -torch.log1p(-number.clamp(max=1))
