"""Differentially private search for relations between columns: copies, orders, sums, and cells missing together.

Candidates come from names and noisy descriptions. Of each candidate, each row adds 1 to exactly one of a few counts, so
that the counts of m candidates have L2 sensitivity sqrt(m). A relation is kept if the noisy number of rows that violate
it is compatible with zero.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from feller.core.errors import InputError
from feller.data.loading.raw import RawTable
from feller.data.tables.bins import MAX_NUMBER
from feller.data.tables.column import Boolean, Categorical, Column, ModelledColumn
from feller.data.tables.dates import Datetime
from feller.data.tables.dependent_columns import Copy, Sum
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.private_support import Charge, NoiseSource, NoisyCounter
from feller.data.tables.relation_candidates import (
    Candidate,
    PairCandidate,
    SumCandidate,
    relation_candidates,
)
from feller.data.tables.rules import MissingTogether, Order, Rule, scales
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import MISSING
from feller.data.tables.transforms import cells_of, read_values

MAX_CANDIDATES = 24
"""Maximum number of candidates whose violations are counted."""
DETECTABLE = 0.1
"""Fraction of the rows: a relation that more rows violate is kept with probability `FALSE_POSITIVE_PROB` at most."""
FINEST = 0.01
"""Fraction of the rows, as `DETECTABLE`, below which no budget is spent for less noise."""
MISS_PROB = 0.01
"""Probability that noise hides a relation that all rows satisfy."""
FALSE_POSITIVE_PROB = 1e-3
"""Maximum probability that a relation is kept that a fraction of `DETECTABLE` of the rows violates."""
MAX_EXCEPTIONS = 0.04
"""Maximum noisy fraction of rows that violate an order, of those with both cells."""
EQUAL, EQUAL_OTHER, BELOW, ABOVE, ONE, NONE = range(6)
"""Outcomes of a pair of cells: equal and frequent, equal and other, below, above, only one present, none present."""
HOLDS, TRIVIAL, DIFFERS = range(3)
"""Outcomes of a sum: holds with all parts above zero, holds otherwise, does not hold."""
MISS_DEVIATIONS = -NormalDist().inv_cdf(MISS_PROB)
FALSE_DEVIATIONS = -NormalDist().inv_cdf(FALSE_POSITIVE_PROB)
MAX_SPREAD = math.sqrt(1.5)
"""Largest standard deviation of a number of violations, in units of that of a count; see `_deviation`."""


class RelationSearchResult(NamedTuple):
    """Schema with the relations that were found, the cost of their search, and notes, which depend on no cell."""

    schema: Schema
    charges: tuple[Charge, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RelationPlan:
    """Candidates whose violations are counted, and the noise of each count; it depends on no cell."""

    candidates: tuple[Candidate, ...]
    sigma: float
    """Standard deviation of the noise on each count, in rows."""

    @property
    def rho(self) -> float:
        """Cost of the counts under zero-concentrated differential privacy."""
        return len(self.candidates) / (2 * self.sigma**2) if self.candidates else 0.0


def plan_relations(candidates: Sequence[Candidate], n: int, rho: float) -> RelationPlan:
    """Plan the noise, and drop the least plausible candidates until violations by `DETECTABLE` of the rows are seen.

    Args:
        candidates: Candidates, the most plausible first.
        n: Number of rows, which is public.
        rho: Maximum cost under zero-concentrated differential privacy; less is spent if less is of use.
    """
    widest, finest = (fraction * n / (MAX_SPREAD * (MISS_DEVIATIONS + FALSE_DEVIATIONS)) for fraction in _FRACTIONS)
    count = min(len(candidates), MAX_CANDIDATES)
    if not math.isinf(rho):
        count = min(count, math.floor(2 * rho * widest**2))
    if count < 1:
        return RelationPlan((), math.inf)
    return RelationPlan(tuple(candidates[:count]), max(finest, math.sqrt(count / (2 * rho))))


_FRACTIONS = (DETECTABLE, FINEST)


def search_relations(
    raw: RawTable, schema: Schema, rho: float, noise: NoiseSource, keep: Sequence[str] = ()
) -> RelationSearchResult:
    """Add relations to a schema that hold by noisy counts of the rows that violate them.

    Args:
        raw: Table.
        schema: Schema of the table without relations, which is public or noisy, and does not refuse cells.
        rho: Maximum cost under zero-concentrated differential privacy.
        noise: Generator of the noise.
        keep: Names of columns that are not computed from others, such as a target.
    """
    n = len(raw.values)
    candidates = relation_candidates(schema)
    plan = plan_relations(candidates, n, rho)
    if not candidates:
        return RelationSearchResult(schema)
    if not plan.candidates:
        note = (
            f"relations between columns were not searched, and cost nothing: with {n:,} rows, the noise would hide even"
            f" relations that {DETECTABLE:.0%} of the rows violate"
        )
        return RelationSearchResult(schema, notes=(note,))
    outcomes = [outcomes_of(raw, schema, candidate) for candidate in plan.candidates]
    noisy = NoisyCounter(plan.sigma, noise)
    counts = [
        _constrained([*noisy.counts(found.tolist(), range(size), [1] * n).values()], n) for found, size in outcomes
    ]
    judged = [_Judged(candidate, tuple(c), plan.sigma) for candidate, c in zip(plan.candidates, counts, strict=True)]
    found = _with_relations(schema, judged, {*keep, schema.target or schema.columns[-1].name})
    m = len(judged)
    label = f"relations between columns ({m} candidate{'s' if m > 1 else ''})"
    return RelationSearchResult(found, (Charge(label, plan.sigma / math.sqrt(m)),), _notes(schema, found, plan))


def outcomes_of(raw: RawTable, schema: Schema, candidate: Candidate) -> tuple[Int64[np.ndarray, " n"], int]:
    """Return the outcome of a candidate in each row, and the number of possible outcomes.

    The outcome of a row depends on this row, on the schema and on the candidate only.
    """
    if isinstance(candidate, SumCandidate):
        return _sum_outcomes(raw, schema, candidate), 3
    a, b = schema.by_name[candidate.first], schema.by_name[candidate.second]
    pair = scales(a, b) if isinstance(a, ModelledColumn) and isinstance(b, ModelledColumn) else None
    if pair is not None:
        decimals = _decimals(scale.column for scale in pair)
        (has_a, x), (has_b, y) = (_values(raw, scale.column, decimals) for scale in pair)
        is_other = ~np.isin(x, _frequent_numbers(pair[0].column))
        x, y = pair[0].common(x), pair[1].common(y)
    elif type(a) is type(b) and isinstance(a, Categorical | Boolean):
        has_a, has_b = _present(raw, a), _present(raw, b)
        x, y = _word_indices(raw, a.name, b.name)
        y = np.where(x == y, x, x + 1)  # words have no order that is the same without some of the rows
        is_other = _is_other(raw, a)
    else:  # only missing cells are compared
        has_a, has_b = _present(raw, a), _present(raw, b)
        x = y = np.zeros(len(has_a), dtype=np.int64)
        is_other = np.ones_like(has_a)
    both = has_a & has_b
    compared = np.where(x < y, BELOW, np.where(x > y, ABOVE, np.where(is_other, EQUAL_OTHER, EQUAL)))
    return np.where(both, compared, np.where(has_a | has_b, ONE, NONE)), 6


def _present(raw: RawTable, column: Column) -> Bool[np.ndarray, " n"]:
    """Return where cells are present; cells of numbers and times only if they are values."""
    if isinstance(column, Numerical | Datetime):
        return _values(raw, column)[0]
    factorized = raw.factorize(column.name)
    return ~factorized.is_in(MISSING)[factorized.codes]


def _word_indices(raw: RawTable, a: str, b: str) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return the cells of two columns as indices into a common list of words."""
    first, second = raw.factorize(a), raw.factorize(b)
    index = {word: i for i, word in enumerate(first.uniques.to_pylist())}
    other = [index.setdefault(word, len(index)) for word in second.uniques.to_pylist()]
    return first.codes.astype(np.int64), np.array(other, dtype=np.int64)[second.codes]


