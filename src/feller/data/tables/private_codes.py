"""Private search for columns of few numbers, such as codes, ratings and steps: the numbers that occur.

It uses noisy counts of small integers, and of small multiples of the last decimal place, such as 0.2.
"""

import math
from collections.abc import Sequence

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
EDGE_DEVIATIONS = 2.0
"""Minimum noisy count of a number that extends the range of codes, in standard deviations of the noise."""
GAP = 2
"""Maximum distance of a number that extends the range of codes, in steps."""
MIN_DEVIATIONS = 1.0
"""Minimum noisy count of a number within the range of codes that counts as used, in standard deviations of the noise;
only with steps of one unit."""
COVERED_DEVIATIONS = 1.5
"""Maximum noisy count of numbers that are not codes, and of numbers between the steps, in standard deviations of the
noise."""
COVERED = 0.01
"""Fraction of numbers that may be outside of the codes, if noise does not hide them."""


def find_codes(
    name: str,
    numbers: Sequence[tuple[int, int]],
    form: NumberFormat,
    total: NoisyTotal,
    noisy: NoisyCounter,
    dtype: str | None,
) -> Numerical | None:
    """Return a column of at most `PARTS` numbers that cover the column by their noisy counts; None if there are more.

    Args:
        name: Column name.
        numbers: Distinct numbers in units of the last decimal place, with the number of cells of each.
        form: Number format.
        total: Noisy number of cells with numbers.
        noisy: Counter that adds noise to the counts of the numbers in `GRID`, once.
        dtype: Pandas dtype of the column.
    """
    noisy_counts = noisy.counts([unit for unit, _ in numbers], GRID, [count for _, count in numbers])
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
    seeds = [i for i, unit in enumerate(units) if counts[unit] > noisy.significance(len(GRID))]
    if not seeds:
        return []
    first, last = seeds[0], seeds[-1]
    edge = EDGE_DEVIATIONS * noisy.sigma
    while above := [i for i in range(last + 1, min(last + GAP + 1, len(units))) if counts[units[i]] > edge]:
        last = above[-1]
    while below := [i for i in range(max(first - GAP, 0), first) if counts[units[i]] > edge]:
        first = below[0]
    inside = units[first : last + 1]
    finer = [divisor for divisor in STEPS if divisor < step and step % divisor == 0]
    for divisor in finer:
        between = [counts[unit] for unit in range(inside[0], inside[-1], divisor) if unit % step]
        if sum(between) > COVERED_DEVIATIONS * noisy.sigma * math.sqrt(len(between)):
            return []
    outside = total.sum - sum(counts[unit] for unit in inside)
    limit = max(COVERED * total.sum, COVERED_DEVIATIONS * noisy.sigma * math.sqrt(total.terms + len(inside)))
    found = [unit for unit in inside if step > 1 or counts[unit] > MIN_DEVIATIONS * noisy.sigma]
    return found if outside <= limit and 1 < len(found) <= PARTS else []
