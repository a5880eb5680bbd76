"""The pinned problem with V = 1/2 omega^2 |x|^2, whose best process is Gaussian and known."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.control.costs import Cost, Population

F64 = torch.float64


@dataclass(frozen=True)
class Quadratic:
    """One pair on the line."""

    noise: float
    omega: float
    x_0: float
    x_1: float

    def mean(self, t: Tensor) -> Tensor:
        w = self.omega
        return (torch.sinh(w * (1 - t)) * self.x_0 + torch.sinh(w * t) * self.x_1) / math.sinh(w)

    def std(self, t: Tensor) -> Tensor:
        return self.covariance(t, t).sqrt()

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        """Of X_s and X_t, s <= t."""
        w = self.omega
        return self.noise**2 * torch.sinh(w * s) * torch.sinh(w * (1 - t)) / (w * math.sinh(w))

    def drift(self, x: Tensor, t: Tensor, *, backward: bool = False) -> Tensor:
        left, end = (t, self.x_0) if backward else (1 - t, self.x_1)
        w = self.omega
        return w * end / torch.sinh(w * left) - w / torch.tanh(w * left) * x

    @property
    def log_z(self) -> float:
        """log E exp(-int V / sigma^2 dt) over the Brownian bridge."""
        a, b, w = self.x_0, self.x_1, self.omega
        energy = w * ((a * a + b * b) / math.tanh(w) - 2 * a * b / math.sinh(w)) - (b - a) ** 2
        return -(math.log(math.sinh(w) / w) / 2 + energy / (2 * self.noise**2))

    def pairs(self, n: int = 1, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
        return torch.full((n, 1), self.x_0, dtype=dtype), torch.full((n, 1), self.x_1, dtype=dtype)


@dataclass(frozen=True)
class QuadraticCost(Cost):
    """V itself."""

    omega: float

    def __call__(self, x: Tensor, t: Tensor, population: Population | None = None) -> Tensor:
        return self.omega**2 / 2 * x.square().sum(-1)


ROWS = (
    (
        Quadratic(1.0, 2.0, 1.0, -0.5),
        (0.51524779, 0.16201357, -0.14986638),
        (0.39110601, 0.43634681, 0.39110601),
        (0.01446365, 0.03261916, 0.05910079),
        0.744974,
    ),
    (
        Quadratic(0.5, 3.0, -1.0, 2.0),
        (-0.30410989, 0.21254802, 0.85447462),
        (0.17913549, 0.19420224, 0.17913549),
        (0.00208304, 0.00539377, 0.01188339),
        15.147692,
    ),
    (
        Quadratic(2.0, 1.0, 0.3, 0.7),
        (0.36038394, 0.44340944, 0.55429267),
        (0.84085422, 0.96137106, 0.84085422),
        (0.08612433, 0.17765953, 0.28035640),
        0.111242,
    ),
)
"""Problem, then mean, deviation and covariance with X_.9 at t = .25, .5, .75, and -log Z."""
