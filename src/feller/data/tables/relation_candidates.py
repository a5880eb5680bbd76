"""Columns that may be related, by their names and by a noisy description of them; no cell is read."""

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from feller.data.tables.column import Boolean, Categorical, Column, ModelledColumn
from feller.data.tables.dates import Datetime
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.rules import scales
from feller.data.tables.schema import Schema

MIN_VIOLATED = 0.15
"""Minimum fraction of rows in which an order is violated if the columns are independent; others hold by chance."""
MIN_NAME_RATIO = 0.6
"""Minimum similarity of two names that are evidence of a relation, from 0 to 1."""
MIN_OVERLAP = 0.5
"""Minimum fraction of common values, or of the range of numbers, of two columns that may be copies."""
MAX_CDF_DISTANCE = 0.15
"""Maximum distance of the noisy distribution functions of two columns of numbers whose names are not similar."""
MIN_WORDS = 5
"""Minimum number of common values of columns of words, or codes, whose names are not similar."""
MAX_MEAN_ERROR = 0.15
"""Maximum difference between the noisy mean of a sum and that of its parts, as a fraction of the mean of the sum."""
MAX_UNNAMED_MEAN_ERROR = 0.05
"""As `MAX_MEAN_ERROR`, for a column whose name does not say that it is a sum."""
MAX_SUMS = 6
"""Maximum number of sums that are sought."""
MAX_SUM_COLUMNS = 15
"""Maximum number of columns of numbers among which sums are sought."""
MAX_COLUMNS = 60
"""Maximum number of columns among which pairs are sought."""
MAX_DECIMALS = 9
"""Maximum number of decimals of columns between which relations are sought."""
POINTS = 101
"""Number of quantiles by which noisy distributions are compared."""
LOWER = frozenset(
    """
    start starts begin begins from in admitted admission birth born dob open opened first min minimum low lower
    created ordered entry arrival arrived before net diastolic dbp received sent since
    """.split()  # noqa: SIM905 - words
)
"""Words in names of columns that are at most other columns."""
UPPER = frozenset(
    """
    end ends finish finished to out until till discharged discharge death died close closed last max maximum high
    upper updated shipped delivered exit departure departed after gross systolic sbp completed due
    """.split()  # noqa: SIM905 - words
)
"""Words in names of columns that are at least other columns."""
TOTALS = frozenset(
    """
    total totals sum all overall gross amount count
    """.split()  # noqa: SIM905 - words
)
"""Words in names of sums."""


@dataclass(frozen=True)
class PairCandidate:
    """Two columns that may be related."""

    first: str
    second: str
    score: float
    """Plausibility; candidates with the largest scores are tested."""
    may_copy: bool = False
    """True if one column may be a copy of the other."""
    orders: tuple[tuple[str, str], ...] = ()
    """Orders, each as (lower, upper), that independent columns would violate in at least `MIN_VIOLATED` of the rows."""
    may_miss: bool = False
    """True if the cells of both columns may be missing together."""


@dataclass(frozen=True)
class SumCandidate:
    """Column of numbers that may be the sum of others."""

    total: str
    parts: tuple[str, ...]
    score: float
    """Plausibility; candidates with the largest scores are tested."""


Candidate = PairCandidate | SumCandidate


def relation_candidates(schema: Schema) -> list[Candidate]:
    """Return the columns that may be related, the most plausible ones first.

    The result depends on the names of the columns and on their description only, which is public or noisy.
    """
    columns = [_Described(column) for column in schema.modelled[:MAX_COLUMNS] if _is_usable(column)]
    pairs = (_pair(a, b) for a, b in itertools.combinations(columns, 2))
    found: list[Candidate] = [*filter(None, pairs), *_sums(columns)]
    return sorted(found, key=lambda candidate: -candidate.score)


def _is_usable(column: ModelledColumn) -> bool:
    return not isinstance(column, Numerical) or (not column.digits and column.form.decimals <= MAX_DECIMALS)


