"""A schema found under differential privacy: only noisy counts decide, and each of them is charged.

A row adds one to at most one count of each column, so the counts of k columns have the L2 sensitivity sqrt(k), and
noise of deviation s is a Gaussian mechanism of s / sqrt(k) in units of the sensitivity. Words are released where their
noisy count passes a threshold, which a word of one row alone does with the probability delta.
"""

import datetime
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import FoundTable, Words
from feller.data.tables.clipped_cells import Beyond, Kept, beyond, kept
from feller.data.tables.column import Boolean, Categorical, Column, Modelled
from feller.data.tables.dates import Datetime, read_times, write_time
from feller.data.tables.detect_schema import MISSING, OTHER, TWO, Looks, looks, majority, whole_of
from feller.data.tables.numerical import Numerical
from feller.data.tables.private_bounds import find_numbers
from feller.data.tables.private_support import Charge, Coins, Noisy, islands
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import FreeText, Untold

YEARS = range(1800, 2201)
"""Years in which dates are looked for; public."""
SHORE = 0.25
"""Deviations of the noise that a year must hold to widen what dates are learned."""
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
    beyond: tuple[Beyond, ...] = ()
    """Of each column of which many cells lie beyond the bounds that were found, which share; so, too."""


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
        The schema, what was spent, what becomes of rare words, and what lies beyond bounds.

    Raises:
        UsageError: If sigma or delta is out of range.
        Drowned: If noise leaves no column that a model could learn, or hides all but one; as early as that is known.
    """
    if not (0 < sigma < math.inf and 0 < delta < 1):
        raise UsageError("noise above 0 and a delta between 0 and 1", f"{sigma:g} and {delta:g}")
    noisy = Noisy(sigma, noise)
    cells = {name: found.words(name) for name in found.columns}
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
    outside: list[Beyond | None] = []
    for name in numbers:
        columns[name], far = find_numbers(name, cells[name], looked[name], noisy, dtypes.get(name))
        outside.append(far)
    for name in dates:
        form = kinds[name].partition(":")[2]
        columns[name], far = _dates(name, cells[name], form, looked[name], noisy, dtypes.get(name))
        outside.append(far)
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
    for name, column in columns.items():  # gaps that noise cannot tell from none are not made
        if "missing" not in looked[name] and isinstance(column, Boolean | Categorical | Datetime | Numerical):
            columns[name] = replace(column, missing=None, also_missing=())
    whole = tuple(columns.get(name, Untold(name)) for name in cells)
    untold = [column.name for column in whole if isinstance(column, Untold)]
    _check_told(untold, sum(isinstance(column, Modelled) for column in whole), charges)
    try:
        return Domain(Schema(whole, "impute"), tuple(charges), tuple(merged), tuple(filter(None, outside)))
    except InputError as error:
        raise Drowned(f"of what noise let through, {error}", untold, tuple(charges)) from error


def _check_told(untold: Sequence[str], told: int, charges: Sequence[Charge]) -> None:
    """Refuse a table of which noise hides all columns, or all but one: no two could be told to belong together."""
    if untold and told <= 1:
        raise Drowned("noise hides nearly all columns", untold, tuple(charges))


def _sturdy(dtype: str) -> str | None:
    """Return what of a type no cell changes: of times not how fine they are; None of most, which follow from kinds."""
    if dtype.startswith("datetime64"):
        return re.sub(r"\[\w+", "[us", dtype)
    return "category" if dtype.startswith("category") else None


def _columns(names: Sequence[str]) -> str:
    return "1 column" if len(names) == 1 else f"{len(names)} columns"


def _charge(what: str, sigma: float, columns: int) -> Charge:
    return Charge(what, sigma / math.sqrt(columns))


def _dates(
    name: str, cells: Words, form: str, look: Looks, noisy: Noisy, dtype: str | None
) -> tuple[Column, Beyond | None]:
    """Bound dates by years that stand out of the noise, alone or with their neighbours; without any nothing is told."""
    times = read_times(cells.words, form)
    there = ~cells.which(MISSING) & ~np.isnat(times)
    years = times[there].astype("M8[Y]").astype(np.int64) + 1970
    counts = noisy.counts(years.tolist(), YEARS, cells.counts[there].tolist())
    line = [counts[year] for year in YEARS]
    found = islands(line, noisy.sigma, SHORE, whole_of(look, ("date",)))
    if not found:
        return Untold(name), None
    first, last = found[0][0], found[-1][1]
    bounds = (
        write_time(datetime.datetime(YEARS[first], 1, 1), form),
        write_time(datetime.datetime(YEARS[last], 12, 31, 23, 59, 59), form),
    )
    terms = sum(b - a + 1 for a, b in found)
    inside = sum(sum(line[a : b + 1]) for a, b in found)
    told = beyond(name, bounds, inside, terms, look, n=len(cells.places), sigma=noisy.sigma)
    return Datetime(name, *bounds, form, (), None, "", MISSING[1:], dtype), told


def _values(
    name: str, cells: Words, look: Looks, delta: float, noisy: Noisy, dtype: str | None
) -> tuple[Column, Kept | None]:
    """List the words that many rows share; a column without any is free text, if few rows would have stood out."""
    n, there = len(cells.places), ~cells.which(MISSING)
    exact = zip(cells.words.filter(pyarrow.array(there)).to_pylist(), cells.counts[there].tolist(), strict=True)
    words = dict(noisy.words(dict(exact), delta))
    threshold = noisy.threshold(delta)
    if not words:
        # The number of rows and the threshold are public, so this tells of no cell.
        return (FreeText(name, dtype=dtype) if threshold <= SHARED * n else Untold(name)), None
    twice = next((pair for pair in TWO if {*pair} == {*words}), None)
    if twice is not None:
        return Boolean(name, *twice, "", MISSING[1:], dtype), None
    other = OTHER if OTHER not in words else None
    column = Categorical(name, tuple(words), other, "", MISSING[1:], dtype)
    written = sum(count for kind, count in look.items() if kind != "missing")
    told = kept(name, words, OTHER, written, n=n, sigma=noisy.sigma, threshold=threshold)
    return column, told if other else None
