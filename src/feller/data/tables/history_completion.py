"""Tables of histories with unobserved cells: their codes, and the cells that complete them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import InputError
from feller.data.loading.raw import RawTable
from feller.data.tables.encoding import check_columns, fill_gaps, observed_cells
from feller.data.tables.histories import Histories
from feller.data.tables.history_rows import people_of
from feller.data.tables.partial_tables import known_cells
from feller.data.tables.transforms import Cells, cells_of, read_values, write_values

_ARROW: Any = pyarrow.compute  # its functions are created at import


@dataclass(frozen=True, eq=False)
class PartialHistories:
    """Table with all rows of each person and unobserved cells, as codes of histories."""

    table: RawTable
    """Table; the attributes of a person, if observed in one row, are filled in all rows."""
    person: Int64[np.ndarray, " m"]
    """Index of the person of each row of the table."""
    step: Int64[np.ndarray, " m"]
    """Index of each row within its person."""
    codes: Int64[Tensor, "n codes"]
    """Codes of histories; those of unobserved cells are ignored."""
    observed: Bool[Tensor, "n codes"]
    """Mask of the codes of observed cells; the number of rows is observed."""
    units: Int64[np.ndarray, " m"] | None = None
    """Order of each row, in units of the order column; None if histories have no order column."""
    has_units: Bool[np.ndarray, " m"] | None = None
    """Mask of rows with an observed order."""

    def rows_of(self, first: int, n: int) -> Int64[np.ndarray, " r"]:
        """Return the rows of the table, in its order, that belong to the n persons from the index `first` on."""
        return np.flatnonzero((self.person >= first) & (self.person < first + n))

    def subset(self, first: int, n: int) -> "PartialHistories":
        """Return the n persons from the index `first` on."""
        rows, persons = self.rows_of(first, n), slice(first, first + n)
        return replace(
            self,
            table=self.table.subset(rows),
            person=self.person[rows] - first,
            step=self.step[rows],
            codes=self.codes[persons],
            observed=self.observed[persons],
            units=None if self.units is None else self.units[rows],
            has_units=None if self.has_units is None else self.has_units[rows],
        )

    def row(self, person: int, step: int = 0) -> int:
        """Return the row of the table that is the row `step` of a person."""
        return int(np.flatnonzero((self.person == person) & (self.step == step))[0])


def partial_histories(raw: RawTable, modality: Histories) -> PartialHistories:
    """Read a table with all rows of each person, in which some cells of attributes and rows are unobserved.

    The rows of a person whose order is unobserved in some rows are in the order of the table; its observed values must
    ascend.

    Raises:
        InputError: If the column of persons is missing, a cell is not allowed, cells of a person contradict each other,
            or a person has too many rows.
    """
    schema, history = modality.schema, modality.history
    person = people_of(raw, schema.unit)
    check_columns(raw, schema, partial=True)
    if not len(person):
        raise InputError("at least one row", "an empty table")
    units, has_units = _orders(raw, modality)
    step = _steps(raw, modality, person, units, has_units)
    too_late = step >= history.max_rows
    if too_late.any():
        row = int(too_late.argmax())
        raise InputError(
            f"at most {history.max_rows} rows of each person",
            f"{int(np.bincount(person)[person[row]])} rows of {_name(raw, modality, row)}",
            "Remove rows of this person, or fit with a larger --max-rows",
            **raw.error_fields(row),
            column=schema.unit,
        )
    table = _with_attributes(raw, modality, person)
    codes, observed = observed_cells(table, schema)
    n, m = int(person.max()) + 1, len(person)
    columns = {column.name: j for j, column in enumerate(schema.modelled)}
    first = np.zeros(n, dtype=np.int64)
    first[person[step == 0]] = np.flatnonzero(step == 0)
    a, k = len(modality.persons.counts), len(modality.rows.counts)
    of_persons, has_persons = torch.zeros(n, a, dtype=torch.int64), torch.zeros(n, a, dtype=torch.bool)
    of_persons[:, 0], has_persons[:, 0] = torch.from_numpy(np.bincount(person) - history.min_rows), True
    for j, name in enumerate(modality.persons.schema.names[1:], 1):
        of_persons[:, j], has_persons[:, j] = codes[first, columns[name]], observed[first, columns[name]]
    of_rows, has_rows = torch.zeros(m, k, dtype=torch.int64), torch.zeros(m, k, dtype=torch.bool)
    for j, name in enumerate(modality.rows.schema.names):
        of_rows[:, j], has_rows[:, j] = codes[:, columns[name]], observed[:, columns[name]]
        if name == history.order and units is not None and has_units is not None:
            gaps, has_gaps = _gap_codes(raw, modality, person, step, units, has_units)
            of_rows[:, j], has_rows[:, j] = torch.from_numpy(gaps), torch.from_numpy(has_gaps)
    padded = torch.zeros(n, history.max_rows, k, dtype=torch.int64)
    mask = torch.zeros(n, history.max_rows, k, dtype=torch.bool)
    index = torch.from_numpy(person), torch.from_numpy(step)
    padded[index], mask[index] = of_rows, has_rows
    return PartialHistories(
        table,
        person,
        step,
        torch.cat([of_persons, padded.flatten(1)], 1),
        torch.cat([has_persons, mask.flatten(1)], 1),
        units,
        has_units,
    )


def history_tokens(
    partial: PartialHistories, modality: Histories
) -> tuple[Int64[Tensor, "n places"], Bool[Tensor, "n places"]]:
    """Convert partial histories to tokens and the mask of observed tokens."""
    widths = [*modality.persons.space().tokens_per_column]
    widths += [*modality.rows.space().tokens_per_column] * modality.history.max_rows
    return modality.encode(partial.codes), partial.observed.repeat_interleave(torch.tensor(widths), 1)


def missing_tokens(modality: Histories) -> Int64[Tensor, " places"]:
    """Return the token of a missing cell at each position of the attributes and of a row; see `Table.missing_tokens`.

    The positions of further rows have none.
    """
    tokens = torch.cat([modality.persons.missing_tokens, modality.rows.missing_tokens])
    return F.pad(tokens, (0, modality.space().num_places - len(tokens)), value=-1)


def completed_histories(
    partial: PartialHistories, modality: Histories, values: Int64[Tensor, "n codes"], uniforms: Float64[Tensor, "n c"]
) -> RawTable:
    """Return the table with its unobserved cells decoded from codes; observed cells keep their spelling.

    Unobserved orders between two observed ones divide the difference in the proportion of the generated differences.

    Args:
        partial: Table with unobserved cells.
        modality: Modality of histories.
        values: Codes of histories.
        uniforms: Numbers in [0, 1), which select values within bins.
    """
    schema, person, step = modality.schema, partial.person, partial.step
    attributes, rows = modality.split(values)
    attribute_u = uniforms[:, : attributes.shape[1]]
    row_u = uniforms[:, attributes.shape[1] :].reshape(rows.shape)
    row_codes, row_uniforms = rows[person, step], row_u[person, step]
    table = partial.table
    order, order_codes = modality.history.order, None
    if order is not None and partial.units is not None and partial.has_units is not None:
        column = modality.order_column
        first = read_values(cells_of(modality.persons.cells(attributes, attribute_u), order), column)[1]
        gap = modality.history.gap
        assert gap is not None
        gaps = read_values(cells_of(modality.rows.cells(row_codes, row_uniforms), order), gap)[1]
        units = _filled_orders(partial, first, gaps).clip(column.levels.starts[0], column.levels.last)
        units = np.where(partial.has_units, partial.units, units)
        texts = write_values(units, column)
        if order in table.columns:
            texts = _ARROW.if_else(pyarrow.array(partial.has_units), cells_of(table, order), texts)
        table = _with_cells(table, {order: texts})
        found = texts.dictionary_encode()
        order_codes = column.codes(found.dictionary)[np.asarray(found.indices)].clip(min=0)
    codes = np.zeros((len(person), len(schema.modelled)), dtype=np.int64)
    chosen = np.full(codes.shape, 0.5)
    of_persons = {name: j for j, name in enumerate(modality.persons.schema.names)}
    of_rows = {name: j for j, name in enumerate(modality.rows.schema.names)}
    for j, column in enumerate(schema.modelled):
        name = column.name
        if name == order and order_codes is not None:
            codes[:, j] = order_codes
        elif name in of_persons:
            codes[:, j] = attributes[person, of_persons[name]]
            chosen[:, j] = attribute_u[person, of_persons[name]]
        else:
            codes[:, j], chosen[:, j] = row_codes[:, of_rows[name]], row_uniforms[:, of_rows[name]]
    return fill_gaps(table, torch.from_numpy(codes), torch.from_numpy(chosen), schema)


def _name(raw: RawTable, modality: Histories, row: int) -> str:
    return f"{modality.schema.unit} {raw.cell(modality.schema.unit, row)[:40]!r}"


def _with_cells(table: RawTable, cells: Cells) -> RawTable:
    values = table.values
    for name, column in cells.items():
        if name in table.columns:
            values = values.set_column(table.columns.index(name), name, column)
        else:
            values = values.append_column(name, column)
    return replace(table, values=values, columns=tuple(values.column_names))


def _orders(raw: RawTable, modality: Histories) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the order of each row in units of the order column, and the mask of rows with an observed order."""
    if modality.history.order is None:
        return None, None
    column = modality.order_column
    if column.name not in raw.columns:
        return np.zeros(len(raw.values), dtype=np.int64), np.zeros(len(raw.values), dtype=bool)
    known = known_cells(raw, modality.schema)[column.name]
    is_valid, units = read_values(known.fill_null(""), column)
    wrong = np.asarray(known.is_valid()) & ~is_valid
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{column.allowed_text}, by which the rows of {_name(raw, modality, row)} are sorted",
            repr(raw.cell(column.name, row)[:40]),
            "Correct the cell, or leave it empty",
            **raw.error_fields(row),
            column=column.name,
        )
    return units, is_valid


