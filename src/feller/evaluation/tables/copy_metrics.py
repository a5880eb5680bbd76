"""Metrics of copies and nearest-neighbour distances of synthetic rows, and reference tables for them.

These metrics do not prove privacy: on the Adult dataset, models with strong privacy and models without privacy have the
same scores. Only the (epsilon, delta) of private training is a guarantee.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Rng
from feller.evaluation.tables.marginal_distance import cell_numbers


def bootstrap_rows(codes: Int64[Tensor, "n k"], size: int, rng: Rng) -> Int64[Tensor, "size k"]:
    """Sample rows with replacement, as a reference table that matches the distribution but contains only copies."""
    return codes[rng.stream("drawn again").randint(len(codes), (size,))]


def shuffle_columns(codes: Int64[Tensor, "n k"], rng: Rng) -> Int64[Tensor, "n k"]:
    """Shuffle each column independently, which keeps the marginals and removes the dependence between columns."""
    columns = [codes[_order(len(codes), rng.fold_in("column", j)), j] for j in range(codes.shape[1])]
    return torch.stack(columns, 1)


def independent_columns_nll(
    train: Int64[Tensor, "n k"],
    held_out: Int64[Tensor, "m k"],
    levels_of: Callable[[Tensor], Tensor],
    rooms: Sequence[int],
) -> float:
    """Return the mean negative log-likelihood of held-out rows, in nats, under a model with independent columns.

    Levels are groups of category indices. In each column, the probabilities of levels are frequencies in the training
    rows with add-one smoothing, and the categories of a level are equally likely.

    Args:
        train: Category indices of training rows.
        held_out: Category indices of held-out rows.
        levels_of: Function from the category indices of rows to their levels.
        rooms: Number of categories of each column.
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
    """Return a random subset of at most `max_rows` rows."""
    return codes if len(codes) <= max_rows else codes[_order(len(codes), rng)[:max_rows]]


def _order(n: int, rng: Rng) -> Int64[Tensor, " n"]:
    return torch.randperm(n, generator=rng.stream("order").shared_generator())


QUERIES = 6_000
"""Maximum number of synthetic rows whose nearest neighbours are searched."""
MEMBERS = 5_000
"""Maximum number of members, and of non-members, in the membership inference attack."""
BLOCK = 2**20
"""Number of distances per chunk."""


def copied_fraction(rows: Int64[Tensor, "n k"], reference: Int64[Tensor, "m k"]) -> float:
    """Return the fraction of rows that equal a reference row in all columns."""
    columns = np.ascontiguousarray(torch.cat([rows, reference]).cpu().numpy().T)
    (cell, _), *_ = cell_numbers(columns, [tuple(range(len(columns)))])
    return np.isin(cell[: len(rows)], cell[len(rows) :]).mean().item()


def nearest_hamming(rows: Int64[Tensor, "n k"], reference_rows: Int64[Tensor, "m k"]) -> Int64[np.ndarray, " n"]:
    """Return the Hamming distance from each row to its nearest reference row."""
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
    """Return the fraction of synthetic rows that are closer to training rows than to held-out rows; ties count half.

    Equal numbers of training rows and held-out rows are used, and at most QUERIES synthetic rows. A fraction of 0.5
    means that synthetic rows are not closer to training rows than to held-out rows.
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
    """Return the AUC of membership inference by the distance from a row to the nearest synthetic row; 0.5 is guessing.

    At most MEMBERS training rows are used, and as many held-out rows.
    """
    size = min(MEMBERS, len(train), len(held_out))
    of_members = nearest_hamming(subsample_rows(train, size, rng.fold_in("members")), synthetic)
    of_others = nearest_hamming(subsample_rows(held_out, size, rng.fold_in("others")), synthetic)
    members, others = (np.bincount(apart, minlength=train.shape[1] + 1) / size for apart in (of_members, of_others))
    farther = 1 - others.cumsum()  # P(distance of a non-member > d)
    return (members @ (farther + others / 2)).item()
