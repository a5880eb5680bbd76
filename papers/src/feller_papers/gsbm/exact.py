"""One-dimensional bridges with known solutions: quadratic costs, and a barrier solved by transfer matrices."""

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.bridges.costs import PopulationDensity, StateCost
from feller.control.bridges.gaussian_paths import GaussianPaths, kinetic

F64 = torch.float64
TIMES = (torch.arange(20_000, dtype=F64) + 0.5) / 20_000
"""Quadrature nodes of integrals over time."""


@dataclass(frozen=True)
class QuadraticCost(StateCost):
    """V = 1/2 omega^2 |x|^2."""

    omega: float

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return the cost."""
        return self.omega**2 / 2 * x.square().sum(-1)


@dataclass(frozen=True)
class Quadratic:
    """A pair of ends under a quadratic cost: the optimal process is Gaussian."""

    noise: float
    omega: float
    x_0: float
    x_1: float

    @property
    def cost(self) -> QuadraticCost:
        """State cost V."""
        return QuadraticCost(self.omega)

    def mean(self, t: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return E X_t."""
        w = self.omega
        return (torch.sinh(w * (1 - t)) * self.x_0 + torch.sinh(w * t) * self.x_1) / math.sinh(w)

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        """Return Cov(X_s, X_t) for broadcastable times s <= t."""
        w = self.omega
        return self.noise**2 * torch.sinh(w * s) * torch.sinh(w * (1 - t)) / (w * math.sinh(w))

    def std(self, t: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return the standard deviation of X_t."""
        return self.covariance(t, t).sqrt()

    def drift(self, x: Tensor, t: Tensor, *, backward: bool = False) -> Tensor:
        """Return the optimal forward or backward drift at broadcastable states and times."""
        w, remaining, end = self.omega, t if backward else 1 - t, self.x_0 if backward else self.x_1
        return w * end / torch.sinh(w * remaining) - w / torch.tanh(w * remaining) * x

    @property
    def log_z(self) -> float:
        """Logarithm of Z = E exp(-int V / noise^2 dt) over the Brownian bridge: -(minimum objective) / noise^2."""
        a, b, w = self.x_0, self.x_1, self.omega
        energy = w * ((a * a + b * b) / math.tanh(w) - 2 * a * b / math.sinh(w)) - (b - a) ** 2
        return -(math.log(math.sinh(w) / w) / 2 + energy / (2 * self.noise**2))

    def pairs(self, n: int = 1, dtype: torch.dtype = F64) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
        """Return the ends, repeated n times."""
        return torch.full((n, 1), self.x_0, dtype=dtype), torch.full((n, 1), self.x_1, dtype=dtype)

    def objective(self, paths: GaussianPaths) -> Float[Tensor, " n"]:
        """Return the objective of Gaussian paths over noise^2, relative to the Brownian bridge, by quadrature."""
        exact = _to_float64(paths)
        moments = exact.grid(TIMES)
        state = self.omega**2 / 2 * (moments.mean[..., 0].square() + moments.std.square())
        return (kinetic(exact) + state.mean(1)) / self.noise**2


@dataclass(frozen=True)
class Barrier(StateCost):
    """V = 12 exp(-x^2 / (2 * .25^2)), between ends at -1 and 1, in noise 1."""

    height: ClassVar[float] = 12.0
    width: ClassVar[float] = 0.25
    ends: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        """Return the cost."""
        return self.height * torch.exp(-x.square().sum(-1) / (2 * self.width**2))

    def pairs(self, n: int = 1) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
        """Return the ends, repeated n times."""
        return torch.full((n, 1), self.ends[0]), torch.full((n, 1), self.ends[1])

    def objective(self, paths: GaussianPaths) -> Float[Tensor, " n"]:
        """Return the objective of Gaussian paths, relative to the Brownian bridge, by quadrature."""
        exact = _to_float64(paths)
        moments = exact.grid(TIMES)
        total_variance = self.width**2 + moments.std.square()
        state = (
            self.height
            * self.width
            / total_variance.sqrt()
            * torch.exp(-moments.mean[..., 0].square() / (2 * total_variance))
        )
        return kinetic(exact) + state.mean(1)


@dataclass(frozen=True, eq=False)
class GridDistribution:
    """Distribution of a one-dimensional state on a grid."""

    grid: Float[Tensor, " m"]
    weights: Float[Tensor, " m"]

    @property
    def std(self) -> float:
        """Standard deviation."""
        mean = self.weights @ self.grid
        return (self.weights @ (self.grid - mean).square()).sqrt().item()

    def prob_within(self, distance: float) -> float:
        """Return P(|X| < distance)."""
        return self.weights[self.grid.abs() < distance].sum().item()

    def w1(self, x: Float[Tensor, " n"], weights: Float[Tensor, " n"]) -> float:
        """Return the W1 distance to weighted samples."""
        order = x.argsort()
        cumulative = torch.nn.functional.pad(weights[order].double().cumsum(0), (1, 0))
        sample_cdf = cumulative[torch.searchsorted(x[order].double(), self.grid, right=True)]
        grid_cdf = self.weights.cumsum(0) - self.weights / 2  # a node's mass lies on both of its sides
        return torch.trapezoid((sample_cdf - grid_cdf).abs(), self.grid).item()


@functools.cache
def barrier(steps: int = 200, nodes: int = 1501) -> tuple[float, dict[float, GridDistribution]]:
    """Return -log Z and the marginals at t = .25 and .5, by transfer matrices with V at both ends of each step."""
    grid, h = torch.linspace(-5, 5, nodes, dtype=F64), 1 / steps
    cell = 10 / (nodes - 1)
    half_weight = torch.exp(-h / 2 * Barrier()(grid[:, None], torch.zeros(())))
    step = torch.exp(-(grid[:, None] - grid).square() / (2 * h)) * (cell / math.sqrt(2 * math.pi * h))
    step = half_weight[:, None] * step * half_weight
    first, last = (int((grid - end).abs().argmin()) for end in Barrier.ends)
    forward, backward = (_chain(step, index, steps) for index in (first, last))
    free_density = cell * math.exp(-((grid[last] - grid[first]).item() ** 2) / 2) / math.sqrt(2 * math.pi)
    marginals = {}
    for t in (0.25, 0.5):
        product = forward[round(t * steps)] * backward[steps - round(t * steps)]
        marginals[t] = GridDistribution(grid, product / product.sum())
    return -math.log(forward[-1][last].item() / free_density), marginals


def _chain(step: Tensor, index: int, steps: int) -> list[Tensor]:
    """Return one row of each power of the transition matrix."""
    chain = [torch.zeros(len(step), dtype=F64)]
    chain[0][index] = 1
    for _ in range(steps):
        chain.append(chain[-1] @ step)
    return chain


@dataclass(frozen=True)
class GaussianBridge:
    """Bridge between N(m_0, s_0^2) and N(m_1, s_1^2) with V = 1/2 omega^2 x^2."""

    m_0: float
    s_0: float
    m_1: float
    s_1: float
    noise: float
    omega: float

    @property
    def covariance(self) -> float:
        """Covariance of the ends under the optimal coupling."""
        kappa = self._kappa
        return (math.sqrt(1 + 4 * (kappa * self.s_0 * self.s_1) ** 2) - 1) / (2 * kappa)

    def moments(self, t: Float[Tensor, "*s"]) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
        """Return mean and standard deviation of X_t."""
        a, b, gamma = self._parts(t)
        variance = (a * self.s_0) ** 2 + (b * self.s_1) ** 2 + 2 * a * b * self.covariance + gamma
        return a * self.m_0 + b * self.m_1, variance.sqrt()

    @property
    def objective(self) -> float:
        """E int 1/2 |u|^2 + V dt of the optimal forward drift."""
        t = TIMES.clone().requires_grad_()
        mean, std = self.moments(t)
        (velocity,) = torch.autograd.grad(mean.sum(), t, retain_graph=True)
        (rate,) = torch.autograd.grad(std.sum(), t)
        mean, std = mean.detach(), std.detach()
        control = velocity.square() + (rate - self.noise**2 / (2 * std)).square()
        return (control + self.omega**2 * (mean.square() + std.square())).mean().item() / 2

    @property
    def _kappa(self) -> float:
        ratio = self.omega / math.sinh(self.omega) if self.omega else 1.0
        return ratio / self.noise**2

    def _parts(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weights of the ends in the mean of a pinned path, and its variance."""
        w = self.omega
        if not w:
            return 1 - t, t, self.noise**2 * t * (1 - t)
        a, b = torch.sinh(w * (1 - t)) / math.sinh(w), torch.sinh(w * t) / math.sinh(w)
        return a, b, self.noise**2 * math.sinh(w) / w * a * b


def _to_float64(paths: GaussianPaths) -> GaussianPaths:
    return GaussianPaths(paths.means.double(), paths.scales.double(), paths.noise)
