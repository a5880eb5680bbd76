"""Metrics of synthetic rows that copy real rows or are close to them, and construction of reference tables.

These metrics do not prove privacy: on the Adult dataset, models with strong privacy and models without privacy have the
same scores. Only the (epsilon, delta) of private training is a guarantee.

Reference tables, such as one with shuffled columns, give reference values of metrics.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Rng
from feller.evaluation.tables.marginal_distance import cell_numbers


def bootstrap_rows(codes: Int64[Tensor, "n k"], size: int, rng: Rng) -> Int64[Tensor, "size k"]:
    """Sample `size` rows with replacement: a reference table with the same distribution that contains only copies."""
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
        levels_of: Function from category indices, [n, k], to the level of each, [n, k].
        rooms: Number of categories of each column.
    """
    grid = [torch.arange(max(rooms)).clamp(max=count - 1) for count in rooms]
    levels, train_levels, held_out_levels = (levels_of(codes) for codes in (torch.stack(grid, 1), train, held_out))
    total = 0.0
    for j, count in enumerate(rooms):
        level_sizes = levels[:count, j].bincount().double()
        frequencies = train_levels[:, j].bincount(minlength=len(level_sizes)).double() + 1
        total -= (frequencies / frequencies.sum() / level_sizes).log()[held_out_levels[:, j]].mean().item()
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


def duplicated_fraction(rows: Int64[Tensor, "n k"]) -> float:
    """Return the fraction of rows that equal another row of the same table in all columns."""
    columns = np.ascontiguousarray(rows.cpu().numpy().T)
    (cell, size), *_ = cell_numbers(columns, [tuple(range(len(columns)))])
    return (np.bincount(cell, minlength=size)[cell] > 1).mean().item()


def nearest_hamming(rows: Int64[Tensor, "n k"], reference_rows: Int64[Tensor, "m k"]) -> Int64[np.ndarray, " n"]:
    """Return the Hamming distance from each row to its nearest reference row."""
    k, max_code = rows.shape[1], max(int(rows.max()), int(reference_rows.max()))
    dtype = next(candidate for candidate in (np.uint8, np.uint16, np.int64) if max_code <= np.iinfo(candidate).max)
    queries, reference = (np.ascontiguousarray(table.cpu().numpy().T.astype(dtype)) for table in (rows, reference_rows))
    counter_dtype = np.uint8 if k < 256 else np.uint16
    nearest = np.full(len(rows), k, dtype=np.int64)
    num_columns = min(len(reference_rows), BLOCK // 32)
    num_rows = max(1, BLOCK // num_columns)
    for start in range(0, len(reference_rows), num_columns):
        columns = reference[:, start : start + num_columns]
        for row in range(0, len(rows), num_rows):
            query_block = queries[:, row : row + num_rows]
            distances = np.zeros((query_block.shape[1], columns.shape[1]), dtype=counter_dtype)
            for query_codes, column_codes in zip(query_block, columns, strict=True):
                distances += query_codes[:, None] != column_codes[None]
            np.minimum(nearest[row : row + num_rows], distances.min(1), out=nearest[row : row + num_rows])
    return nearest


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
    to_train, to_held_out = nearest_hamming(queries, train_rows), nearest_hamming(queries, held_out_rows)
    return ((to_train < to_held_out).mean() + (to_train == to_held_out).mean() / 2).item()


def membership_auc(
    synthetic: Int64[Tensor, "n k"], train: Int64[Tensor, "m k"], held_out: Int64[Tensor, "h k"], rng: Rng
) -> float:
    """Return the AUC of membership inference by the distance from a row to the nearest synthetic row; 0.5 is guessing.

    At most MEMBERS training rows are used, and as many held-out rows.
    """
    size = min(MEMBERS, len(train), len(held_out))
    of_members = nearest_hamming(subsample_rows(train, size, rng.fold_in("members")), synthetic)
    of_others = nearest_hamming(subsample_rows(held_out, size, rng.fold_in("others")), synthetic)
    members, others = (np.bincount(nearest, minlength=train.shape[1] + 1) / size for nearest in (of_members, of_others))
    farther = 1 - others.cumsum()  # P(distance of a non-member > d)
    return (members @ (farther + others / 2)).item()
