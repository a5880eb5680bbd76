"""Modality of tables that are linked by keys: a table of persons, and the rows of each person in other tables."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.data.files import sample_folder
from feller.data.loading.raw import RawExamples, RawTable, RawTables, expect, text_array
from feller.data.modality import Dataset, Writer
from feller.data.tables.column import Column, ModelledColumn
from feller.data.tables.constraints import repair
from feller.data.tables.dataframes import to_frame, write_cells
from feller.data.tables.dates import Datetime
from feller.data.tables.encoding import encode
from feller.data.tables.given_cells import CellConditions, GivenCells
from feller.data.tables.histories import Histories
from feller.data.tables.history_rows import within_bounds
from feller.data.tables.history_schema import NUM_ROWS
from feller.data.tables.history_windows import HistoryWindows
from feller.data.tables.linked_rows import LinkedRows, linked_rows
from feller.data.tables.linked_schema import LinkedSchema, Links, TableKeys, schemas_of
from feller.data.tables.modality import Table, unmodelled_notes
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.rules import Unique
from feller.data.tables.schema import Schema
from feller.data.tables.transforms import all_cells, cells_of, read_values, write_values
from feller.data.tables.unmodelled_columns import Identifier
from feller.spaces.history_tokens import HistoryTokens, RowKind


@dataclass(frozen=True, eq=False)
class RowTree:
    """Rows of linked tables, and the row to which each belongs; the first table is that of persons."""

    rows: tuple[Int64[np.ndarray, " _"], ...]
    """Indices of the rows of each table among all rows of all persons; of persons, their own indices."""
    parents: tuple[Int64[np.ndarray, " _"], ...]
    """Index, in its own table, of the parent of each row of each table; of persons, their own indices."""


@dataclass(frozen=True)
class LinkedTables(Histories):
    """Modality of linked tables, as histories: the attributes of a person, and the person's rows in all other tables.

    The first column of rows is the table of a row. The columns of other tables hold a fixed valid code. The rows that
    belong to a row follow it, so that every row has its parent, and numbers of children are learned.
    """

    display_name = "several tables linked by keys"
    raw_type = RawTables
    samples_as_frame = False

    links: Links = Links(())  # noqa: RUF009 - frozen
    """Keys of the tables; their columns have qualified names in `schema`, except those of persons."""

    def __post_init__(self) -> None:
        if len(self.links.tables) < 2:
            raise InputError(argument="links", expected="a table of persons and a table of their rows", found="none")
        super().__post_init__()

    @cached_property
    def parts(self) -> tuple[Table, ...]:
        """Modality of the single rows of each generated table."""
        return tuple(Table(schema) for schema in self.schemas)

    @cached_property
    def schemas(self) -> tuple[Schema, ...]:
        """Schema of each generated table, with the column names of `schema`."""
        return tuple(schemas_of(self.schema, self.links))

    @cached_property
    def columns_of(self) -> tuple[tuple[int, ...], ...]:
        """Indices, among the modelled columns of rows, of the columns of each child table."""
        return tuple(tuple(map(self._place, schema.modelled)) for schema in self.schemas[1:])

    @cached_property
    def _columns_of_kinds(self) -> list[tuple[int, ...]]:
        """Indices of the columns of each kind of rows: the order column has a value or a difference."""
        found = []
        for table, is_next in self.links.kinds:
            i = self.links.children.index(table)
            columns, order = self.columns_of[i], self._order_column(table)
            found.append(tuple(self._gap_place(table) if is_next and j == order else j for j in columns))
        return found

    def _place(self, column: ModelledColumn) -> int:
        return self.rows.schema.place(column.name)

    def _order_column(self, table: TableKeys) -> int | None:
        return None if table.gap is None else self.rows.schema.place(f"{table.name}.{table.order}")

    def _gap_place(self, table: TableKeys) -> int:
        return self.rows.schema.place(table.gap_name)

    @cached_property
    def _child_of_kind(self) -> Int64[np.ndarray, " kinds"]:
        """Index in `links.tables` of the table of each kind of rows."""
        return np.array([self.links.tables.index(table) for table, _ in self.links.kinds])

    @cached_property
    def _filler(self) -> Int64[np.ndarray, " k"]:
        """Codes of a valid row."""
        schema = self.rows.schema
        return repair(np.zeros((1, len(schema.modelled)), dtype=np.int64), schema.pairs, schema.counts)[0]

    @cached_property
    def _space(self) -> HistoryTokens:
        links, history = self.links, self.history
        kinds = tuple(
            RowKind(columns, links.successors[i], links.is_first(i)) for i, columns in enumerate(self._columns_of_kinds)
        )
        return HistoryTokens(self.persons.space(), self.rows.space(), history.max_rows, history.min_rows, kinds)

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        return self._read(expect(raw, RawTables))[0], {}

    def _read(self, raw: RawTables) -> tuple[Int64[Tensor, "n codes"], LinkedRows]:
        """Encode the rows of all tables, grouped by person."""
        found = linked_rows(raw, self.links, self.schemas, self.history.max_rows)
        persons = self._codes_of(raw, 0)
        counts = np.bincount(found.person, minlength=len(persons))
        lengths = self.persons.schema.modelled[0]
        order = [self.schemas[0].place(column.name) for column in self.persons.schema.modelled[1:]]
        first = torch.from_numpy(counts - self.history.min_rows)[:, None]
        assert lengths.name.startswith(NUM_ROWS)
        rows = np.tile(self._filler, (len(persons), self.history.max_rows, 1))
        rows[np.arange(self.history.max_rows) >= counts[:, None]] = 0
        for child in range(1, len(self.links.tables)):
            codes = self._codes_of(raw, child).numpy()
            own = found.child == child
            place = found.person[own], found.step[own]
            kind = self.links.kinds.index((self.links.tables[child], False))
            for j, column in enumerate(self.columns_of[child - 1]):
                rows[(*place, column)] = codes[found.index[own], j]
            is_next = self._set_gaps(raw, child, found, rows)
            rows[(*place, 0)] = kind + is_next
        return torch.cat([first, persons[:, order], torch.from_numpy(rows).flatten(1)], 1), found

    def _set_gaps(
        self, raw: RawTables, child: int, found: LinkedRows, rows: Int64[np.ndarray, "n max_rows k"]
    ) -> Bool[np.ndarray, " m"]:
        """Set the differences of the order column of a child table; return which of its rows have one."""
        table, own = self.links.tables[child], np.flatnonzero(found.child == child)
        is_next = np.append(False, found.parent[own][1:] == found.parent[own][:-1])[: len(own)]
        if table.gap is None:
            return np.zeros(len(own), dtype=bool)
        column = self.schema.by_name[f"{table.name}.{table.order}"]
        assert isinstance(column, Numerical | Datetime)
        values = read_values(cells_of(raw.table(table.name), str(table.order)), column)[1]
        if self.schema.clips:
            values = values.clip(column.levels.starts[0], column.levels.last)
        gaps = np.diff(values[found.index[own]], prepend=0)[is_next]
        later = own[is_next]
        cells = RawTable(pyarrow.table({table.gap_name: write_values(gaps, table.gap)}), columns=(table.gap_name,))
        codes = encode(cells, Schema((replace(table.gap, name=table.gap_name),), self.schema.outside)).codes.numpy()
        place = found.person[later], found.step[later]
        rows[(*place, self._gap_place(table))] = codes[:, 0]
        rows[(*place, self._order_column(table))] = self._filler[self._order_column(table)]
        return is_next

    def _codes_of(self, raw: RawTables, i: int) -> Int64[Tensor, "m k"]:
        """Encode the cells of one table; errors name the table."""
        table, names = self.links.tables[i], self.links.prefixed(i)
        cells = raw.table(table.name)
        unknown = next((name for name in cells.columns if name not in names), None)
        if unknown is not None:
            raise InputError.unknown_name("column", unknown, names, alternatives=" of the schema").with_context(
                place=table.name
            )
        columns = tuple(names[name] for name in cells.columns)
        renamed = replace(cells, values=cells.values.rename_columns(list(columns)), columns=columns)
        try:
            return encode(renamed, self.schemas[i]).codes
        except InputError as error:
            raise error.with_context(place=table.name) from error

    def decode(self, state: Int64[Tensor, "n places"]) -> Int64[Tensor, "n codes"]:
        values = super().decode(state)
        persons, rows = self.split(values)
        return self._joined(persons, rows)

    def _joined(self, persons: Int64[Tensor, "n a"], rows: Int64[Tensor, "n max_rows k"]) -> Int64[Tensor, "n codes"]:
        """Join the codes of persons and rows, with fixed codes for the columns that a row does not have."""
        is_active = self._space.active_columns.to(rows.device)[rows[..., 0]]
        filled = torch.where(is_active, rows, torch.from_numpy(self._filler).to(rows.device))
        lengths = persons[:, 0] + self.history.min_rows
        valid = torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]
        return torch.cat([persons, (filled * valid[..., None]).flatten(1)], 1)

    def sample_windows(
        self, sample: Callable[[Tensor, Tensor, Rng], Tensor], n: int, rng: Rng
    ) -> Int64[Tensor, "n codes"]:
        """Return the codes of histories as `Histories` does; kinds of rows that may not follow a row are replaced."""
        return self._joined(*self.windows.sample_histories(sample, n, rng, self._allowed_kinds))

    @cached_property
    def windows(self) -> HistoryWindows:
        return replace(super().windows, has_kinds=True)

    def _allowed_kinds(
        self, step: int, kinds: Int64[Tensor, " n"], before: Int64[Tensor, " n"], lengths: Int64[Tensor, " n"]
    ) -> Int64[Tensor, " n"]:
        """Replace kinds of rows that may not be there: by another kind of the same table, else by the first allowed."""
        following = self._space.max_following
        may = self._space.allowed_kinds[before] & (following >= lengths[:, None] - 1 - step)
        fits = may.gather(1, kinds[:, None])[:, 0]
        same_table = torch.from_numpy(self._child_of_kind[kinds.numpy()][:, None] == self._child_of_kind)
        return torch.where(fits, kinds, (may.long() + (may & same_table)).argmax(1))

    def given_cells(self, given: CellConditions) -> GivenCells:
        """Parse conditions on columns of the table of persons, named COLUMN or TABLE.COLUMN, as `Histories` does."""
        return super().given_cells({self._person_column(name): cell for name, cell in given.items()})

    def _person_column(self, name: str) -> str:
        """Return the name of a column of persons; UsageError for a name of several columns, or of another table."""
        persons, of_children = self.links.persons, {c for i in range(1, len(self.links.tables)) for c in self._names(i)}
        own = name.removeprefix(f"{persons.name}.")
        if name in persons.columns and (name in of_children or (own != name and own in persons.columns)):
            raise UsageError(
                argument="given", expected="a name of one column", found=f"{name}, which is also TABLE.COLUMN",
                remedy="Rename the column of the table of persons",
            )  # fmt: skip
        if name in of_children:
            raise UsageError(
                argument="given", expected=f"a column of {persons.name}, or {self.persons.schema.names[0]}", found=name,
                remedy="Sample without it, and select rows",
            )  # fmt: skip
        return name if name in persons.columns else own

    def _names(self, child: int) -> list[str]:
        return [*self.links.prefixed(child).values()]

    def tables(self, values: Int64[Tensor, "n codes"], given: GivenCells | None = None) -> dict[str, RawTable]:
        """Decode codes to one table per generated table, with new keys; each foreign key refers to a row.

        Args:
            values: Codes of persons with all of their rows.
            given: Given attributes of persons, whose numbers and times are copied unchanged.
        """
        attributes, rows, tree = self.split(values)[0], self.valid_rows(values).cpu(), self.tree(values)
        of_persons = self.persons.cells(attributes) if given is None else self.persons.with_given(attributes, given)
        persons = {name: cells_of(of_persons, name) for name in of_persons.columns[1:]}
        made = [self._completed(persons, 0, len(values))]
        for i in range(1, len(self.links.tables)):
            made.append(self._child_cells(i, rows[torch.from_numpy(tree.rows[i])], tree.parents[i]))
        return {table.name: self._with_keys(i, made, tree) for i, table in enumerate(self.links.tables)}

    def _child_cells(
        self, i: int, rows: Int64[Tensor, "m k"], parent: Int64[np.ndarray, " m"]
    ) -> dict[str, pyarrow.Array]:
        """Decode the rows of a child table; differences of the order column are added to the value of the first row."""
        table, schema = self.links.tables[i], self.schemas[i]
        if not schema.modelled:
            return self._completed({}, i, len(rows))
        rules = tuple(rule for rule in schema.rules if not isinstance(rule, Unique))
        amounts = Table(Schema(schema.modelled, schema.outside, rules=rules))
        cells = amounts.cells(rows[:, list(self.columns_of[i - 1])])
        found = {name: cells_of(cells, name) for name in cells.columns}
        if table.gap is not None and len(rows):
            name = f"{table.name}.{table.order}"
            found[name] = self._summed(found[name], schema.by_name[name], rows, table, parent)
        return self._completed(found, i, len(rows))

    def _summed(
        self,
        cells: pyarrow.Array,
        column: Column,
        rows: Int64[Tensor, "m k"],
        table: TableKeys,
        parent: Int64[np.ndarray, " m"],
    ) -> pyarrow.Array:
        """Return the order column of a child table: the value of the first row of a parent, plus all differences."""
        assert isinstance(column, Numerical | Datetime)
        assert table.gap is not None
        gap = replace(table.gap, name=table.gap_name)
        steps = read_values(cells_of(Table(Schema((gap,))).cells(rows[:, [self._gap_place(table)]]), gap.name), gap)[1]
        first = np.append(True, parent[1:] != parent[:-1])
        start = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
        sums = np.where(first, 0, steps).cumsum()
        units = read_values(cells, column)[1][start] + sums - sums[start]
        return write_values(within_bounds(units, start, column.levels.starts[0], column.levels.last), column)

    def tree(self, values: Int64[Tensor, "n codes"]) -> RowTree:
        """Return which row belongs to which."""
        person = np.repeat(np.arange(len(values)), self.lengths(values).cpu().numpy())
        child = self._child_of_kind[self.valid_rows(values)[:, 0].cpu().numpy()]
        rows, parents = [np.arange(len(values))], [np.arange(len(values))]
        for i, parent in enumerate(self.links.parents, 1):
            rows.append(np.flatnonzero(child == i))
            last = np.maximum.accumulate(np.where(child == parent, np.arange(len(child)), 0))
            parents.append(np.searchsorted(rows[parent], last[rows[i]]) if parent else person[rows[i]])
        return RowTree(tuple(rows), tuple(parents))

    def levels(self, values: Int64[Tensor, "n codes"]) -> list[Int64[Tensor, "_ _"]]:
        """Return the levels (values or bins) of the rows of each table, as its modality in `parts` has them."""
        tree, rows = self.tree(values), self.valid_rows(values)
        order = [self.persons.schema.place(column.name) for column in self.schemas[0].modelled]
        children = range(1, len(self.links.tables))
        return [
            self._levels_of(0, self.split(values)[0][:, order]),
            *(self._child_levels(i, rows[torch.from_numpy(tree.rows[i])], tree.parents[i]) for i in children),
        ]

    def _levels_of(self, i: int, codes: Int64[Tensor, "m k"]) -> Int64[Tensor, "m k"]:
        """Return the levels of rows of one table; a table of keys has no columns."""
        return self.parts[i].to_levels(codes) if codes.shape[1] else codes

    def _child_levels(
        self, i: int, rows: Int64[Tensor, "m k"], parent: Int64[np.ndarray, " m"]
    ) -> Int64[Tensor, "m columns"]:
        levels = self._levels_of(i, rows[:, list(self.columns_of[i - 1])])
        if (table := self.links.tables[i]).gap is not None:  # dates of later rows are computed
            name = f"{table.name}.{table.order}"
            cells = self._child_cells(i, rows.cpu(), parent)[name]
            alone = Table(Schema((self.schemas[i].by_name[name],), "clip"))
            codes = encode(RawTable(pyarrow.table({name: cells}), columns=(name,)), alone.schema).codes
            levels[:, self.schemas[i].place(name)] = alone.to_levels(codes)[:, 0]
        return levels

    def _completed(self, modelled: dict[str, pyarrow.Array], i: int, n: int) -> dict[str, pyarrow.Array]:
        rng = Rng(0).fold_in("fractions").stream("persons")
        fractions = {name: rng.uniform((n,), torch.float64).numpy() for name in modelled}
        table = all_cells(modelled, n, self.schemas[i], fractions)
        return {name: cells_of(table, name) for name in table.columns}

    def _with_keys(self, i: int, made: list[dict[str, pyarrow.Array]], tree: RowTree) -> RawTable:
        """Return one table with new keys, which are added to `made`, and with its own column names."""
        table, names, cells = self.links.tables[i], self.links.prefixed(i), made[i]
        self._number(i, cells, tree)
        rows = tree.parents[i]
        for above in self.links.ancestors(i) if i else ():
            other = self.links.tables[above]
            references = [self.links.prefixed(above)[name] for name in other.primary_key]
            for key in table.foreign_keys:
                for name, reference in zip(key.columns, references, strict=False) if key.table == other.name else ():
                    cells[names[name]] = made[above][reference].take(pyarrow.array(rows))
            rows = tree.parents[above][rows]
        written = {name: cells[names[name]] for name in table.columns if names[name] in cells}
        return RawTable(pyarrow.table(written), columns=tuple(written))

    def _number(self, i: int, cells: dict[str, pyarrow.Array], tree: RowTree) -> None:
        """Replace the identifiers of a child table by new ones: within the parent, if its key is part of theirs."""
        if i == 0:
            return
        table, names = self.links.tables[i], self.links.prefixed(i)
        copied = {name for key in self.links.parent_keys(table) for name in key.columns}
        # Rows of other chunks of samples get other numbers.
        offset = sample_folder.first_number() * (self.history.max_rows - 1)
        for name in table.columns:
            column = self.schema.by_name[names[name]]
            if not isinstance(column, Identifier) or name in copied:
                continue
            if name in table.primary_key and copied & {*table.primary_key}:
                above = self._ancestor_rows(i, tree, copied)
                within = pd.Series(above).groupby(above).cumcount().to_numpy()
                with sample_folder.sample_numbering(0, 0):
                    texts = column.cells(int(within.max(initial=-1)) + 1)
                cells[names[name]] = text_array(texts).take(pyarrow.array(within))
            else:
                cells[names[name]] = text_array(replace(column, first=column.first + offset).cells(len(tree.rows[i])))

    def _ancestor_rows(self, i: int, tree: RowTree, copied: set[str]) -> Int64[np.ndarray, " m"]:
        """Return the row of the nearest ancestor whose key is part of the primary key of each row of a table."""
        table, rows = self.links.tables[i], tree.parents[i]
        for above in self.links.ancestors(i):
            keys = [key for key in table.foreign_keys if key.table == self.links.tables[above].name]
            if any({*key.columns} & {*table.primary_key} & copied for key in keys):
                break
            rows = tree.parents[above][rows]
        return rows

    def _cells(
        self, values: Int64[Tensor, "n codes"], of_persons: RawTable, may_begin_earlier: bool = True
    ) -> RawTable:
        """Return the table of persons; the others are returned by `tables`."""
        return self.tables(values)[self.links.persons.name]

    def frames(self, values: Int64[Tensor, "n codes"], given: GivenCells | None = None) -> dict[str, pd.DataFrame]:
        """Return a data frame per table, with the dtypes of the training tables."""
        found = {}
        for i, (name, table) in enumerate(self.tables(values, given).items()):
            names = self.links.prefixed(i)
            columns = tuple(names[column] for column in table.columns)
            qualified = RawTable(table.values.rename_columns(list(columns)), columns=columns)
            frame = to_frame(qualified, self.schemas[i])
            found[name] = frame.rename(columns={names[column]: column for column in table.columns})
        return found

    def with_statistics(self, data: Dataset) -> Dataset:
        """Add the marginals of attributes, and of the columns of rows over the rows that have these columns."""
        described = super().with_statistics(data).modality.view(LinkedTables)
        assert described is not None
        rows = self.valid_rows(data.values)
        marginals = list(described.row_marginals)
        for j in range(1, len(marginals)):
            kinds = [kind for kind, columns in enumerate(self._columns_of_kinds) if j in columns]
            own = rows[torch.isin(rows[:, 0], torch.tensor(kinds))]
            marginals[j] = self.rows.with_marginals_of(own).marginals[j] if len(own) else marginals[j]
        return data.with_modality(replace(described, row_marginals=tuple(marginals)))

    def write_given(self, values: Int64[Tensor, "n codes"], given: GivenCells, out: pathlib.Path) -> None:
        """Write tables as `write` does, but copy given numbers and times of persons unchanged."""
        self.write_by(self._writers(given), values, {}, out)

    @property
    def writers(self) -> dict[str, Writer]:
        return self._writers(None)

    def _writers(self, given: GivenCells | None) -> dict[str, Writer]:
        def write_folder(values: Tensor, conditions: Cond, out: pathlib.Path) -> None:
            self._write_tables(self.tables(values, given), out)

        return {"": write_folder}

    def _write_tables(self, tables: dict[str, RawTable], out: pathlib.Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        for i, (name, table) in enumerate(tables.items()):
            write_cells(table, self.schemas[i], out / f"{name}.csv", self.dialect)

    def arrays(self, values: Int64[Tensor, "n codes"], given: Cond) -> dict[str, np.ndarray]:
        """Return the cells of each table as text, [rows, columns], by the name of the table."""
        return {
            name: table.values.to_pandas().to_numpy(dtype=object).astype(np.str_)
            for name, table in self.tables(values).items()
        }


def linked_dataset(raw: RawTables, schema: LinkedSchema) -> Dataset:
    """Build a data set of linked tables.

    Raises:
        InputError: If the tables do not fit the schema; it names table, column and row.
    """
    links = schema.links
    dialect = raw.table(links.persons.name).dialect
    modality = LinkedTables(schema.flat, dialect=dialect, links=links)
    values, found = modality._read(raw)
    counts = [len(values), *(int((found.child == i).sum()) for i in range(1, len(links.tables)))]
    notes = [f"{counts[i]:,} {table.name} ({links.described(i)})" for i, table in enumerate(links.tables)]
    if links.lookups:
        names = " and ".join(table.name for table in links.lookups)
        notes.append(f"{names}: kept as they are, not generated")
    if found.num_dropped:
        notes.append(
            f"{found.num_dropped:,} rows after the first {schema.max_rows} of one of {links.persons.name} are not used"
        )
    return Dataset(values, {}, modality, (*raw.notes, *notes, *unmodelled_notes(schema.flat)))
