"""Copies and nearest-neighbour distances of synthetic rows, with reference tables.

A table that passes may still betray people: on Adult, a model with strong privacy and one without any pass alike. Only
the (epsilon, delta) of training is a guarantee.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Rng
from feller.evaluation.tables.marginal_distance import cell_numbers


def bootstrap_rows(codes: Int64[Tensor, "n k"], size: int, rng: Rng) -> Int64[Tensor, "size k"]:
    """Draw rows with replacement: as near to the table as rows that know its law can come, and all of them copies."""
    return codes[rng.stream("drawn again").randint(len(codes), (size,))]


def shuffle_columns(codes: Int64[Tensor, "n k"], rng: Rng) -> Int64[Tensor, "n k"]:
    """Shuffle each column on its own: every column keeps its shares, and no column tells of another."""
    columns = [codes[_order(len(codes), rng.fold_in("column", j)), j] for j in range(codes.shape[1])]
    return torch.stack(columns, 1)


def independent_columns_nll(
    train: Int64[Tensor, "n k"],
    held_out: Int64[Tensor, "m k"],
    levels_of: Callable[[Tensor], Tensor],
    rooms: Sequence[int],
) -> float:
    """Return what unseen rows take in nats if columns tell nothing of each other: by shares of levels, evenly within.

    Args:
        train: Rows whose shares are counted, one more in each level.
        held_out: Rows that are told.
        levels_of: Codes -> levels; the codes of one level are alike.
        rooms: Codes of each column.
    """
    every = [torch.arange(max(rooms)).clamp(max=room - 1) for room in rooms]
    levels, train_levels, held_out_levels = (levels_of(codes) for codes in (torch.stack(every, 1), train, held_out))
    total = 0.0
    for j, room in enumerate(rooms):
        width = levels[:room, j].bincount().double()
        shares = train_levels[:, j].bincount(minlength=len(width)).double() + 1
        total -= (shares / shares.sum() / width).log()[held_out_levels[:, j]].mean().item()
    return total


def subsample_rows(codes: Int64[Tensor, "n k"], max_rows: int, rng: Rng) -> Int64[Tensor, "m k"]:
    """Return so many rows at most, each once, chosen at random."""
    return codes if len(codes) <= max_rows else codes[_order(len(codes), rng)[:max_rows]]


def _order(n: int, rng: Rng) -> Int64[Tensor, " n"]:
    return torch.randperm(n, generator=rng.stream("order").shared_generator())


QUERIES = 6_000
"""Synthetic rows whose nearest real rows are looked for."""
MEMBERS = 5_000
"""Rows of the training table, and as many others, that are told apart."""
BLOCK = 2**20
"""Distances that are held at once."""


def copied_fraction(rows: Int64[Tensor, "n k"], reference: Int64[Tensor, "m k"]) -> float:
    """Return the share of rows all of whose codes stand in a known row, too."""
    columns = np.ascontiguousarray(torch.cat([rows, reference]).cpu().numpy().T)
    (cell, _), *_ = cell_numbers(columns, [tuple(range(len(columns)))])
    return np.isin(cell[: len(rows)], cell[len(rows) :]).mean().item()


def nearest_hamming(rows: Int64[Tensor, "n k"], reference_rows: Int64[Tensor, "m k"]) -> Int64[np.ndarray, " n"]:
    """Return in how many columns each row differs from the known row that is most like it (Hamming distance)."""
    k, largest = rows.shape[1], max(int(rows.max()), int(reference_rows.max()))
    small = next(kind for kind in (np.uint8, np.uint16, np.int64) if largest <= np.iinfo(kind).max)
    queries, reference = (np.ascontiguousarray(table.cpu().numpy().T.astype(small)) for table in (rows, reference_rows))
    counter = np.uint8 if k < 256 else np.uint16
    best = np.full(len(rows), k, dtype=np.int64)
    wide = min(len(reference_rows), BLOCK // 32)
    high = max(1, BLOCK // wide)
    for left in range(0, len(reference_rows), wide):
        part = reference[:, left : left + wide]
        for top in range(0, len(rows), high):
            block = queries[:, top : top + high]
            apart = np.zeros((block.shape[1], part.shape[1]), dtype=counter)
            for of_rows, of_known in zip(block, part, strict=True):
                apart += of_rows[:, None] != of_known[None]
            np.minimum(best[top : top + high], apart.min(1), out=best[top : top + high])
    return best


def dcr_fraction(
    synthetic: Int64[Tensor, "n k"], train: Int64[Tensor, "m k"], held_out: Int64[Tensor, "h k"], rng: Rng
) -> float:
    """Return the share of synthetic rows nearer to the training table than to as many held-out rows; ties count half.

    One half says that training rows are no nearer than people the model never saw. QUERIES synthetic rows are asked.
    """
    size = min(len(train), len(held_out))
    queries = subsample_rows(synthetic, QUERIES, rng.fold_in("asked"))
    train_rows, held_out_rows = (
        subsample_rows(train, size, rng.fold_in("seen")),
        subsample_rows(held_out, size, rng.fold_in("unseen")),
    )
    to_seen, to_unseen = nearest_hamming(queries, train_rows), nearest_hamming(queries, held_out_rows)
    return ((to_seen < to_unseen).mean() + (to_seen == to_unseen).mean() / 2).item()


def membership_auc(
    synthetic: Int64[Tensor, "n k"], train: Int64[Tensor, "m k"], held_out: Int64[Tensor, "h k"], rng: Rng
) -> float:
    """Return how well nearness to the synthetic table tells rows of the training table from others (area under ROC).

    The chance that of one row of each kind the training row is nearer, ties half: 0.5 is guessing. MEMBERS of each
    kind are asked.
    """
    size = min(MEMBERS, len(train), len(held_out))
    of_members = nearest_hamming(subsample_rows(train, size, rng.fold_in("members")), synthetic)
    of_others = nearest_hamming(subsample_rows(held_out, size, rng.fold_in("others")), synthetic)
    members, others = (np.bincount(apart, minlength=train.shape[1] + 1) / size for apart in (of_members, of_others))
    farther = 1 - others.cumsum()  # chance that another row is farther than this
    return (members @ (farther + others / 2)).item()
