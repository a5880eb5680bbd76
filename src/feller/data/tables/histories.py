"""Modality of histories: a person's attributes, and several rows per person in order."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow
import torch
from jaxtyping import Bool, Float64, Int64
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import InputError
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.data.loading.raw import Dialect, RawExamples, RawTable, expect, text_array
from feller.data.modality import Dataset, Modality, Writer
from feller.data.tables.dataframes import to_frame, write_cells
from feller.data.tables.dates import Datetime
from feller.data.tables.dependent_columns import Gap
from feller.data.tables.encoding import encode
from feller.data.tables.given_cells import CellConditions, GivenCells
from feller.data.tables.history_rows import HistoryRows, history_rows, within_bounds
from feller.data.tables.history_schema import HistorySchema, split_columns
from feller.data.tables.history_windows import HistoryWindows
from feller.data.tables.modality import Table, bars, unmodelled_notes
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.raking import Crosstab, rake_rows
from feller.data.tables.schema import Schema
from feller.data.tables.table_writer import table_writers, text_arrays
from feller.data.tables.transforms import all_cells, cells_of, read_values, write_values
from feller.data.tables.unmodelled_columns import Identifier
from feller.spaces import HistoryTokens

Marginals = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Histories(Modality):
    """Modality of histories: values are integer codes of the attributes and of all rows of a person, [n, a + L k].

    The first attribute is the number of rows; codes after the end of a history are 0. The date or number by which rows
    are ordered is an attribute, its first value, and a column of rows, its difference from the row before.
    """

    display_name = "a table with several rows per person"
    is_read_with_model = True
    raw_type = RawTable
    is_tabular = has_schema = samples_as_frame = groups_rows = True
    has_density = False  # codes are discrete

    schema: Schema
    attribute_marginals: Marginals = ()
    """Fraction of persons in each level of each attribute, exact or noisy; empty if unknown."""
    row_marginals: Marginals = ()
    """Fraction of rows in each level of each column of rows, exact or noisy; empty if unknown."""
    crosstabs: tuple[Crosstab, ...] = ()
    """Noisy contingency tables of `windows`, from which a new network is pretrained; empty if there are none."""
    crosstab_rows: int = 0
    """Number of persons from whose windows `crosstabs` were counted."""
    window_groups: int = 0
    """Maximum number of groups of bins of a number or date in `windows`; 0 to keep all bins."""
    dialect: Dialect = Dialect()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if self.schema.history is None:
            raise InputError(argument="schema", expected="a schema with a history", found="none")
        _ = self.persons, self.rows

    @property
    def history(self) -> HistorySchema:
        """Description of the rows of each person."""
        assert self.schema.history is not None
        return self.schema.history

    @cached_property
    def persons(self) -> Table:
        """Modality of the attributes, whose first column is the number of rows."""
        return Table(split_columns(self.schema, self.history)[0], self.attribute_marginals, dialect=self.dialect)

    @cached_property
    def rows(self) -> Table:
        """Modality of single rows."""
        return Table(split_columns(self.schema, self.history)[1], self.row_marginals, dialect=self.dialect)

    def space(self) -> HistoryTokens:
        return self._space

    @cached_property
    def _space(self) -> HistoryTokens:
        history = self.history
        return HistoryTokens(self.persons.space(), self.rows.space(), history.max_rows, history.min_rows)

    def split(self, values: Int64[Tensor, "n codes"]) -> tuple[Int64[Tensor, "n a"], Int64[Tensor, "n max_rows k"]]:
        """Split codes into those of the attributes and those of each row, including padding."""
        attributes, k = len(self.persons.counts), len(self.rows.counts)
        if values.dtype != torch.int64 or values.shape[1:] != (attributes + self.history.max_rows * k,):
            raise InputError(
                f"codes [n, {attributes + self.history.max_rows * k}] in int64", f"{list(values.shape)} {values.dtype}"
            )
        return values[:, :attributes], values[:, attributes:].unflatten(1, (self.history.max_rows, k))

    def lengths(self, values: Int64[Tensor, "n codes"]) -> Int64[Tensor, " n"]:
        """Return the number of rows of each person."""
        return values[:, 0] + self.history.min_rows

    def valid_rows(self, values: Int64[Tensor, "n codes"]) -> Int64[Tensor, "m k"]:
        """Return the codes of all rows of all persons, without padding."""
        steps = torch.arange(self.history.max_rows, device=values.device)
        return self.split(values)[1][steps < self.lengths(values)[:, None]]

    def encode(self, values: Int64[Tensor, "n codes"]) -> Int64[Tensor, "n places"]:
        attributes, rows = self.split(values)
        return self._space.join(self.persons.encode(attributes), self.rows.space().encode(rows))

    def decode(self, state: Int64[Tensor, "n places"]) -> Int64[Tensor, "n codes"]:
        attributes, rows = self._space.split(state)
        persons = self.persons.decode(attributes)
        valid = self._space.valid_rows(state)
        self.rows.decode(rows[valid])
        codes = self.rows.space().decode(rows) * valid[..., None]
        return torch.cat([persons, codes.flatten(1)], 1)

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        return self._codes(history_rows(expect(raw, RawTable), self.schema)), {}

    def _codes(self, grouped: HistoryRows) -> Int64[Tensor, "n codes"]:
        """Encode the rows of a table, grouped by person."""
        persons = encode(grouped.persons, self.persons.schema).codes
        rows = encode(grouped.rows, self.rows.schema).codes
        padded = torch.zeros(len(persons), self.history.max_rows, rows.shape[1], dtype=torch.int64)
        padded[torch.from_numpy(grouped.person), torch.from_numpy(grouped.step)] = rows
        return torch.cat([persons, padded.flatten(1)], 1)

    def cells(self, values: Int64[Tensor, "n codes"]) -> RawTable:
        """Decode codes to a table with one row per row of each person, and with running numbers of persons."""
        return self._cells(values, self.persons.cells(self.split(values)[0]))

    def with_given(self, values: Int64[Tensor, "n codes"], given: GivenCells) -> RawTable:
        """Decode codes to cells as `cells` does; given numbers and times of attributes are copied unchanged."""
        first = None if self.history.order is None else self.persons.schema.place(self.history.order)
        may_begin_earlier = first is None or not (given.observed[first] or first in given.choices)
        return self._cells(values, self.persons.with_given(self.split(values)[0], given), may_begin_earlier)

    def _cells(
        self, values: Int64[Tensor, "n codes"], of_persons: RawTable, may_begin_earlier: bool = True
    ) -> RawTable:
        """Decode codes to cells, given the cells of attributes.

        Rows of a person that would end after the last value of their order begin earlier, or else end there.
        """
        lengths, codes = self.lengths(values).cpu().numpy(), self.valid_rows(values)
        person = np.repeat(np.arange(len(values)), lengths)
        of_rows, index = self.rows.cells(codes), pyarrow.array(person)
        cells = {name: cells_of(of_persons, name).take(index) for name in of_persons.columns[1:]}
        cells |= {name: cells_of(of_rows, name) for name in of_rows.columns}
        if (name := self.history.order) is not None and self.history.gap is not None:
            first = read_values(cells_of(of_persons, name), self.order_column)[1]
            gaps = read_values(cells[name], self.history.gap)[1]
            starts = lengths.cumsum() - lengths
            gaps[starts[lengths > 0]] = 0
            before = np.concatenate([[0], gaps.cumsum()])
            units = first[person] + before[1:] - before[starts][person]
            levels = self.order_column.levels
            if may_begin_earlier:
                units = within_bounds(units, starts[person], levels.starts[0], levels.last)
            cells[name] = write_values(units.clip(max=levels.last), self.order_column)
        unit = self.schema.by_name[self.schema.unit]
        assert isinstance(unit, Identifier)
        people = text_array(unit.cells(len(values))).take(index)
        rng = Rng(0).fold_in("fractions").stream("units")
        fractions = {gap.name: rng.uniform((len(person),), torch.float64).numpy() for gap in self._gaps}
        return all_cells(cells, len(person), self.schema, fractions, given={self.schema.unit: people})

    @property
    def _gaps(self) -> list[Gap]:
        return [column for column in self.schema.columns if isinstance(column, Gap)]

    @property
    def order_column(self) -> Numerical | Datetime:
        """Column by which the rows of a person are sorted, if there is one."""
        order = self.schema.by_name[str(self.history.order)]
        assert isinstance(order, Numerical | Datetime)
        return order

    def with_statistics(self, data: Dataset) -> Dataset:
        persons = self.persons.with_marginals_of(self.split(data.values)[0])
        rows = self.rows.with_marginals_of(self.valid_rows(data.values))
        return data.with_modality(replace(self, attribute_marginals=persons.marginals, row_marginals=rows.marginals))

    def with_marginals(self, marginals: Marginals) -> "Histories":
        """Return the modality with fractions of the levels of each attribute, followed by those of each row column."""
        a, k = len(self.persons.counts), len(self.rows.counts)
        return replace(self, attribute_marginals=marginals[:a], row_marginals=marginals[a : a + k])

    def resample(self, values: Int64[Tensor, "m codes"], n: int, rng: Rng) -> Int64[Tensor, "n codes"]:
        """Select `n` of the m persons so that their attributes match the known marginals; see `Modality.resample`."""
        if not self.attribute_marginals:
            return super().resample(values, n, rng)
        levels = self.persons.to_levels(self.split(values)[0])
        return values[rake_rows(levels, self.attribute_marginals, n, rng)]

    @cached_property
    def windows(self) -> HistoryWindows:
        """Windows of a row and the row before, of which private marginals are counted."""
        history = self.history
        return HistoryWindows(self.persons, self.rows, history.min_rows, history.max_rows, self.window_groups)

    def windows_of(self, values: Int64[Tensor, "n codes"], uniforms: Float64[Tensor, " n"]) -> Int64[Tensor, "n c"]:
        """Return one window of each person, chosen by uniform numbers in [0, 1); see `HistoryWindows.windows`."""
        return self.windows.windows(*self.split(values), uniforms)

    def sample_windows(
        self, sample: Callable[[Tensor, Tensor, Rng], Tensor], n: int, rng: Rng
    ) -> Int64[Tensor, "n codes"]:
        """Return the codes of histories that a model of windows generates; see `HistoryWindows.sample_histories`."""
        persons, rows = self.windows.sample_histories(sample, n, rng)
        return torch.cat([persons, rows.flatten(1)], 1)

    def one_row_each(
        self, values: Int64[Tensor, "n codes"], uniforms: Float64[Tensor, " n"]
    ) -> Int64[Tensor, "n a_plus_k"]:
        """Return the levels of the attributes and of one row of each person, chosen by uniform numbers in [0, 1)."""
        attributes, rows = self.split(values)
        chosen = (uniforms * self.lengths(values)).long().clamp(max=self.history.max_rows - 1)
        levels = self.rows.to_levels(rows[torch.arange(len(values)), chosen])
        return torch.cat([self.persons.to_levels(attributes), levels], 1)

    def condition_columns(self, values: State) -> tuple[str, ...]:
        return ()

    @property
    def lenient(self) -> "Histories":
        return replace(self, schema=replace(self.schema, outside="impute"))

    @property
    def conditionable_leaves(self) -> tuple[str, ...]:
        return self.persons.conditionable_leaves

    def parse_condition(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        return self.persons.parse_condition(leaf, text)

    def given_cells(self, given: CellConditions) -> GivenCells:
        """Parse the attributes, sets of allowed cells and ranges that a user fixes in generated histories.

        Raises:
            UsageError: If a column is not an attribute, a cell or range is not allowed, or conditions contradict each
                other.
        """
        return self.persons.given_cells(given)

    def observed_tokens(
        self, codes: Int64[Tensor, "n a"], observed: Bool[Tensor, "n a"]
    ) -> tuple[Int64[Tensor, "n places"], Bool[Tensor, "n places"]]:
        """Convert codes and the mask of observed attributes to tokens of histories and the mask of observed tokens."""
        state, mask = self.persons.observed_tokens(codes, observed)
        padding = (0, self._space.num_places - state.shape[1])
        return F.pad(state, padding), F.pad(mask, padding)

    def write_given(self, values: Int64[Tensor, "n codes"], given: GivenCells, out: pathlib.Path) -> None:
        """Write histories as `write` does, but copy given numbers and times unchanged."""
        self.write_by(self._writers_of(lambda histories: self.with_given(histories, given)), values, {}, out)

    def write_cells(self, cells: RawTable, out: pathlib.Path) -> None:
        """Write the cells of all columns to a .csv, .tsv or .parquet file."""
        write_cells(cells, self.schema, out, self.dialect)

    @property
    def writers(self) -> dict[str, Writer]:
        return self._writers_of(self.cells)

    def _writers_of(self, cells: Callable[[Tensor], RawTable]) -> dict[str, Writer]:
        return table_writers(cells, self.write_cells, lambda values, table: text_arrays(table), self.show)

    def arrays(self, values: Int64[Tensor, "n codes"], given: Cond) -> dict[str, np.ndarray]:
        """Return the .npz arrays: cells as text, [rows, columns], and the names of the columns."""
        return text_arrays(self.cells(values))

    def frame(self, values: Int64[Tensor, "n codes"], given: Cond) -> pd.DataFrame:
        """Return one row per row of each person, with the dtypes of the training table."""
        return to_frame(self.cells(values), self.schema)

    def show(self, values: Int64[Tensor, "n codes"], given: Cond, columns: int | None = None) -> Image.Image:
        """Draw a bar chart of each column of rows and, weighted by their rows, of each attribute."""
        repeated = self.split(values)[0].repeat_interleave(self.lengths(values), 0)
        codes = torch.cat([repeated, self.valid_rows(values)], 1)
        return bars(codes.cpu().numpy(), (*self.persons.schema.modelled, *self.rows.schema.modelled), columns)


def with_conditions_on_cells(modality: Modality) -> Table | Histories | None:
    """Return a modality whose samples can be conditioned on cells: of rows, or of the attributes of persons."""
    return modality.view(Table) or modality.view(Histories)


def history_dataset(raw: RawTable, schema: Schema) -> Dataset:
    """Build a data set of histories from a table with several rows per person.

    Raises:
        InputError: If the table does not fit the schema.
    """
    modality = Histories(schema, dialect=raw.dialect)
    values, given = modality.values_from_raw(raw)
    kept = int(modality.lengths(values).sum())
    notes = [f"{len(values):,} persons ({schema.unit}) with {kept:,} rows"]
    if kept < len(raw.values):
        dropped = len(raw.values) - kept
        notes.append(f"{dropped:,} rows after the first {modality.history.max_rows} of a person are not used")
    return Dataset(values, given, modality, (*raw.notes, *notes, *unmodelled_notes(schema)))
