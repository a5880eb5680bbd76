"""Small tables, models for brute force, and predictable noise."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.privacy.marginals import MarginalModel
from feller.privacy.noise.grid_noise import Noise

COUNTS = (2, 3, 4, 3, 2)
LOOP = ((0, 1, 2), (1, 3), (3, 0), (2,), (4, 3), (1, 0))
"""Cliques with a loop, one within another, and axes out of order."""


def model_of(counts: Sequence[int], cliques: Sequence[tuple[int, ...]], seed: int = 0) -> MarginalModel:
    """Return a model with normal potentials."""
    draws = Rng(seed)
    potentials = (
        1.5 * draws.stream("potential", i).normal([counts[j] for j in clique], torch.float64)
        for i, clique in enumerate(cliques)
    )
    return MarginalModel(tuple(counts), tuple(cliques), tuple(potentials), 1000.0)


def joint_of(model: MarginalModel) -> tuple[Tensor, float]:
    """Return the probability of every row there can be, [*counts], and log Z."""
    total = torch.zeros(model.counts, dtype=torch.float64)
    for row in itertools.product(*map(range, model.counts)):
        for clique, potential in zip(model.cliques, model.potentials, strict=True):
            total[row] += potential[tuple(row[j] for j in clique)]
    log_z = total.flatten().logsumexp(0)
    return (total - log_z).exp(), log_z.item()


def sum_to(joint: Tensor, columns: Sequence[int]) -> Tensor:
    """Sum a table of all columns to some, in their order."""
    return torch.einsum(joint, list(range(joint.ndim)), list(columns))


def table_of(codes: Tensor, counts: Sequence[int], columns: Sequence[int] | None = None) -> Tensor:
    """Count rows in each cell, one by one."""
    columns = range(len(counts)) if columns is None else columns
    table = torch.zeros([counts[j] for j in columns], dtype=torch.float64)
    for row in codes[:, list(columns)].tolist():
        table[tuple(row)] += 1
    return table


@dataclass
class Numbers(Noise):
    """Noise from a seed, rounded where it shall be whole; remembers its calls, as (sigma, shape)."""

    seed: int = 0
    scale: float = 1.0
    """Factor of the noise; 0 for none."""
    calls: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    def random_bytes(self, count: int) -> bytes:
        raise AssertionError("numbers are drawn whole")

    def uniform(self, shape: Sequence[int]) -> Tensor:
        self.calls.append((0.0, tuple(shape)))
        if not self.scale:
            return torch.full(tuple(shape), 0.5, dtype=torch.float64)
        return torch.from_numpy(self.generator.uniform(1e-16, 1, tuple(shape)))

    def discrete_gaussian(self, sigma: float, shape: Sequence[int]) -> Tensor:
        self.calls.append((sigma, tuple(shape)))
        normal = self.scale * sigma * self.generator.standard_normal(tuple(shape))
        return torch.from_numpy(np.rint(normal).astype(np.int64))
