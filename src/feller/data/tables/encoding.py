"""Encoding of table cells as integer codes, and decoding of codes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from feller.core.errors import InputError, best_match
from feller.data.loading.raw import RawTable, by_column, text_array
from feller.data.tables.column import Categorical, ModelledColumn
from feller.data.tables.constraints import repair, violations
from feller.data.tables.dependent_columns import Gap
from feller.data.tables.ordered_draws import Spans, ordered_uniforms
from feller.data.tables.partial_tables import (
    FILL_MARKS,
    check_completed,
    fixed_values,
    fractions_of,
    is_blank,
    known_cells,
    partial_amounts,
    settle,
)
from feller.data.tables.rules import rules_as_text
from feller.data.tables.schema import Schema
from feller.data.tables.transforms import Cells, all_cells, check_derived, check_relations, modelled_cells
from feller.data.tables.unmodelled_columns import Derived, FreeText, Identifier

_ARROW: Any = pyarrow.compute  # its functions are created at import


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Encoded table: integer codes of the modelled columns, int64 [n, k]."""

    codes: Int64[Tensor, "n k"]
    outside: Int64[Tensor, " k"]
    """Number of clipped cells per column. The numbers are private: they may be published only with noise."""


def encode(raw: RawTable, schema: Schema) -> EncodedRows:
    """Encode table cells as integer codes; columns are matched by name.

    Raises:
        InputError: If the columns are not those of the schema. If the schema does not clip cells, also if a cell is not
            allowed or a row violates a rule; if it does, also if a cell can be neither clipped nor imputed.
    """
    check_columns(raw, schema)
    n, modelled = len(raw.values), schema.modelled
    codes = np.zeros((n, len(modelled)), dtype=np.int64)
    if not schema.clips:
        check_relations(raw, schema)
    amounts = modelled_cells(raw, schema)

    def encode_column(j: int) -> int:
        codes[:, j], outside = _codes_of(modelled[j], amounts, clip=schema.clips, impute=schema.outside == "impute")
        return outside

    outside = by_column(encode_column, range(len(modelled)), n)
    if schema.clips:
        codes = repair(codes, schema.pairs, schema.counts)
    else:
        _check_rules(codes, raw, schema)
        check_derived(raw, schema)
    return EncodedRows(torch.from_numpy(codes), torch.tensor(outside, dtype=torch.int64))


def check_columns(raw: RawTable, schema: Schema, *, partial: bool = False) -> None:
    """Raise an InputError for a column that the schema lacks and, unless `partial`, for a missing modelled column.

    Hidden and skipped columns, which generated rows lack, may be present, except in a partial table. The missing cells
    of a partial table are to be filled in.
    """
    names, present, hidden_names = set(schema.names), set(raw.columns), set(schema.hidden_names)
    unknown = [name for name in raw.columns if name not in names]
    num_present = len(raw.columns) - len(unknown)
    if unknown and 2 * num_present <= len(raw.columns) and 2 * num_present < len(schema.names) and not partial:
        raise InputError(
            f"the schema belongs to another table: only {num_present} of its {len(schema.names)} columns are present",
            remedy="Create a schema of this table (feller data schema)",
        )
    if unknown:
        raise InputError.unknown_name("column", unknown[0], schema.names, alternatives=" of the schema")
    hidden = [name for name in raw.columns if name in hidden_names]
    if hidden and partial:
        raise InputError(
            f"the values of {hidden[0]!r} were hidden by noise, so generated rows lack this column",
            remedy="Remove the column",
        )
    skipped_names = set(schema.skipped_names)
    skipped = [name for name in raw.columns if name in skipped_names]
    if skipped and partial:
        raise InputError(
            f"the schema skips {skipped[0]!r}, so generated rows lack this column", remedy="Remove the column"
        )
    absent = [column.name for column in schema.modelled if column.name not in present]
    if absent and not partial:
        raise InputError(
            column=absent[0],
            expected="a column of this name, which the model was trained on",
            found=f"none among {', '.join(raw.columns)}",
            remedy="Add the column",
        )


