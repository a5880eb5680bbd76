"""Poisson sampling of batches for DP-SGD."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import num_examples, tree_map
from feller.privacy.noise.grid_noise import Noise


def poisson(n: int, rate: float, noise: Noise) -> Int[Tensor, " m"]:
    """Return the indices of a Poisson sample of n rows: each row is included independently with probability `rate`.

    `noise` is the source of random numbers.
    """
    check_number("rate", rate, gt=0, le=1, remedy="Use a batch size of at most the number of rows")
    return torch.arange(n) if rate == 1 else noise.bernoulli(rate, (n,)).nonzero()[:, 0]


@dataclass(frozen=True, eq=False)
class RowGroups:
    """Groups of rows that take turns: the batch of a step is a Poisson sample of one group.

    The group of a row must not depend on other rows. Then two steps in which a row can take part are at least `count`
    steps apart, as noise with `count` bands requires.
    """

    assignment: Int[Tensor, " n"]
    """Group of each row, from 0 to `count` - 1."""
    count: int
    """Number of groups."""
    steps_before: int = 0
    """Number of steps charged for the rows in earlier sessions, which continue the turns."""

    def __post_init__(self) -> None:
        check_number("count", self.count, ge=1)
        if len(self.assignment) and not 0 <= int(self.assignment.min()) <= int(self.assignment.max()) < self.count:
            raise UsageError(f"groups from 0 to {self.count - 1}", f"{self.assignment.unique().tolist()}")

    def poisson(self, step: int, rate: float, noise: Noise) -> Int[Tensor, " m"]:
        """Return a Poisson sample of the group of a step.

        Args:
            step: Number of steps taken before, in all sessions.
            rate: Mean sampling rate of all rows; rows of the group are sampled `count` times as often.
            noise: Source of random numbers.
        """
        members = (self.assignment == step % self.count).nonzero()[:, 0]
        return members[poisson(len(members), min(1.0, self.count * rate), noise)]


def random_groups(n: int, count: int, noise: Noise) -> RowGroups:
    """Return groups of n rows, each row in a random group."""
    return RowGroups(noise.randint(count, (n,)), count)


def poisson_batches(
    examples: dict[str, Any],
    size: int,
    noise: Noise,
    encode: Callable[[Any], Any] | None = None,
    groups: RowGroups | None = None,
) -> Callable[[int, slice], dict[str, Any]]:
    """Return a function that samples a Poisson batch of expected size `size` for a step; a batch may be empty.

    Each call draws a new sample and must be charged to the privacy budget. Several processes draw the same sample from
    shared noise and split it. If the sample has more than `size` rows, the last process takes the excess rows.

    Args:
        examples: Pytree with one entry per row, on the CPU.
        size: Expected batch size, over all processes.
        noise: Source of the sampling; secret, because it reveals the batches.
        encode: Map from stored `x_1` to the training representation (default: none).
        groups: Groups of rows that take turns, for correlated noise (default: each batch is a sample of all rows).

    Returns:
        (step, slice of `size` that belongs to this process) -> batch.

    Raises:
        UsageError: If `size` is below 1 or above the number of rows, or above the mean size of a group.
    """
    n = num_examples(examples)
    if not 1 <= size <= n:
        raise UsageError(f"a batch size from 1 to {n:,}, the number of rows", f"{size:,}")
    if groups is not None and (size * groups.count > n or len(groups.assignment) != n):
        expected = f"a batch size of at most {n // groups.count:,} for {groups.count} groups of {n:,} rows"
        raise UsageError(expected, f"{size:,}, and groups of {len(groups.assignment):,} rows")
    calls = itertools.count(0 if groups is None else groups.steps_before)

    def sample_index() -> Int[Tensor, " m"]:
        return poisson(n, size / n, noise) if groups is None else groups.poisson(next(calls), size / n, noise)

    def sample_batch(step: int, rows: slice) -> dict[str, Any]:
        start, stop, _ = rows.indices(size)
        index = sample_index()[start : stop if stop < size else None]
        batch = tree_map(lambda leaf: leaf[index], examples)
        return batch if encode is None else {**batch, "x_1": encode(batch["x_1"])}

    return sample_batch
