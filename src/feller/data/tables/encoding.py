"""Encoding of table cells as integer codes, and decoding of codes."""

import functools
from collections.abc import Callable, Iterator
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
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Derived, FreeText, Identifier

_ARROW: Any = pyarrow.compute  # its functions are created at import
FILL_MARKS = ("", "?", "*")
"""Markers of a cell to fill in. The empty cell is always a marker, the other cells only if they are not values of the
column."""


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Encoded table: integer codes of the modelled columns, int64 [n, k]."""

    codes: Int64[Tensor, "n k"]
    outside: Int64[Tensor, " k"]
    """Number of clipped cells per column. The numbers are private: they may be published only with noise."""


def encode(raw: RawTable, schema: Schema) -> EncodedRows:
    """Encode table cells as integer codes; columns are matched by name.

    Raises:
        InputError: If the columns are not those of the schema, or a cell is not allowed and the schema does not clip it
            or it has no nearest code.
    """
    check_columns(raw, schema)
    n, modelled = len(raw.values), schema.modelled
    codes = np.zeros((n, len(modelled)), dtype=np.int64)

    def clipped(j: int) -> int:
        codes[:, j], outside = _codes_of(modelled[j], raw, clip=schema.clips, impute=schema.outside == "impute")
        return outside

    outside = by_column(clipped, range(len(modelled)), n)
    if schema.clips:
        codes = repair(codes, schema.pairs, schema.counts)
    else:
        _check_rules(codes, raw, schema)
        _check_derived(raw, schema)
    return EncodedRows(torch.from_numpy(codes), torch.tensor(outside, dtype=torch.int64))


def check_columns(raw: RawTable, schema: Schema, *, partial: bool = False) -> None:
    """Raise an InputError for a column that the schema lacks and, unless `partial`, for a missing modelled column.

    Hidden columns may be present, except in a partial table, whose missing cells are to be filled in.
    """
    unknown = [name for name in raw.columns if name not in schema.names]
    there = len(raw.columns) - len(unknown)
    if unknown and 2 * there <= len(raw.columns) and 2 * there < len(schema.names) and not partial:
        raise InputError(
            f"the schema belongs to another table: only {there} of its {len(schema.names)} columns are present",
            remedy="Create a schema of this table (feller data schema)",
        )
    if unknown:
        raise InputError.unknown_name("column", unknown[0], schema.names, alternatives=" of the schema")
    hidden = [name for name in raw.columns if name in schema.hidden_names]
    if hidden and partial:
        raise InputError(
            f"the values of {hidden[0]!r} were hidden by noise, so generated rows lack this column",
            remedy="Remove the column",
        )
    lacking = [column.name for column in schema.modelled if column.name not in raw.columns]
    if lacking and not partial:
        raise InputError(
            column=lacking[0],
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
    among: Bool[np.ndarray, " n"] | None = None,
) -> tuple[np.ndarray, int]:
    """Return the codes of a column, and the number of clipped cells; rows not in `among` are not checked."""
    column_words = raw.factorize(column.name)
    words, back = column_words.uniques, column_words.codes
    codes = column.codes(words)
    wrong = codes < 0
    if clip:
        codes[wrong] = column.clipped(words.filter(pyarrow.array(wrong)))
        codes[codes < 0] = column.usual_code if impute else -1
    bad = codes[back] < 0
    bad = bad if among is None else bad & among
    if bad.any():
        _reject_cell(column, raw, int(bad.argmax()), clip=clip)
    return codes.clip(min=0)[back], int(wrong[back].sum())


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
        wrong = np.flatnonzero(violations(codes, pair))
        if len(wrong):
            a, b = schema.modelled[pair.first].name, schema.modelled[pair.second].name
            held = ", ".join(f"{name} = {raw.cell(name, int(wrong[0]))!r}" for name in (a, b))
            text = "; ".join(rule.text for rule in schema.rules if {rule.when, rule.then} == {a, b})
            raise InputError(
                f"a row that satisfies the rule of the schema ({text})",
                held,
                'Correct the row or the rule, or set "outside": "clip" in the schema',
                **raw.error_fields(int(wrong[0])),
            )


def _check_derived(raw: RawTable, schema: Schema) -> None:
    for column in schema.columns:
        if not isinstance(column, Derived) or column.name not in raw.columns:
            continue
        source = schema.modelled[schema.place(column.source)]
        theirs, ours = raw.factorize(column.source), raw.factorize(column.name)
        expected = [_follows(column, source, cell) for cell in theirs.uniques.to_pylist()]
        words = ours.uniques.to_pylist()
        place = {word: i for i, word in enumerate(words)}
        wrong = np.array([place.get(cell, -1) for cell in expected])[theirs.codes] != ours.codes
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{expected[theirs.codes[row]]!r} for {column.source} = {raw.cell(column.source, row)!r}",
                repr(words[ours.codes[row]][:40]),
                "Correct the cell or the mapping",
                **raw.error_fields(row),
                column=column.name,
            )


def _follows(column: Derived, source: ModelledColumn, cell: str) -> str:
    """Return the derived cell of a source cell, whose spelling may differ from the schema, such as 9.0 for 9."""
    if cell not in column.mapping:
        cell = source.cells(np.array([source.parse_code(cell, clip=True)]), np.zeros(1))[0].as_py()
    return column.mapping[cell]


def decode(codes: Int64[Tensor, "n k"], uniforms: Float64[Tensor, "n k"], schema: Schema) -> RawTable:
    """Decode codes to a table with the cells of all columns; `uniforms`, in [0, 1), select values within bins."""
    return _with_others(_written(codes, uniforms, schema), len(codes), schema)


def _written(codes: Tensor, uniforms: Tensor, schema: Schema) -> dict[str, pyarrow.Array]:
    numbers, uniform_numbers = codes.cpu().numpy(), uniforms.cpu().numpy()
    return {column.name: column.cells(numbers[:, j], uniform_numbers[:, j]) for j, column in enumerate(schema.modelled)}


def _with_others(written: dict[str, pyarrow.Array], n: int, schema: Schema) -> RawTable:
    """Return the table with the unmodelled columns added, except hidden ones."""
    cells = {}
    for column in schema.written_columns:
        if isinstance(column, Derived):
            source = schema.modelled[schema.place(column.source)]
            theirs = written[column.source].dictionary_encode()
            words = text_array([_follows(column, source, cell) for cell in theirs.dictionary.to_pylist()])
            cells[column.name] = words.take(theirs.indices)
        else:
            own = isinstance(column, Identifier | FreeText)
            cells[column.name] = text_array(column.cells(n)) if own else written[column.name]
    return RawTable(pyarrow.table(cells), columns=tuple(cells))


def observed_cells(raw: RawTable, schema: Schema) -> tuple[Int64[Tensor, "n k"], Bool[Tensor, "n k"]]:
    """Return the codes of a table whose unobserved cells are to be filled in, and the mask of its observed cells.

    Cells of absent columns, and cells that are empty, ? or *, are unobserved. But ? and * are observed if they are
    values of the column; for example, if ? means missing in the schema, ? is observed and an empty cell is unobserved.
    An observed cell of a derived column determines the cell of its source column, if only one source cell maps to it.

    Raises:
        InputError: If an observed cell is not allowed, or observed cells violate a rule or contradict each other.
    """
    check_columns(raw, schema, partial=True)
    n, k = len(raw.values), len(schema.modelled)
    codes, observed = np.zeros((n, k), dtype=np.int64), np.zeros((n, k), dtype=bool)
    for j, column in enumerate(schema.modelled):
        given_cells = _sources_given(raw, schema, column)
        if given_cells is not None:
            observed[:, j] = [cell is not None for cell in given_cells]
            cells = pyarrow.table({column.name: text_array([cell or "" for cell in given_cells])})
            given = RawTable(cells, columns=(column.name,), lines=raw.lines)
            own, _ = _codes_of(column, given, clip=schema.clips, among=observed[:, j])
            codes[:, j] = np.where(observed[:, j], own, 0)
    for pair in schema.pairs:
        both = np.flatnonzero(observed[:, pair.first] & observed[:, pair.second])
        wrong = both[violations(codes[both], pair)]
        if len(wrong):
            names = [schema.modelled[i].name for i in (pair.first, pair.second)]
            raise InputError(
                f"the given {' and '.join(names)} violate a rule of the schema", **raw.error_fields(int(wrong[0]))
            )
    return torch.from_numpy(codes), torch.from_numpy(observed)


def is_blank(column: ModelledColumn, cell: str) -> bool:
    """Return True if a cell is to be filled in; an empty cell always is, even if the column allows empty cells."""
    if not cell:
        return True
    if cell not in FILL_MARKS or cell in column.words_for_missing:
        return False
    if isinstance(column, Categorical):  # with "other", any word has a code, also the markers
        return cell not in column.value_names
    return column.code(cell) is None


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
                    known = list(dict.fromkeys(derived.mapping.values()))
                    wrong = InputError.unknown_name("cell", cell[:40], known)
                    raise wrong.with_context(**raw.error_fields(i), column=derived.name)
                if cells[i] is None and len(sources) == 1:
                    cells[i] = sources[0]
                elif cells[i] is None:
                    several = f"{column.name}, since several of its values map to this cell: {', '.join(sources)}"
                    raise InputError(
                        several, "none", "Give the source column", **raw.error_fields(i), column=derived.name
                    )
                elif cells[i] not in sources:
                    follows = f"the value derived from {column.name} = {cells[i]!r}"
                    raise InputError(follows, repr(cell), **raw.error_fields(i), column=derived.name)
    return None if all(cell is None for cell in cells) else cells


def outside(schema: Schema, found: RawTable) -> Iterator[str]:
    """Yield a warning for each column with values that the training rows lack: their number and replacement."""
    for column in schema.modelled:
        if column.name not in found.columns:
            continue
        words, counts = (own := found.factorize(column.name)).uniques, own.counts
        codes, counted = column.codes(words), "the nearest allowed value"
        unknown = codes < 0
        if isinstance(column, Categorical) and column.other is not None:
            known = text_array([*column.value_names, *column.words_for_missing, ""])
            unknown, counted = ~np.asarray(_ARROW.is_in(words, known)), repr(column.other)
        cells = [
            (cell, int(count))
            for cell, count in zip(words.filter(pyarrow.array(unknown)).to_pylist(), counts[unknown], strict=True)
            if not is_blank(column, cell)
        ]
        if not cells:
            continue
        cell, often = cells[0][0], sum(count for _, count in cells)
        if counted[0] == "t" and column.nearest_codes(text_array([cell]))[0] < 0:
            imputed = schema.outside == "impute" and column.missing is None
            counted = repr(column.names[column.usual_code]) if imputed else "missing"
        close = best_match(cell, [*column.value_names]) if isinstance(column, Categorical) else ""
        hint = f"did you mean {close!r}?" if close else f"expected {column.allowed_hint(cell)}"
        more_cells = f" and {often - 1:,} more cells" if often > 2 else " and 1 more cell" if often == 2 else ""
        yield f"{column.name} {cell[:40]!r}{more_cells}: not in the training data, read as {counted}; {hint}"


def empty_cells(schema: Schema, found: RawTable) -> Iterator[str]:
    """Yield a warning for each column with empty cells, if the training rows have none, with the replacement."""
    for column in schema.modelled:
        if (
            column.missing is None
            and column.name in found.columns
            and (n := found.factorize(column.name).count_in([""]))
        ):
            usual = column.names[column.usual_code]
            yield f"{column.name}: {n:,} empty cells, which the training data lack, read as {usual!r}"


def check_types(schema: Schema, found: RawTable) -> None:
    """Raise an InputError if a numerical, date or Boolean column has a cell of another type."""
    for column in schema.modelled:
        if column.name not in found.columns or isinstance(column, Categorical):
            continue
        own = found.factorize(column.name)
        unread = (column.codes(own.uniques) < 0) & (column.nearest_codes(own.uniques) < 0)
        bad = [place for place in np.flatnonzero(unread) if not is_blank(column, own.uniques[int(place)].as_py())]
        if bad:
            row = int(np.isin(own.codes, bad).argmax())
            cell = found.cell(column.name, row)
            raise InputError(
                column.allowed_hint(cell),
                repr(cell[:40]),
                "Correct the cell, or leave it empty",
                **found.error_fields(row),
                column=column.name,
            )


def fill_gaps(raw: RawTable, codes: Int64[Tensor, "n k"], uniforms: Float64[Tensor, "n k"], schema: Schema) -> RawTable:
    """Return the table `raw` with its unobserved cells decoded from codes; observed cells keep their spelling."""

    def filled(name: str, drawn: pyarrow.Array, asks: Callable[[str], bool]) -> pyarrow.Array:
        own = raw.factorize(name)
        gaps = np.array([asks(word) for word in own.uniques.to_pylist()], dtype=bool)[own.codes]
        return _ARROW.if_else(pyarrow.array(gaps), drawn, own.uniques.take(pyarrow.array(own.codes)))

    written = _written(codes, uniforms, schema)
    for column in schema.modelled:
        if column.name in raw.columns:
            written[column.name] = filled(column.name, written[column.name], functools.partial(is_blank, column))
    whole = _with_others(written, len(codes), schema)
    for j, column in enumerate(schema.written_columns):
        if column.name in raw.columns and isinstance(column, Identifier | FreeText):
            own = filled(column.name, whole.values.column(j).combine_chunks(), FILL_MARKS.__contains__)
            whole = replace(whole, values=whole.values.set_column(j, column.name, own))
    return whole
