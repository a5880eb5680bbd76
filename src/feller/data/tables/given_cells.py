"""Parsing of conditions on generated rows: given cells, ranges, and lists of allowed cells."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from feller.core.errors import UsageError
from feller.data.loading.raw import RawTable, text_array
from feller.data.tables.bins import Bins
from feller.data.tables.column import Categorical, Column, ModelledColumn
from feller.data.tables.constraints import violations
from feller.data.tables.dates import Datetime
from feller.data.tables.dependent_columns import Copy, Gap, Sum, modelled_source
from feller.data.tables.grouped_column import Grouped
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Derived, FreeText, HiddenColumn, Identifier, SkippedColumn

CellCondition = str | tuple[str, str] | list[str]
"""Condition on a column: a cell; a range, as a text such as `30..40` or as a pair of ends (one may be empty); or a list
of cells and ranges."""
CellConditions = Mapping[str, CellCondition]
"""Condition on each column, by column name."""
BETWEEN = ".."
"""Separator of the ends of a range."""
NOT_GIVABLE: dict[type[Column], str] = {
    Identifier: "it identifies people and is generated as running numbers",
    FreeText: "it is free text",
    HiddenColumn: "its values were hidden by noise",
    SkippedColumn: "the schema skips it",
}
"""Reason why rows cannot be conditioned on a column, by column type."""


@dataclass(frozen=True, eq=False)
class ColumnChoice:
    """Set of allowed cells of a column, to which samples are restricted by rejection.

    A code can stand for several cells. A sampled code is accepted with a probability proportional to the fraction of
    its cells that are allowed.
    """

    column: ModelledColumn
    spans: tuple[tuple[int, int], ...]
    """Allowed ranges with both ends, as integers: numbers in units of the last decimal, times in the finest unit, and
    for words their codes."""
    missing: bool = False
    """True if a missing cell is allowed."""

    @property
    def bins(self) -> Bins | None:
        """Bins that the codes of the column stand for; None if each code stands for a single cell."""
        column = self.column
        if isinstance(column, Grouped):
            return column.levels
        if isinstance(column, Datetime | Numerical) and not (isinstance(column, Numerical) and column.digits):
            return column.levels
        return None

    @cached_property
    def _zero(self) -> int:
        """Integer that code 0 stands for, if each code stands for one integer."""
        return self.column.levels.starts[0] if isinstance(self.column, Numerical) else 0

    def _parts(self, code: int) -> tuple[list[tuple[int, int]], int]:
        """Return the allowed cells of a code, as ranges of indices [begin, end), and the number of all its cells."""
        if code == self.column.num_values:
            return [(0, 1)] if self.missing else [], 1
        if self.bins is not None:
            return self.bins.within(code, self.spans)
        integer = code + self._zero
        return [(0, 1)] if any(first <= integer <= last for first, last in self.spans) else [], 1

    def fractions(self, codes: Int64[Tensor, " n"]) -> Float64[Tensor, " n"]:
        """Return, for each code, the fraction of the cells it stands for that are allowed."""
        unique_codes, inverse = np.unique(codes.cpu().numpy(), return_inverse=True)
        code_ranges = [self._parts(int(code)) for code in unique_codes]
        fractions = [
            sum(float(np.diff(self._shares(int(code), np.array(span) / num_cells))[0]) for span in ranges)
            for code, (ranges, num_cells) in zip(unique_codes, code_ranges, strict=True)
        ]
        return torch.from_numpy(np.array(fractions, dtype=np.float64)[inverse]).to(codes.device)

    def _shares(self, code: int, positions: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Return the probability before each position within a code."""
        return positions if self.bins is None or code == self.column.num_values else self.bins.shares(code, positions)

    @cached_property
    def _peak(self) -> float:
        """Largest fraction, over all codes, of the cells of a code that are allowed."""
        return 1.0 if self.bins is None else float(self.fractions(torch.arange(self.column.num_codes)).max())

    def acceptance_probs(self, codes: Int64[Tensor, " n"]) -> Float64[Tensor, " n"]:
        """Return the acceptance probability of each code: its fraction of allowed cells over the largest fraction."""
        return self.fractions(codes) / self._peak

    def uniforms(
        self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        """Map uniform numbers to numbers for which the schema decodes the codes to allowed cells.

        Allowed cells are as likely as in unconditional rows: within a code equally likely, unless it has weights.

        Args:
            codes: Codes of sampled cells, each of which stands for at least one allowed cell.
            uniforms: Uniform numbers in [0, 1), one per code.
        """
        mapped = uniforms.copy()
        for code in np.unique(codes):
            ranges, num_cells = self._parts(int(code))
            range_ends = np.cumsum([end - begin for begin, end in ranges])
            if not len(range_ends):
                continue
            mask = codes == code
            if isinstance(self.bins, Bins) and self.bins.weights and code != self.column.num_values:
                mapped[mask] = self._weighted(self.bins, int(code), uniforms[mask])
                continue
            cell_index = np.minimum((uniforms[mask] * range_ends[-1]).astype(np.int64), range_ends[-1] - 1)
            range_index = np.searchsorted(range_ends, cell_index, side="right")
            offsets = np.array([begin for begin, _ in ranges]) - np.concatenate([[0], range_ends[:-1]])
            mapped[mask] = (cell_index + offsets[range_index] + 0.5) / num_cells
        return mapped

    def _weighted(self, bins: Bins, code: int, uniforms: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Map uniform numbers to those of allowed cells of a code whose cells have weights."""
        ranges, num_cells = self._parts(code)
        begins, ends = np.array(ranges, dtype=np.float64).T
        shares = bins.shares(code, begins / num_cells), bins.shares(code, ends / num_cells)
        total = np.cumsum(shares[1] - shares[0])
        scaled = uniforms * total[-1]
        index = np.minimum(np.searchsorted(total, scaled, side="right"), len(total) - 1)
        positions = bins.positions(code, shares[0][index] + scaled - np.concatenate([[0.0], total])[index])
        cell_index = np.clip(np.floor(positions * num_cells), begins[index], ends[index] - 1)
        return bins.shares(code, (cell_index + 0.5) / num_cells)


@dataclass(frozen=True, eq=False)
class GivenCells:
    """Conditions on generated rows: given cells, as one integer code per modelled column, and sets of allowed cells."""

    codes: Int64[Tensor, " k"]
    observed: Bool[Tensor, " k"]
    """True for columns with a single given cell."""
    choices: dict[int, ColumnChoice]
    """Set of allowed cells of each column that allows several cells, by index among the modelled columns."""
    exact: dict[str, str]
    """Given numbers and times, which are copied unchanged to every row."""


def words_of(given: Mapping[str, object]) -> dict[str, CellCondition]:
    """Convert conditions given as Python values to text: a tuple is a range, a list or set is a set of alternatives.

    Raises:
        UsageError: If a tuple does not have exactly two ends.
    """

    def condition(name: str, value: object) -> CellCondition:
        if isinstance(value, tuple):
            if len(value) != 2 or all(end is None for end in value):
                remedy = "Write (30, 40) or (30, None) for a range, [30, 40] for alternatives"
                raise UsageError(argument=name, expected="two ends of a range", found=str(value), remedy=remedy)
            first, last = ("" if end is None else str(end) for end in value)
            return first, last
        is_collection = isinstance(value, list | set | frozenset | range | np.ndarray | pd.Series | pd.Index)
        return [str(element) for element in value] if is_collection else str(value)

    return {str(name): condition(str(name), value) for name, value in given.items()}


def parse_given_code(schema: Schema, leaf: str, text: str) -> tuple[int, int]:
    """Return the index of the column `leaf` and the code of a given cell; a derived column is replaced by its source.

    Raises:
        UsageError: If the column is unknown, or the cell is not allowed.
    """
    column = _column(schema, modelled_source(leaf, schema.by_name).name if leaf in schema.by_name else leaf)
    if isinstance(column, Gap | Sum):
        _, exact = on_sources({leaf: text}, schema)  # raises an error unless the cell is missing
        text = exact.get(leaf, text)
    leaf = column.name
    if isinstance(column, Derived):
        sources = _sources(column, text)
        if len(sources) > 1:
            raise UsageError(
                f"a value of the source column: {column.source} {' or '.join(sources)}", text, argument=leaf
            )
        leaf, text = column.source, sources[0]
    index = schema.place(leaf)
    return index, schema.modelled[index].parse_code(text, clip=schema.clips)


def givable(schema: Schema) -> tuple[str, ...]:
    """Return the names of the columns that a condition can name, including derived columns."""
    return tuple(column.name for column in schema.written_columns if not isinstance(column, Identifier | FreeText))


def _column(schema: Schema, leaf: str) -> Column:
    column = next((candidate for candidate in schema.columns if candidate.name == leaf), None)
    if column is not None and type(column) in NOT_GIVABLE:
        raise UsageError(
            f"is not modelled, since {NOT_GIVABLE[type(column)]}, and cannot be given",
            remedy="Remove this condition",
            argument=leaf,
        )
    if column is None or leaf not in givable(schema):
        raise UsageError.unknown_name("given", leaf, givable(schema))
    return column


def _sources(column: Derived, text: str) -> list[str]:
    """Return the source cells that map to a derived cell."""
    sources = column.sources(text)
    if not sources:
        values = list(dict.fromkeys(column.mapping.values()))
        raise UsageError.unknown_name(column.name, text, values)
    return sources


def given_cells(given: CellConditions, schema: Schema) -> GivenCells:
    """Parse conditions on generated rows; UsageError for a cell or range that is not allowed, or a contradiction."""
    columns = schema.modelled
    codes, observed = torch.zeros(len(columns), dtype=torch.long), torch.zeros(len(columns), dtype=torch.bool)
    choices: dict[int, ColumnChoice] = {}
    given, exact = on_sources(given, schema)
    for leaf, value in given.items():
        column = _column(schema, leaf)
        if isinstance(column, Gap) and isinstance(value, str):  # the amount, or the text of a missing cell
            index = schema.place(leaf)
            codes[index], observed[index] = columns[index].parse_code(value, clip=schema.clips), True
            continue
        if isinstance(value, str) and not _is_range(column, value):
            index, code = parse_given_code(schema, leaf, value)
            if observed[index] and codes[index] != code:
                raise UsageError(
                    f"{value} contradicts another condition", argument=leaf, remedy="Remove one of the two conditions"
                )
            codes[index], observed[index] = code, True
            if isinstance(column, Numerical | Datetime | Grouped):
                exact[leaf] = value
            continue
        if isinstance(value, tuple):
            texts = [BETWEEN.join(value)]
            if not _is_range(column, texts[0]):
                raise UsageError(
                    argument=leaf,
                    expected="a cell or a list of cells, since this column has no order",
                    found=f"a range, {texts[0]}",
                    remedy="Give a list; on the command line, repeat the column",
                )
        else:
            texts = [value] if isinstance(value, str) else list(value)
        if isinstance(column, Derived):
            texts = [source for text in texts for source in _sources(column, text)]
            leaf = column.source
        index = schema.place(leaf)
        if index in choices:
            raise UsageError("is given twice", argument=columns[index].name, remedy="Remove one of them")
        choices[index] = _choice(columns[index], texts)
    _limit_by_order(schema, exact, choices)
    repeated = [columns[j].name for j in choices if observed[j]]
    if repeated:
        raise UsageError("is given twice", argument=repeated[0], remedy="Remove one of them")
    for pair in schema.pairs:
        if observed[pair.first] and observed[pair.second] and violations(codes[None].numpy(), pair).any():
            names = [columns[j].name for j in (pair.first, pair.second)]
            raise UsageError(
                f"the given {' and '.join(names)} violate a rule of the schema", remedy="Remove one of them"
            )
    return GivenCells(codes, observed, choices, exact)


def on_sources(given: CellConditions, schema: Schema) -> tuple[dict[str, CellCondition], dict[str, str]]:
    """Replace conditions on copies, sums and gap columns by conditions on modelled columns.

    A condition on a copy is one on its source. A given sum, with all parts but one, gives the last part. A given cell
    of a gap column, with its source, gives the amount.

    Returns:
        Conditions on modelled and derived columns, in which a gap column stands for its amount; and the given cells of
        sums and gap columns.

    Raises:
        UsageError: If conditions contradict each other, or a sum or gap column is given without the cells it needs.
    """
    result, exact = dict(given), {}
    for column in reversed(schema.in_dependency_order):
        if column.name not in result:
            continue
        if isinstance(column, Copy):
            value = result.pop(column.name)
            if result.setdefault(column.source, value) != value:
                raise UsageError(
                    "contradicts another condition", argument=column.name, remedy="Remove one of the two conditions"
                )
        elif isinstance(column, Sum):
            exact[column.name] = _cell(column, result.pop(column.name))
            result |= _last_part(column, exact[column.name], result, schema)
    for column in schema.in_dependency_order:
        if isinstance(column, Gap) and column.name in result:
            cell = _cell(column, result[column.name])
            if cell in column.words_for_missing:
                continue
            source_name = modelled_source(column.after, schema.by_name).name
            source, start = schema.text_forms[source_name], exact.get(source_name, result.get(source_name))
            assert isinstance(source, Numerical | Datetime)
            if not isinstance(start, str) or _is_range(source, start):
                raise UsageError(
                    argument=column.name,
                    expected=f"together with one cell of {source_name}, since only the amount between both is modelled",
                    found=f"{source_name} not given" if start is None else f"several cells of {source_name}",
                    remedy=f"Give {source_name} too, or only {source_name}",
                )
            found = column.amounts(text_array([start]), text_array([cell]), source)
            amount = found.texts[0].as_py()
            if found.is_orphan[0] or column.amount.code(amount) is None:
                unit = f" {column.unit}" if column.unit else ""
                raise UsageError(
                    argument=column.name,
                    expected=f"{column.low:,.12g} to {column.high:,.12g}{unit} more than {source_name} = {start}",
                    found=repr(cell),
                )
            result[column.name], exact[column.name] = amount, cell
    return result, exact


def _cell(column: Gap | Sum, condition: CellCondition) -> str:
    """Return the only cell of a condition on a gap column or a sum."""
    cells = [condition] if isinstance(condition, str) else list(condition)
    form = Numerical("", 0.0, 1.0, form=column.form) if isinstance(column, Sum) or column.unit is None else column.times
    if isinstance(condition, tuple) or len(cells) != 1 or _is_range(form, cells[0]):
        sources = " and ".join(column.parts) if isinstance(column, Sum) else column.after
        raise UsageError(
            argument=column.name,
            expected=f"one cell, since this column is computed from {sources}",
            found=BETWEEN.join(cells) if isinstance(condition, tuple) else ", ".join(cells),
            remedy=f"Give {sources} instead",
        )
    return cells[0]


def _last_part(column: Sum, total: str, given: CellConditions, schema: Schema) -> dict[str, CellCondition]:
    """Return the condition on the only part of a sum that is not given; nothing if all parts are given."""
    others = [name for name in column.parts if name in given]
    forms = {name: schema.text_forms[name] for name in column.parts}
    units = Decimal(0)
    number = column.form.read(total)
    for name in others:
        form, value = forms[name], given[name]
        assert isinstance(form, Numerical)
        part = form.form.read(value) if isinstance(value, str) else None
        units = Decimal("NaN") if part is None else units + part
    if len(others) < len(column.parts) - 1 or number is None or units.is_nan():
        raise UsageError(
            argument=column.name,
            expected=f"a number, together with one number for all but one of {', '.join(column.parts)}",
            found=f"{total!r} with {', '.join(others) or 'none of them'}",
            remedy=f"Give {' and '.join(column.parts[:-1])} too, or only these",
        )
    if len(others) == len(column.parts):
        if units != number:
            raise UsageError(argument=column.name, expected=f"{units}, the sum of its parts", found=repr(total))
        return {}
    (last,) = (name for name in column.parts if name not in given)
    form, scaled = forms[last], (number - units).scaleb(forms[last].form.decimals)  # pyrefly: ignore
    assert isinstance(form, Numerical)
    if scaled != scaled.to_integral_value():
        raise UsageError(
            argument=column.name, expected=f"a sum that leaves {form.form.decimals} decimals for {last}", found=total
        )
    return {last: form.form.write(int(scaled))}


def _limit_by_order(schema: Schema, exact: Mapping[str, str], choices: dict[int, ColumnChoice]) -> None:
    """Add the limits that given cells imply by rules of order to the allowed cells of other columns.

    Raises:
        UsageError: If given cells violate a rule of order.
    """
    limits: dict[int, tuple[int, int]] = {}
    wide: dict[int, tuple[int, int]] = {}
    for j in dict.fromkeys(j for pair in schema.ordered_pairs for j in (pair.lower, pair.upper)):
        column, choice = schema.modelled[j], choices.get(j)
        assert isinstance(column, Numerical | Datetime)
        wide[j] = column.levels.starts[0], column.levels.last
        given = column.units(exact[column.name]) if column.name in exact else None
        if given is not None and exact[column.name] not in column.words_for_missing:
            limits[j] = math.floor(given), math.floor(given)
        elif choice is not None and choice.spans and not choice.missing:
            limits[j] = choice.spans[0][0], choice.spans[-1][1]
    is_given = {*limits}
    for pair in schema.ordered_pairs:
        if pair.lower in limits:
            least = int(pair.upper_scale.lowest(pair.lower_scale.common(np.array([limits[pair.lower][0]])))[0])
            low, high = limits.get(pair.upper, wide[pair.upper])
            limits[pair.upper] = max(low, least), high
    for pair in reversed(schema.ordered_pairs):
        if pair.upper in limits:
            most = int(pair.lower_scale.highest(pair.upper_scale.common(np.array([limits[pair.upper][1]])))[0])
            low, high = limits.get(pair.lower, wide[pair.lower])
            limits[pair.lower] = low, min(high, most)
    for j, (low, high) in limits.items():
        column = schema.modelled[j]
        if low > high:
            names = ", ".join(schema.modelled[i].name for i in sorted(is_given))
            raise UsageError(
                argument=column.name,
                expected=f"cells in order of {names}",
                found="given cells that violate a rule of order of the schema",
                remedy="Remove one of them",
            )
        if column.name not in exact and (low, high) != wide[j]:
            spans = choices[j].spans if j in choices else (wide[j],)
            cut = tuple((max(a, low), min(b, high)) for a, b in spans if a <= high and b >= low)
            missing = choices[j].missing if j in choices else column.missing is not None
            choices[j] = ColumnChoice(column, cut, missing)


def _is_range(column: Column, text: str) -> bool:
    """Return True if a text allows several cells: a range, or a day of a column of times of day."""
    if isinstance(column, Datetime) and (period := column.period(text)) is not None:
        return period[0] < period[1]
    return isinstance(column, Numerical | Datetime) and BETWEEN in text and column.code(text) is None


def _choice(column: ModelledColumn, texts: Sequence[str]) -> ColumnChoice:
    """Return the allowed cells of a column, given as cells and ranges in text."""
    ranges = [text for text in texts if _is_range(column, text)]
    codes = {text: column.parse_code(text) for text in texts if text not in ranges}
    present = [text for text, code in codes.items() if code < column.num_values]
    if isinstance(column, Numerical | Datetime):
        spans = [_ends(column, text, text) for text in present]
        ends = [text.partition(BETWEEN) for text in ranges]
        spans += [_ends(column, first, last if between else first) for first, between, last in ends]
    elif isinstance(column, Grouped):
        spans = [(index, index) for index in column.word_indices(text_array(present)).tolist()]
    else:
        spans = [(codes[text], codes[text]) for text in present]
    if not texts or (len(present) == len(texts) and not spans):
        raise UsageError("at least one allowed cell", "none", "Remove this condition", place=column.name)
    return ColumnChoice(column, tuple(_apart(spans)), len(present) + len(ranges) < len(texts))


def _ends(column: Numerical | Datetime, first: str, last: str) -> tuple[int, int]:
    """Return the integers at the ends of the range `first` to `last`, limited to the bounds of the column.

    An empty text stands for the bound. A day includes all of its times.
    """
    low, high = column.levels.starts[0], column.levels.last
    lower = column.units(first.strip()) if first.strip() else low
    if not last.strip():
        upper = high
    elif isinstance(column, Datetime):
        period = column.period(last.strip())
        upper = None if period is None else period[1]
    else:
        upper = column.units(last.strip())
    if lower is None or upper is None:
        raise UsageError(
            argument=column.name,
            expected=f"a range FROM{BETWEEN}TO; {column.allowed_text}",
            found=f"{first}{BETWEEN}{last}",
        )
    begin, end = max(low, math.ceil(lower)), min(high, math.floor(upper))
    if lower > upper:
        raise UsageError(
            argument=column.name,
            expected="a range with its lower end first",
            found=f"{first}{BETWEEN}{last}",
            remedy=f"Write {last}{BETWEEN}{first}, in Python ({last}, {first})",
        )
    if begin > end:
        raise UsageError(
            argument=column.name,
            expected=f"a range that contains allowed values; {column.allowed_text}",
            found=f"{first}{BETWEEN}{last}",
            remedy="Give a range that overlaps the bounds",
        )
    return begin, end


def _apart(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield ranges (first, last) in ascending order, with overlapping and adjacent ranges merged."""
    merged: tuple[int, int] | None = None
    for first, last in sorted(spans):
        if merged is not None and first <= merged[1] + 1:
            merged = merged[0], max(merged[1], last)
            continue
        if merged is not None:
            yield merged
        merged = first, last
    if merged is not None:
        yield merged


def table_with(name: str, cell: str) -> RawTable:
    """Return a table with one column and one row, the given cell."""
    return RawTable(pyarrow.table({name: text_array([cell])}), columns=(name,))


def check_words(schema: Schema, given: CellConditions) -> None:
    """Raise a UsageError if a word given for a column with `other` is neither a listed value nor the missing cell."""
    for column in schema.modelled:
        value = given.get(column.name)
        if value is None or not isinstance(column, Categorical) or column.other is None:
            continue
        allowed = [*column.value_names, *column.words_for_missing]
        for word in [value] if isinstance(value, str) else value:
            if word and word not in allowed:
                error = UsageError.unknown_name(column.name, word, column.value_names)
                if error.remedy is None:
                    error = error.advising(f"Give {column.other!r} for rare words")
                raise error