def _is_other(raw: RawTable, column: Categorical | Boolean) -> Bool[np.ndarray, " n"]:
    """Return where words are not in the first half of the values of a column.

    If one value is much more frequent than all others, one of the halves is rarely equal by chance.
    """
    factorized, names = raw.factorize(column.name), column.value_names
    return ~factorized.is_in(names[: (len(names) + 1) // 2])[factorized.codes]


def _values(
    raw: RawTable, column: Numerical | Datetime, decimals: int = 0
) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return where cells are numbers or times, and the values; of numbers, clipped so that scales do not overflow.

    Sums of four numbers do not overflow in units of the last of `decimals` decimals.
    """
    plain = replace(column, missing="", also_missing=MISSING[1:])
    has_value, values = read_values(cells_of(raw, column.name), plain)
    if isinstance(column, Numerical):
        most = MAX_NUMBER // 4 // 10 ** max(0, decimals - column.form.decimals)
        values = values.clip(-most, most)
    return has_value, np.where(has_value, values, 0)


def _decimals(columns: Iterable[Column]) -> int:
    """Return the largest number of decimals of columns of numbers."""
    return max((column.form.decimals for column in columns if isinstance(column, Numerical)), default=0)


def _frequent_numbers(column: Numerical | Datetime) -> Int64[np.ndarray, " m"]:
    """Return the numbers that are equal in many rows by chance: the heavy values, or half of the codes."""
    heavy = column.levels.heavy
    return np.array(heavy[: (len(heavy) + 1) // 2] if column.levels.is_list else heavy, dtype=np.int64)


def _sum_outcomes(raw: RawTable, schema: Schema, candidate: SumCandidate) -> Int64[np.ndarray, " n"]:
    total, *parts = (_number(schema.by_name[name]) for name in (candidate.total, *candidate.parts))
    decimals = _decimals((total, *parts))
    has_total, value = _values(raw, total, decimals)
    has_parts, added = np.ones_like(has_total), np.zeros_like(value)
    is_trivial = np.zeros_like(has_total)
    for part in parts:
        has_value, units = _values(raw, part, decimals)
        has_parts &= has_value
        is_trivial |= units == 0
        added += units * 10 ** max(0, total.form.decimals - part.form.decimals)
    holds = (has_total == has_parts) & (~has_total | (value == added))
    return np.where(holds, np.where(is_trivial | ~has_total, TRIVIAL, HOLDS), DIFFERS)


def _number(column: Column) -> Numerical:
    assert isinstance(column, Numerical)
    return column


def _constrained(counts: Sequence[float], n: int) -> list[float]:
    """Return noisy counts whose sum is the public number of rows: the least-squares projection."""
    excess = (sum(counts) - n) / len(counts)
    return [count - excess for count in counts]


@dataclass(frozen=True)
class _Judged:
    """Candidate with the noisy counts of its outcomes, which add to the number of rows."""

    candidate: Candidate
    counts: tuple[float, ...]
    sigma: float

    def count(self, *outcomes: int) -> float:
        return sum(self.counts[i] for i in outcomes)

    def _deviation(self, num_outcomes: int) -> float:
        """Return the standard deviation of a sum of counts, whose sum over all outcomes is known."""
        return self.sigma * math.sqrt(num_outcomes * (1 - num_outcomes / len(self.counts)))

    def is_zero(self, *outcomes: int) -> bool:
        """Return True if the number of rows with these outcomes is compatible with zero."""
        return self.count(*outcomes) <= MISS_DEVIATIONS * self._deviation(len(outcomes))

    def is_many(self, *outcomes: int) -> bool:
        """Return True if rows with these outcomes are more than those whose number may be compatible with zero."""
        deviation = self.sigma * MAX_SPREAD
        return self.count(*outcomes) > (MISS_DEVIATIONS + FALSE_DEVIATIONS) * deviation

    @property
    def is_copy(self) -> bool:
        """True if the cells are equal in nearly all rows, also those that are not frequent ones.

        Of independent columns with one frequent value, more rows differ than have another value in both columns.
        """
        violated = (BELOW, ABOVE, ONE)
        may_copy = isinstance(self.candidate, PairCandidate) and self.candidate.may_copy
        return may_copy and self.is_zero(*violated) and self.is_many(EQUAL_OTHER)

    @property
    def is_sum(self) -> bool:
        return isinstance(self.candidate, SumCandidate) and self.is_zero(DIFFERS) and self.is_many(HOLDS)

    @property
    def is_missing_together(self) -> bool:
        values = (EQUAL, EQUAL_OTHER, BELOW, ABOVE)
        may_miss = isinstance(self.candidate, PairCandidate) and self.candidate.may_miss
        return may_miss and self.is_zero(ONE) and self.is_many(NONE) and self.is_many(*values)

    @property
    def order(self) -> tuple[str, str] | None:
        """Order that holds, as (lower, upper); of two, the one with fewer violations."""
        if not isinstance(self.candidate, PairCandidate):
            return None
        names = self.candidate.first, self.candidate.second
        violated, strict = (ABOVE, BELOW) if self.counts[ABOVE] <= self.counts[BELOW] else (BELOW, ABOVE)
        order = names if violated == ABOVE else (names[1], names[0])
        both = self.count(EQUAL, EQUAL_OTHER, BELOW, ABOVE)
        holds = self.is_zero(violated) or self.count(violated) <= MAX_EXCEPTIONS * both
        return order if holds and order in self.candidate.orders and self.is_many(strict) else None


def _with_relations(schema: Schema, judged: Sequence[_Judged], keep: set[str]) -> Schema:
    """Return a schema with the relations that hold; copies first, then sums, orders, and missing cells."""
    schema = _with_copies(schema, [entry.candidate for entry in judged if entry.is_copy], keep)
    for entry in judged:
        candidate = entry.candidate
        if isinstance(candidate, SumCandidate) and entry.is_sum and candidate.total not in keep:
            total = schema.by_name[candidate.total]
            if isinstance(total, Numerical):
                column = Sum(total.name, candidate.parts, total.form, total.missing, total.dtype)
                schema = _replaced(schema, {total.name: column})
    for entry in judged:
        if (order := entry.order) is not None and not entry.is_copy:
            schema = _with_order(schema, Order(*order))
    for names in _groups([entry.candidate for entry in judged if entry.is_missing_together]):
        modelled = tuple(name for name in schema.names if name in names and not _is_computed(schema.by_name[name]))
        if len(modelled) > 1:
            schema = _replaced(schema, {}, [MissingTogether(modelled)])
    return schema


def _is_computed(column: Column) -> bool:
    return isinstance(column, Copy | Sum)


def _with_copies(schema: Schema, candidates: Sequence[Candidate], keep: set[str]) -> Schema:
    """Declare all columns of a group of equal columns as copies of its first column, or of one that is to be kept."""
    modelled = {column.name: column for column in schema.modelled}
    for names in _groups(candidates):
        group = [column for name, column in modelled.items() if name in names]
        source = next((column for column in group if column.name in keep), group[0])
        copies = {c.name: Copy(c.name, source.name, c.dtype) for c in group if c is not source and c.name not in keep}
        num_missing = sum(column.missing is not None for column in group)
        if source.missing is None and 2 * num_missing > len(group) and isinstance(source, _WITH_MISSING):
            source = replace(source, missing="", also_missing=MISSING[1:])
        schema = _replaced(schema, {**copies, source.name: source})
    return schema


_WITH_MISSING = (Numerical, Datetime, Categorical, Boolean)


def _groups(candidates: Sequence[Candidate]) -> list[set[str]]:
    """Return the connected groups of the columns of pairs."""
    groups: list[set[str]] = []
    for candidate in candidates:
        if isinstance(candidate, PairCandidate):
            merged = {candidate.first, candidate.second}
            touching = [group for group in groups if group & merged]
            groups = [group for group in groups if not group & merged] + [merged.union(*touching)]
    return groups


def _with_order(schema: Schema, order: Order) -> Schema:
    """Add an order; with bins that are the same for all times in order if the schema is invalid otherwise."""
    found = _replaced(schema, {}, [order])
    if found is not schema:
        return found
    connected = _connected(schema, order)
    times = [column for column in schema.modelled if column.name in connected and isinstance(column, Datetime)]
    if len(times) < len(connected) or len({column.format for column in times}) != 1:
        return schema
    by_time = {end: column for column in times for end in (column.first, column.last)}
    units = {text: by_time[text].units(text) or 0 for text in by_time}
    first, last = min(units, key=units.__getitem__), max(units, key=units.__getitem__)
    columns: Mapping[str, Column] = {c.name: replace(c, first=first, last=last, edges=()) for c in times}
    return _replaced(schema, columns, [order])


def _connected(schema: Schema, order: Order) -> set[str]:
    """Return the names of the columns that orders connect with those of an order."""
    names, orders = {*order.names}, [rule for rule in schema.rules if isinstance(rule, Order)]
    for _ in orders:
        for rule in orders:
            names |= {*rule.names} if names & {*rule.names} else set()
    return names


def _replaced(schema: Schema, columns: Mapping[str, Column], rules: Sequence[Rule] = ()) -> Schema:
    """Return the schema with other columns and more rules; unchanged if the result would be invalid."""
    merged = tuple(columns.get(column.name, column) for column in schema.columns)
    try:
        return replace(schema, columns=merged, rules=(*schema.rules, *rules))
    except InputError:  # for example, rules would form a cycle
        return schema


def _notes(schema: Schema, found: Schema, plan: RelationPlan) -> tuple[str, ...]:
    computed = [column for column in found.columns if isinstance(column, Copy | Sum)]
    texts = [
        f"{column.name} is a copy of {column.source}"
        if isinstance(column, Copy)
        else f"{column.name} is the sum of {' and '.join(column.parts)}"
        for column in computed
    ]
    texts += [rule.text for rule in found.rules[len(schema.rules) :]]
    listed = "; ".join(texts) if texts else "none"
    return (
        f"relations found by noisy counts of the rows that violate them (error about {2 * plan.sigma:,.0f} rows,"
        f" {len(plan.candidates)} candidates): {listed}"
        f"{'; rows that violate them are changed to rows that do not' if texts else ''}",
    )
