"""Round bounds and edges for numbers."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from feller.data.tables.number_format import NumberForm
from feller.data.tables.numerical import Numerical

SINGLE = 64
"""Numbers between the bounds, at most, for each to have a bin of its own."""
PARTS = 20
"""Bins of about equal shares, otherwise."""
ROOMY = 50
"""Rows for each of more numbers than PARTS, at least, for them to have bins of their own."""
FAR = 2
"""Times as far from zero as the last edge: a bound beyond has round edges before it, so that no bin is that wide."""
HEAVY = 0.05
"""Share from which a value has a code of its own."""


def round_step(width: Decimal, *, up: bool) -> Decimal:
    """Return the 1, 2 or 5 times a power of ten that is next to a width, not below it or not above it."""
    power = Decimal(1).scaleb(width.adjusted())
    steps = [power * i for i in (1, 2, 5, 10)]
    return (
        next(step for step in steps if step >= width) if up else next(step for step in reversed(steps) if step <= width)
    )


def bounds_around(least: Decimal, largest: Decimal, unit: Decimal) -> tuple[Decimal, Decimal]:
    """Return round numbers beyond the least and the largest of data; on one side of zero they stay there."""
    step = max(unit, round_step(max(largest - least, unit) / PARTS, up=True))
    low, high = math.floor(least / step) * step, math.ceil(largest / step) * step
    low, high = low - step if low == least != 0 else low, high + step if high == largest != 0 else high
    return (max(low, Decimal(0)) if least >= 0 else low), (min(high, Decimal(0)) if largest <= 0 else high)


def numerical(
    name: str,
    counts: Mapping[Decimal, int],
    form: NumberForm,
    missing: str | None = None,
    also_missing: tuple[str, ...] = (),
    dtype: str | None = None,
) -> Numerical:
    """Describe a column by how often it has each number."""
    unit = Decimal(1).scaleb(-form.decimals)
    n = sum(counts.values())
    low, high = bounds_around(min(counts), max(counts), unit)
    room = int((high - low) / unit) + 1
    if room <= PARTS or (room <= SINGLE and n >= ROOMY * room):
        edges, heavy, bins = (), (), room
    else:
        often = [value for value, count in counts.items() if count >= HEAVY * n and _is_whole(value, form)]
        rest = {value: count for value, count in counts.items() if value not in often}
        edges, heavy, bins = even_edges(rest, low, high, unit), tuple(map(float, sorted(often))), None
        edges = (*_tail(low, edges[0]), *edges, *_tail(high, edges[-1])) if edges else ()
    settled = bins if not edges else None
    return Numerical(name, float(low), float(high), edges, settled, heavy, False, form, missing, also_missing, dtype)


def _is_whole(value: Decimal, form: NumberForm) -> bool:
    """Tell whether a number has no more decimals than its form, however large it is."""
    exponent = value.normalize().as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -form.decimals


def even_edges(counts: Mapping[Decimal, float | int], low: Decimal, high: Decimal, unit: Decimal) -> tuple[float, ...]:
    """Return round edges between bins that hold about equal shares."""
    values = sorted(counts)
    total, seen, cuts = sum(counts.values()), 0.0, []
    for value in values:
        seen += counts[value]
        while len(cuts) < PARTS - 1 and seen >= (len(cuts) + 1) * total / PARTS:
            cuts.append(value)
    ends = [low, *cuts, high]
    edges = {_near(ends, i, unit, finest(high - low)) for i in range(1, len(ends) - 1)}
    return tuple(float(edge) for edge in sorted(edges) if low < edge <= high)


def _tail(bound: Decimal, edge: float) -> tuple[float, ...]:
    """Return 1, 2 or 5 times powers of ten between the outermost edge and a far bound on the same side of zero.

    They follow from the two alone, and tell nothing more of the few rows out there.
    """
    outer, sign = Decimal(repr(edge)), -1 if bound < 0 else 1
    if outer * sign <= 0 or bound / outer < FAR:
        return ()
    found, step = [], round_step(abs(outer) * 3 / 2, up=True)
    while step * 5 / 4 < abs(bound):
        found.append(float(step * sign))
        step = round_step(step * 3 / 2, up=True)
    return tuple(sorted(found))


def _near(ends: Sequence[Decimal], i: int, unit: Decimal, fine: Decimal) -> Decimal:
    """Return a round number within half of the way to the neighbours, of three digits or those that the range has."""
    gap = (ends[i + 1] - ends[i - 1]) / 4
    digits = finest(ends[i]) if ends[i] else fine
    step = max(unit, min(fine, digits), round_step(gap, up=False) if gap > 0 else unit)
    return round(ends[i] / step) * step


def finest(span: Decimal) -> Decimal:
    """Return the power of ten that edges in a range of this width are multiples of: its third digit."""
    return Decimal(1).scaleb(span.adjusted() - 2)
