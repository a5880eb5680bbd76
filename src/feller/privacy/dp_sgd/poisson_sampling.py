"""Batches in which every row is by a flip of its own coin."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import num_examples, tree_map
from feller.privacy.noise.grid_noise import Noise


def poisson(n: int, rate: float, noise: Noise) -> Int[Tensor, " m"]:
    """Return which of n rows are in a sample: each with one chance, whatever the others do; often none if few."""
    check_number("rate", rate, gt=0, le=1, remedy="Take no more rows than there are")
    return torch.arange(n) if rate == 1 else noise.bernoulli(rate, (n,)).nonzero()[:, 0]


def poisson_batches(
    examples: dict[str, Any], size: int, noise: Noise, encode: Callable[[Any], Any] | None = None
) -> Callable[[int, slice], dict[str, Any]]:
    """Return what gives a step its batch, of `size` rows on average, and now and then of none.

    Asking twice gives another sample: accounting counts each. Several processes flip the same coins, from noise that
    they agree upon, and share out who was chosen; the last one takes those beyond a full batch, too.

    Args:
        examples: A tree with one entry per row, on the processor.
        size: Expected rows of a batch, over all processes.
        noise: Flips the coins; who sees them knows who was in a batch.
        encode: From `x_1` as it is kept to what the network learns; none if it is kept so.

    Returns:
        A function of the step and of this process's rows, out of `size`, of a full batch.

    Raises:
        UsageError: If there are fewer rows than a batch takes.
    """
    n = num_examples(examples)
    if not 1 <= size <= n:
        raise UsageError(f"a batch of 1 to {n:,} rows, as many as there are", f"{size:,}")

    def batch(step: int, rows: slice) -> dict[str, Any]:
        first, last, _ = rows.indices(size)
        sampled = poisson(n, size / n, noise)[first : last if last < size else None]
        drawn = tree_map(lambda leaf: leaf[sampled], examples)
        return drawn if encode is None else {**drawn, "x_1": encode(drawn["x_1"])}

    return batch
