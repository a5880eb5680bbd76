"""Kinetic-optimal schedules of mixture paths: one for all tokens, or one for each data token.

Source: Lipman et al. 2024, "Flow Matching Guide and Code", arXiv 2412.06264, for mixture paths.
"""

import abc
import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.paths.schedules import AlphaSigma, Schedule


@dataclass(frozen=True)
class KineticOptimal(Schedule):
    """Kinetic-optimal schedule of a mixture path whose source gives each data token probability p (`mass`).

    sqrt(p_t) moves at constant speed. A mask source has p = 0, where alpha = sin^2(pi t / 2). For p near 1, alpha is
    close to 1 - (1 - t)^2.
    Source: Shaul et al. 2024, "Flow Matching with General Discrete Paths", arXiv 2412.03487.
    """

    mass: float = 0.0

    def __post_init__(self) -> None:
        _angle(self.mass)

    def __call__(self, t: Tensor) -> AlphaSigma:
        return _great_circle(t, torch.full((), _angle(self.mass), dtype=t.dtype, device=t.device))

    def t_from_snr(self, snr: Tensor) -> Tensor:
        angle = _angle(self.mass)
        return 1 - torch.atan2(torch.full_like(snr, math.sin(angle)), (snr + math.cos(angle) ** 2).sqrt()) / angle


class TokenSchedule(abc.ABC):
    """Schedule that depends on the data token; subclasses implement `__call__`."""

    @abc.abstractmethod
    def __call__(self, t: Tensor, x_1: Tensor) -> AlphaSigma:
        """Return alpha, sigma and their derivatives for data tokens x_1, at times that broadcast against the tokens."""


@dataclass(frozen=True)
class KineticOptimalPerToken(TokenSchedule):
    """Kinetic-optimal schedule for any source: `KineticOptimal` with the source probability of each token.

    Source: Shaul et al. 2024, "Flow Matching with General Discrete Paths", arXiv 2412.03487.
    """

    masses: tuple[float, ...]
    """Source probability of each token: `tuple(source.probabilities(vocab_size).tolist())`."""

    def __post_init__(self) -> None:
        if not self.masses:
            raise UsageError("the source probability of each token in `masses`", "none")
        for mass in self.masses:
            _angle(mass)

    @functools.cached_property
    def _angles(self) -> Tensor:
        return torch.tensor([_angle(mass) for mass in self.masses], dtype=torch.float64)

    def __call__(self, t: Tensor, x_1: Tensor) -> AlphaSigma:
        angle = self._angles.to(device=x_1.device, dtype=t.dtype)[x_1]
        return _great_circle(t.expand(torch.broadcast_shapes(t.shape, angle.shape)), angle)


def _great_circle(t: Tensor, angle: Tensor) -> AlphaSigma:
    """Return sigma = (sin((1 - t) angle) / sin(angle))^2 and alpha = 1 - sigma, precise also for small alpha."""
    sine = torch.sin(torch.ones_like(t) * angle)
    sigma = (torch.sin((1 - t) * angle) / sine) ** 2
    precise_alpha = torch.sin(t * angle) * torch.sin((2 - t) * angle) / sine**2
    d_alpha = angle * torch.sin(2 * (1 - t) * angle) / sine**2
    return AlphaSigma(torch.where(sigma < 0.5, 1 - sigma, precise_alpha.clamp(min=0)), sigma, d_alpha, -d_alpha)


def _angle(mass: float) -> float:
    """Return the angle arccos(sqrt(mass)), clamped to at least 1e-8 to avoid 0 / 0."""
    check_number("mass", mass, ge=0, le=1)
    return max(math.atan2(math.sqrt(1 - mass), math.sqrt(mass)), 1e-8)
