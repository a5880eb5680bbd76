"""Structure of a table: what never or hardly ever happens in real rows, and how often synthetic rows do it.

A fact is found on one half of the real rows, and its shares of violations are measured on the other half, on synthetic
rows, and on rows with independent columns. A fact that independent columns satisfy as well is not reported.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from feller.core.rng import Rng
from feller.data.loading.raw import RawTable
from feller.data.tables.column import Column, ModelledColumn
from feller.data.tables.dates import Datetime, read_times
from feller.data.tables.dependent_columns import Copy, Gap, Sum
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import MISSING
from feller.data.tables.unmodelled_columns import Derived
from feller.evaluation.intervals import wilson
from feller.evaluation.number_format import format_percent

MIN_ROWS = 100
"""Minimum number of real rows from which facts are sought."""
MAX_ROWS = 50_000
"""Maximum number of rows of each table that are compared."""
MAX_BROKEN = {"order": 0.05, "equal": 0.01, "missing together": 0.01, "never empty": 0.0}
"""Maximum share of real rows that break a fact, by its kind; other kinds allow none."""
MIN_INFORMATIVE = 0.02
"""Minimum share by which independent columns must break a fact more often than real rows do."""
MIN_RATIO = 10.0
"""Minimum factor by which independent columns must break a fact more often than real rows do."""
MAX_VALUES = 30
"""Maximum number of different values of a column whose combinations with other columns are compared."""
MAX_CODE_SET = 64
"""Maximum number of different values of a numeric column that is read as a set of codes."""
MIN_PER_CODE = 20
"""Minimum number of real rows per value, on average, of a numeric column that is read as a set of codes."""
MIN_EXPECTED = 20.0
"""Number of rows expected under independence from which a combination without any real row counts as impossible."""
_QUANTILES = np.linspace(0.0025, 0.9975, 200)


@dataclass(frozen=True, eq=False)
class ColumnCells:
    """Cells of a column, in one table."""

    kind: str
    """Kind of values that can be compared with each other: number, time or word."""
    values: Float64[np.ndarray, " n"]
    """Numbers, microseconds of times, or indices of words, the same for all columns; NaN if missing or unreadable."""
    is_missing: Bool[np.ndarray, " n"]

    def subset(self, rows: Int64[np.ndarray, " m"]) -> "ColumnCells":
        """Return the cells of some rows."""
        return ColumnCells(self.kind, self.values[rows], self.is_missing[rows])

    @cached_property
    def quantiles(self) -> Float64[np.ndarray, " q"]:
        """Quantiles of the values; empty if there are none."""
        present = self.values[~np.isnan(self.values)]
        return np.quantile(present, _QUANTILES) if len(present) else present

    @cached_property
    def levels(self) -> Float64[np.ndarray, " k"]:
        """Different values in increasing order, without missing ones."""
        return np.unique(self.values[~np.isnan(self.values)])


Rows = dict[str, ColumnCells]
BreakFn = Callable[[Rows], Bool[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False)
class Fact:
    """Fact that holds in nearly all real rows, with the shares of rows that break it."""

    kind: str
    """Kind of the fact: order, equal, missing together, never empty, values, range or combination."""
    text: str
    columns: tuple[str, ...]
    breaks: BreakFn = field(repr=False)
    """Function from rows to True for each row that breaks the fact."""
    independent: float
    """Share of rows with independent columns that break the fact; NaN if the fact is about one column."""
    real: float = float("nan")
    synthetic: float = float("nan")

    @property
    def excess(self) -> float:
        """Share of synthetic rows that break the fact, minus that of real rows."""
        return self.synthetic - self.real


@dataclass(frozen=True, eq=False)
class Structure:
    """Facts about a real table, and the rows that break at least one of them."""

    facts: tuple[Fact, ...]
    """Facts, those that synthetic rows break most often first."""
    impossible: float
    """Share of synthetic rows that break at least one fact."""
    impossible_real: float
    """Share of real rows, on which the facts were not found, that break at least one fact."""
    count: int
    """Number of compared synthetic rows."""
    count_real: int
    """Number of real rows on which the shares were measured."""


def compare_structure(synthetic: RawTable, real: RawTable, schema: Schema, rng: Rng) -> Structure | None:
    """Find facts that hold in the real table, and count the rows of both tables that break them.

    Return None if there are too few rows, or if the synthetic table lacks columns.

    Args:
        synthetic: Cells of synthetic rows.
        real: Cells of real rows.
        schema: Schema of both tables.
        rng: Random streams that choose the rows.
    """
    in_both = {*synthetic.columns} & {*real.columns}
    readers = {column.name: cell_reader(column, schema) for column in schema.columns if column.name in in_both}
    if len(real.values) < MIN_ROWS or not len(synthetic.values) or not any(readers.values()):
        return None
    synthetic, real = (_subset(table, rng.fold_in(name)) for name, table in (("made", synthetic), ("real", real)))
    order = _permutation(len(real.values), rng.fold_in("halves"))
    half = len(order) // 2
    made_rows, real_rows, index = Rows(), Rows(), dict[str, int]()
    for name, reader in readers.items():
        if reader is not None:
            made_rows[name], real_rows[name] = read_column(name, reader, synthetic, real, index)
    found_on, measured_on = (
        {name: cells.subset(rows) for name, cells in real_rows.items()} for rows in (order[:half], order[half:])
    )
    facts, broken, broken_real = [], np.zeros(len(synthetic.values), bool), np.zeros(len(order) - half, bool)
    for fact in find_facts(found_on):
        in_real, in_made = fact.breaks(measured_on), fact.breaks(made_rows)
        shares = float(in_real.mean()), float(in_made.mean())
        facts.append(Fact(fact.kind, fact.text, fact.columns, fact.breaks, fact.independent, *shares))
        broken |= in_made
        broken_real |= in_real
    facts.sort(key=lambda fact: -fact.excess)
    return Structure(tuple(facts), float(broken.mean()), float(broken_real.mean()), len(broken), len(broken_real))


def structure_metrics(structure: Structure | None) -> dict[str, float | str | None]:
    """Return the metrics of impossible rows; None for tables with too few rows."""
    if structure is None:
        return dict.fromkeys(("impossible", "impossible_real"))
    low, high = wilson(structure.impossible * structure.count, structure.count)
    metrics: dict[str, float | str | None] = {
        "impossible": structure.impossible,
        "impossible_low": low,
        "impossible_high": high,
        "impossible_real": structure.impossible_real,
        "impossible_facts": float(len(structure.facts)),
    }
    worst = structure.facts[0] if structure.facts else None
    if worst is None or worst.excess <= 0:
        return metrics
    shares = f"{format_percent(worst.synthetic)} of the samples, {format_percent(worst.real)} of real rows"
    return metrics | {"impossible_worst": f"{worst.text} (broken by {shares})"}


def _subset(table: RawTable, rng: Rng) -> RawTable:
    n = len(table.values)
    return table if n <= MAX_ROWS else table.subset(np.sort(_permutation(n, rng)[:MAX_ROWS]))


def _permutation(n: int, rng: Rng) -> Int64[np.ndarray, " n"]:
    return rng.stream("rows").uniform((n,)).argsort().numpy()


@dataclass(frozen=True)
class CellReader:
    """Form in which cells of a column are compared: numbers, or times with a format, else words."""

    missing: tuple[str, ...]
    """Texts of missing cells."""
    form: NumberFormat | None = None
    time_format: str | None = None


def cell_reader(column: Column, schema: Schema) -> CellReader | None:
    """Return the reader of the cells of a column; None for identifiers, free text and columns that are left out."""
    if isinstance(column, Copy):
        return next((cell_reader(other, schema) for other in schema.columns if other.name == column.source), None)
    if isinstance(column, Gap | Sum):
        missing = () if column.missing is None else (column.missing,)
        time_format = column.format if isinstance(column, Gap) else None
        return CellReader(missing, None if time_format else column.form, time_format)
    if isinstance(column, Numerical):
        return CellReader(column.words_for_missing, column.form)
    if isinstance(column, Datetime):
        return CellReader(column.words_for_missing, time_format=column.format)
    if isinstance(column, ModelledColumn):
        return CellReader(column.words_for_missing)
    return CellReader(()) if isinstance(column, Derived) else None


def read_column(
    name: str, reader: CellReader, first: RawTable, second: RawTable, index: dict[str, int]
) -> tuple[ColumnCells, ColumnCells]:
    """Return the cells of a column in two tables, as numbers that can be compared between the tables.

    Words become their numbers in `index`, to which new words are added.
    """
    kind = "number" if reader.form is not None else "time" if reader.time_format is not None else "word"
    cells = []
    for factor in (table.factorize(name) for table in (first, second)):
        missing = factor.is_in((*MISSING, *reader.missing))
        if reader.form is not None:
            parsed = reader.form.parse(factor.uniques)
            values = np.where(parsed.valid, parsed.units / 10**reader.form.decimals, np.nan)
        elif reader.time_format is not None:
            times = read_times(factor.uniques, reader.time_format)
            values = np.where(np.isnat(times), np.nan, times.astype("M8[us]").astype(np.int64).astype(float))
        else:
            words = factor.uniques.to_pylist()
            values = np.array([index.setdefault(word, len(index)) for word in words], dtype=float)
        cells.append(ColumnCells(kind, np.where(missing, np.nan, values)[factor.codes], missing[factor.codes]))
    return cells[0], cells[1]


def find_facts(rows: Rows) -> Iterator[Fact]:
    """Yield the facts that hold in a table."""
    for name, cells in rows.items():
        yield from _column_facts(name, cells)
    for a, b in itertools.combinations(rows, 2):
        yield from _missing_facts(rows, a, b)
        if rows[a].kind == rows[b].kind:
            equal = [*_equal_facts(rows, a, b)]
            yield from equal
            if not equal and rows[a].kind != "word":
                yield from itertools.chain(_order_facts(rows, a, b), _order_facts(rows, b, a))
            if equal:
                continue
        yield from _combination_facts(rows, a, b)


def _column_facts(name: str, cells: ColumnCells) -> Iterator[Fact]:
    if not cells.is_missing.any():
        yield Fact("never empty", f"{name} is never empty", (name,), lambda t: t[name].is_missing, float("nan"))
    levels, n = cells.levels, len(cells.values)
    if cells.kind != "number" or len(levels) < 2:
        return
    low, high = levels[0], levels[-1]
    if len(levels) > min(MAX_CODE_SET, n // MIN_PER_CODE):
        margin = (high - low) / 100  # the largest of the other half may be slightly larger

        def is_out(t: Rows) -> Bool[np.ndarray, " n"]:
            return (t[name].values < low - margin) | (t[name].values > high + margin)

        yield Fact("range", f"{name} is between {low:g} and {high:g}", (name,), is_out, float("nan"))
        return
    allowed = _grid(levels)
    text = f"{name} has {len(levels)} values, {low:g} to {high:g}"
    if len(allowed) > 2 and np.allclose(np.diff(allowed), allowed[1] - low):
        text = f"{name} is from {low:g} to {high:g} in steps of {allowed[1] - low:g}"
    yield Fact("values", text, (name,), lambda t: _outside_levels(t[name].values, allowed), float("nan"))


def _grid(levels: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " m"]:
    """Return the grid of steps that most of the levels fill, such as all whole numbers of a range, else the levels."""
    step = np.diff(levels).min()
    steps = (levels - levels[0]) / step
    if len(levels) < 3 or not np.allclose(steps, steps.round(), atol=1e-6) or steps[-1] + 1 > 2 * len(levels):
        return levels
    return levels[0] + step * np.arange(round(float(steps[-1])) + 1)


def _outside_levels(values: Float64[np.ndarray, " n"], levels: Float64[np.ndarray, " k"]) -> Bool[np.ndarray, " n"]:
    above = np.searchsorted(levels, values)
    pair = [levels[index.clip(0, len(levels) - 1)] for index in (above, above - 1)]
    distance = np.minimum(*(abs(level - values) for level in pair))
    return ~np.isnan(values) & (distance > 1e-6 * (levels[-1] - levels[0]))


def _is_fact(kind: str, broken: float, independent: float) -> bool:
    informative = max(broken + MIN_INFORMATIVE, MIN_RATIO * broken)
    return broken <= MAX_BROKEN[kind] and independent >= informative


def _missing_facts(rows: Rows, a: str, b: str) -> Iterator[Fact]:
    first, second = rows[a].is_missing, rows[b].is_missing
    p, q = first.mean(), second.mean()
    if not 0 < p < 1 or not 0 < q < 1:
        return
    independent = float(p * (1 - q) + q * (1 - p))
    if _is_fact("missing together", float((first != second).mean()), independent):
        text = f"{a} and {b} are empty together"
        yield Fact("missing together", text, (a, b), lambda t: t[a].is_missing != t[b].is_missing, independent)
        return
    for x, y, px, py in ((a, b, p, q), (b, a, q, p)):
        only = float((rows[x].is_missing & ~rows[y].is_missing).mean())
        if _is_fact("missing together", only, float(px * (1 - py))):
            text = f"{y} is empty where {x} is"

            def breaks(t: Rows, x: str = x, y: str = y) -> Bool[np.ndarray, " n"]:
                return t[x].is_missing & ~t[y].is_missing

            yield Fact("missing together", text, (x, y), breaks, float(px * (1 - py)))


def _equal_facts(rows: Rows, a: str, b: str) -> Iterator[Fact]:
    def breaks(t: Rows) -> Bool[np.ndarray, " n"]:
        first, second = t[a], t[b]
        return (first.values != second.values) & ~(first.is_missing & second.is_missing)

    broken = float(breaks(rows).mean())
    if broken > MAX_BROKEN["equal"]:
        return
    joint = np.union1d(rows[a].levels, rows[b].levels)
    p, q = (_shares(rows[name], joint) for name in (a, b))
    independent = float(1 - p @ q)
    if _is_fact("equal", broken, independent):
        yield Fact("equal", f"{a} equals {b}", (a, b), breaks, independent)


def _shares(cells: ColumnCells, levels: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " _"]:
    present = cells.values[~np.isnan(cells.values)]
    counts = np.bincount(np.searchsorted(levels, present), minlength=len(levels))
    return np.append(counts, cells.is_missing.sum()) / len(cells.values)


def _order_facts(rows: Rows, a: str, b: str) -> Iterator[Fact]:
    low, high = rows[a], rows[b]
    both = float((~np.isnan(low.values) & ~np.isnan(high.values)).mean())
    if min(len(low.levels), len(high.levels)) <= 2 or not both:  # combinations say as much of two values
        return
    independent = float((low.quantiles[:, None] > high.quantiles[None]).mean()) * both
    if _is_fact("order", float((low.values > high.values).mean()), independent):
        yield Fact("order", f"{a} ≤ {b}", (a, b), lambda t: t[a].values > t[b].values, independent)


def _combination_facts(rows: Rows, a: str, b: str) -> Iterator[Fact]:
    levels = rows[a].levels, rows[b].levels
    if not all(1 < len(values) <= MAX_VALUES for values in levels):
        return
    sizes = [len(values) + 1 for values in levels]

    def cells(t: Rows) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        codes, known = [], np.ones(len(t[a].values), bool)
        for name, values in zip((a, b), levels, strict=True):
            column = t[name].values
            code = np.searchsorted(values, column).clip(max=len(values) - 1)
            known &= np.isnan(column) | (values[code] == column)
            codes.append(np.where(np.isnan(column), len(values), code))
        return codes[0] * sizes[1] + codes[1], known

    cell, _ = cells(rows)
    counts = np.bincount(cell, minlength=sizes[0] * sizes[1]).reshape(sizes)
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / max(len(cell), 1)
    forbidden = ((counts == 0) & (expected >= MIN_EXPECTED)).ravel()
    independent = float(expected.ravel()[forbidden].sum() / max(len(cell), 1))
    if independent < MIN_INFORMATIVE:
        return

    def breaks(t: Rows) -> Bool[np.ndarray, " n"]:
        code, known = cells(t)
        return known & forbidden[code]

    num = int(forbidden.sum())
    text = f"{num} combination{'s' if num > 1 else ''} of {a} and {b} never occur{'' if num > 1 else 's'}"
    yield Fact("combination", text, (a, b), breaks, independent)
