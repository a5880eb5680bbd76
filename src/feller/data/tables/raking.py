"""Raking: selection of rows so that single columns and pairs of columns match given marginals."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float64, Int32, Int64
from torch import Tensor

from feller.core.errors import InputError
from feller.core.rng import Rng

ROWS_PER_PART = 100_000
"""Maximum number of rows that are raked, decoded and written together; larger tables are generated in parts."""
LARGE_ROWS, LARGE_OVERSAMPLE = 30_000, 2
"""Number of rows above which fewer candidates and sweeps suffice, and maximum number of candidates per row then."""
SWEEPS = 30
MAX_FACTOR = 10.0
"""Maximum factor by which the update for one column changes a row weight in one sweep."""


def candidates_per_row(n: int, oversample: int) -> int:
    """Return the number of candidate rows for each of n selected rows; many rows need fewer candidates each."""
    return min(oversample, LARGE_OVERSAMPLE) if n > LARGE_ROWS else oversample


def rake_rows(
    codes: Int64[Tensor, "m k"], marginals: Sequence[Sequence[float]], n: int, rng: Rng
) -> Int64[Tensor, " n"]:
    """Select n of m rows with weights from iterative proportional fitting to the marginals.

    Rows are sorted, and selected by systematic sampling along the cumulative weights: this lowers the variance of the
    marginals, and a row with a weight below 1 / n is selected at most once. The result is shuffled.
    Source: Deming and Stephan 1940, "On a least squares adjustment of a sampled frequency table".

    Args:
        codes: Codes of the candidate rows; if there are fewer than n, rows are repeated.
        marginals: For each column, the target fraction of each code; empty for a column without target.
        n: Number of rows to select.
        rng: Random streams for the sampling offset and the shuffle.
    """
    weights = torch.full((len(codes),), 1 / len(codes), dtype=torch.float64, device=codes.device)
    targets = [torch.tensor(target, dtype=torch.float64, device=codes.device) for target in marginals]
    for _ in range(SWEEPS):
        for column, target in zip(codes.T, targets, strict=True):
            if len(target):
                current = torch.bincount(column, weights, minlength=len(target))
                factors = (target / current.clamp(min=1e-12)).clamp(1 / MAX_FACTOR, MAX_FACTOR)
                weights = weights * factors[column]
        weights = weights / weights.sum()
    return systematic_sample(codes, weights, n, rng)


def systematic_sample(
    codes: Int64[Tensor, "m k"], weights: Float64[Tensor, " m"], n: int, rng: Rng
) -> Int64[Tensor, " n"]:
    """Sort m rows, select n by systematic sampling along the cumulative weights, and shuffle them; see `rake_rows`."""
    generator = rng.stream("rows").shared_generator()
    offset = torch.rand((), dtype=torch.float64, generator=generator).to(codes.device)
    steps = (torch.arange(n, dtype=torch.float64, device=codes.device) + offset) / n
    order = _sorted(codes)
    sums = weights[order].cumsum(0)
    selected = order[torch.searchsorted(sums / sums[-1], steps).clamp(max=len(codes) - 1)]
    return selected[torch.randperm(n, generator=generator).to(codes.device)]


def _sorted(codes: Int64[Tensor, "m k"]) -> Int64[Tensor, " m"]:
    order = torch.arange(len(codes), device=codes.device)
    for column in reversed(codes.T):
        order = order[column[order].argsort(stable=True)]
    return order


PILOT_ROWS, REFINEMENT_STEPS = 30_000, 20
"""Number of rows to which the weights of more rows are fitted first, and number of L-BFGS steps with all rows then."""
NOISE_WEIGHT = 10.0
"""Regularisation strength of `crosstab_weights`: 1 fits the noisy counts closely, larger values fit more smoothly.

