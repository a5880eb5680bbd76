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
from feller.evaluation.tables.marginal_distance import cells


def drawn_again(codes: Int64[Tensor, "n k"], size: int, draws: Rng) -> Int64[Tensor, "size k"]:
    """Draw rows with replacement: as near to the table as rows that know its law can come, and all of them copies."""
    return codes[draws.stream("drawn again").randint(len(codes), (size,))]


def unrelated(codes: Int64[Tensor, "n k"], draws: Rng) -> Int64[Tensor, "n k"]:
    """Shuffle each column on its own: every column keeps its shares, and no column tells of another."""
    columns = [codes[_order(len(codes), draws.fold_in("column", j)), j] for j in range(codes.shape[1])]
    return torch.stack(columns, 1)


def code_length_of_unrelated(
    learned: Int64[Tensor, "n k"],
    unseen: Int64[Tensor, "m k"],
    levels_of: Callable[[Tensor], Tensor],
    rooms: Sequence[int],
) -> float:
    """Return what unseen rows take in nats if columns tell nothing of each other: by shares of levels, evenly within.

    Args:
        learned: Rows whose shares are counted, one more in each level.
        unseen: Rows that are told.
        levels_of: Codes -> levels; the codes of one level are alike.
        rooms: Codes of each column.
    """
    every = [torch.arange(max(rooms)).clamp(max=room - 1) for room in rooms]
    levels, known, asked = (levels_of(codes) for codes in (torch.stack(every, 1), learned, unseen))
    total = 0.0
    for j, room in enumerate(rooms):
        width = levels[:room, j].bincount().double()
        shares = known[:, j].bincount(minlength=len(width)).double() + 1
        total -= (shares / shares.sum() / width).log()[asked[:, j]].mean().item()
    return total


def some(codes: Int64[Tensor, "n k"], most: int, draws: Rng) -> Int64[Tensor, "m k"]:
    """Return so many rows at most, each once, chosen at random."""
    return codes if len(codes) <= most else codes[_order(len(codes), draws)[:most]]


def _order(n: int, draws: Rng) -> Int64[Tensor, " n"]:
    return torch.randperm(n, generator=draws.stream("order").shared_generator())


QUERIES = 6_000
"""Synthetic rows whose nearest real rows are looked for."""
MEMBERS = 5_000
"""Rows of the training table, and as many others, that are told apart."""
BLOCK = 2**20
"""Distances that are held at once."""


def copied_share(rows: Int64[Tensor, "n k"], known: Int64[Tensor, "m k"]) -> float:
    """Return the share of rows all of whose codes stand in a known row, too."""
    columns = np.ascontiguousarray(torch.cat([rows, known]).cpu().numpy().T)
    (cell, _), *_ = cells(columns, [tuple(range(len(columns)))])
    return np.isin(cell[: len(rows)], cell[len(rows) :]).mean().item()


def nearest_rows(rows: Int64[Tensor, "n k"], known: Int64[Tensor, "m k"]) -> Int64[np.ndarray, " n"]:
    """Return in how many columns each row differs from the known row that is most like it (Hamming distance)."""
    k, largest = rows.shape[1], max(int(rows.max()), int(known.max()))
    small = next(kind for kind in (np.uint8, np.uint16, np.int64) if largest <= np.iinfo(kind).max)
    asked, reference = (np.ascontiguousarray(table.cpu().numpy().T.astype(small)) for table in (rows, known))
    counter = np.uint8 if k < 256 else np.uint16
    best = np.full(len(rows), k, dtype=np.int64)
    wide = min(len(known), BLOCK // 32)
    high = max(1, BLOCK // wide)
    for left in range(0, len(known), wide):
        part = reference[:, left : left + wide]
        for top in range(0, len(rows), high):
            block = asked[:, top : top + high]
            apart = np.zeros((block.shape[1], part.shape[1]), dtype=counter)
            for of_rows, of_known in zip(block, part, strict=True):
                apart += of_rows[:, None] != of_known[None]
            np.minimum(best[top : top + high], apart.min(1), out=best[top : top + high])
    return best


def dcr_share(
    synthetic: Int64[Tensor, "n k"], train: Int64[Tensor, "m k"], held_out: Int64[Tensor, "h k"], draws: Rng
) -> float:
    """Return the share of synthetic rows nearer to the training table than to as many held-out rows; ties count half.

    One half says that training rows are no nearer than people the model never saw. QUERIES synthetic rows are asked.
    """
    size = min(len(train), len(held_out))
    asked = some(synthetic, QUERIES, draws.fold_in("asked"))
    seen, unseen = some(train, size, draws.fold_in("seen")), some(held_out, size, draws.fold_in("unseen"))
    to_seen, to_unseen = nearest_rows(asked, seen), nearest_rows(asked, unseen)
    return ((to_seen < to_unseen).mean() + (to_seen == to_unseen).mean() / 2).item()


def membership_auc(
    synthetic: Int64[Tensor, "n k"], train: Int64[Tensor, "m k"], held_out: Int64[Tensor, "h k"], draws: Rng
) -> float:
    """Return how well nearness to the synthetic table tells rows of the training table from others (area under ROC).

    The chance that of one row of each kind the training row is nearer, ties half: 0.5 is guessing. MEMBERS of each
    kind are asked.
    """
    size = min(MEMBERS, len(train), len(held_out))
    of_members = nearest_rows(some(train, size, draws.fold_in("members")), synthetic)
    of_others = nearest_rows(some(held_out, size, draws.fold_in("others")), synthetic)
    members, others = (np.bincount(apart, minlength=train.shape[1] + 1) / size for apart in (of_members, of_others))
    farther = 1 - others.cumsum()  # chance that another row is farther than this
    return (members @ (farther + others / 2)).item()