def _steps(
    raw: RawTable, modality: Histories, person: np.ndarray, units: np.ndarray | None, has_units: np.ndarray | None
) -> Int64[np.ndarray, " m"]:
    """Return the index of each row within its person."""
    m = len(person)
    key = np.arange(m)
    if units is not None and has_units is not None:
        is_sortable = np.bincount(person, ~has_units) == 0
        key = np.where(is_sortable[person], units, key)
    order = np.lexsort((np.arange(m), key, person))
    people = person[order]
    step = np.zeros(m, dtype=np.int64)
    step[order] = np.arange(m) - np.searchsorted(people, people)
    if units is not None and has_units is not None:
        known = order[has_units[order]]
        is_back = (np.diff(units[known]) < 0) & (np.diff(person[known]) == 0)
        if is_back.any():
            row = int(known[1:][is_back.argmax()])
            name = modality.history.order
            raise InputError(
                f"an order that ascends in the rows of {_name(raw, modality, row)}, some of which have none",
                f"{raw.cell(str(name), row)!r} after {raw.cell(str(name), int(known[:-1][is_back.argmax()]))!r}",
                "Sort the rows of this person, or fill the empty cells",
                **raw.error_fields(row),
                column=name,
            )
    return step


def _with_attributes(raw: RawTable, modality: Histories, person: np.ndarray) -> RawTable:
    """Return the table with attributes that are observed in one row of a person in all of their rows.

    Raises:
        InputError: If the observed values of a person differ.
    """
    known = known_cells(raw, modality.schema)
    cells: Cells = {}
    for name in modality.history.attributes:
        if name not in known:
            continue
        encoded = known[name].dictionary_encode()
        codes = np.asarray(encoded.indices.fill_null(-1))
        rows = np.flatnonzero(codes >= 0)
        first = np.full(int(person.max()) + 1, -1)
        first[person[rows[::-1]]] = rows[::-1]
        of_person = np.where(first[person] >= 0, codes[first[person]], -1)
        differs = (codes >= 0) & (codes != of_person)
        if differs.any():
            row = int(differs.argmax())
            raise InputError(
                f"one value of {_name(raw, modality, row)}, {raw.cell(name, int(first[person[row]]))!r} as before",
                repr(raw.cell(name, row)),
                "Correct the cell, or leave it empty",
                **raw.error_fields(row),
                column=name,
            )
        taken = encoded.dictionary.take(pyarrow.array(of_person, mask=of_person < 0))
        cells[name] = taken.fill_null("") if len(encoded.dictionary) else known[name].fill_null("")
    return _with_cells(raw, cells)


