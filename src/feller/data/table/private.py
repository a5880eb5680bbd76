"""A schema found under differential privacy: only noisy counts decide, and each of them is charged.

A row adds one to at most one count of each column, so the counts of k columns have the L2 sensitivity sqrt(k), and
noise of deviation s is a Gaussian mechanism of s / sqrt(k) in units of the sensitivity. Words are released where their
noisy count passes a threshold, which a word of one row alone does with the probability delta.
"""

import datetime
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol, runtime_checkable

import scipy
import torch
from torch import Tensor

from feller.data.found import FoundTable
from feller.data.table.categorical import Boolean, Categorical
from feller.data.table.column import Column
from feller.data.table.dates import Datetime, time_in, write_time
from feller.data.table.detect import MISSING, OTHER, TWO
from feller.data.table.form import MOST_DECIMALS, NumberForm
from feller.data.table.formats import DATES, reads
from feller.data.table.numerical import Numerical
from feller.data.table.ranges import bounds_around, even_edges
from feller.data.table.schema import Schema
from feller.data.table.unmodelled import FreeText
from feller.errors import InputError, UsageError

DECIMALS = 6
"""Digits behind the point, at most."""
CLASSES = ("missing", *(f"number:{d}" for d in range(DECIMALS + 1)), *(f"date:{form}" for form in DATES), "word")
"""What a cell can be by itself; public."""
POWERS = range(-20, 51)
"""Powers of two between which numbers are looked for; public."""
YEARS = range(1900, 2101)
"""Years in which dates are looked for; public."""
CELLS = 512
"""Cells of equal width in which numbers are counted for their edges."""
FALSE_ALARM = 1e-3
"""Chance that noise alone passes for a bucket that is not empty, for each column."""
ZERO = 0.05
"""Noisy share of zeros from which they have a code of their own."""


PLAIN = NumberForm(MOST_DECIMALS)
"""How numbers are written: with a point and nothing else; what is not counts as words."""

DATE = re.compile(r"(\d{1,4}[-/. ]|[A-Z][a-z]{2}).*\d")
"""What a date begins with."""


@runtime_checkable
class Coins(Protocol):
    """Where noise comes from."""

    def normal(self, shape: Sequence[int], dtype: torch.dtype = ..., device: torch.device | str = ...) -> Tensor:
        """Draw from N(0, 1)."""
        ...


class Charge(NamedTuple):
    """One Gaussian mechanism."""

    what: str
    sigma: float
    """Deviation of its noise, in units of the L2 sensitivity."""
    delta: float = 0.0
    """Chance that a word of one row alone is released, in addition to what the noise gives."""


@dataclass(frozen=True)
class Noisy:
    """Counts with noise of one deviation."""

    sigma: float
    noise: Coins

    def counts(self, keys: Iterable[str | int], room: Sequence[str | int]) -> dict[str | int, float]:
        """Count keys among a public list, with noise on every entry; others are not counted."""
        exact = Counter(keys)
        drawn = self.noise.normal((len(room),), torch.float64, "cpu").tolist()
        return {key: exact[key] + self.sigma * z for key, z in zip(room, drawn, strict=True)}

    def filled(self, counts: dict[str | int, float]) -> list[str | int]:
        """Return the entries that noise alone would hardly reach."""
        threshold = self.sigma * float(scipy.stats.norm.isf(FALSE_ALARM / len(counts)))
        return [key for key, count in counts.items() if count > threshold]

    def words(self, words: Sequence[str], delta: float) -> list[tuple[str, float]]:
        """Return the words whose noisy counts pass the threshold that one row alone passes with probability delta."""
        threshold = 1 + self.sigma * float(scipy.stats.norm.isf(delta))
        exact = Counter(words)
        names = sorted(exact)
        drawn = self.noise.normal((len(names),), torch.float64, "cpu").tolist()
        noisy = ((name, exact[name] + self.sigma * z) for name, z in zip(names, drawn, strict=True))
        return [(name, count) for name, count in noisy if count > threshold]


def find_domain(found: FoundTable, sigma: float, delta: float, noise: Coins) -> tuple[Schema, tuple[Charge, ...]]:
    """Find kinds, bounds, edges and values from noisy counts, each with noise of deviation sigma.

    Names, number and order of columns, and those types of a data frame that no cell changes, are public; n is not used.

    Args:
        found: The cells.
        sigma: Deviation of the noise on every count, in rows.
        delta: Chance, for all columns of words together, that a word of one row alone is released.
        noise: Where noise comes from.

    Returns:
        The schema, which clips, and what was spent: add the deltas to that of the whole.

    Raises:
        UsageError: If sigma or delta is out of range.
        InputError: If the noise leaves no column that a model could learn.
    """
    if not (0 < sigma < math.inf and 0 < delta < 1):
        raise UsageError(f"expected noise above 0 and a delta between 0 and 1, got {sigma:g} and {delta:g}")
    noisy = Noisy(sigma, noise)
    cells = {name: found.column(name) for name in found.columns}
    looks = {name: _looks(cells[name], noisy) for name in cells}
    charges = [_charge("kinds of the columns", sigma, len(cells))]
    kinds = {name: _majority(look) for name, look in looks.items()}
    numbers = [name for name in cells if kinds[name].startswith("number")]
    dates = [name for name in cells if kinds[name].startswith("date")]
    words = [name for name in cells if kinds[name] == "word"]
    dtypes = dict(zip(found.columns, map(_sturdy, found.dtypes), strict=True)) if found.dtypes else {}
    columns: dict[str, Column] = {}
    for name in numbers:
        columns[name] = _numbers(name, cells[name], looks[name], noisy, dtypes.get(name))
    for name in dates:
        form = kinds[name].partition(":")[2]
        columns[name] = _dates(name, cells[name], form, noisy, dtypes.get(name))
    for name in words:
        columns[name] = _values(name, cells[name], delta / len(words), noisy, dtypes.get(name))
    if numbers:
        charges += [
            _charge(f"{what} of {len(numbers)} columns of numbers", sigma, len(numbers)) for what in ("bounds", "edges")
        ]
    if dates:
        charges.append(_charge(f"years of {len(dates)} columns of dates", sigma, len(dates)))
    if words:
        charges.append(_charge(f"values of {len(words)} columns of words", sigma, len(words))._replace(delta=delta))
    try:
        return Schema(tuple(columns.get(name, FreeText(name)) for name in cells), "clip"), tuple(charges)
    except InputError as error:
        raise InputError(f"with so much noise {error}; spend more on the domain, or write a schema") from error


