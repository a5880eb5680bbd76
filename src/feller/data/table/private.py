"""A schema found under differential privacy: only noisy counts decide, and each of them is charged.

A row adds one to at most one count of each column, so the counts of k columns have the L2 sensitivity sqrt(k), and
noise of deviation s is a Gaussian mechanism of s / sqrt(k) in units of the sensitivity. Words are released where their
noisy count passes a threshold, which a word of one row alone does with the probability delta.
"""

import datetime
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from feller.data.found import FoundTable
from feller.data.table.categorical import Boolean, Categorical
from feller.data.table.cell_kinds import PLAIN, Looks, decimals, looks, majority
from feller.data.table.column import Column, Modelled
from feller.data.table.dates import Datetime, time_in, write_time
from feller.data.table.detect import MISSING, OTHER, TWO
from feller.data.table.form import NumberForm
from feller.data.table.kept import Kept, kept
from feller.data.table.noisy import Charge, Coins, Noisy
from feller.data.table.numerical import Numerical
from feller.data.table.ranges import bounds_around, even_edges
from feller.data.table.schema import Schema
from feller.data.table.unmodelled import FreeText, Untold
from feller.errors import InputError, UsageError

POWERS = range(-20, 51)
"""Powers of two between which numbers are looked for; public."""
YEARS = range(1900, 2101)
"""Years in which dates are looked for; public."""
TEN = 10
"""Years of a decade."""
CELLS = 512
"""Cells of equal width in which numbers are counted for their edges."""
ZERO = 0.05
"""Noisy share of zeros from which they have a code of their own."""
SHARED = 0.1
"""Share of the rows of a word that must stand out of the noise for a column without such words to be called text."""


class Drowned(InputError):
    """Noise left no table to learn; what was looked at stays paid for.

    What is said here follows from noisy counts alone, and was paid for with them: it may be told to anybody.
    """

    def __init__(self, told: str, untold: Sequence[str], charges: tuple[Charge, ...]) -> None:
        super().__init__(told)
        self.untold = tuple(untold)
        """Columns that noise could not tell."""
        self.charges = charges
        """What was spent by then."""


class Domain(NamedTuple):
    """What was found."""

    schema: Schema
    """It clips."""
    charges: tuple[Charge, ...]
    """What was spent: add the deltas to that of the whole."""
    kept: tuple[Kept, ...]
    """Of each column of words, what becomes of rare ones; from the same noisy counts."""


def find_domain(found: FoundTable, sigma: float, delta: float, noise: Coins) -> Domain:
    """Find kinds, bounds, edges and values from noisy counts, each with noise of deviation sigma.

    Names, number and order of columns, the number of rows, and those types of a data frame that no cell changes, are
    public. A column of which no count stands out of the noise is `Untold`, which follows from noisy counts alone.

    Args:
        found: The cells.
        sigma: Deviation of the noise on every count, in rows.
        delta: Chance, for all columns of words together, that a word of one row alone is released.
        noise: Where noise comes from.

    Returns:
        The schema, what was spent, and what becomes of rare words.

    Raises:
        UsageError: If sigma or delta is out of range.
        Drowned: If noise leaves no column that a model could learn, or hides all but one; as early as that is known.
    """
    if not (0 < sigma < math.inf and 0 < delta < 1):
        raise UsageError(f"expected noise above 0 and a delta between 0 and 1, got {sigma:g} and {delta:g}")
    noisy = Noisy(sigma, noise)
    cells = {name: found.column(name) for name in found.columns}
    looked = {name: looks(cells[name], noisy) for name in cells}
    charges = [_charge("kinds of the columns", sigma, len(cells))]
    kinds = {name: kind for name, look in looked.items() if (kind := majority(look)) is not None}
    _check_told([name for name in cells if name not in kinds], len(kinds), charges)
    numbers = [name for name in kinds if kinds[name] == "number"]
    dates = [name for name in kinds if kinds[name].startswith("date")]
    words = [name for name in kinds if kinds[name] == "word"]
    dtypes = dict(zip(found.columns, map(_sturdy, found.dtypes), strict=True)) if found.dtypes else {}
    columns: dict[str, Column] = {}
    merged: list[Kept] = []
    for name in numbers:
        columns[name] = _numbers(name, cells[name], looked[name], noisy, dtypes.get(name))
    for name in dates:
        form = kinds[name].partition(":")[2]
        columns[name] = _dates(name, cells[name], form, noisy, dtypes.get(name))
    for name in words:
        columns[name], told = _values(name, cells[name], looked[name], delta / len(words), noisy, dtypes.get(name))
        merged += [told] if told else []
    if numbers:
        charges += [
            _charge(f"{what} of {_columns(numbers)} of numbers", sigma, len(numbers)) for what in ("bounds", "edges")
        ]
    if dates:
        charges.append(_charge(f"years of {_columns(dates)} of dates", sigma, len(dates)))
    if words:
        charges.append(_charge(f"values of {_columns(words)} of words", sigma, len(words))._replace(delta=delta))
    whole = tuple(columns.get(name, Untold(name)) for name in cells)
    untold = [column.name for column in whole if isinstance(column, Untold)]
    _check_told(untold, sum(isinstance(column, Modelled) for column in whole), charges)
    try:
        return Domain(Schema(whole, "clip"), tuple(charges), tuple(merged))
    except InputError as error:
        raise Drowned(f"of what noise let through, {error}", untold, tuple(charges)) from error