def _gap_codes(
    raw: RawTable,
    modality: Histories,
    person: np.ndarray,
    step: np.ndarray,
    units: np.ndarray,
    has_units: np.ndarray,
) -> tuple[Int64[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    """Return the code of the difference of each row from the row before, and the mask of observed differences."""
    gap = modality.history.gap
    assert gap is not None
    order = np.lexsort((step, person))
    gaps = np.full(len(person), gap.levels.starts[0])
    has_gap = step == 0
    later, earlier = order[1:], order[:-1]
    both = (step[later] > 0) & has_units[later] & has_units[earlier]
    gaps[later[both]], has_gap[later[both]] = (units[later] - units[earlier])[both], True
    encoded = write_values(gaps, gap).dictionary_encode()
    codes = gap.codes(encoded.dictionary)
    if modality.schema.clips:
        is_outside = codes < 0
        codes[is_outside] = gap.clipped(encoded.dictionary.filter(pyarrow.array(is_outside)))
    codes = codes[np.asarray(encoded.indices)]
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        raise InputError(
            f"{gap.allowed_text} after the row before of {_name(raw, modality, row)}",
            str(write_values(gaps[row : row + 1], gap)[0]),
            "Correct the cell, or leave it empty",
            **raw.error_fields(row),
            column=modality.history.order,
        )
    return codes, has_gap


def _filled_orders(partial: PartialHistories, first: np.ndarray, gaps: np.ndarray) -> Int64[np.ndarray, " m"]:
    """Return the order of each row: observed, or from the generated first value and differences.

    Args:
        partial: Table with unobserved cells.
        first: Generated first value of each person.
        gaps: Generated difference of each row from the row before.
    """
    assert partial.units is not None
    assert partial.has_units is not None
    order = np.lexsort((partial.step, partial.person))
    person, is_first = partial.person[order], partial.step[order] == 0
    known, units = partial.has_units[order], partial.units[order]
    moves = np.where(is_first, 0, gaps[order])
    total = moves.cumsum()
    start = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    path = first[person] + total - total[start]
    index = np.arange(len(order))
    before = np.maximum.accumulate(np.where(known, index, -1))
    before = np.where(before >= start, before, -1)
    after = np.minimum.accumulate(np.where(known, index, len(order))[::-1])[::-1]
    stop = np.append(np.flatnonzero(is_first)[1:], len(order))[np.cumsum(is_first) - 1]
    after = np.where(after < stop, after, -1)
    filled = path.copy()
    one = np.where(before >= 0, before, after)
    shifted = path + units[one] - path[one]
    filled = np.where(one >= 0, shifted, filled)
    between = (before >= 0) & (after >= 0) & ~known
    span, part = path[after] - path[before], path - path[before]
    share = np.divide(part, span, out=np.zeros(len(order)), where=span > 0)
    inner = units[before] + np.floor(share * (units[after] - units[before])).astype(np.int64)
    result = np.empty(len(order), dtype=np.int64)
    result[order] = np.where(known, units, np.where(between, inner, filled))
    return result
