"""Columns that depend on other columns: copies, gaps after another column, and sums.

A model sees neither copies nor sums. Of a gap column it sees the amount, an ordinary column of numbers; generated rows
have the source plus the amount, so that the order of the two columns always holds.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow
from jaxtyping import Bool, Float64, Int64

from feller.core.errors import InputError
from feller.data.loading.raw import TEXT, text_array
from feller.data.tables.bins import MAX_NUMBER
from feller.data.tables.column import Column, ModelledColumn, check_words
from feller.data.tables.dates import Datetime, read_times, write_time, write_times
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.unmodelled_columns import Derived, FreeText, HiddenColumn, Identifier, SkippedColumn

UNITS = {"seconds": 1_000_000, "minutes": 60_000_000, "hours": 3_600_000_000, "days": 86_400_000_000}
"""Microseconds of each unit of the amount between two times."""
_FINEST = {"microsecond": 1, "second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}
NO_AMOUNT = "(no amount)"
"""Text, in a table of amounts, of a cell that is neither missing nor a number or time."""
LAST_TIME = np.datetime64(datetime.datetime.max, "us").astype(np.int64)


@dataclass(frozen=True)
class Copy(Column):
    """Column with the same cells as another column."""

    name: str  # pyrefly: ignore
    source: str
    """Name of the other column."""
    dtype: str | None = None  # pyrefly: ignore


@dataclass(frozen=True)
class Sum(Column):
    """Column with the sum of other columns of numbers; it is missing if one of them is missing."""

    name: str  # pyrefly: ignore
    parts: tuple[str, ...]
    """Names of the columns that are added."""
    form: NumberFormat = field(default_factory=NumberFormat)
    missing: str | None = None
    """Text of a missing cell; None if cells cannot be missing."""
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        if len(self.parts) < 2 or len({*self.parts}) < len(self.parts):
            raise InputError("two or more different columns", ", ".join(self.parts) or "none", column=self.name)
        check_words(self.name, () if self.missing is None else (self.missing,), "the word")


@dataclass(frozen=True)
class Gap(Column):
    """Column of numbers or times that equal another column plus an amount; the model generates the amount."""

    name: str  # pyrefly: ignore
    after: str
    """Name of the other column."""
    high: float
    """Largest amount."""
    low: float = 0.0
    """Smallest amount; if it is at least 0, the other column is never larger than this one."""
    edges: tuple[float, ...] = ()
    """Edges of the bins of the amount."""
    bins: int | None = None
    """Number of equal-width bins of the amount; an alternative to `edges`."""
    heavy: tuple[float, ...] = ()
    """Frequent amounts with their own codes."""
    unit: str | None = None
    """Unit of the amount between times: seconds, minutes, hours or days; None for numbers."""
    format: str | None = None
    """Time format of the cells; None for numbers."""
    form: NumberFormat = field(default_factory=NumberFormat)
    """Number format of the cells, if they are numbers."""
    missing: str | None = None
    """Text of a missing cell; None if cells cannot be missing. Cells are missing where the other column is."""
    also_missing: tuple[str, ...] = ()
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        if (self.unit is None) != (self.format is None):
            raise InputError("a unit and a format for times, or neither for numbers", "one of them", column=self.name)
        if self.unit is not None and self.unit not in UNITS:
            raise InputError.unknown_name("unit", self.unit, UNITS, in_order=True).with_context(column=self.name)
        if self.unit is not None and self._finest > UNITS[self.unit]:
            raise InputError(
                f"times that are exact to {self.unit}",
                repr(self.format),
                'Give a longer unit, or the rule {"order": [...]} instead of a gap',
                column=self.name,
            )
        _ = self.amount

    @cached_property
    def amount(self) -> Numerical:
        """Column of the amounts, which has the name of this column; a model generates it."""
        form = NumberFormat(self.form.decimals) if self.unit is None else NumberFormat(after=f" {self.unit}")
        return Numerical(
            self.name,
            self.low,
            self.high,
            self.edges,
            self.bins,
            self.heavy,
            form=form,
            missing=self.missing,
            also_missing=self.also_missing,
        )

    @cached_property
    def times(self) -> Datetime:
        """Column of times in the format of this column; only its format is used."""
        form = self.format or "%Y-%m-%d"
        bound = write_time(datetime.datetime(2000, 1, 1), form)
        return Datetime(self.name, bound, bound, form, (), None, self.missing, self.also_missing, self.dtype)

    @property
    def _finest(self) -> int:
        """Microseconds of the finest unit of the format; larger than all units for months and years."""
        return _FINEST.get(self.times.unit, max(UNITS.values()) + 1)

    @property
    def words_for_missing(self) -> tuple[str, ...]:
        """Texts of missing cells, with the empty text; nothing if cells cannot be missing."""
        return () if self.missing is None else ("", self.missing, *self.also_missing)

    def amounts(self, source_cells: pyarrow.Array, cells: pyarrow.Array, source: ModelledColumn) -> "Amounts":
        """Return the amounts by which cells exceed those of the source.

        Args:
            source_cells: Cells of the source.
            cells: Cells of this column, in the same rows.
            source: Column with the format of the source.
        """
        is_known, start = self._start(source_cells, source)
        is_valid, end = self._read(cells)
        is_missing = _is_in(cells, self.words_for_missing)
        step = 1 if self.unit is None else UNITS[self.unit]
        units = np.where(is_known & is_valid, (end - start) // step, 0)
        texts = self.amount.form.texts(units)
        named = pyarrow.concat_arrays([texts, text_array([self.missing or "", NO_AMOUNT])])
        n = len(cells)
        is_orphan = ~is_known & ~is_missing
        index = np.where(is_missing | (is_orphan & (self.missing is not None)), n, n + 1)
        index = np.where(is_known & is_valid & ~is_missing, np.arange(n), index)
        return Amounts(named.take(pyarrow.array(index)), is_orphan)

    def cells(
        self,
        source_cells: pyarrow.Array,
        amounts: pyarrow.Array,
        source: ModelledColumn,
        fractions: Float64[np.ndarray, " n"],
    ) -> pyarrow.Array:
        """Return the cells that exceed those of the source by the given amounts.

        Args:
            source_cells: Cells of the source.
            amounts: Texts of the amounts.
            source: Column with the format of the source.
            fractions: Numbers in [0, 1), for the time within the unit of an amount.
        """
        is_known, start = self._start(source_cells, source)
        parsed = self.amount.form.parse(amounts)
        is_valid = is_known & parsed.valid & ~_is_in(amounts, self.words_for_missing)
        if self.format is None or self.unit is None:
            texts = self.form.texts(np.where(is_valid, start + parsed.units, 0))
        else:
            step = UNITS[self.unit]
            ends = start + parsed.units * step + (fractions * step).astype(np.int64)
            texts = _write_all(np.where(is_valid, ends, 0).astype("M8[us]"), self.format)
        if is_valid.all():
            return texts
        named = pyarrow.concat_arrays([texts, text_array([self.missing or ""])])
        return named.take(pyarrow.array(np.where(is_valid, np.arange(len(texts)), len(texts))))

    def starts(
        self, ends: Int64[np.ndarray, " n"], amounts: Int64[np.ndarray, " n"] | None, source: Numerical | Datetime
    ) -> Int64[np.ndarray, " n"]:
        """Return the largest values of the source from which amounts lead to values of this column.

        Args:
            ends: Values of this column, in units of the last decimal or of the finest unit of time.
            amounts: Amounts in units of their last decimal; None for the smallest one.
            source: Column with the format of the source; the result is in its units.
        """
        differences = self.amount.levels.starts[0] if amounts is None else amounts
        if isinstance(source, Datetime):
            times = self.times.instants(ends).astype(np.int64) - differences * UNITS[self.unit or "days"]
            return source.units_of((times + (self._finest - 1)).astype("M8[us]"))
        return (ends - differences) // 10 ** (self.form.decimals - source.form.decimals)

    def _read(self, cells: pyarrow.Array) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return where cells are values, and the values in units of the last decimal, or in microseconds."""
        if self.format is not None:
            return _read_times(cells, self.times)
        return _read_numbers(cells, self.form)

    def _start(
        self, cells: pyarrow.Array, source: ModelledColumn
    ) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return where cells of the source are values, and the values in units of this column, rounded down."""
        is_missing = _is_in(cells, source.words_for_missing)
        if isinstance(source, Datetime):
            is_time, times = _read_times(cells, source)
            instants = times.astype("M8[us]")
            return is_time & ~is_missing, self.times.instants(self.times.units_of(instants)).astype(np.int64)
        assert isinstance(source, Numerical)
        is_number, units = _read_numbers(cells, source.form)
        return is_number & ~is_missing, units * 10 ** (self.form.decimals - source.form.decimals)


@dataclass(frozen=True, eq=False)
class Amounts:
    """Amounts by which the cells of a gap column exceed those of its source."""

    texts: pyarrow.Array
    """Amount of each cell as a text; the text of a missing cell where there is none."""
    is_orphan: Bool[np.ndarray, " n"]
    """True where the source is missing and the cell is not, so that it has no amount."""


def _is_in(cells: pyarrow.Array, words: Sequence[str]) -> Bool[np.ndarray, " n"]:
    encoded = cells.dictionary_encode()
    is_word = np.array([word in words for word in encoded.dictionary.to_pylist()], dtype=bool)
    return is_word[np.asarray(encoded.indices)]


def _read_times(cells: pyarrow.Array, column: Datetime) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    encoded = cells.dictionary_encode()
    times, indices = read_times(encoded.dictionary, column.format), np.asarray(encoded.indices)
    is_time = ~np.isnat(times)
    return is_time[indices], np.where(is_time, times.astype(np.int64), 0)[indices]


def _read_numbers(cells: pyarrow.Array, form: NumberFormat) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    encoded = cells.dictionary_encode()
    parsed, indices = form.parse(encoded.dictionary), np.asarray(encoded.indices)
    is_usable = parsed.valid & (np.abs(parsed.units) < MAX_NUMBER // 4)
    return is_usable[indices], np.where(is_usable, parsed.units, 0)[indices]


def _write_all(times: np.ndarray, form: str) -> pyarrow.Array:
    return write_times(times, form).cast(TEXT)


def sum_units(
    column: Sum, part_cells: Sequence[pyarrow.Array], parts: Sequence[Numerical]
) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return where all parts of a sum are numbers, and the sum in units of its last decimal place.

    Args:
        column: Column of sums.
        part_cells: Cells of each part.
        parts: Columns with the formats of the parts.
    """
    is_valid, total = np.ones(len(part_cells[0]), dtype=bool), np.zeros(len(part_cells[0]), dtype=np.int64)
    for cells, part in zip(part_cells, parts, strict=True):
        is_number, units = _read_numbers(cells, part.form)
        is_valid &= is_number & ~_is_in(cells, part.words_for_missing)
        total += units * 10 ** (column.form.decimals - part.form.decimals)
    return is_valid, total


