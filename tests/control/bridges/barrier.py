"""A pinned problem on the line that is not Gaussian: a barrier between the ends, solved by transfer matrices."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.control.bridges.gaussian import GaussianPaths, kinetic
from feller.control.costs import Cost, Population

F64 = torch.float64
GRID = torch.linspace(-5, 5, 1501, dtype=F64)
STEPS = 200
ENDS = (-1.0, 1.0)


@dataclass(frozen=True)
class Barrier(Cost):
    """V = 12 exp(-x^2 / (2 * .25^2))."""

    def __call__(self, x: Tensor, t: Tensor, population: Population | None = None) -> Tensor:
        return 12 * torch.exp(-x.square().sum(-1) / (2 * 0.25**2))

    def exact(self, paths: GaussianPaths) -> Tensor:
        """Return the objective of Gaussian paths, [n], without sampling."""
        t = (torch.arange(20_000, dtype=F64) + 0.5) / 20_000
        paths = GaussianPaths(paths.means.double(), paths.scales.double(), paths.noise)
        now = paths.grid(t)
        wide = 0.25**2 + now.std.square()
        v = 12 * 0.25 / wide.sqrt() * torch.exp(-now.mean[..., 0].square() / (2 * wide))
        return kinetic(paths) + v.mean(1)


@dataclass(frozen=True, eq=False)
class Law:
    """Of X_t on the grid."""

    weights: Tensor

    @property
    def std(self) -> float:
        mean = self.weights @ GRID
        return (self.weights @ (GRID - mean).square()).sqrt().item()

    @property
    def near(self) -> float:
        """P(|X| < .3)."""
        return self.weights[GRID.abs() < 0.3].sum().item()

    def w1(self, x: Tensor, weights: Tensor) -> float:
        """Distance to weighted states, [n]."""
        order = x.argsort()
        below = torch.cat([torch.zeros(1, dtype=F64), weights[order].double().cumsum(0)])
        theirs = below[torch.searchsorted(x[order].double(), GRID, right=True)]
        return torch.trapezoid((theirs - self.weights.cumsum(0)).abs(), GRID).item()


def solve() -> tuple[float, dict[float, Law]]:
    """Return -log Z and the laws at .25 and .5, by chains of Gaussian steps with V at both ends of each (noise 1)."""
    h, width = 1 / STEPS, (GRID[1] - GRID[0]).item()
    v = Barrier()(GRID[:, None], torch.zeros(()))
    step = torch.exp(-(GRID[:, None] - GRID).square() / (2 * h)) / math.sqrt(2 * math.pi * h) * width
    half = torch.exp(-h / 2 * v)
    step = half[:, None] * step * half

    def through(end: float) -> list[Tensor]:
        """Chains from an end, after each number of steps; one that begins there is one row of the matrix."""
        at = (GRID - end).abs().argmin()
        chains = [torch.nn.functional.one_hot(at, len(GRID)).double()]
        for _ in range(STEPS):
            chains.append(chains[-1] @ step)
        return chains

    ahead, back = (through(end) for end in ENDS)
    last = (GRID - ENDS[1]).abs().argmin()
    free = math.exp(-((ENDS[1] - ENDS[0]) ** 2) / 2) / math.sqrt(2 * math.pi) * width
    laws = {}
    for t in (0.25, 0.5):
        both = ahead[round(t * STEPS)] * back[STEPS - round(t * STEPS)]
        laws[t] = Law(both / both.sum())
    return -math.log(ahead[-1][last] / free), laws