def _codes_of(
    column: ModelledColumn,
    raw: RawTable,
    *,
    clip: bool,
    impute: bool = False,
    row_mask: Bool[np.ndarray, " n"] | None = None,
) -> tuple[np.ndarray, int]:
    """Return the codes of a column, and the number of cells that have no code.

    With `clip`, these cells get the code of the nearest bound; if they have none, `impute` gives them the most usual
    code. All others raise an error, except in rows that `row_mask` excludes.
    """
    factorized = raw.factorize(column.name)
    words, inverse = factorized.uniques, factorized.codes
    codes = column.codes(words)
    is_outside = codes < 0
    if clip:
        codes[is_outside] = column.clipped(words.filter(pyarrow.array(is_outside)))
        codes[codes < 0] = column.usual_code if impute else -1
    is_rejected = codes[inverse] < 0
    is_rejected = is_rejected if row_mask is None else is_rejected & row_mask
    if is_rejected.any():
        _reject_cell(column, raw, int(is_rejected.argmax()), clip=clip)
    return codes.clip(min=0)[inverse], int(is_outside[inverse].sum())


def _reject_cell(column: ModelledColumn, raw: RawTable, row: int, *, clip: bool) -> None:
    cell = raw.cell(column.name, row)
    if clip:
        hint = 'No value is close: add "other" or "missing" to the column in the schema'
    elif not cell or (column.missing is None and cell in FILL_MARKS):
        hint = 'Fill the cell, or define "missing" in the schema'
    else:
        hint = 'Correct the cell, widen the schema, or set "outside": "clip" in it'
    raise InputError(column.allowed_hint(cell), repr(cell[:40]), hint, **raw.error_fields(row), column=column.name)


def _check_rules(codes: np.ndarray, raw: RawTable, schema: Schema) -> None:
    for pair in schema.pairs:
        bad_rows = np.flatnonzero(violations(codes, pair))
        if len(bad_rows):
            a, b = schema.modelled[pair.first].name, schema.modelled[pair.second].name
            cells = ", ".join(f"{name} = {raw.cell(name, int(bad_rows[0]))!r}" for name in (a, b))
            text = rules_as_text([rule for rule in schema.rules if {a, b} <= {*rule.names}])
            raise InputError(
                f"a row that satisfies the rule of the schema ({text})",
                cells,
                'Correct the row or the rule, or set "outside": "clip" in the schema',
                **raw.error_fields(int(bad_rows[0])),
            )


def decode(codes: Int64[Tensor, "n k"], uniforms: Float64[Tensor, "n k"], schema: Schema) -> RawTable:
    """Decode codes to a table with the cells of all columns; `uniforms`, in [0, 1), select values within bins."""
    code_array = codes.cpu().numpy()
    uniform_array = ordered_uniforms(code_array, uniforms.cpu().numpy(), schema)
    cells = _written(code_array, uniform_array, schema)
    return all_cells(cells, len(codes), schema, fractions_of(code_array, uniform_array, schema))


def _written(codes: np.ndarray, uniforms: np.ndarray, schema: Schema) -> Cells:
    return {column.name: column.cells(codes[:, j], uniforms[:, j]) for j, column in enumerate(schema.modelled)}