def sum_cells(column: Sum, part_cells: Sequence[pyarrow.Array], parts: Sequence[Numerical]) -> pyarrow.Array:
    """Return the cells of a column of sums; see `sum_units`."""
    is_valid, total = sum_units(column, part_cells, parts)
    named = pyarrow.concat_arrays([column.form.texts(np.where(is_valid, total, 0)), text_array([column.missing or ""])])
    return named.take(pyarrow.array(np.where(is_valid, np.arange(len(total)), len(total))))


def sources_of(column: Column) -> tuple[str, ...]:
    """Return the names of the columns from which the cells of a column are computed."""
    if isinstance(column, Copy | Derived):
        return (column.source,)
    return column.parts if isinstance(column, Sum) else (column.after,) if isinstance(column, Gap) else ()


def dependency_order(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return columns in an order in which each column comes after those from which it is computed.

    Raises:
        InputError: If a source does not exist, or columns depend on each other in a cycle.
    """
    by_name = {column.name: column for column in columns}
    placed: dict[str, Column] = {}

    def place(column: Column, path: tuple[str, ...]) -> None:
        if column.name in path:
            cycle = [*path[path.index(column.name) :], column.name]
            raise InputError(
                f"columns depend on each other in a cycle: {' on '.join(map(repr, cycle))}",
                remedy="Declare one of these columns without a source",
            )
        for name in sources_of(column):
            if name not in by_name:
                others = [other for other in by_name if other != column.name]
                raise InputError.unknown_name("source", name, others).with_context(column=column.name)
            if name not in placed:
                place(by_name[name], (*path, column.name))
        placed[column.name] = column

    for column in columns:
        if column.name not in placed:
            place(column, ())
    return tuple(placed.values())


def text_form(column: Column, by_name: Mapping[str, Column]) -> Column:
    """Return a column without a source whose cells have the same texts and dtype as those of `column`.

    Args:
        column: Column of a schema.
        by_name: All columns of the schema, by name.
    """
    if isinstance(column, Copy):
        form = text_form(by_name[column.source], by_name)
        return replace(form, name=column.name, dtype=column.dtype or form.dtype)  # pyrefly: ignore
    if isinstance(column, Sum):
        return Numerical(column.name, 0.0, 1.0, form=column.form, missing=column.missing, dtype=column.dtype)
    if not isinstance(column, Gap):
        return column
    if column.format is not None:
        return column.times
    return Numerical(
        column.name, 0.0, 1.0, form=column.form, missing=column.missing, also_missing=column.also_missing,
        dtype=column.dtype,
    )  # fmt: skip


def modelled_source(name: str, by_name: Mapping[str, Column]) -> Column:
    """Return the column of which a column is a copy, directly or through other copies; else the column itself."""
    column = by_name[name]
    return modelled_source(column.source, by_name) if isinstance(column, Copy) else column


def check_dependent(columns: Sequence[Column]) -> None:
    """Raise an InputError if the source of a copy, gap or sum has the wrong kind, format or missing cells."""
    by_name = {column.name: column for column in columns}
    latest: dict[str, int] = {}
    for column in dependency_order(columns):
        if isinstance(column, Copy):
            _check_kind(column, column.source, by_name, _COPIED)
        elif isinstance(column, Sum):
            parts = [_check_kind(column, name, by_name, (Numerical,)) for name in column.parts]
            _check_sum(column, parts)
        elif isinstance(column, Gap):
            source = _check_kind(column, column.after, by_name, (Numerical if column.unit is None else Datetime,))
            _check_gap(column, source)
        form = text_form(column, by_name)
        if isinstance(form, Datetime):
            start = latest[sources_of(column)[0]] if isinstance(column, Gap | Copy) else int(
                form.instants(np.array([form.levels.last])).astype(np.int64)[0]
            )  # fmt: skip
            step = UNITS[column.unit] if isinstance(column, Gap) and column.unit else 0
            latest[column.name] = start + (step * (int(column.high) + 1) if isinstance(column, Gap) else 0)
            if latest[column.name] > LAST_TIME:
                raise InputError(
                    "amounts that lead to years below 10,000", f"up to {column.high:g} {column.unit}",  # pyrefly: ignore
                    "Decrease `high`", column=column.name,
                )  # fmt: skip


_COPIED = (ModelledColumn, Derived, Identifier)


def _check_kind(column: Column, name: str, by_name: Mapping[str, Column], kinds: tuple[type[Column], ...]) -> Column:
    form = text_form(by_name[name], by_name)
    if not isinstance(form, kinds) or isinstance(form, FreeText | HiddenColumn | SkippedColumn):
        words = {Numerical: "a column of numbers", Datetime: "a column of dates or times"}
        expected = words.get(kinds[0], "") if len(kinds) == 1 else "a column with cells"  # pyrefly: ignore
        raise InputError(expected, repr(name), "Choose another source", column=column.name)
    return form


def _check_sum(column: Sum, parts: Sequence[Column]) -> None:
    for part in parts:
        assert isinstance(part, Numerical)
        if part.form.decimals > column.form.decimals:
            raise InputError(
                f"at least the {part.form.decimals} decimals of {part.name!r}", column.form.decimals,
                'Increase "decimals" in "form"', column=column.name,
            )  # fmt: skip
        if part.missing is not None and column.missing is None:
            raise InputError(
                f'"missing", since {part.name!r} may be missing', "none", 'Add "missing" to the column',
                column=column.name,
            )  # fmt: skip


def _check_gap(column: Gap, source: Column) -> None:
    assert isinstance(source, Numerical | Datetime)
    if source.missing is not None and column.missing is None:
        raise InputError(
            f'"missing", since {source.name!r} may be missing', "none", 'Add "missing" to the column',
            column=column.name,
        )  # fmt: skip
    if isinstance(source, Numerical) and source.form.decimals > column.form.decimals:
        raise InputError(
            f"at least the {source.form.decimals} decimals of {source.name!r}", column.form.decimals,
            'Increase "decimals" in "form", or use the rule {"order": [...]}', column=column.name,
        )  # fmt: skip