On the Adult dataset with epsilon 1, half of it spent on the contingency tables, 10 is better than 3 and 30.
"""
STEPS, SLOPE = 200, 0.01
"""Maximum number of L-BFGS steps; tolerance on the dual gradient, divided for each cell by the square root of its
count."""


@dataclass(frozen=True)
class Crosstab:
    """Noisy contingency table of a few columns."""

    columns: tuple[int, ...]
    levels: tuple[int, ...]
    """Number of levels of each column."""
    counts: tuple[float, ...]
    """Noisy number of rows in each cell, in row-major order; may be negative."""
    sigma: float
    """Standard deviation of the noise on the count of each cell, in rows."""

    def __post_init__(self) -> None:
        is_valid = 0 < len({*self.columns}) == len(self.columns) == len(self.levels) and min(self.columns) >= 0
        if not is_valid or math.prod(self.levels) != len(self.counts):
            raise InputError(
                f"one count for each combination of values of columns with {self.levels} values, and distinct columns",
                f"{len(self.counts)} counts of columns {self.columns}",
            )
        if not (self.sigma > 0 and math.isfinite(self.sigma) and all(map(math.isfinite, self.counts))):
            raise InputError(expected="finite counts with positive noise; the model is damaged")

    def cells(self, codes: Int64[Tensor, "m k"]) -> Int64[Tensor, " m"]:
        """Return the row-major cell index of each row; InputError if a code is out of range."""
        index = torch.zeros(len(codes), dtype=torch.long, device=codes.device)
        for column, levels in zip(self.columns, self.levels, strict=True):
            code = codes[:, column]
            if len(code) and not 0 <= int(code.min()) <= int(code.max()) < levels:
                raise InputError(
                    f"codes from 0 to {levels - 1} in column {column}",
                    f"{int(code.min())} to {int(code.max())}",
                    "Use rows of the table that was counted",
                )
            index = index * levels + code
        return index


def crosstab_weights(
    codes: Int64[Tensor, "m k"], crosstabs: Sequence[Crosstab], total: float, noise_weight: float = NOISE_WEIGHT
) -> Float64[Tensor, " m"]:
    """Return maximum-entropy weights of the rows, with sum 1, fitted to noisy contingency tables.

    Minimises sum |c - y|^2 / (2 noise_weight sigma) + total * KL(weights | uniform), where c is total times the weight
    of each cell and y its noisy count. In the dual, (y - c) / (noise_weight sigma) is the log-weight of a cell's rows;
    the dual is strongly concave, so empty cells and negative counts are allowed. The result is a graphical model whose
    support is the given rows instead of all possible rows.
    The weights of many rows are first fitted to a part of the rows, whose potentials are close to those of all rows.
    Source: Dudik, Phillips and Schapire 2007, "Maximum entropy density estimation with generalized regularization";
    with noise of 0 it is raking, Deming and Stephan 1940.

    Args:
        codes: Codes of the candidate rows.
        crosstabs: Noisy contingency tables, which may overlap.
        total: Number of rows counted in the tables; public.
        noise_weight: Regularisation strength: 1 fits the noisy counts closely, larger values fit more smoothly.
    """
    n = len(codes)
    cell_indices = [table.cells(codes).cpu().numpy() for table in crosstabs]
    if not crosstabs:
        return torch.full((n,), 1 / max(1, n), dtype=torch.float64, device=codes.device)
    sizes = [len(table.counts) for table in crosstabs]
    split_points = np.cumsum(sizes)[:-1]
    noisy_counts = np.concatenate([np.array(table.counts) for table in crosstabs])
    ridge = np.concatenate([np.full(n, noise_weight * table.sigma) for n, table in zip(sizes, crosstabs, strict=True)])
    scale = (noisy_counts.clip(0) + ridge + 1) ** -0.5

    def weights_of(potentials: np.ndarray, stop: int) -> tuple[np.ndarray, float]:
        log_weights = np.zeros(stop)
        for index, potential in zip(cell_indices, np.split(potentials, split_points), strict=True):
            log_weights += potential[index[:stop]]
        max_log = log_weights.max()
        weights = np.exp(log_weights - max_log) / stop
        return weights / weights.sum(), max_log + math.log(weights.sum())

    def dual(x: np.ndarray, stop: int) -> tuple[float, np.ndarray]:
        potentials = x * scale
        weights, log_z = weights_of(potentials, stop)
        fractions = np.concatenate(
            [np.bincount(index[:stop], weights, size) for index, size in zip(cell_indices, sizes, strict=True)]
        )
        value = total * log_z + float(potentials @ (0.5 * ridge * potentials - noisy_counts))
        return value, (total * fractions - noisy_counts + ridge * potentials) * scale

    x = np.zeros(len(noisy_counts))
    stages = [(n, STEPS)] if n <= 2 * PILOT_ROWS else [(PILOT_ROWS, STEPS), (n, REFINEMENT_STEPS)]
    for stop, steps in stages:
        options = {"maxiter": steps, "maxcor": 20, "ftol": 0.0, "gtol": SLOPE}
        x = scipy.optimize.minimize(dual, x, args=(stop,), jac=True, method="L-BFGS-B", options=options).x
    return torch.from_numpy(weights_of(x * scale, n)[0]).to(codes.device)


EXCHANGE_SWEEPS = 80
EXCHANGE_RATIO = 80
"""Inverse of the fraction of the selected rows exchanged in the first sweep; later sweeps may exchange fewer rows."""
MIN_EXCHANGED = 20
PAIRS, CELLS = 100, 100_000
"""Maximum number of column pairs (a random subset is used if there are more), and maximum number of cells per pair."""


def exchange_rows(codes: Int64[Tensor, "m k"], weights: Float64[Tensor, " m"], n: int, rng: Rng) -> Int64[Tensor, " n"]:
    """Select n of m rows whose counts for pairs of columns are close to the weighted counts of all m rows.

    The initial selection is by systematic sampling. Each sweep then exchanges a batch of rows, chosen from a random
    half of the candidates so that the pair counts come closest to the target. A sweep that increases the distance to
    the target is undone, and later sweeps exchange fewer rows. A row with a weight below 1 / n is initially selected at
    most once. The result is shuffled.

    Args:
        codes: Codes of the candidate rows; m should be several times n.
        weights: Row weights with sum 1.
        n: Number of rows to select.
        rng: Random streams for the initial selection, the random halves and the shuffle.
    """
    selected = systematic_sample(codes, weights, n, rng)
    if not n or len(codes) < 2 or codes.shape[1] < 2:
        return selected
    counts = np.bincount(selected.cpu().numpy(), minlength=len(codes))
    cells, num_cells = _cells(codes, rng)
    if not num_cells:
        return selected
    max_counts = np.ceil(n * weights.cpu().numpy())
    residual = _counts(cells, counts - n * weights.cpu().numpy(), num_cells)
    size, generator = max(MIN_EXCHANGED, n // EXCHANGE_RATIO), rng.stream("exchange").shared_generator()
    distance = np.abs(residual).sum()
    for _ in range(EXCHANGE_SWEEPS if n <= LARGE_ROWS else EXCHANGE_SWEEPS // 2):
        is_in_half = torch.rand(len(codes), generator=generator).numpy() < 0.5
        added = _best((counts < max_counts) & is_in_half, cells, residual, 1, size)
        removed = _best((counts > 0) & is_in_half, cells, residual, -1, size)
        num_exchanged = min(len(added), len(removed))
        if not num_exchanged:
            continue
        added, removed = added[:num_exchanged], removed[:num_exchanged]
        change = _counts(cells[added], np.ones(num_exchanged), num_cells) - _counts(
            cells[removed], np.ones(num_exchanged), num_cells
        )
        if (new_distance := np.abs(residual + change).sum()) >= distance:
            size = max(1, size // 2)
            continue
        residual, distance = residual + change, new_distance
        counts[added] += 1
        counts[removed] -= 1
    rows = torch.from_numpy(np.repeat(np.arange(len(codes)), counts))
    return rows[torch.randperm(n, generator=generator)].to(codes.device)


def _cells(codes: Int64[Tensor, "m k"], rng: Rng) -> tuple[Int32[np.ndarray, "m pairs"], int]:
    """Return, for each row and pair of columns, the index of the row's cell in the pair's contingency table.

    The tables of all pairs are numbered through; the second result is their total number of cells.
    """
    columns = codes.cpu().numpy().T
    counts = columns.max(1) + 1
    pairs = [(a, b) for a, b in itertools.combinations(range(len(columns)), 2) if counts[a] * counts[b] <= CELLS]
    if not pairs:
        return np.zeros((len(codes), 0), dtype=np.int32), 0
    if len(pairs) > PAIRS:
        subset = torch.randperm(len(pairs), generator=rng.stream("pairs").shared_generator())[:PAIRS].tolist()
        pairs = [pairs[i] for i in sorted(subset)]
    ends = np.cumsum([counts[a] * counts[b] for a, b in pairs])
    offsets = [0, *ends[:-1]]
    cells = [columns[a] * counts[b] + columns[b] + offset for (a, b), offset in zip(pairs, offsets, strict=True)]
    return np.stack(cells, 1).astype(np.int32), int(ends[-1])


def _counts(
    cells: Int32[np.ndarray, "m pairs"], weights: Float64[np.ndarray, " m"], num_cells: int
) -> Float64[np.ndarray, " rooms"]:
    return np.bincount(cells.ravel(), np.repeat(weights, cells.shape[1]), num_cells)


def _best(
    candidates: Bool[np.ndarray, " m"],
    cells: Int32[np.ndarray, "m pairs"],
    residual: Float64[np.ndarray, " rooms"],
    step: int,
    size: int,
) -> Int64[np.ndarray, " some"]:
    """Return at most `size` candidate rows whose addition (`step` 1) or removal (-1) reduces the distance most.

    `cells` holds the cells of each row in the contingency tables, and `residual` the errors of these cells. Best first.
    """
    rows = np.flatnonzero(candidates)
    gains = (np.abs(residual + step) - np.abs(residual))[cells[rows]].sum(1)
    return rows[np.argsort(gains, kind="stable")[:size]]