def _sturdy(dtype: str) -> str | None:
    """Return what of a type no cell changes: of times not how fine they are; None of most, which follow from kinds."""
    if dtype.startswith("datetime64"):
        return re.sub(r"\[\w+", "[us", dtype)
    return dtype if dtype == "category" else None


def _charge(what: str, sigma: float, columns: int) -> Charge:
    return Charge(what, sigma / math.sqrt(columns))


def _looks(cells: list[str], noisy: Noisy) -> dict[str | int, float]:
    """Count what cells look like, each by itself."""
    known = {cell: _look(cell) for cell in {*cells}}
    return noisy.counts((known[cell] for cell in cells), CLASSES)


def _look(cell: str) -> str:
    """Return which of the classes a cell is of, by itself."""
    if cell in MISSING:
        return "missing"
    number = PLAIN.read(cell)
    if number is not None:
        return f"number:{min(max(0, -int(number.as_tuple().exponent)), DECIMALS)}"  # pyrefly: ignore
    likely = DATE.match(cell)
    found = next((form for form in DATES if reads(cell, form)), None) if likely else None
    return "word" if found is None else f"date:{found}"


def _majority(look: dict[str | int, float]) -> str:
    """Return what most cells are: word, number, or date with the most frequent format."""
    shares = {"word": look["word"]}
    for kind in ("number", "date"):
        parts = {key: count for key, count in look.items() if str(key).startswith(kind)}
        best = max(parts, key=lambda key: parts[key])
        # Noise of many empty classes must not add up: those near zero count as nothing.
        shares[str(best)] = sum(count for count in parts.values() if count > max(parts.values()) / 20)
    return max(shares, key=lambda key: shares[key])


def _numbers(name: str, cells: list[str], look: dict[str | int, float], noisy: Noisy, dtype: str | None) -> Numerical:
    """Bound numbers by powers of two and put edges where noisy counts are even."""
    counts = {d: look[f"number:{d}"] for d in range(DECIMALS + 1)}
    decimals = max((d for d, count in counts.items() if count > max(counts.values()) / 20), default=0)
    form = NumberForm(decimals)
    values = [value for cell in cells if cell not in MISSING and (value := _read(cell)) is not None]
    buckets = [0, *(sign * (power + 100) for sign in (-1, 1) for power in POWERS)]
    magnitude = noisy.counts((_bucket(value) for value in values), buckets)
    filled = noisy.filled(magnitude)
    low = min((_edge_of(int(key), lower=True) for key in filled), default=Decimal(0))
    high = max((_edge_of(int(key), lower=False) for key in filled), default=Decimal(1))
    unit = Decimal(1).scaleb(-decimals)
    low, high = bounds_around(low, max(high, low + unit), unit)
    width = (high - low) / CELLS
    inside = (int((value - low) / width) for value in values if low <= value < high)
    levels = noisy.counts(inside, range(CELLS))
    shares = {
        low + width * (int(i) + Decimal("0.5")): count if count > noisy.sigma else 0.0 for i, count in levels.items()
    }
    edges = even_edges(shares, low, high, unit) if sum(shares.values()) > 0 and (high - low) / unit >= 64 else ()
    bins = None if edges else min(int((high - low) / unit) + 1, 64)
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


def _dates(name: str, cells: list[str], form: str, noisy: Noisy, dtype: str | None) -> Datetime:
    """Bound dates by years."""
    times = (time_in(cell, form) for cell in cells if cell not in MISSING)
    counts = noisy.counts((when.year for when in times if when is not None), YEARS)
    filled = noisy.filled(counts) or list(YEARS)
    first, last = datetime.datetime(int(min(filled)), 1, 1), datetime.datetime(int(max(filled)), 12, 31, 23, 59, 59)
    return Datetime(name, write_time(first, form), write_time(last, form), form, (), None, "", MISSING[1:], dtype)


def _values(name: str, cells: list[str], delta: float, noisy: Noisy, dtype: str | None) -> Column:
    """List the words that many rows share; a column without any is free text."""
    words = [word for word, _ in noisy.words([cell for cell in cells if cell not in MISSING], delta)]
    if not words:
        return FreeText(name, dtype=dtype)
    twice = next((pair for pair in TWO if {*pair} == {*words}), None)
    if twice is not None:
        return Boolean(name, *twice, "", MISSING[1:], dtype)
    return Categorical(name, tuple(words), OTHER if OTHER not in words else None, "", MISSING[1:], dtype)
