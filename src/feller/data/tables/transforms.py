"""Transformations of tables before encoding and after decoding: columns that are computed from other columns."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pyarrow
from jaxtyping import Bool, Float64, Int64

from feller.core.errors import InputError
from feller.data.loading.raw import RawTable, text_array
from feller.data.tables.column import Column, ModelledColumn
from feller.data.tables.dates import Datetime
from feller.data.tables.dependent_columns import NO_AMOUNT, Amounts, Copy, Gap, Sum, sum_cells, sum_units
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.rules import Unique
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Derived, FreeText, Identifier

Cells = dict[str, pyarrow.Array]
"""Cells of each column, by name."""
Caps = dict[str, tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]]
"""Values of columns by name: mask of the rows, and values in units of the last decimal or the finest unit of time."""


def cells_of(raw: RawTable, name: str) -> pyarrow.Array:
    """Return the cells of a column as one array."""
    return raw.values.column(raw.columns.index(name)).combine_chunks()


def amounts_of(raw: RawTable, column: Gap, schema: Schema) -> Amounts:
    """Return the amounts of a gap column of a table that also has its source."""
    source = schema.text_forms[column.after]
    assert isinstance(source, ModelledColumn)
    return column.amounts(cells_of(raw, column.after), cells_of(raw, column.name), source)


def modelled_cells(raw: RawTable, schema: Schema) -> RawTable:
    """Return a table with amounts in place of the cells of gap columns, as the modelled columns expect it.

    Gap columns without their source in the table are left out.
    """
    gaps = [column for column in schema.columns if isinstance(column, Gap) and column.name in raw.columns]
    if not gaps:
        return raw
    values, columns = raw.values, list(raw.columns)
    for gap in gaps:
        index = columns.index(gap.name)
        if gap.after in raw.columns:
            values = values.set_column(index, gap.name, amounts_of(raw, gap, schema).texts)
        else:
            values = values.remove_column(index)
            columns.remove(gap.name)
    return replace(raw, values=values, columns=tuple(columns), dtypes=())


def check_relations(raw: RawTable, schema: Schema) -> None:
    """Raise an InputError for the first row that violates a relation between columns of the table.

    The relations are those of copies, gaps, sums and derived columns, orders, and unique columns; rules that are masks
    of codes are checked with the codes. Columns that are not in the table are not checked.
    """
    for violation in violations_of(raw, schema):
        if violation.rows.any():
            raise violation.error(raw, int(violation.rows.argmax()))


class Violation:
    """Rows of a table that violate a relation between its columns."""

    def __init__(self, columns: tuple[str, ...], relation: str, rows: Bool[np.ndarray, " n"], remedy: str) -> None:
        self.columns = columns
        """Names of the columns of the relation, the dependent column last."""
        self.relation = relation
        """Relation as a noun phrase, for error messages."""
        self.rows = rows
        """True for each row that violates the relation."""
        self.remedy = remedy

    def error(self, raw: RawTable, row: int) -> InputError:
        """Return the error for a row."""
        found = ", ".join(f"{name} = {raw.cell(name, row)[:40]!r}" for name in self.columns)
        return InputError(self.relation, found, self.remedy, **raw.error_fields(row), column=self.columns[-1])


_CORRECT = 'Correct the cell, or set "outside": "clip" in the schema'


def violations_of(raw: RawTable, schema: Schema) -> Iterator[Violation]:
    """Yield the violations of each relation between columns of a table; see `check_relations`."""
    for column in schema.in_dependency_order:
        if column.name not in raw.columns:
            continue
        if isinstance(column, Copy) and column.source in raw.columns:
            rows = cells_of(raw, column.source).to_numpy(zero_copy_only=False) != cells_of(raw, column.name).to_numpy(
                zero_copy_only=False
            )
            yield Violation((column.source, column.name), f"the same cell as in {column.source}", rows, _CORRECT)
        elif isinstance(column, Gap) and column.after in raw.columns:
            yield from _gap_violations(raw, column, schema)
        elif isinstance(column, Sum) and {*column.parts} <= {*raw.columns}:
            rows = _sum_violations(raw, column, schema)
            yield Violation((*column.parts, column.name), f"the sum of {' and '.join(column.parts)}", rows, _CORRECT)
    for pair in schema.ordered_pairs:
        names = schema.modelled[pair.lower].name, schema.modelled[pair.upper].name
        if {*names} <= {*raw.columns}:
            (has_a, a), (has_b, b) = (values_of(raw, name, schema) for name in names)
            rows = has_a & has_b & (pair.lower_scale.common(a) > pair.upper_scale.common(b))
            yield Violation(names, f"{names[0]} at most {names[1]}", rows, _CORRECT)
    for rule in schema.rules:
        if isinstance(rule, Unique) and rule.unique in raw.columns:
            factorized = raw.factorize(rule.unique)
            first = np.full(len(factorized.uniques), len(factorized.codes))
            np.minimum.at(first, factorized.codes, np.arange(len(factorized.codes)))
            rows = first[factorized.codes] < np.arange(len(factorized.codes))
            yield Violation((rule.unique,), "a cell that no other row has", rows, "Remove the row, or the rule")


def _gap_violations(raw: RawTable, column: Gap, schema: Schema) -> Iterator[Violation]:
    found = amounts_of(raw, column, schema)
    names = (column.after, column.name)
    remedy = 'Correct the cell, set "outside": "clip" in the schema, or use the rule {"order": [...]}'
    yield Violation(names, f"a missing cell where {column.after} is missing", found.is_orphan, remedy)
    is_unreadable = np.asarray(pyarrow.compute.equal(found.texts, NO_AMOUNT))  # pyrefly: ignore
    kind = "a number" if column.format is None else f"a time in the format {column.format}"
    yield Violation(names, kind, is_unreadable, _CORRECT)
    encoded = found.texts.dictionary_encode()
    is_outside = (column.amount.codes(encoded.dictionary) < 0)[np.asarray(encoded.indices)]
    unit = f" {column.unit}" if column.unit else ""
    allowed = f"{column.low:,.12g} to {column.high:,.12g}{unit} more than {column.after}"
    yield Violation(names, allowed, is_outside, 'Correct the cell, widen "low" and "high", or set "outside": "clip"')


def _sum_violations(raw: RawTable, column: Sum, schema: Schema) -> Bool[np.ndarray, " n"]:
    form = schema.text_forms[column.name]
    assert isinstance(form, Numerical)
    has_sum, total = sum_units(column, [cells_of(raw, name) for name in column.parts], sum_parts(column, schema))
    has_cell, cell = read_values(cells_of(raw, column.name), form)
    return (has_sum != has_cell) | (has_sum & (total != cell))


def sum_parts(column: Sum, schema: Schema) -> list[Numerical]:
    """Return the columns with the formats of the parts of a sum."""
    forms = [schema.text_forms[name] for name in column.parts]
    return [form for form in forms if isinstance(form, Numerical)]


def values_of(raw: RawTable, name: str, schema: Schema) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return where the cells of a column of numbers or times are values, and the values in units of the column."""
    form = schema.text_forms[name]
    assert isinstance(form, Numerical | Datetime)
    return read_values(cells_of(raw, name), form)


