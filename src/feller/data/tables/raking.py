"""Choosing among rows so that columns have the shares that are known."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.core.rng import Draws

SWEEPS = 30
FARTHEST = 10.0
"""Largest factor by which one column changes the weight of a row in one sweep."""


def raked(codes: Int64[Tensor, "m k"], shares: Sequence[Sequence[float]], n: int, draws: Draws) -> Int64[Tensor, " n"]:
    """Return which n of m rows to take: by weights with which each column has its shares, so far as rows allow.

    Weights are fitted to one column after the other, again and again. Rows are sorted, and taken
    in equal steps along the sum of their weights: the shares of what is taken differ less by chance, and a row with a
    weight of less than 1 / n is taken once at most. They come back shuffled.
    Source: Deming and Stephan 1940, "On a least squares adjustment of a sampled frequency table".

    Args:
        codes: Of the rows; fewer than n are taken more than once.
        shares: How often each code of each column is wanted; none for a column that is left as it is.
        n: How many rows are taken.
        draws: Source of where the steps begin, and of the shuffle.
    """
    weights = torch.full((len(codes),), 1 / len(codes), dtype=torch.float64, device=codes.device)
    wanted = [torch.tensor(own, dtype=torch.float64, device=codes.device) for own in shares]
    for _ in range(SWEEPS):
        for column, own in zip(codes.T, wanted, strict=True):
            if len(own):
                found = torch.bincount(column, weights, minlength=len(own))
                factors = (own / found.clamp(min=1e-12)).clamp(1 / FARTHEST, FARTHEST)
                weights = weights * factors[column]
        weights = weights / weights.sum()
    return in_steps(codes, weights, n, draws)


def in_steps(codes: Int64[Tensor, "m k"], weights: Float64[Tensor, " m"], n: int, draws: Draws) -> Int64[Tensor, " n"]:
    """Return n of m sorted rows, in equal steps along the sum of their weights, shuffled; see `raked`."""
    generator = draws.at("rows").shared()
    begin = torch.rand((), dtype=torch.float64, generator=generator).to(codes.device)
    steps = (torch.arange(n, dtype=torch.float64, device=codes.device) + begin) / n
    order = _sorted(codes)
    sums = weights[order].cumsum(0)
    which = order[torch.searchsorted(sums / sums[-1], steps).clamp(max=len(codes) - 1)]
    return which[torch.randperm(n, generator=generator).to(codes.device)]


def _sorted(codes: Int64[Tensor, "m k"]) -> Int64[Tensor, " m"]:
    """Return the order of rows by their first column, then their second, and so on."""
    order = torch.arange(len(codes), device=codes.device)
    for column in reversed(codes.T):
        order = order[column[order].argsort(stable=True)]
    return order
