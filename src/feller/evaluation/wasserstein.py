"""Exact optimal transport between two sets of points."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.errors import UsageError
from feller.training.couplings.minibatch_ot import cheapest


def wasserstein(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], order: int = 2) -> float:
    """Return the least (mean |x - y|^order)^(1/order) over all ways to move one set to the other, in units of the data.

    Exact: an assignment where the sets are equally large, a linear program of POT where they are not. The work grows
    as n^3: a second or so for 1,000 points.

    Raises:
        ValueError: If a set is empty or holds what is not finite, or the order is below 1.
        UsageError: If the sets differ in size and POT is not installed.
    """
    if not len(a) or not len(b):
        raise ValueError(f"expected one point or more in each set, got {len(a)} and {len(b)}")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("expected finite points, got others; drop them first")
    if order < 1:
        raise ValueError(f"expected an order of 1 or more, got {order}")
    cost = torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist").pow(order)
    if len(a) != len(b):
        return _program(cost) ** (1 / order)
    columns = torch.arange(len(b), device=cost.device)
    return cost[cheapest(cost), columns].mean().item() ** (1 / order)


def _program(cost: Float64[Tensor, "n m"]) -> float:
    """Return the least cost of a plan whose rows count alike, and its columns, too."""
    try:
        import ot
    except ImportError as error:
        raise UsageError(
            f"exact transport between {cost.shape[0]:,} and {cost.shape[1]:,} points needs POT: pip install"
            " 'feller[bridges]', or take equally many"
        ) from error
    return float(ot.emd2([], [], cost.cpu().numpy(), numItermax=10_000_000))  # pyrefly: ignore[bad-argument-type]