@dataclass(frozen=True)
class _Described:
    """Column with the words of its name and its noisy distribution."""

    column: ModelledColumn

    @property
    def name(self) -> str:
        return self.column.name

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Words of the name in lower case."""
        spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", self.name)
        return tuple(re.findall(r"[^\W_]+", spaced.lower()))

    @cached_property
    def values(self) -> frozenset[str]:
        """Values of a column of words or codes; empty for other columns."""
        if isinstance(self.column, Categorical | Boolean):
            return frozenset(self.column.value_names)
        if isinstance(self.column, Numerical) and self.column.numbers:
            return frozenset(f"{number:g}" for number in self.column.numbers)
        return frozenset()

    @cached_property
    def quantiles(self) -> Float64[np.ndarray, " m"]:
        """Quantiles of the noisy distribution of numbers or times; uniform between the bounds if nothing is known."""
        column, levels = self.column, np.linspace(0, 1, POINTS)
        if isinstance(column, Datetime):
            ends = np.array([column.levels.starts[0], column.levels.last])
            first, last = column.instants(ends).astype(np.int64).astype(float)
            return first + levels * (last - first)
        assert isinstance(column, Numerical)
        if column.numbers:
            return np.quantile(np.array(column.numbers), levels)
        points = np.array([column.low, *column.knots, column.high])
        masses = np.array(column.weights or [1.0])
        return np.interp(levels, np.concatenate([[0.0], masses.cumsum() / masses.sum()]), points)

    @property
    def mean(self) -> float:
        return float(self.quantiles.mean())


def _pair(a: _Described, b: _Described) -> PairCandidate | None:
    """Return two columns as a candidate; None if no relation between them is plausible."""
    ratio = _name_ratio(a, b)
    is_named = ratio >= MIN_NAME_RATIO
    may_miss = a.column.missing is not None and b.column.missing is not None
    may_copy, likeness, orders = False, 0.0, ()
    pair = scales(a.column, b.column)
    if pair is not None:
        likeness = 1 - _cdf_distance(a, b)
        is_time = isinstance(a.column, Datetime)
        may_copy = _same_format(a.column, b.column) and likeness >= MIN_OVERLAP
        orders = tuple(_orders(a, b)) if is_time or is_named else ()
        codes = len(a.values | b.values)
        is_alike = likeness >= 1 - MAX_CDF_DISTANCE and (not codes or codes >= MIN_WORDS)
        may_copy = may_copy and (is_time or is_named or is_alike)
    elif a.values and b.values and type(a.column) is type(b.column):
        likeness = len(a.values & b.values) / len(a.values | b.values)
        may_copy = likeness >= MIN_OVERLAP and (is_named or len(a.values & b.values) >= MIN_WORDS)
    if not (may_copy or orders or may_miss):
        return None
    is_ordered = bool(orders) and (_is_lower_name(a, b) or _is_lower_name(b, a))
    score = ratio + likeness * (may_copy or bool(orders)) + is_ordered + 0.5 * may_miss
    return PairCandidate(a.name, b.name, score, may_copy, orders, may_miss)


def _name_ratio(a: _Described, b: _Described) -> float:
    """Return the similarity of two names, from 0 to 1; words that differ by their place in an order count as equal."""
    if _is_lower_name(a, b) or _is_lower_name(b, a):
        return 1.0
    shared, all_words = {*a.words} & {*b.words}, {*a.words} | {*b.words}
    letters = difflib.SequenceMatcher(None, a.name.lower(), b.name.lower(), autojunk=False).ratio()
    return max(letters, min(1.0, len(shared) / max(1, len(all_words)) + 0.3 * bool(shared)))


def _is_lower_name(a: _Described, b: _Described) -> bool:
    """Return True if the names say that column a is at most column b."""
    only_a, only_b = {*a.words} - {*b.words}, {*b.words} - {*a.words}
    return bool(only_a & LOWER) and bool(only_b & UPPER)


def _same_format(a: Column, b: Column) -> bool:
    if isinstance(a, Datetime) and isinstance(b, Datetime):
        return a.format == b.format
    return isinstance(a, Numerical) and isinstance(b, Numerical) and a.form == b.form


def _cdf_distance(a: _Described, b: _Described) -> float:
    """Return the Kolmogorov distance of two noisy distributions."""
    points = np.union1d(a.quantiles, b.quantiles)
    below = [np.searchsorted(column.quantiles, points, side="right") / POINTS for column in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def _orders(a: _Described, b: _Described) -> Iterator[tuple[str, str]]:
    """Yield the orders that would be violated often if the columns were independent."""
    difference = a.quantiles[:, None] - b.quantiles[None, :]
    if (difference > 0).mean() >= MIN_VIOLATED:
        yield a.name, b.name
    if (difference < 0).mean() >= MIN_VIOLATED:
        yield b.name, a.name


def _sums(columns: Sequence[_Described]) -> list[SumCandidate]:
    """Return the most plausible sums of two or three columns, by noisy means and names."""
    numbers = [column for column in columns if isinstance(column.column, Numerical)][:MAX_SUM_COLUMNS]
    found = []
    for total in numbers:
        is_named = bool({*total.words} & TOTALS)
        others = [column for column in numbers if column is not total and _fits_into(column, total)]
        for size in (2, 3) if is_named else (2,):
            for parts in itertools.combinations(others, size):
                error = abs(total.mean - sum(part.mean for part in parts)) / max(abs(total.mean), 1e-9)
                if error <= (MAX_MEAN_ERROR if is_named else MAX_UNNAMED_MEAN_ERROR):
                    score = 0.5 + is_named + MAX_MEAN_ERROR - error
                    found.append(SumCandidate(total.name, tuple(part.name for part in parts), score))
    return sorted(found, key=lambda candidate: -candidate.score)[:MAX_SUMS]


def _fits_into(part: _Described, total: _Described) -> bool:
    a, b = part.column, total.column
    assert isinstance(a, Numerical)
    assert isinstance(b, Numerical)
    has_decimals = a.form.decimals <= b.form.decimals
    return has_decimals and a.low >= 0 and b.low >= 0 and (a.missing is None or b.missing is not None)