def observed_cells(raw: RawTable, schema: Schema) -> tuple[Int64[Tensor, "n k"], Bool[Tensor, "n k"]]:
    """Return the codes of a table whose unobserved cells are to be filled in, and the mask of its observed cells.

    Cells of absent columns, and cells that are empty, ? or *, are unobserved. But ? and * are observed if they are
    values of the column; for example, if ? means missing in the schema, ? is observed and an empty cell is unobserved.
    An observed cell of a derived column determines the cell of its source column, if only one source cell maps to it;
    so do copies, and sums with one unobserved part. Cells of a gap column are observed if their source is.

    Raises:
        InputError: If an observed cell is not allowed, or observed cells violate a rule or contradict each other. With
            `"outside": "impute"`, the second of two cells that violate a rule counts as unobserved instead.
    """
    check_columns(raw, schema, partial=True)
    raw = partial_amounts(raw, schema, known_cells(raw, schema))
    n, k = len(raw.values), len(schema.modelled)
    codes, observed = np.zeros((n, k), dtype=np.int64), np.zeros((n, k), dtype=bool)
    for j, column in enumerate(schema.modelled):
        given_cells = _sources_given(raw, schema, column)
        if given_cells is not None:
            observed[:, j] = [cell is not None for cell in given_cells]
            cells = pyarrow.table({column.name: text_array([cell or "" for cell in given_cells])})
            column_table = RawTable(cells, columns=(column.name,), lines=raw.lines)
            column_codes, _ = _codes_of(column, column_table, clip=schema.clips, row_mask=observed[:, j])
            codes[:, j] = np.where(observed[:, j], column_codes, 0)
    for pair in schema.pairs:
        both_rows = np.flatnonzero(observed[:, pair.first] & observed[:, pair.second])
        bad_rows = both_rows[violations(codes[both_rows], pair)]
        if schema.outside == "impute":
            observed[bad_rows, pair.second] = False  # the cell stays as written; the other cells do not depend on it
        elif len(bad_rows):
            names = [schema.modelled[i].name for i in (pair.first, pair.second)]
            raise InputError(
                f"the given {' and '.join(names)} violate a rule of the schema", **raw.error_fields(int(bad_rows[0]))
            )
    return torch.from_numpy(codes), torch.from_numpy(observed)


def _sources_given(raw: RawTable, schema: Schema, column: ModelledColumn) -> list[str | None] | None:
    """Return the observed cells of a column, including those implied by derived columns; None if unobserved."""
    cells: list[str | None] = [None] * len(raw.values)
    if column.name in raw.columns:
        cells = [None if is_blank(column, cell) else cell for cell in raw.column(column.name)]
    for derived in schema.columns:
        if isinstance(derived, Derived) and derived.source == column.name and derived.name in raw.columns:
            for i, cell in enumerate(raw.column(derived.name)):
                if cell in FILL_MARKS and not derived.sources(cell):
                    continue
                sources = derived.sources(cell)
                if not sources:
                    allowed = list(dict.fromkeys(derived.mapping.values()))
                    error = InputError.unknown_name("cell", cell[:40], allowed)
                    raise error.with_context(**raw.error_fields(i), column=derived.name)
                if cells[i] is None and len(sources) == 1:
                    cells[i] = sources[0]
                elif cells[i] is None:
                    expected = f"{column.name}, since several of its values map to this cell: {', '.join(sources)}"
                    raise InputError(
                        expected, "none", "Give the source column", **raw.error_fields(i), column=derived.name
                    )
                elif cells[i] not in sources:
                    follows = f"the value derived from {column.name} = {cells[i]!r}"
                    raise InputError(follows, repr(cell), **raw.error_fields(i), column=derived.name)
    return None if all(cell is None for cell in cells) else cells


def outside(schema: Schema, found: RawTable) -> Iterator[str]:
    """Yield a warning for each column of the table `found` with values that the training rows lack.

    The warning states the number of cells with such values, and the value as which they are read.
    """
    for column in schema.modelled:
        if column.name not in found.columns or isinstance(schema.by_name[column.name], Gap):
            continue
        words, counts = (factorized := found.factorize(column.name)).uniques, factorized.counts
        codes, replacement = column.codes(words), "the nearest allowed value"
        unknown = codes < 0
        if isinstance(column, Categorical) and column.other is not None:
            allowed = text_array([*column.value_names, *column.words_for_missing, ""])
            unknown, replacement = ~np.asarray(_ARROW.is_in(words, allowed)), repr(column.other)
        cells = [
            (cell, int(count))
            for cell, count in zip(words.filter(pyarrow.array(unknown)).to_pylist(), counts[unknown], strict=True)
            if not is_blank(column, cell)
        ]
        if not cells:
            continue
        cell, total = cells[0][0], sum(count for _, count in cells)
        if replacement[0] == "t" and column.nearest_codes(text_array([cell]))[0] < 0:
            imputed = schema.outside == "impute" and column.missing is None
            replacement = repr(column.names[column.usual_code]) if imputed else "missing"
        suggestion = best_match(cell, [*column.value_names]) if isinstance(column, Categorical) else ""
        hint = f"did you mean {suggestion!r}?" if suggestion else f"expected {column.allowed_hint(cell)}"
        more_cells = f" and {total - 1:,} more cells" if total > 2 else " and 1 more cell" if total == 2 else ""
        yield f"{column.name} {cell[:40]!r}{more_cells}: not in the training data, read as {replacement}; {hint}"


