"""Choosing rows whose pairs of columns are nearer to those of many weighted rows than a choice by chance."""

import itertools

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int32, Int64
from torch import Tensor

from feller.core.rng import Draws
from feller.data.tables.raking import in_steps

EXCHANGE_SWEEPS = 80
PART = 80
"""In the first sweep a row in so many is exchanged; in later ones fewer."""
LEAST = 20
PAIRS, CELLS = 100, 100_000
"""Pairs of columns that are looked at, at most, of more, so many by chance; and cells of a pair that is."""


def exchanged(
    codes: Int64[Tensor, "m k"], weights: Float64[Tensor, " m"], n: int, draws: Draws, sweeps: int = EXCHANGE_SWEEPS
) -> Int64[Tensor, " n"]:
    """Return which n of m rows to take, so that pairs of columns are nearest to those of all rows by their weights.

    It begins with a choice in equal steps. Then rows are exchanged, many at once: of one half by chance those that
    bring the counts of all pairs of columns nearest together. A sweep that leads away is undone, and the next one
    exchanges fewer. A row with a weight of less than 1 / n is taken once at most. They come back shuffled.

    Args:
        codes: Of the rows; some times n of them, so that there is a choice.
        weights: With sum 1.
        n: How many rows are taken.
        draws: Source of where it begins, of the halves, and of the shuffle.
        sweeps: Rounds of exchanges.
    """
    which = in_steps(codes, weights, n, draws)
    if not n or len(codes) < 2 or codes.shape[1] < 2:
        return which
    taken = np.bincount(which.cpu().numpy(), minlength=len(codes))
    cells, rooms = _cells(codes, draws)
    if not rooms:
        return which
    most = np.ceil(n * weights.cpu().numpy())
    apart = _counts(cells, taken - n * weights.cpu().numpy(), rooms)
    size, generator = max(LEAST, n // PART), draws.at("exchange").shared()
    distance = np.abs(apart).sum()
    for _ in range(sweeps):
        coins = torch.rand(len(codes), generator=generator).numpy() < 0.5
        comes = _best((taken < most) & coins, cells, apart, 1, size)
        goes = _best((taken > 0) & coins, cells, apart, -1, size)
        both = min(len(comes), len(goes))
        if not both:
            continue
        comes, goes = comes[:both], goes[:both]
        moved = _counts(cells[comes], np.ones(both), rooms) - _counts(cells[goes], np.ones(both), rooms)
        if (new := np.abs(apart + moved).sum()) >= distance:
            size = max(1, size // 2)
            continue
        apart, distance = apart + moved, new
        taken[comes] += 1
        taken[goes] -= 1
    found = torch.from_numpy(np.repeat(np.arange(len(codes)), taken))
    return found[torch.randperm(n, generator=generator)].to(codes.device)


def _cells(codes: Int64[Tensor, "m k"], draws: Draws) -> tuple[Int32[np.ndarray, "m pairs"], int]:
    """Number the cells of all pairs of columns one after the other: each row's, and how many there are."""
    columns = codes.cpu().numpy().T
    counts = columns.max(1) + 1
    pairs = [(a, b) for a, b in itertools.combinations(range(len(columns)), 2) if counts[a] * counts[b] <= CELLS]
    if not pairs:
        return np.zeros((len(codes), 0), dtype=np.int32), 0
    if len(pairs) > PAIRS:
        some = torch.randperm(len(pairs), generator=draws.at("pairs").shared())[:PAIRS].tolist()
        pairs = [pairs[number] for number in sorted(some)]
    ends = np.cumsum([counts[a] * counts[b] for a, b in pairs])
    begins = [0, *ends[:-1]]
    cells = [columns[a] * counts[b] + columns[b] + begin for (a, b), begin in zip(pairs, begins, strict=True)]
    return np.stack(cells, 1).astype(np.int32), int(ends[-1])


def _counts(
    cells: Int32[np.ndarray, "m pairs"], weights: Float64[np.ndarray, " m"], rooms: int
) -> Float64[np.ndarray, " rooms"]:
    """Add up the weights of the rows in each cell."""
    return np.bincount(cells.ravel(), np.repeat(weights, cells.shape[1]), rooms)


def _best(
    may: Bool[np.ndarray, " m"],
    cells: Int32[np.ndarray, "m pairs"],
    apart: Float64[np.ndarray, " rooms"],
    by: int,
    size: int,
) -> Int64[np.ndarray, " some"]:
    """Return those of some rows of which one more, or one less, brings the counts nearest together, the best first."""
    rows = np.flatnonzero(may)
    gains = (np.abs(apart + by) - np.abs(apart))[cells[rows]].sum(1)
    return rows[np.argsort(gains, kind="stable")[:size]]
