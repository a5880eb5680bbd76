"""Relations between columns, found in the rows of a table: copies, orders, sums, dependent words, missing cells.

The result depends on the rows and is not private.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int, Int64

from feller.core.errors import InputError
from feller.data.loading.raw import FactorizedColumn, RawTable
from feller.data.tables.column import Boolean, Categorical, Column, ModelledColumn
from feller.data.tables.constraints import Constraint
from feller.data.tables.dates import Datetime
from feller.data.tables.dependent_columns import UNITS, Copy, Gap, Sum
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical, numerical_column
from feller.data.tables.rules import Combination, MissingTogether, Order, Rule, scales
from feller.data.tables.schema import Schema
from feller.data.tables.transforms import values_of, violations_of
from feller.data.tables.unmodelled_columns import Derived, Identifier

MIN_ROWS = 50
"""Minimum number of rows of a table in which relations are sought."""
MIN_SHARE = 0.96
"""Minimum fraction of rows, of those with both cells, in which an order holds."""
MAX_BY_CHANCE = 0.99
"""Maximum fraction of rows in which an order holds if one of the columns is shuffled."""
MAX_EXCEPTIONS = 0.2
"""Maximum number of rows that violate an order, as a fraction of those that do if one of the columns is shuffled."""
CHANCE = math.log(1e-9)
"""Logarithm of the probability by chance below which a dependence between columns of words is a relation."""
MAX_SPREAD_RATIO = 20.0
"""Maximum ratio of the standard deviations of two columns of numbers for which an order is sought."""
MAX_WORDS = 100
"""Maximum number of values of a column of words that depends on another column, or on which another depends."""
MAX_NUMBERS = 200
"""Maximum number of distinct numbers of a column on which words depend."""
SCREEN_ROWS = 2_000
"""Number of rows in which relations are sought before they are checked in all rows."""
MAX_SUM_COLUMNS = 40
"""Maximum number of columns of numbers among which sums are sought; sums of three parts among half of them."""
MIN_NONZERO = 0.01
"""Minimum fraction of rows in which each part of a sum is not zero."""


@dataclass(frozen=True, eq=False)
class _Table:
    """Rows in which relations are sought, and the schema with the relations found so far."""

    raw: RawTable
    schema: Schema

    @property
    def target(self) -> str:
        """Name of the column that reports predict, which is not computed from others."""
        return self.schema.target or self.schema.columns[-1].name

    @property
    def n(self) -> int:
        return len(self.raw.values)

    def plain(self, *kinds: type[Column]) -> list[Column]:
        """Return the columns of some kinds in order."""
        return [column for column in self.schema.columns if isinstance(column, kinds)]

    def factorize(self, column: Column) -> FactorizedColumn:
        return self.raw.factorize(column.name)

    def missing(self, column: Column) -> Bool[np.ndarray, " n"]:
        """Return True for the missing cells of a column."""
        form = self.schema.text_forms[column.name]
        words = () if not isinstance(form, ModelledColumn) or form.missing is None else ("", *form.words_for_missing)
        factorized = self.factorize(column)
        return factorized.is_in(words)[factorized.codes]

    def with_columns(self, columns: dict[str, Column], rules: Sequence[Rule] = (), *, clips: bool = False) -> "_Table":
        """Return the table with other columns and more rules; unchanged if the schema would be invalid."""
        outside = "clip" if clips and self.schema.outside == "refuse" else self.schema.outside
        merged = tuple(columns.get(column.name, column) for column in self.schema.columns)
        try:
            schema = replace(self.schema, columns=merged, rules=(*self.schema.rules, *rules), outside=outside)
        except InputError:  # for example, the rules would form a cycle
            return self
        return replace(self, schema=schema)


def with_relations(raw: RawTable, schema: Schema) -> Schema:
    """Return a schema with the relations between columns that hold in the rows of a table.

    Copies, sums, dependent words and cells that are missing together hold in all rows. Orders hold in at least
    `MIN_SHARE` of the rows with both cells; if there are exceptions, the schema clips.

    Args:
        raw: Table.
        schema: Schema of the table, without relations.
    """
    if len(raw.values) < MIN_ROWS or raw.is_sample:
        return schema
    table = _Table(raw, schema)
    for find in (_with_copies, _with_sums, _with_dependent_words, _with_gaps, _with_orders, _with_missing_together):
        table = find(table)
    return table.schema


def relation_lines(raw: RawTable, schema: Schema) -> tuple[str, ...]:
    """Describe each relation of a schema, with the fraction of the rows of a table in which it holds."""
    shares: dict[tuple[str, ...], float] = {}
    for violation in violations_of(raw, schema):
        shares[violation.columns] = shares.get(violation.columns, 1.0) - float(violation.rows.mean())
    columns = (_described(column) for column in schema.columns)
    lines = [(text, names) for text, names in columns if text]
    ranges = dict.fromkeys(rule.names for rule in schema.rules if isinstance(rule, Constraint))
    lines += [(f"{words} has a range of {numbers} for each value", (words, numbers)) for words, numbers in ranges]
    lines += [(rule.text, rule.names) for rule in schema.rules if not isinstance(rule, Constraint)]
    return tuple(f"{text} (in {_percent(shares.get(names, 1.0))} of the rows)" for text, names in lines)


def _percent(share: float) -> str:
    return "all" if share >= 1 else f"{min(share, 0.9999):.2%}"


def _described(column: Column) -> tuple[str, tuple[str, ...]]:
    if isinstance(column, Copy):
        return f"{column.name} is a copy of {column.source}", (column.source, column.name)
    if isinstance(column, Gap):
        unit = f" of {column.unit}" if column.unit else ""
        return f"{column.name} is {column.after} plus an amount{unit}", (column.after, column.name)
    if isinstance(column, Sum):
        return f"{column.name} is the sum of {' and '.join(column.parts)}", (*column.parts, column.name)
    if isinstance(column, Derived):
        return f"{column.name} is derived from {column.source}", (column.source, column.name)
    return "", ()


def _with_copies(table: _Table) -> _Table:
    columns = table.plain(Numerical, Categorical, Boolean, Datetime, Identifier)
    factorized = {column.name: table.factorize(column) for column in columns}
    last = table.target
    copies: dict[str, Column] = {}
    for a, b in itertools.combinations(columns, 2):
        first, second = factorized[a.name], factorized[b.name]
        if a.name in copies or b.name in copies or len(first.uniques) != len(second.uniques):
            continue
        is_equal = first.uniques.equals(second.uniques) and bool((first.codes == second.codes).all())
        if is_equal and _log_chance(first.codes, second.codes) < CHANCE:
            source, copy = (b, a) if b.name == last else (a, b)
            copies[copy.name] = Copy(copy.name, source.name, copy.dtype)
    sources = {name: copy for name, copy in copies.items() if isinstance(copy, Copy)}
    for name, copy in sources.items():  # copies of a column that is itself a copy of the last column
        if copy.source in sources:
            copies[name] = replace(copy, source=sources[copy.source].source)
    return table.with_columns(copies)


def _log_chance(source: Int[np.ndarray, " n"], other: Int[np.ndarray, " n"]) -> float:
    """Return the logarithm of the probability that an independent column is constant for each value of the source."""
    probs = np.bincount(other) / len(other)
    probs = probs[probs > 0]
    sizes, num_sizes = np.unique(np.bincount(source), return_counts=True)
    logs = np.log(probs)
    return float(
        sum(num * np.logaddexp.reduce(size * logs) for size, num in zip(sizes, num_sizes, strict=True) if size)
    )


def _with_dependent_words(table: _Table) -> _Table:
    """Find columns of words that follow from another column: derived columns, combinations, and ranges of numbers."""
    for a, b in itertools.permutations([column.name for column in table.schema.columns], 2):
        source, words = table.schema.by_name[a], table.schema.by_name[b]
        if isinstance(words, Categorical | Boolean) and isinstance(source, Categorical | Boolean | Numerical):
            table = _with_dependence(table, source, words)
    return table


def _with_dependence(table: _Table, source: ModelledColumn, words: ModelledColumn) -> _Table:
    last = table.target
    given, found = table.factorize(source), table.factorize(words)
    num_given, num_found = len(given.uniques), len(found.uniques)
    most = MAX_NUMBERS if isinstance(source, Numerical) else MAX_WORDS
    if not 2 <= num_found <= min(num_given, MAX_WORDS) or num_given > most or _has_other(source) or _has_other(words):
        return table
    pairs = np.unique(np.stack([given.codes, found.codes]), axis=1)
    if pairs.shape[1] > num_given or _log_chance(given.codes, found.codes) > CHANCE:
        return table
    cells = [(given.uniques[int(i)].as_py(), found.uniques[int(j)].as_py()) for i, j in pairs.T]
    if isinstance(source, Numerical) and num_given == num_found and source.name != last:
        source, words, cells = words, source, [(word, number) for number, word in cells]  # numbers that stand for words
    if isinstance(source, Numerical):
        assert isinstance(words, Categorical | Boolean)
        return _with_ranges(table, source, words, cells)
    if num_given == num_found and last != words.name:
        mapping = {cell: word for cell, word in cells if cell not in source.also_missing}
        derived = Derived(words.name, source.name, mapping, words.dtype)
        return table.with_columns({words.name: derived})
    if num_given == num_found or any({source.name, words.name} <= {*rule.names} for rule in table.schema.rules):
        return table
    return table.with_columns({}, [Combination((source.name, words.name), tuple(cells))])


def _has_other(column: ModelledColumn) -> bool:
    return isinstance(column, Categorical) and column.other is not None


def _with_ranges(
    table: _Table, source: Numerical, words: Categorical | Boolean, cells: Sequence[tuple[str, str]]
) -> _Table:
    """Add rules by which each word has a range of numbers, with bin edges at their limits."""
    is_target = words.name == table.target
    if source.missing is not None or words.missing is not None or source.digits or is_target:
        return table
    numbers = sorted((number, word) for cell, word in cells if (number := source.form.read(cell)) is not None)
    changes = [i for i in range(1, len(numbers)) if numbers[i][1] != numbers[i - 1][1]]
    if len(numbers) < len(cells) or len(changes) != len({word for _, word in cells}) - 1:
        return table
    limits = [float(numbers[i][0]) for i in changes]
    edges = tuple(sorted({*source.edges, *limits})) if source.bins is None or source.edges else ()
    if not edges and source.levels.count < source.levels.last - source.levels.starts[0] + 1:
        return table
    column = replace(source, edges=edges) if edges else source
    rules: list[Rule] = []
    for i, word in enumerate([numbers[0][1], *(numbers[i][1] for i in changes)]):
        lower = [f">= {limits[i - 1]:.12g}"] if i else []
        upper = [f"< {limits[i]:.12g}"] if i < len(limits) else []
        rules += [Constraint(words.name, (word,), source.name, (limit,)) for limit in (*lower, *upper)]
    return table.with_columns({source.name: column}, rules)


def _with_sums(table: _Table) -> _Table:
    columns = [column for column in table.plain(Numerical) if isinstance(column, Numerical) and not column.digits]
    columns = columns[:MAX_SUM_COLUMNS]
    if len(columns) < 3:
        return table
    decimals = max(column.form.decimals for column in columns)
    present, units = [], []
    for column in columns:
        has_value, values = values_of(table.raw, column.name, table.schema)
        scale = 10 ** (decimals - column.form.decimals)
        if np.abs(values).max(initial=0) > 2**60 // scale:
            has_value = np.zeros(table.n, dtype=bool)
        present.append(has_value)
        units.append(np.where(has_value, values * scale, 0))
    values, has_value = np.array(units), np.array(present)
    usable = [j for j in range(len(columns)) if (values[j] != 0).mean() >= MIN_NONZERO]
    sums: dict[str, Column] = {}
    used: set[int] = set()
    screen = _screen(table.n)
    few = usable[: MAX_SUM_COLUMNS // 2]
    candidates: list[tuple[int, ...]] = [*itertools.combinations(usable, 2), *itertools.combinations(few, 3)]
    for parts in candidates:
        if used & {*parts}:
            continue
        is_screened = (values[list(parts)][:, screen].sum(0) == values[:, screen]).all(1)
        for total in np.flatnonzero(is_screened):
            if total in parts or total in used or columns[total].name in sums or total not in usable:
                continue
            has_parts = has_value[list(parts)].all(0)
            holds = (has_parts == has_value[total]) & (~has_parts | (values[list(parts)].sum(0) == values[total]))
            column, missing = columns[total], columns[total].missing
            is_shown = max(columns[j].form.decimals for j in parts) <= column.form.decimals
            if holds.all() and is_shown and not column.also_missing and len(np.unique(values[total])) > len(parts):
                names = tuple(columns[j].name for j in parts)
                sums[column.name] = Sum(column.name, names, column.form, missing, column.dtype)
                used.add(int(total))
    for name, column in sums.items():
        table = table.with_columns({name: column})
    return table


def _screen(n: int) -> Int64[np.ndarray, " m"]:
    return np.arange(0, n, max(1, n // SCREEN_ROWS))


@dataclass(frozen=True, eq=False)
class _OrderFound:
    """Order a <= b that holds in a table."""

    lower: Numerical | Datetime
    upper: Numerical | Datetime
    holds: Bool[np.ndarray, " n"]
    """True for rows with both cells in order."""
    both: Bool[np.ndarray, " n"]
    """True for rows with both cells."""
    distance: float
    """Median difference in common units."""

    @property
    def share(self) -> float:
        return float(self.holds.sum() / max(1, self.both.sum()))


def _orders(table: _Table, kind: type[Column]) -> list[_OrderFound]:
    """Return the orders between columns of a kind, without those that follow from others.

    Orders that hold in all rows come first, and among them those of the nearest columns.
    """
    columns = [column for column in table.plain(kind) if isinstance(column, Numerical | Datetime)]
    columns = [column for column in columns if not (isinstance(column, Numerical) and column.digits)]
    values = {column.name: values_of(table.raw, column.name, table.schema) for column in columns}
    screen, rng = _screen(table.n), np.random.default_rng(0)
    found: dict[tuple[str, str], _OrderFound] = {}
    for a, b in itertools.permutations(columns, 2):
        pair = scales(a, b)
        assert pair is not None
        (has_a, x), (has_b, y) = values[a.name], values[b.name]
        rows = screen[(has_a & has_b)[screen]]
        if len(rows) < MIN_ROWS or (pair[0].common(x[rows]) <= pair[1].common(y[rows])).mean() < MIN_SHARE - 0.03:
            continue
        spreads = [float(np.std(scale.common(values))) for scale, values in zip(pair, (x[rows], y[rows]), strict=True)]
        if max(spreads) > MAX_SPREAD_RATIO * min(spreads):
            continue
        shuffled = rng.permutation(pair[1].common(y[rows]))
        both = has_a & has_b
        difference = pair[1].common(np.where(both, y, y[rows[0]])) - pair[0].common(np.where(both, x, x[rows[0]]))
        order = _OrderFound(a, b, both & (difference >= 0), both, float(np.median(difference[both])))
        by_chance = float((pair[0].common(x[rows]) <= shuffled).mean())
        most = max(MIN_SHARE, 1 - MAX_EXCEPTIONS * (1 - by_chance))
        if order.share >= most and by_chance <= MAX_BY_CHANCE:
            found[a.name, b.name] = order
    for pair_names, order in list(found.items()):  # of two orders in both directions, keep the better one
        other = found.get((pair_names[1], pair_names[0]))
        if other is not None and pair_names in found and (other.share, other.distance) > (order.share, order.distance):
            del found[pair_names]
        elif other is not None and pair_names in found:
            found.pop((pair_names[1], pair_names[0]), None)
    direct = [
        order
        for (a, b), order in found.items()
        if not any(_follows(order, found.get((a, c.name)), found.get((c.name, b))) for c in columns)
    ]
    return sorted(direct, key=lambda order: (order.share < 1, order.distance))


def _follows(order: _OrderFound, first: _OrderFound | None, second: _OrderFound | None) -> bool:
    """Return True if an order follows from two others that hold at least as often."""
    return first is not None and second is not None and min(first.share, second.share) >= order.share


def _with_gaps(table: _Table) -> _Table:
    """Declare dates and times that follow another one as gap columns."""
    orders = [(order, _orphans(table, order)) for order in _orders(table, Datetime)]
    orders.sort(key=lambda found: found[0].share < 1 or bool(found[1].any()))
    for order, orphans in orders:
        lower, upper = table.schema.by_name[order.lower.name], table.schema.by_name[order.upper.name]
        if not isinstance(upper, Datetime) or not isinstance(lower, Datetime | Gap):
            continue
        if orphans.sum() > (1 - MIN_SHARE) * (~table.missing(upper)).sum():
            continue
        gap = _gap(table, order, upper)
        if gap is not None:
            clips = bool(orphans.any()) or not order.holds[order.both].all()
            table = table.with_columns({upper.name: gap}, clips=clips)
    return table


def _orphans(table: _Table, order: _OrderFound) -> Bool[np.ndarray, " n"]:
    """Return True for rows in which only the upper cell of an order is not missing."""
    return table.missing(order.lower) & ~table.missing(order.upper)


def _gap(table: _Table, order: _OrderFound, upper: Datetime) -> Gap | None:
    """Return the gap column for an order of times; None if the format has months or years only."""
    (_, x), (_, y) = (values_of(table.raw, column.name, table.schema) for column in (order.lower, upper))
    assert isinstance(order.lower, Datetime)
    starts = upper.instants(upper.units_of(order.lower.instants(x[order.holds]))).astype(np.int64)
    differences = upper.instants(y[order.holds]).astype(np.int64) - starts
    finest = {"microsecond": "seconds", "second": "seconds", "minute": "minutes", "hour": "hours", "day": "days"}
    if upper.unit not in finest:
        return None
    median = np.median(differences[differences > 0]) if (differences > 0).any() else 0
    units = [unit for unit in UNITS if UNITS[unit] >= UNITS[finest[upper.unit]]]
    unit = next((unit for unit in reversed(units) if median >= 10 * UNITS[unit]), units[0])
    amounts, counts = np.unique(differences // UNITS[unit], return_counts=True)
    form = NumberFormat()
    found = numerical_column(upper.name, amounts, counts.astype(np.int64), form, upper.missing, upper.also_missing)
    return Gap(
        upper.name,
        order.lower.name,
        found.high,
        found.low,
        found.edges,
        found.bins,
        found.heavy,
        unit,
        upper.format,
        form,
        upper.missing,
        upper.also_missing,
        upper.dtype,
    )


def _with_orders(table: _Table) -> _Table:
    """Add rules of order between columns of numbers, and between times that are no gap columns."""
    for order in (*_orders(table, Numerical), *_orders(table, Datetime)):
        clips = not order.holds[order.both].all()
        table = table.with_columns({}, [Order(order.lower.name, order.upper.name)], clips=clips)
    return table


def _with_missing_together(table: _Table) -> _Table:
    groups: dict[bytes, list[str]] = {}
    for column in table.schema.columns:
        if isinstance(column, ModelledColumn | Gap):
            missing = table.missing(column)
            if MIN_ROWS // 5 <= missing.sum() <= table.n - MIN_ROWS // 5:
                groups.setdefault(np.packbits(missing).tobytes(), []).append(column.name)
    for names in groups.values():
        if len(names) > 1:
            table = table.with_columns({}, [MissingTogether(tuple(names))])
    return table
