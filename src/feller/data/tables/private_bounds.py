"""Private search for the bounds and bin edges of numerical columns, and for columns that hold row numbers.

It uses noisy counts of octaves, the intervals [2^p, 2^(p + 1)) of positive numbers and their negatives, and of finer
intervals.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pyarrow
import scipy

from feller.data.loading.raw import FactorizedColumn
from feller.data.tables.bins import MAX_NUMBER
from feller.data.tables.clipped_cells import ClippedCells, clipped_cells
from feller.data.tables.column import Column
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import (
    HEAVY,
    PARTS,
    SINGLE,
    Numerical,
    bounds_around,
)
from feller.data.tables.private_support import (
    FALSE_POSITIVE_PROB,
    NoisyCounter,
    NoisyTotal,
    find_intervals,
    project_to_simplex,
)
from feller.data.tables.schema_detection import CLASSES, MISSING, NUMBERS, ClassCounts, noisy_total, number_format_of
from feller.data.tables.unmodelled_columns import HiddenColumn, Identifier

POWERS = range(-20, 51)
"""Exponents p of the counted octaves [2^p, 2^(p + 1)); public."""
OCTAVES = (*((-1, power) for power in reversed(POWERS)), (0, 0), *((1, power) for power in POWERS))
"""Octaves in ascending order, each as (sign, exponent of the smaller magnitude); (0, 0) is zero."""
ZEROS = OCTAVES.index((0, 0))
EDGE_DEVIATIONS = 1.5
"""Minimum noisy count of an octave that extends the bounds, in standard deviations of the noise."""
SIDE = 3.0
"""Minimum noisy count of the negative numbers in an interval that contains 0, in standard deviations of the noise on
this count; if the count is lower, the negative numbers are removed. The same holds for the positive numbers."""
CELLS = range(32, 513)
"""Minimum and maximum number of intervals that are counted to find the bin edges; public."""
FINE = 0.1
"""Factor c in the number of counted intervals, (c * total / sigma)^2, where total is the noisy number of cells; more
intervals would contain only noise."""
APART = Decimal("0.8")
"""Minimum distance between bin edges in a long tail, as a fraction of an octave."""
ROWS_PER_BIN = 5.0
"""Minimum number of rows per bin, in standard deviations of the noise: with fewer rows per bin, the noise on the counts
of bins, and of pairs of bins, changes a column more than wider bins do."""
FEWEST_PARTS = 4
"""Number of possible values up to which each has its own bin, with any noise."""
KNOTS = 40
"""Number of intervals with about equal numbers of rows in which numbers are sampled uniformly."""
MIN_WEIGHT = 0.1
"""Minimum weight of such an interval, in rows."""
DIGITS = 5
"""Number of digits to which the limits of these intervals are rounded."""
HALF = 0.5
"""Mantissa of a power of two, as returned by frexp."""
CERTAIN = 10
"""Minimum number of rows for the detection of row numbers, in standard deviations of the noise."""


class Cell(NamedTuple):
    """Interval [start, end) of numbers that are counted together."""

    start: Decimal
    end: Decimal


def number_counts(cells: FactorizedColumn, form: NumberFormat) -> list[tuple[Decimal, int]]:
    """Return the distinct numbers of a column, with the number of cells of each."""
    is_present = ~cells.is_in(MISSING)
    parsed = map(form.read, cells.uniques.filter(pyarrow.array(is_present)).to_pylist())
    pairs = zip(parsed, cells.counts[is_present].tolist(), strict=True)
    return [(value, count) for value, count in pairs if value is not None]


def search_numerical(
    name: str, cells: FactorizedColumn, class_counts: ClassCounts, noisy: NoisyCounter, dtype: str | None
) -> tuple[Column, ClippedCells | None]:
    """Return a numerical column found from noisy counts, and a report of its clipped cells (None if they are few).

    Bounds come from noisy counts of octaves, and bin edges are noisy quantiles. If no count is significant, the result
    is a `HiddenColumn`. If the integers run from 0 or 1 to the public number of rows, it is an `Identifier`. The cells
    are always counted twice by `noisy`, so the privacy cost does not depend on the data.

    Args:
        name: Column name.
        cells: Cells of the column.
        class_counts: Noisy count of each cell class (type of content, such as number or date), from an earlier count.
        noisy: Counter that adds noise to the two counts, first of octaves and then of finer intervals.
        dtype: Pandas dtype of the column.
    """
    form = number_format_of(class_counts, noisy.significance(len(CLASSES)))
    unit = Decimal(1).scaleb(-form.decimals)
    found_counts = number_counts(cells, form)
    values, repeats = [value for value, _ in found_counts], [count for _, count in found_counts]
    fineness = len(cells.codes) / (ROWS_PER_BIN * noisy.sigma)
    noisy_counts = noisy.counts((_octave(value) for value in values), range(len(OCTAVES)), repeats)
    octave_counts = [noisy_counts[i] for i in range(len(OCTAVES))]
    runs = _occupied_octaves(octave_counts, unit, noisy.sigma, noisy_total(class_counts, NUMBERS))
    num_inside = sum(sum(octave_counts[index] for index in run) for run in runs)
    low = _span(runs[0][0]).start if runs else Decimal(0)
    high = _span(runs[-1][-1]).end if runs else Decimal(0)
    low, high = bounds_around(low, max(high, low + unit), unit)
    is_fine = (high - low) / unit >= min(max(fineness, FEWEST_PARTS), SINGLE)
    heavy = (0.0,) if is_fine and octave_counts[ZEROS] > max(HEAVY * num_inside, 0.0) and low <= 0 <= high else ()
    octaves = [i for run in runs for i in run if not (heavy and i == ZEROS)]
    octave_totals = project_to_simplex(
        [octave_counts[i] for i in octaves], max(num_inside - (octave_counts[ZEROS] if heavy else 0.0), 0.0)
    )
    intervals = _cells(octaves, octave_totals, unit, noisy.sigma)
    indices = (None if heavy and not value else _place(intervals, value) for value in values)
    keys = [-1 if index is None else index for index in indices]
    interval_counts = noisy.counts(keys, range(len(intervals)), repeats)
    if not runs:
        return HiddenColumn(name), None  # after both counts, which are charged for every numerical column
    if _counts_rows(octave_counts, class_counts, form, len(cells.codes), noisy.sigma):
        return Identifier(name, dtype=dtype), None
    bins = None if is_fine else min(int((high - low) / unit) + 1, SINGLE)
    edges, knots, weights = (), (), ()
    if is_fine:
        masses = project_to_simplex([interval_counts[i] for i in range(len(intervals))], sum(octave_totals))
        knots, weights = _knots(intervals, masses, (low, high), unit)
        edges = _edges(knots, weights, ROWS_PER_BIN * noisy.sigma)
    if is_fine and not edges:
        bins = 1
    column = Numerical(
        name,
        float(low),
        float(high),
        edges,
        bins,
        heavy,
        form=form,
        missing="",
        also_missing=MISSING[1:],
        dtype=dtype,
        knots=knots,
        weights=weights,
    )
    bounds = form.write(form.grid(low)), form.write(form.grid(high))
    terms = sum(map(len, runs))
    return column, clipped_cells(name, bounds, num_inside, terms, class_counts, n=len(cells.codes), sigma=noisy.sigma)


def _occupied_octaves(
    octave_counts: Sequence[float], unit: Decimal, sigma: float, total: NoisyTotal
) -> list[list[int]]:
    """Return runs of adjacent octaves (ranges between powers of 2) that hold numbers, by their noisy counts.

    Octaves below the unit of the last decimal place, or above the representable range, are left out.
    """
    num_small = sum(_span(ZEROS + 1 + i).end <= unit for i in range(len(POWERS)))
    num_large = sum(_span(ZEROS + 1 + i).end > _most(unit) for i in range(len(POWERS)))
    octaves = [*range(num_large, ZEROS - num_small), ZEROS, *range(ZEROS + 1 + num_small, len(OCTAVES) - num_large)]
    runs: list[list[int]] = []
    counts = [octave_counts[index] for index in octaves]
    for first, last in find_intervals(counts, sigma, EDGE_DEVIATIONS, total, is_lenient=False):
        run = octaves[first : last + 1]
        for side in ([index for index in run if index < ZEROS], [index for index in run if index > ZEROS]):
            if 0 < len(side) < len(run) and sum(octave_counts[i] for i in side) < SIDE * sigma * math.sqrt(len(side)):
                run = [index for index in run if index not in side]
        runs.append(run)
    return runs


def _octave(value: Decimal) -> int:
    """Return the index in `OCTAVES` of a number's octave (range between powers of 2), clipped to the first and last."""
    if not value:
        return len(POWERS)
    power = min(max(math.frexp(float(abs(value)))[1] - 1, POWERS[0]), POWERS[-1])
    return len(POWERS) + (1 + power - POWERS[0]) * (1 if value > 0 else -1)


