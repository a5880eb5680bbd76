"""Poisson sampling of batches for DP-SGD."""

from collections.abc import Callable
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


def poisson_batches(
    examples: dict[str, Any], size: int, noise: Noise, encode: Callable[[Any], Any] | None = None
) -> Callable[[int, slice], dict[str, Any]]:
    """Return a function that samples a Poisson batch of expected size `size` for a step; a batch may be empty.

    Each call draws a new sample and must be charged to the privacy budget. Several processes draw the same sample from
    shared noise and split it. If the sample has more than `size` rows, the last process takes the excess rows.

    Args:
        examples: Pytree with one entry per row, on the CPU.
        size: Expected batch size, over all processes.
        noise: Source of the sampling; secret, because it reveals the batches.
        encode: Map from stored `x_1` to the training representation (default: none).

    Returns:
        (step, slice of `size` that belongs to this process) -> batch.

    Raises:
        UsageError: If `size` is below 1 or above the number of rows.
    """
    n = num_examples(examples)
    if not 1 <= size <= n:
        raise UsageError(f"a batch size from 1 to {n:,}, the number of rows", f"{size:,}")

    def sample_batch(step: int, rows: slice) -> dict[str, Any]:
        start, stop, _ = rows.indices(size)
        index = poisson(n, size / n, noise)[start : stop if stop < size else None]
        batch = tree_map(lambda leaf: leaf[index], examples)
        return batch if encode is None else {**batch, "x_1": encode(batch["x_1"])}

    return sample_batch
