"""Partial tables: cells that follow from observed cells by the relations between columns, and completed cells."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from jaxtyping import Bool, Float64, Int64

from feller.core.errors import InputError
from feller.data.loading.raw import TEXT, RawTable, text_array
from feller.data.tables.column import Categorical, Column, ModelledColumn
from feller.data.tables.dates import Datetime
from feller.data.tables.dependent_columns import Copy, Gap, Sum, modelled_source, sum_units
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.transforms import (
    Caps,
    Cells,
    amounts_of,
    read_values,
    sum_parts,
    violations_of,
    write_values,
)

_ARROW: Any = pyarrow.compute  # its functions are created at import
FILL_MARKS = ("", "?", "*")
"""Markers of a cell to fill in. The empty cell is always a marker, the other cells only if they are not values of the
column."""


def identified(raw: RawTable, unit: str) -> Int64[np.ndarray, " m"]:
    """Return the person of each row, numbered in order of first occurrence, from the column `unit`.

    Raises:
        InputError: If a cell of the column is empty.
    """
    people = raw.factorize(unit)
    is_anonymous = people.is_in(FILL_MARKS)[people.codes]
    if is_anonymous.any():
        raise InputError(
            "an identifier of the person",
            "an empty cell",
            "Fill the cell",
            **raw.error_fields(int(is_anonymous.argmax())),
            column=unit,
        )
    return people.codes.astype(np.int64)


def is_blank(column: ModelledColumn, cell: str) -> bool:
    """Return True if a cell is to be filled in; an empty cell always is, even if the column allows empty cells."""
    if not cell:
        return True
    if cell not in FILL_MARKS or cell in column.words_for_missing:
        return False
    if isinstance(column, Categorical):  # with "other", any word has a code, also the markers
        return cell not in column.value_names
    return column.code(cell) is None


def _blank_test(column: Column) -> Callable[[str], bool]:
    if not isinstance(column, ModelledColumn):
        return FILL_MARKS.__contains__
    return lambda cell: is_blank(column, cell)


def known_cells(raw: RawTable, schema: Schema) -> Cells:
    """Return the cells of each column of a partial table, with null for cells to fill in.

    Cells of a source are known where a copy is, and the last part of a sum where the sum and the other parts are.

    Raises:
        InputError: If observed cells contradict each other.
    """
    known: Cells = {}
    for name in raw.columns:
        factorized = raw.factorize(name)
        is_gap = _blank_test(schema.text_forms[name])
        words = pyarrow.array([None if is_gap(word) else word for word in factorized.uniques.to_pylist()], TEXT)
        known[name] = words.take(pyarrow.array(factorized.codes))
    for column in reversed(schema.in_dependency_order):
        if column.name not in known:
            continue
        if isinstance(column, Copy):
            source = known.get(column.source, _nulls(len(raw.values)))
            differs = np.asarray(_ARROW.not_equal(source, known[column.name]).fill_null(False))
            _refuse(raw, (column.source, column.name), f"the same cell as in {column.source}", differs)
            known[column.source] = _ARROW.coalesce(source, known[column.name])
        elif isinstance(column, Sum):
            _set_last_parts(raw, column, schema, known)
    for column in schema.in_dependency_order:
        if isinstance(column, Copy) and column.source in known:
            known[column.name] = known[column.source]
    return known


def _nulls(n: int) -> pyarrow.Array:
    return pyarrow.nulls(n, TEXT)


def _refuse(raw: RawTable, names: tuple[str, ...], expected: str, rows: Bool[np.ndarray, " n"]) -> None:
    if rows.any():
        row = int(rows.argmax())
        found = ", ".join(f"{name} = {raw.cell(name, row)[:40]!r}" for name in names if name in raw.columns)
        raise InputError(
            expected, found, "Correct a cell, or leave one of them empty", **raw.error_fields(row), column=names[-1]
        )


def _set_last_parts(raw: RawTable, column: Sum, schema: Schema, known: Cells) -> None:
    """Set the only unknown part of each known sum; InputError if all parts are known and have another sum."""
    n, parts = len(raw.values), sum_parts(column, schema)
    form = schema.text_forms[column.name]
    assert isinstance(form, Numerical)
    cells = [known.get(name, _nulls(n)) for name in column.parts]
    has_total, total = read_values(known[column.name].fill_null(""), form)
    is_known = np.array([np.asarray(part.is_valid()) for part in cells])
    _, partial_sum = sum_units(column, [part.fill_null("") for part in cells], parts)
    wrong = has_total & is_known.all(0) & (partial_sum != total)
    _refuse(raw, (*column.parts, column.name), f"the sum of {' and '.join(column.parts)}", wrong)
    for name, part, own, is_own in zip(column.parts, parts, cells, is_known, strict=True):
        is_last = has_total & ~is_own & (is_known.sum(0) == len(parts) - 1)
        difference = total - partial_sum
        scale = 10 ** (column.form.decimals - part.form.decimals)
        _refuse(
            raw, (column.name,), f"a sum that leaves an allowed number for {name}", is_last & (difference % scale != 0)
        )
        texts = part.form.texts(np.where(is_last, difference // scale, 0))
        known[name] = _ARROW.if_else(pyarrow.array(is_last), texts, own)


def partial_amounts(raw: RawTable, schema: Schema, known: Cells) -> RawTable:
    """Return the known cells of the modelled and derived columns, empty if unknown, with amounts for gap columns.

    Raises:
        InputError: If a cell of a gap column is known although its source is missing.
    """
    n = len(raw.values)
    texts = {name: cells.fill_null("") for name, cells in known.items()}
    table = RawTable(pyarrow.table(texts), columns=tuple(texts), lines=raw.lines)
    for column in schema.columns:
        if not isinstance(column, Gap) or column.name not in known:
            continue
        if column.after not in known:
            texts[column.name] = text_array([""]).take(pyarrow.array(np.zeros(n, dtype=np.int64)))
            continue
        both = np.asarray(known[column.name].is_valid()) & np.asarray(known[column.after].is_valid())
        found = amounts_of(table, column, schema)
        _refuse(
            raw, (column.after, column.name), f"a missing cell where {column.after} is missing", both & found.is_orphan
        )
        texts[column.name] = _ARROW.if_else(pyarrow.array(both), found.texts, "")
    return replace(table, values=pyarrow.table(texts))


def fixed_values(
    known: Mapping[str, pyarrow.Array], schema: Schema
) -> dict[int, tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]]:
    """Return the known values of columns in rules of order, by column index: mask of the rows, and the values."""
    fixed = {}
    for j in {j for pair in schema.ordered_pairs for j in (pair.lower, pair.upper)}:
        column = schema.modelled[j]
        if column.name in known and isinstance(column, Numerical | Datetime):
            fixed[j] = read_values(known[column.name].fill_null(""), column)
    return fixed


def settle(cells: Cells, known: Cells, schema: Schema) -> tuple[Cells, Cells, Caps]:
    """Adapt generated cells to known cells of columns that depend on them.

    Where a gap column is known and its source is not, the source becomes the known cell minus the amount. Where a sum
    is known and two or more of its parts are not, the generated parts are changed within their bounds. Where a rule of
    order holds for no value in a generated bin, the generated cell becomes equal to the known one.

    Args:
        cells: Cells of the modelled columns; of gap columns, the amounts. Known cells are in place.
        known: Known cells of all columns, with null for generated ones.
        schema: Schema of the table.

    Returns:
        The adapted cells of the modelled columns; the known cells of copies, gap columns and sums; and upper limits of
        gap columns.
    """
    cells = {**cells}
    gaps = {column.name: column for column in schema.columns if isinstance(column, Gap)}
    guesses: Caps = {}
    caps: Caps = {}
    for column in reversed(schema.in_dependency_order):
        if isinstance(column, Gap):
            _pass_back(column, cells, known, guesses, caps, schema)
        elif isinstance(column, Sum) and column.name in known:
            _set_parts(column, cells, known, schema)
    for name, (is_set, values) in guesses.items():
        if name not in gaps:
            column = schema.modelled[schema.place(name)]
            assert isinstance(column, Numerical | Datetime)
            limited, values = caps[name], values.clip(column.levels.starts[0], column.levels.last)
            values = np.where(limited[0], np.minimum(values, limited[1]), values)
            texts = write_values(np.where(is_set, values, column.levels.starts[0]), column)
            cells[name] = _ARROW.if_else(pyarrow.array(is_set & _is_null(known, name, len(values))), texts, cells[name])
    _set_ordered(cells, known, schema)
    dependent = {column.name for column in schema.columns if isinstance(column, Gap | Sum | Copy)}
    return cells, {name: values for name, values in known.items() if name in dependent}, caps


def _is_null(known: Cells, name: str, n: int) -> Bool[np.ndarray, " n"]:
    return np.asarray(known[name].is_null()) if name in known else np.ones(n, dtype=bool)


def _pass_back(column: Gap, cells: Cells, known: Cells, guesses: Caps, caps: Caps, schema: Schema) -> None:
    """Add the value of a source that leads to a gap column by its generated amount, and the largest possible one."""
    form, source = schema.text_forms[column.name], schema.text_forms[column.after]
    assert isinstance(form, Numerical | Datetime)
    assert isinstance(source, Numerical | Datetime)
    n, name = len(cells[column.name]), modelled_source(column.after, schema.by_name).name
    nothing = np.zeros(n, dtype=bool), np.zeros(n, dtype=np.int64)
    is_known, values = read_values(known[column.name].fill_null(""), form) if column.name in known else nothing
    (is_guessed, guess), (is_capped, cap) = (limits.get(column.name, nothing) for limits in (guesses, caps))
    has_amount, amounts = read_values(cells[column.name], column.amount)
    starts = column.starts(np.where(is_known, values, guess), amounts, source)
    latest = column.starts(np.where(is_known, values, cap), None, source)
    own_guess, own_cap = guesses.get(name, nothing), caps.get(name, nothing)
    is_set = (is_known | is_guessed) & has_amount
    guesses[name] = own_guess[0] | is_set, np.where(is_set & ~own_guess[0], starts, own_guess[1])
    is_limited = is_known | is_capped
    smallest = np.where(own_cap[0], np.minimum(own_cap[1], latest), latest)
    caps[name] = own_cap[0] | is_limited, np.where(is_limited, smallest, own_cap[1])


def _set_parts(column: Sum, cells: Cells, known: Cells, schema: Schema) -> None:
    parts = sum_parts(column, schema)
    form = schema.text_forms[column.name]
    assert isinstance(form, Numerical)
    has_total, total = read_values(known[column.name].fill_null(""), form)
    plain = [name for name in column.parts if isinstance(schema.by_name[name], Numerical)]
    if len(plain) < len(column.parts):
        return
    _, current = sum_units(column, [cells[name] for name in column.parts], parts)
    rest = np.where(has_total, total - current, 0)
    for name, part in zip(column.parts, parts, strict=True):
        is_open = _is_null(known, name, len(rest))
        scale = 10 ** (column.form.decimals - part.form.decimals)
        is_value, values = read_values(cells[name], part)
        moved = (values + rest // scale).clip(part.levels.starts[0], part.levels.last)
        moved = np.where(is_open & is_value & (rest != 0), moved, values)
        rest = rest - (moved - values) * scale
        cells[name] = _ARROW.if_else(pyarrow.array(moved != values), part.form.texts(moved), cells[name])


def _set_ordered(cells: Cells, known: Cells, schema: Schema) -> None:
    """Set generated cells that are out of order with known cells to the nearest value in order."""
    for pair in schema.ordered_pairs:
        columns = (pair.lower_scale.column, pair.upper_scale.column)
        (has_a, a), (has_b, b) = (read_values(cells[column.name], column) for column in columns)
        wrong = has_a & has_b & (pair.lower_scale.common(a) > pair.upper_scale.common(b))
        if not wrong.any():
            continue
        limits = (
            pair.lower_scale.highest(pair.upper_scale.common(b)),
            pair.upper_scale.lowest(pair.lower_scale.common(a)),
        )
        for column, limit in zip(columns, limits, strict=True):
            is_known = (
                np.asarray(known[column.name].is_valid()) if column.name in known else np.zeros(len(a), dtype=bool)
            )
            change = wrong & ~is_known
            texts = write_values(np.where(change, limit, column.levels.starts[0]), column)
            cells[column.name] = _ARROW.if_else(pyarrow.array(change), texts, cells[column.name])
            wrong = wrong & is_known


def check_completed(raw: RawTable, known: Mapping[str, Any], table: RawTable, schema: Schema) -> None:
    """Raise an InputError for the first row in which known cells leave no cells that satisfy a relation."""
    for violation in violations_of(table, schema):
        names = violation.columns
        is_generated = np.any([
            np.asarray(known[name].is_null()) if name in known else np.ones(len(raw.values), dtype=bool)
            for name in names
        ], 0)  # fmt: skip
        rows = violation.rows & is_generated
        if rows.any():
            row = int(rows.argmax())
            raise InputError(
                f"observed cells that allow {violation.relation}",
                ", ".join(f"{name} = {table.cell(name, row)[:40]!r}" for name in names),
                f"Give all of {', '.join(names)} in this row, or none of them",
                **raw.error_fields(row),
                column=names[-1],
            )


def fractions_of(
    codes: Int64[np.ndarray, "n k"], uniforms: Float64[np.ndarray, "n k"], schema: Schema
) -> dict[str, Float64[np.ndarray, " n"]]:
    """Return what the choice of an amount within its bin leaves of uniform numbers, for each gap column."""
    fractions = {}
    for j, column in enumerate(schema.modelled):
        if isinstance(schema.by_name[column.name], Gap):
            assert isinstance(column, Numerical)
            sizes = column.levels.sizes[np.minimum(codes[:, j], column.levels.count - 1)]
            fractions[column.name] = uniforms[:, j] * sizes % 1.0
    return fractions