def empty_cells(schema: Schema, found: RawTable) -> Iterator[str]:
    """Yield a warning for each column of the table `found` with empty cells, if the training rows have none in it.

    The warning states the number of empty cells, and the value as which they are read.
    """
    for column in schema.modelled:
        if (
            column.missing is None
            and column.name in found.columns
            and (n := found.factorize(column.name).count_in([""]))
        ):
            replacement = column.names[column.usual_code]
            yield f"{column.name}: {n:,} empty cells, which the training data lack, read as {replacement!r}"


def check_types(schema: Schema, found: RawTable) -> None:
    """Raise an InputError if a numerical, date or Boolean column of the table `found` has a cell of another type."""
    for column in schema.modelled:
        is_gap = isinstance(schema.by_name[column.name], Gap)
        if column.name not in found.columns or isinstance(column, Categorical) or is_gap:
            continue
        factorized = found.factorize(column.name)
        is_unreadable = (column.codes(factorized.uniques) < 0) & (column.nearest_codes(factorized.uniques) < 0)
        bad_indices = [
            index
            for index in np.flatnonzero(is_unreadable)
            if not is_blank(column, factorized.uniques[int(index)].as_py())
        ]
        if bad_indices:
            row = int(np.isin(factorized.codes, bad_indices).argmax())
            cell = found.cell(column.name, row)
            raise InputError(
                column.allowed_hint(cell),
                repr(cell[:40]),
                "Correct the cell, or leave it empty",
                **found.error_fields(row),
                column=column.name,
            )


def fill_gaps(
    raw: RawTable,
    codes: Int64[Tensor, "n k"],
    uniforms: Float64[Tensor, "n k"],
    schema: Schema,
    *,
    spans: Mapping[int, Spans] | None = None,
) -> RawTable:
    """Return the table `raw` with its unobserved cells decoded from codes; observed cells keep their spelling.

    Args:
        raw: Table with unobserved cells.
        codes: Codes of all modelled cells.
        uniforms: Numbers in [0, 1), which select values within bins.
        schema: Schema of the table.
        spans: Allowed ranges of the values of columns in rules of order, by column index.

    Raises:
        InputError: If observed cells leave no cells that satisfy the relations between columns.
    """

    def fill(name: str, generated: pyarrow.Array, is_gap: Callable[[str], bool]) -> pyarrow.Array:
        factorized = raw.factorize(name)
        gap_mask = np.array([is_gap(word) for word in factorized.uniques.to_pylist()], dtype=bool)[factorized.codes]
        return _ARROW.if_else(
            pyarrow.array(gap_mask), generated, factorized.uniques.take(pyarrow.array(factorized.codes))
        )

    known = known_cells(raw, schema)
    code_array = codes.cpu().numpy()
    uniform_array = ordered_uniforms(
        code_array, uniforms.cpu().numpy(), schema, fixed=fixed_values(known, schema), spans=spans
    )
    cells = _written(code_array, uniform_array, schema)
    for name in known:
        if name in cells and not isinstance(schema.by_name[name], Gap):
            cells[name] = _ARROW.coalesce(known[name], cells[name])
    cells, own_cells, caps = settle(cells, known, schema)
    table = all_cells(cells, len(codes), schema, fractions_of(code_array, uniform_array, schema), own_cells, caps)
    check_completed(raw, known, table, schema)
    for j, column in enumerate(schema.written_columns):
        if column.name in raw.columns and isinstance(column, Identifier | FreeText):
            column_cells = fill(column.name, table.values.column(j).combine_chunks(), FILL_MARKS.__contains__)
            table = replace(table, values=table.values.set_column(j, column.name, column_cells))
    return table