def _span(index: int) -> Cell:
    sign, power = OCTAVES[index]
    if not sign:
        return Cell(Decimal(0), Decimal(0))
    inner, outer = Decimal(2) ** power, Decimal(2) ** (power + 1)
    return Cell(inner, outer) if sign > 0 else Cell(-outer, -inner)


def _most(unit: Decimal) -> Decimal:
    """Return the largest magnitude of a bound, for numbers that are multiples of `unit`; rounding cannot exceed it."""
    return unit * (MAX_NUMBER // 4)


def _cells(octaves: Sequence[int], counts: Sequence[float], unit: Decimal, sigma: float) -> list[Cell]:
    """Divide octaves into cells with about equal counts, in ascending order; each is at least one unit wide."""
    total = sum(counts)
    num_cells = min(max(int((FINE * total / sigma) ** 2), CELLS[0]), CELLS[-1])
    cells: list[Cell] = []
    for octave, count in zip(octaves, counts, strict=True):
        start, end = _span(octave)
        if start == end:
            cells.append(Cell(start, start + unit))
            continue
        num_parts = max(1, min(round(num_cells * count / total) if total else 1, int((end - start) / unit)))
        width = (end - start) / num_parts
        cells += [Cell(start + width * i, start + width * (i + 1)) for i in range(num_parts)]
    return cells


def _place(cells: Sequence[Cell], value: Decimal) -> int | None:
    """Return the index of the cell that contains a number; None if no cell contains it."""
    index = bisect_right(cells, value, key=lambda cell: cell.start) - 1
    return index if index >= 0 and value < cells[index].end else None


def _knots(
    cells: Sequence[Cell], masses: Sequence[float], bounds: tuple[Decimal, Decimal], unit: Decimal
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return round numbers at noisy quantiles, plus one per octave in long tails, and the mass of each interval.

    Args:
        cells: Counted intervals.
        masses: Number of rows in each, from noisy counts.
        bounds: Lower and upper bound of the column.
        unit: Place value of the last decimal of the numbers.
    """
    low, high = bounds
    total = sum(masses)
    if total <= 0:
        return (), ()
    knots, mass = [], 0.0
    for cell, rows in zip(cells, masses, strict=True):
        is_octave = bool(cell.start) and math.frexp(float(abs(cell.start)))[0] == HALF
        if is_octave or max(mass, rows) >= total / KNOTS:
            knots.append(cell.start)
            mass = 0.0
        mass += rows
    knots.append(cells[-1].end)
    step = Decimal(1).scaleb(min(0, (high - low).adjusted() - DIGITS))
    rounded = {math.ceil(round(knot, -step.adjusted()) / unit) * unit for knot in knots}
    points = np.array([float(low), *sorted(float(knot) for knot in rounded if low < knot <= high), float(high + unit)])
    ends = np.array([float(cells[0].start), *(float(cell.end) for cell in cells)])
    positions = np.interp(points, ends, np.concatenate([[0.0], np.cumsum(masses)]))
    return tuple(points[1:-1].tolist()), tuple(np.round(np.maximum(np.diff(positions), MIN_WEIGHT), 1).tolist())


def _edges(knots: Sequence[float], weights: Sequence[float], rows: float) -> tuple[float, ...]:
    """Return the knots that divide the range into at most about `PARTS` bins with at least `rows` rows each."""
    edges, mass, left = [], 0.0, sum(weights)
    least = max(rows, left / PARTS)
    for knot, weight in zip(knots, weights, strict=False):
        mass, left = mass + weight, left - weight
        if mass >= least and left >= least:
            edges.append(knot)
            mass = 0.0
    return tuple(edges)


def _counts_rows(
    octave_counts: Sequence[float], class_counts: ClassCounts, form: NumberFormat, n: int, sigma: float
) -> bool:
    """Return True if the counts are compatible with row numbers from 0 or 1 to the number of rows n.

    This is a chi-squared test on the noisy counts of octaves (ranges between powers of 2).
    """
    if form.decimals or "missing" in class_counts or n < CERTAIN * sigma:
        return False
    powers = range(math.ceil(math.log2(n + 1)) + 1)
    deviations = [
        octave_counts[ZEROS + 1 - POWERS[0] + p] - max(0.0, min(2.0 ** (p + 1), n + 1) - 2.0**p) for p in powers
    ]
    return sum(d**2 for d in deviations) < sigma**2 * float(scipy.stats.chi2.isf(FALSE_POSITIVE_PROB, len(powers)))