def read_values(
    cells: pyarrow.Array, column: Numerical | Datetime
) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return where cells are values, and the values in units of the last decimal or of the finest unit of time."""
    encoded = cells.dictionary_encode()
    words, indices = encoded.dictionary, np.asarray(encoded.indices)
    units = np.zeros(len(words), dtype=np.int64)
    if isinstance(column, Datetime):
        is_value, times = column.read(words)
        units[is_value] = times
    else:
        parsed = column.form.parse(words)
        is_value, units = parsed.valid, np.where(parsed.valid, parsed.units, 0)
    is_value = is_value & ~np.isin(words.to_numpy(zero_copy_only=False), column.words_for_missing)
    return is_value[indices], np.where(is_value, units, 0)[indices]


def write_values(values: Int64[np.ndarray, " n"], column: Numerical | Datetime) -> pyarrow.Array:
    """Return the cells of values in units of the last decimal or of the finest unit of time."""
    return column.texts(values) if isinstance(column, Datetime) else column.form.texts(values)


def derived_cell(column: Derived, source: ModelledColumn, cell: str) -> str:
    """Return the derived cell of a source cell, whose spelling may differ from the schema, such as 9.0 for 9."""
    if cell not in column.mapping:
        cell = source.cells(np.array([source.parse_code(cell, clip=True)]), np.zeros(1))[0].as_py()
    return column.mapping[cell]


def check_derived(raw: RawTable, schema: Schema) -> None:
    """Raise an InputError for the first cell of a derived column that does not follow from its source."""
    for column in schema.columns:
        if not isinstance(column, Derived) or column.name not in raw.columns:
            continue
        source = schema.modelled[schema.place(column.source)]
        source_cells, derived_cells = raw.factorize(column.source), raw.factorize(column.name)
        expected = [derived_cell(column, source, cell) for cell in source_cells.uniques.to_pylist()]
        words = derived_cells.uniques.to_pylist()
        index = {word: i for i, word in enumerate(words)}
        is_wrong = np.array([index.get(cell, -1) for cell in expected])[source_cells.codes] != derived_cells.codes
        if is_wrong.any():
            row = int(is_wrong.argmax())
            raise InputError(
                f"{expected[source_cells.codes[row]]!r} for {column.source} = {raw.cell(column.source, row)!r}",
                repr(words[derived_cells.codes[row]][:40]),
                "Correct the cell or the mapping",
                **raw.error_fields(row),
                column=column.name,
            )


def all_cells(
    modelled: Cells,
    n: int,
    schema: Schema,
    fractions: Mapping[str, Float64[np.ndarray, " n"]],
    given: Mapping[str, pyarrow.Array] | None = None,
    caps: Caps | None = None,
) -> RawTable:
    """Return the complete table with the columns that are not modelled: derived, copied, gap, sum, identifiers, text.

    Args:
        modelled: Cells of the modelled columns; of gap columns, the amounts.
        n: Number of rows.
        schema: Schema of the table.
        fractions: Numbers in [0, 1) for each gap column of times, which choose the time within the unit of the amount.
        given: Known cells of copies, gap columns and sums, with null for those to compute.
        caps: Largest values of computed cells of gap columns.
    """
    cells: Cells = {}
    for column in schema.in_dependency_order:
        if isinstance(column, Derived):
            source = schema.modelled[schema.place(column.source)]
            source_cells = cells[column.source].dictionary_encode()
            words = text_array([derived_cell(column, source, cell) for cell in source_cells.dictionary.to_pylist()])
            cells[column.name] = words.take(source_cells.indices)
        elif isinstance(column, Copy):
            cells[column.name] = cells[column.source]
        elif isinstance(column, Gap):
            source = schema.text_forms[column.after]
            assert isinstance(source, ModelledColumn)
            computed = column.cells(cells[column.after], modelled[column.name], source, fractions[column.name])
            if caps and column.name in caps:
                computed = _capped(computed, caps[column.name], schema.text_forms[column.name])
            cells[column.name] = computed
        elif isinstance(column, Sum):
            cells[column.name] = sum_cells(column, [cells[name] for name in column.parts], sum_parts(column, schema))
        elif isinstance(column, Identifier | FreeText):
            cells[column.name] = text_array(column.cells(n))
        elif column.name in modelled:
            cells[column.name] = modelled[column.name]
        if given and column.name in given:
            cells[column.name] = pyarrow.compute.coalesce(given[column.name], cells[column.name])  # pyrefly: ignore
    ordered = {column.name: cells[column.name] for column in schema.written_columns}
    return RawTable(pyarrow.table(ordered), columns=tuple(ordered))


def _capped(
    cells: pyarrow.Array, cap: tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]], column: Column
) -> pyarrow.Array:
    """Return cells with larger values replaced by the largest possible ones."""
    assert isinstance(column, Numerical | Datetime)
    has_value, values = read_values(cells, column)
    is_above = has_value & cap[0] & (values > cap[1])
    texts = write_values(np.where(is_above, cap[1], values if isinstance(column, Numerical) else cap[1].max()), column)
    return pyarrow.compute.if_else(pyarrow.array(is_above), texts, cells)  # pyrefly: ignore