def _check_told(untold: Sequence[str], told: int, charges: Sequence[Charge]) -> None:
    """Refuse a table of which noise hides all columns, or all but one: no two could be told to belong together.

    Raises:
        Drowned: Then.
    """
    if untold and told <= 1:
        raise Drowned("noise hides nearly all columns", untold, tuple(charges))


def _sturdy(dtype: str) -> str | None:
    """Return what of a type no cell changes: of times not how fine they are; None of most, which follow from kinds."""
    if dtype.startswith("datetime64"):
        return re.sub(r"\[\w+", "[us", dtype)
    return dtype if dtype == "category" else None


def _columns(names: Sequence[str]) -> str:
    return "1 column" if len(names) == 1 else f"{len(names)} columns"


def _charge(what: str, sigma: float, columns: int) -> Charge:
    return Charge(what, sigma / math.sqrt(columns))


def _numbers(name: str, cells: list[str], look: Looks, noisy: Noisy, dtype: str | None) -> Column:
    """Bound numbers by powers of two and put edges where noisy counts are even; without bounds nothing is told."""
    form = NumberForm(decimals(look))
    values = [value for cell in cells if cell not in MISSING and (value := _read(cell)) is not None]
    buckets = [0, *(sign * (power + 100) for sign in (-1, 1) for power in POWERS)]
    magnitude = noisy.counts((_bucket(value) for value in values), buckets)
    filled = noisy.filled(magnitude)
    low = min((_edge_of(int(key), lower=True) for key in filled), default=Decimal(0))
    high = max((_edge_of(int(key), lower=False) for key in filled), default=Decimal(0))
    unit = Decimal(1).scaleb(-form.decimals)
    low, high = bounds_around(low, max(high, low + unit), unit)
    width = (high - low) / CELLS
    inside = (int((value - low) / width) for value in values if low <= value < high)
    levels = noisy.counts(inside, range(CELLS))
    shares = {
        low + width * (int(i) + Decimal("0.5")): count if count > noisy.sigma else 0.0 for i, count in levels.items()
    }
    edges = even_edges(shares, low, high, unit) if sum(shares.values()) > 0 and (high - low) / unit >= 64 else ()
    bins = None if edges else min(int((high - low) / unit) + 1, 64)
    if not filled:
        return Untold(name)  # after both counts, which are charged for all columns of numbers alike
    total = sum(max(count, 0.0) for count in magnitude.values())
    heavy = (0.0,) if magnitude[0] > ZERO * total and low <= 0 <= high and bins is None else ()
    return Numerical(name, float(low), float(high), edges, bins, heavy, False, form, "", MISSING[1:], dtype)


def _read(cell: str) -> Decimal | None:
    return PLAIN.read(cell)


def _bucket(value: Decimal) -> int:
    """Return 0 for zero, else the sign times 100 more than the power of two below the magnitude, within bounds."""
    if not value:
        return 0
    power = min(max(math.frexp(float(abs(value)))[1] - 1, POWERS[0]), POWERS[-1])
    return (power + 100) * (1 if value > 0 else -1)


def _edge_of(bucket: int, *, lower: bool) -> Decimal:
    if bucket == 0:
        return Decimal(0)
    power = abs(bucket) - 100
    outer = lower == (bucket < 0)
    return Decimal(2) ** (power + outer) * (1 if bucket > 0 else -1)


def _dates(name: str, cells: list[str], form: str, noisy: Noisy, dtype: str | None) -> Column:
    """Bound dates by years, or where no year stands out of the noise, by decades; without either nothing is told."""
    times = (time_in(cell, form) for cell in cells if cell not in MISSING)
    counts = noisy.counts((when.year for when in times if when is not None), YEARS)
    filled = [int(year) for year in noisy.filled(counts)] or _decades(counts, noisy)
    if not filled:
        return Untold(name)
    first, last = datetime.datetime(min(filled), 1, 1), datetime.datetime(max(filled), 12, 31, 23, 59, 59)
    return Datetime(name, write_time(first, form), write_time(last, form), form, (), None, "", MISSING[1:], dtype)


def _decades(counts: dict[str | int, float], noisy: Noisy) -> list[int]:
    """Return the years of decades that stand out of the noise; sums of noisy counts cost nothing."""
    sums: dict[str | int, float] = {}
    for year in YEARS:
        sums[year // TEN] = sums.get(year // TEN, 0.0) + counts[year]
    filled = {*noisy.filled(sums, TEN)}
    return [year for year in YEARS if year // TEN in filled]


def _values(
    name: str, cells: list[str], look: Looks, delta: float, noisy: Noisy, dtype: str | None
) -> tuple[Column, Kept | None]:
    """List the words that many rows share; a column without any is free text, if few rows would have stood out."""
    words = dict(noisy.words([cell for cell in cells if cell not in MISSING], delta))
    threshold = noisy.threshold(delta)
    if not words:
        # The number of rows and the threshold are public, so this tells of no cell.
        return (FreeText(name, dtype=dtype) if threshold <= SHARED * len(cells) else Untold(name)), None
    twice = next((pair for pair in TWO if {*pair} == {*words}), None)
    if twice is not None:
        return Boolean(name, *twice, "", MISSING[1:], dtype), None
    other = OTHER if OTHER not in words else None
    column = Categorical(name, tuple(words), other, "", MISSING[1:], dtype)
    written = sum(count for kind, count in look.items() if kind != "missing")
    told = kept(name, words, OTHER, written, n=len(cells), sigma=noisy.sigma, threshold=threshold)
    return column, told if other else None
