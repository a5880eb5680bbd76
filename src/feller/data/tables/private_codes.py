"""Private search for columns of few numbers, such as codes, ratings and steps: the numbers that occur.

It uses noisy counts of small integers, and of small multiples of the last decimal place, such as 0.2.
"""

import math
from collections.abc import Sequence
from decimal import Decimal

from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import PARTS, Numerical
from feller.data.tables.private_support import NoisyCounter, NoisyTotal
from feller.data.tables.schema_detection import MISSING

GRID = range(-8, 128)
"""Numbers that are counted, in units of the last decimal place; public."""
STEPS = (10, 5, 4, 3, 2, 1)
"""Steps between numbers, in units of the last decimal place, in the order in which they are tried."""
MAX_DECIMALS = 2
"""Maximum number of decimals of numbers that are counted one by one."""
WINDOWS = (2, 3, 4)
"""Widths of the windows over which neighbouring counts are summed, since a sum may be significant where no count is."""
EXTENSIONS = ((2.5, 1), (3.0, None))
"""Minimum noisy count of a number beyond the significant ones, in standard deviations of the noise, and its maximum
distance from the range of codes, in steps; None for the width of the range."""
MIN_DEVIATIONS = 1.0
"""Minimum noisy count of a number within the range of codes that counts as used, in standard deviations of the noise;
only with steps of one unit."""
BETWEEN_DEVIATIONS = 2.0
"""Maximum noisy count of numbers between the steps, in standard deviations of the noise."""
COVERED_DEVIATIONS = 2.5
"""Maximum noisy count of numbers that are not codes, in standard deviations of the noise."""
COVERED = 0.03
"""Fraction of numbers that may be outside of the codes, if noise does not hide them."""


def find_codes(
    name: str,
    numbers: Sequence[tuple[Decimal, int]],
    form: NumberFormat,
    total: NoisyTotal,
    noisy: NoisyCounter,
    dtype: str | None,
) -> Numerical | None:
    """Return a column of at most `PARTS` numbers that cover the column by their noisy counts; None if there are more.

    Args:
        name: Column name.
        numbers: Distinct numbers, with the number of cells of each.
        form: Number format.
        total: Noisy number of cells with numbers.
        noisy: Counter that adds noise to the counts of the numbers in `GRID`, once.
        dtype: Pandas dtype of the column.
    """
    scaled = [number.scaleb(form.decimals) for number, _ in numbers]
    keys = [int(number) if number == number.to_integral_value() else "" for number in scaled]  # "" is not counted
    noisy_counts = noisy.counts(keys, GRID, [count for _, count in numbers])
    counts = {unit: noisy_counts[unit] for unit in GRID}
    for step in STEPS:
        found = _codes_of_step(counts, step, total, noisy)
        if found:
            values = tuple(unit / 10**form.decimals for unit in found)
            return Numerical(
                name,
                values[0],
                values[-1],
                form=form,
                missing="",
                also_missing=MISSING[1:],
                dtype=dtype,
                numbers=values,
            )
    return None


def _codes_of_step(counts: dict[int, float], step: int, total: NoisyTotal, noisy: NoisyCounter) -> list[int]:
    """Return the numbers that occur if all are multiples of a step; empty if they do not cover the total.

    The range of the numbers spans all significant counts, and is extended by neighbours with lower counts.
    """
    units = [unit for unit in counts if unit % step == 0]
    values, sigma = [counts[unit] for unit in units], noisy.sigma
    threshold = noisy.significance(len(GRID) * len(WINDOWS))
    seeds = {i for i, value in enumerate(values) if value > threshold}
    for width in WINDOWS:  # windows without a count that is significant by itself
        for i in range(len(units) - width + 1):
            window = range(i, i + width)
            if seeds.isdisjoint(window) and sum(values[j] for j in window) > threshold * math.sqrt(width):
                seeds |= {j for j in window if values[j] > sigma}
    if not seeds:
        return []
    first, last = min(seeds), max(seeds)
    lowest = max(first - (last - first) - 1, units.index(0) if units[first] >= 0 else 0)
    for deviations, distance in EXTENSIONS:
        while True:
            reach = distance or last - first + 1
            below, above = range(max(first - reach, lowest), first), range(last + 1, min(last + reach + 1, len(units)))
            more = [i for i in (*below, *above) if values[i] > deviations * sigma]
            if not more:
                break
            first, last = min(first, *more), max(last, *more)
            if distance is None:
                break
    inside = units[first : last + 1]
    finer = [divisor for divisor in STEPS if divisor < step and step % divisor == 0]
    for divisor in finer:
        between = [counts[unit] for unit in range(inside[0], inside[-1], divisor) if unit % step]
        if sum(between) > BETWEEN_DEVIATIONS * sigma * math.sqrt(len(between)):
            return []
    outside = total.sum - sum(counts[unit] for unit in inside)
    limit = max(COVERED * total.sum, COVERED_DEVIATIONS * sigma * math.sqrt(total.terms + len(inside)))
    found = [unit for unit in inside if step > 1 or counts[unit] > MIN_DEVIATIONS * sigma]
    return found if outside <= limit and min(step, 2) < len(found) <= PARTS else []
