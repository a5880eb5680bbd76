"""Modality of tables: columns of any type, described by a public schema."""

import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import torch
from jaxtyping import Bool, Float64, Int64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, check_probabilities
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.data.figures import INK, figure_to_image, panels
from feller.data.loading.raw import Dialect, RawExamples, RawTable, expect, text_array
from feller.data.modality import Dataset, Modality, Writer
from feller.data.tables import raking
from feller.data.tables.column import ModelledColumn
from feller.data.tables.dataframes import to_frame, write_cells
from feller.data.tables.dependent_columns import Copy, Sum
from feller.data.tables.encoding import (
    check_types,
    decode,
    empty_cells,
    encode,
    fill_gaps,
    observed_cells,
    outside,
)
from feller.data.tables.given_cells import CellConditions, GivenCells, givable, given_cells, parse_given_code
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.partial_tables import identified
from feller.data.tables.raking import Crosstab, crosstab_weights, exchange_rows, rake_rows
from feller.data.tables.schema import ROW, Schema
from feller.data.tables.schema_detection import detect_schema
from feller.data.tables.table_writer import table_writers, text_arrays
from feller.data.tables.unmodelled_columns import Derived, FreeText, Identifier, SkippedColumn
from feller.spaces import ColumnTokenizer, DigitTokenizer, PairConstraint, TableTokens


def first_of_each(raw: RawTable, unit: str) -> RawTable:
    """Return a table with the first row of each person, so that each remaining row depends on one person only.

    Args:
        raw: Table.
        unit: Name of the column that identifies people, or `row` to return the table unchanged.

    Raises:
        InputError: If the column does not exist, or has an empty cell.
    """
    if unit == ROW:
        return raw
    if unit not in raw.columns:
        raise InputError(
            "a column that identifies the person of each row", "no such column", "Add the column", column=unit
        )
    return raw.subset(np.sort(np.unique(identified(raw, unit), return_index=True)[1]))


GUESSED_NOTE = (
    "the schema was detected from the cells, which is not private; `feller data schema` writes a draft to edit"
)
"""Note on a table whose schema was detected from its cells."""


@dataclass(frozen=True)
class Table(Modality):
    """Modality of tables: values are integer codes of the modelled columns, [n, k]; states are tokens, [n, places].

    A column has one token, its code; a column of numbers generated digit by digit has several tokens.
    """

    display_name = "a table"
    is_read_with_model = True
    raw_type = RawTable
    is_tabular = has_schema = samples_as_frame = True
    has_density = False  # codes are discrete

    schema: Schema
    marginals: tuple[tuple[float, ...], ...] = ()
    """Fraction of rows in each level (value or bin) of each modelled column, exact or noisy; empty if unknown."""
    crosstabs: tuple[Crosstab, ...] = ()
    """Noisy contingency tables of a few columns each, to which generated rows are fitted; empty if there are none."""
    crosstab_rows: int = 0
    """Number of rows from which `crosstabs` were counted."""
    dialect: Dialect = Dialect()  # noqa: RUF009 - frozen
    """Text format of the training table, in which generated tables are written; it does not depend on the rows."""
    tokenizers: tuple[ColumnTokenizer, ...] = ()
    """Tokenizers of the codes of the modelled columns; empty for those of the schema."""

    def __post_init__(self) -> None:
        if self.tokenizers and tuple(field.num_values for field in self.tokenizers) != self.counts:
            raise InputError(
                f"tokenizers of columns with {self.counts} codes",
                tuple(field.num_values for field in self.tokenizers),
                argument="tokenizers",
            )
        num_levels = [len(column.level_names) for column in self.schema.modelled]
        if self.marginals and [len(marginal) for marginal in self.marginals] != num_levels:
            raise InputError(
                f"marginals with {num_levels} probabilities, one per value of each column",
                [len(marginal) for marginal in self.marginals],
            )
        for j, marginal in enumerate(self.marginals):
            check_probabilities(f"marginals[{j}]", marginal, kind=InputError)
        if bool(self.crosstabs) != (self.crosstab_rows > 0):
            raise InputError(
                "both crosstabs and crosstab_rows, or neither",
                f"{len(self.crosstabs)} crosstabs of {self.crosstab_rows:,} rows",
            )
        for table in self.crosstabs:
            if max(table.columns) >= len(num_levels) or table.levels != tuple(num_levels[j] for j in table.columns):
                raise InputError(
                    f"counts of columns with {num_levels} values", f"{table.levels} values of columns {table.columns}"
                )

    def condition_columns(self, values: State) -> tuple[str, ...]:
        return self.schema.names

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of codes of each modelled column, including the code of missing cells."""
        return self.schema.counts

    @property
    def writers(self) -> dict[str, Writer]:
        return self._writers_of(self.cells)

    def _writers_of(self, cells: Callable[[Tensor], RawTable]) -> dict[str, Writer]:
        return table_writers(cells, self.write_cells, self._arrays, self.show)

    def space(self) -> TableTokens:
        return self._rows

    @cached_property
    def _rows(self) -> TableTokens:
        rules = tuple(
            PairConstraint(
                pair.first,
                pair.second,
                tuple("".join("01"[is_allowed] for is_allowed in row) for row in pair.allowed.tolist()),
            )
            for pair in self.schema.pairs
        )
        fields = self.tokenizers or tuple(column.field for column in self.schema.modelled)
        field_marginals = zip(fields, self.marginals, strict=True) if self.marginals else ()
        return TableTokens(
            fields,
            rules,
            tuple(() if isinstance(field, DigitTokenizer) else marginal for field, marginal in field_marginals),
        )

    def encode(self, values: Int64[Tensor, "n k"]) -> Int64[Tensor, "n places"]:
        return self._rows.encode(self._check(values, self.counts, "codes"))

    def decode(self, state: Int64[Tensor, "n places"]) -> Int64[Tensor, "n k"]:
        return self._check(
            self._rows.decode(self._check(state, self._rows.vocab_sizes, "tokens")), self.counts, "codes"
        )

    def resample(self, values: Int64[Tensor, "m k"], n: int, rng: Rng) -> Int64[Tensor, "n k"]:
        """Select `n` of the m rows so that the selected rows match the known marginals or contingency tables.

        Raises:
            UsageError: If neither marginals nor contingency tables are known.
        """
        if self.crosstabs:
            levels = self.to_levels(values)
            return values[
                exchange_rows(levels, crosstab_weights(levels, self.crosstabs, float(self.crosstab_rows)), n, rng)
            ]
        if not self.marginals:
            return super().resample(values, n, rng)
        return values[rake_rows(self.to_levels(values), self.marginals, n, rng)]

    def check_codes(self, values: Int64[Tensor, "n k"]) -> Int64[Tensor, "n k"]:
        """Return the codes unchanged; InputError if a code is out of the range of its column."""
        return self._check(values, self.counts, "codes")

    def _check(self, values: Tensor, counts: tuple[int, ...], label: str) -> Tensor:
        if values.dtype != torch.int64 or values.shape[1:] != (len(counts),):
            raise InputError(f"{label} [n, {len(counts)}] in int64", f"{list(values.shape)} in {values.dtype}")
        invalid = (values < 0) | (values >= torch.tensor(counts, device=values.device))
        if invalid.any():
            raise InputError(
                f"{int(invalid.any(1).sum())} of {len(values)} rows contain {label} out of range; the model or its"
                " grammar is damaged"
            )
        return values

    def cells(self, values: Int64[Tensor, "n k"], uniforms: Float64[Tensor, "n k"] | None = None) -> RawTable:
        """Decode codes to cells of all columns; the numbers `uniforms`, in [0, 1), choose values within bins.

        By default, the uniform numbers are a hash of the codes, so that equal rows of codes decode to equal cells.
        """
        self._check(values, self.counts, "codes")
        return decode(values, self._uniforms(values) if uniforms is None else uniforms, self.schema)

    def _uniforms(self, values: Tensor) -> Tensor:
        """Return uniform numbers, a hash of the codes of each part of the rows that is written together."""

        def of_part(codes: Tensor) -> Tensor:
            digest = blake2b(np.ascontiguousarray(codes.cpu().numpy()).tobytes(), digest_size=8).hexdigest()
            return Rng(0).fold_in("cells", digest).stream("bins").uniform(tuple(codes.shape), torch.float64)

        return torch.cat([of_part(codes) for codes in values.split(raking.ROWS_PER_PART)])

    @property
    def conditionable_leaves(self) -> tuple[str, ...]:
        return givable(self.schema)

    def parse_condition(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        """Parse a cell that is held fixed in sampling: return its code, [1], and an empty dict of further conditions.

        For a cell of a derived column, the code is that of its source column.
        """
        return torch.tensor([self.parse_cell(leaf, text)[1]]), {}

    def parse_cell(self, leaf: str, text: str) -> tuple[int, int]:
        """Return the index of the column named `leaf` and the code of its cell `text`; see `parse_condition`."""
        return parse_given_code(self.schema, leaf, text)

    def known(self, raw: RawExamples) -> tuple[Int64[Tensor, "n k"], Bool[Tensor, "n k"]]:
        """Return the codes and the mask of observed cells of a table with unknown cells; see `observed_cells`.

        Raises:
            InputError: If an observed cell is not allowed, or observed cells contradict each other.
        """
        return observed_cells(expect(raw, RawTable), self.schema)

    def given_cells(self, given: CellConditions) -> GivenCells:
        """Parse the cells, sets of allowed cells and ranges that a user fixes in generated rows.

        Raises:
            UsageError: If a cell or range is not allowed, or conditions contradict each other.
        """
        return given_cells(given, self.schema)

    def with_given(self, values: Int64[Tensor, "n k"], given: GivenCells) -> RawTable:
        """Decode codes to cells; given numbers and times are copied unchanged, not sampled from their bins.

        If several cells are allowed in a column, a bin decodes to an allowed cell.
        """
        cells = pyarrow.table({leaf: text_array([text] * len(values)) for leaf, text in given.exact.items()})
        uniforms = self._uniforms(values)
        for j, choice in given.choices.items():
            uniforms[:, j] = torch.from_numpy(choice.uniforms(values[:, j].cpu().numpy(), uniforms[:, j].numpy()))
        partial = RawTable(cells, columns=tuple(given.exact))
        spans = {j: choice.spans for j, choice in given.choices.items()}
        return fill_gaps(partial, self._check(values, self.counts, "codes"), uniforms, self.schema, spans=spans)

    def observed_tokens(
        self, codes: Int64[Tensor, "n k"], observed: Bool[Tensor, "n k"]
    ) -> tuple[Int64[Tensor, "n places"], Bool[Tensor, "n places"]]:
        """Convert codes and the mask of observed cells to tokens and the mask of observed tokens."""
        widths = torch.tensor(self._rows.tokens_per_column)
        return self._rows.encode(codes), observed.repeat_interleave(widths, 1)

    @property
    def missing_tokens(self) -> Int64[Tensor, " places"]:
        """Token that stands for a missing cell, for each token position of the state; -1 if there is no such token."""
        missing_codes = [column.num_codes - 1 if column.missing is not None else -1 for column in self.schema.modelled]
        codes = torch.tensor(missing_codes)
        widths = torch.tensor(self._rows.tokens_per_column)
        is_first = torch.zeros(int(widths.sum()), dtype=torch.bool)
        is_first[widths.cumsum(0) - widths] = True
        tokens = self._rows.encode(codes.clamp(min=0))
        return torch.where(is_first & (codes >= 0).repeat_interleave(widths), tokens, -1)

    def completed(
        self, raw: RawTable, values: Int64[Tensor, "n k"], uniforms: Float64[Tensor, "n k"] | None = None
    ) -> RawTable:
        """Return the table `raw` with its unobserved cells decoded from codes; observed cells keep their spelling.

        `uniforms`, in [0, 1), choose values within bins, as in `cells`.
        """
        codes = self._check(values, self.counts, "codes")
        return fill_gaps(raw, codes, self._uniforms(values) if uniforms is None else uniforms, self.schema)

    def levels(self, rows: Dataset) -> Int64[Tensor, "n k"]:
        """Return the levels (values or bins, see `to_levels`) of rows, which may already be encoded as levels."""
        table = rows.modality.view(Table)
        is_encoded = table is not None and table.schema == self.by_levels().schema
        return rows.values if is_encoded else self.to_levels(rows.values)

    def to_levels(self, values: Int64[Tensor, "n k"]) -> Int64[Tensor, "n k"]:
        """Map codes to levels, which are bins for numbers generated digit by digit, and the codes for other columns."""
        columns = zip(self.schema.modelled, values.cpu().numpy().T, strict=True)
        return torch.from_numpy(np.stack([column.to_levels(codes) for column, codes in columns], 1))

    def with_marginals_of(self, values: Int64[Tensor, "n k"]) -> "Table":
        """Return the modality with the exact marginals of rows; exact marginals are not private."""
        levels, n = self.to_levels(values), max(len(values), 1)
        level_counts = [len(column.level_names) for column in self.schema.modelled]
        marginals = [
            levels[:, j].bincount(minlength=num_levels).double() / n for j, num_levels in enumerate(level_counts)
        ]
        return self.with_marginals(tuple(tuple(marginal.tolist()) for marginal in marginals))

    def with_statistics(self, data: Dataset) -> Dataset:
        return data.with_modality(self.with_marginals_of(data.values))

    def with_marginals(self, marginals: tuple[tuple[float, ...], ...]) -> "Table":
        """Return the modality with other marginals, and without contingency tables (`crosstabs`).

        `marginals` holds, for each modelled column, the fraction of rows in each of its levels (values or bins).
        """
        return replace(self, marginals=marginals, crosstabs=(), crosstab_rows=0)

    def from_levels(self, levels: Int64[Tensor, "n k"], rng: Rng) -> Int64[Tensor, "n k"]:
        """Sample a code for each level; numbers generated digit by digit are uniform within their level (bin)."""
        u = rng.stream("within").uniform(levels.shape, torch.float64).numpy()
        columns = zip(self.schema.modelled, levels.cpu().numpy().T, u.T, strict=True)
        return torch.from_numpy(
            np.stack([column.from_levels(column_levels, column_u) for column, column_levels, column_u in columns], 1)
        )

    def by_levels(self) -> "Table":
        """Return the modality with one code per level: numbers generated digit by digit become binned numbers."""
        columns = (
            replace(column, digits=False) if isinstance(column, Numerical) else column for column in self.schema.columns
        )
        return replace(self, schema=replace(self.schema, columns=tuple(columns)), tokenizers=())

    def convert(self, data: Dataset) -> Dataset:
        table = data.modality.view(Table)
        if table is not None and table.schema != self.schema == table.by_levels().schema:
            return replace(data, values=table.to_levels(data.values), modality=self)
        return super().convert(data)

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        return encode(first_of_each(expect(raw, RawTable), self.schema.unit), self.schema).codes, {}

    @property
    def lenient(self) -> "Table":
        return replace(self, schema=replace(self.schema, outside="impute"))

    def strange(self, data: Dataset) -> Sequence[str]:
        """Return warnings about values in `data` that do not occur in the training rows, including empty cells.

        Raises:
            InputError: If the type of a cell is not that of its column.
        """
        if data.raw_table is None:
            return ()
        check_types(self.schema, data.raw_table)
        return [*outside(self.schema, data.raw_table), *empty_cells(self.schema, data.raw_table)]

    def arrays(self, values: Int64[Tensor, "n k"], given: Cond) -> dict[str, np.ndarray]:
        """Return the .npz arrays of rows: cells as text, integer codes, and column names.

        `samples` holds the text cells, [n, columns], and `columns` the names of their columns. `codes` holds the
        integer codes, [n, k], and `modelled` the names of their columns.
        """
        return self._arrays(values, self.cells(values))

    def _arrays(self, values: Int64[Tensor, "n k"], table: RawTable) -> dict[str, np.ndarray]:
        return {
            **text_arrays(table),
            "codes": values.cpu().numpy(),
            "modelled": np.array([column.name for column in self.schema.modelled]),
        }

    def show(self, values: Int64[Tensor, "n k"], given: Cond, columns: int | None = None) -> Image.Image:
        return bars(values.cpu().numpy(), self.schema.modelled, columns)

    def write_given(self, values: Int64[Tensor, "n k"], given: GivenCells, out: pathlib.Path) -> None:
        """Write rows as `write` does, but copy given numbers and times unchanged."""
        self.write_by(self._writers_of(lambda rows: self.with_given(rows, given)), values, {}, out)

    def frame(self, values: Int64[Tensor, "n k"], given: Cond) -> pd.DataFrame:
        """Return rows as a data frame, with the dtypes of the training table or the defaults of the column types."""
        return to_frame(self.cells(values), self.schema)

    def write_cells(self, cells: RawTable, out: pathlib.Path) -> None:
        """Write the cells of all columns to a .csv, .tsv or .parquet file."""
        write_cells(cells, self.schema, out, self.dialect)


def table_dataset(raw: RawTable, schema: Schema | None = None) -> Dataset:
    """Build a data set of a table, with the given schema or, without it, a schema detected from the cells.

    Raises:
        InputError: If the table does not fit the schema.
    """
    schema_notes = () if schema else (GUESSED_NOTE,)
    schema = schema or detect_schema(raw)
    schema.require_modelled()
    modality = Table(schema, dialect=raw.dialect)
    codes, given = modality.values_from_raw(raw)
    subset_notes = (f"using the first row of each {schema.unit}: {len(codes):,} of {len(raw.values):,} rows",)
    notes = (
        *raw.notes,
        *schema_notes,
        *unmodelled_notes(schema),
        *(subset_notes if len(codes) < len(raw.values) else ()),
    )
    return Dataset(codes, given, modality, notes, raw_table=raw)


def unmodelled_notes(schema: Schema) -> tuple[str, ...]:
    """Return notes on the columns that are not modelled; the notes depend only on the schema."""
    notes = []
    templates: list[tuple[type[Any], str]] = [
        (Identifier, "not modelled: {}, identifiers, generated as running numbers"),
        (FreeText, "not modelled: {}, free text, left empty; if this is wrong, edit the schema (feller data schema)"),
        (Derived, "not modelled: {}, derived from other columns"),
        (Copy, "not modelled: {}, copied from other columns"),
        (Sum, "not modelled: {}, sums of other columns"),
        (SkippedColumn, "left out: {}, skipped by the schema, so samples lack it"),
        (Copy, "not modelled: {}, copied from other columns"),
        (Sum, "not modelled: {}, sums of other columns"),
    ]
    for column_type, template in templates:
        names = [column.name for column in schema.columns if isinstance(column, column_type)]
        if names:
            notes.append(template.format(", ".join(names)))
    return tuple(notes)


MOST_PANELS = 24
"""Maximum number of columns in a figure; if there are more, the first columns are drawn."""
BARS = 30
"""Maximum number of bars per panel; if a column has more values or bins, the most frequent ones are drawn."""
LETTERS = 14
"""Maximum length of a bar label, in characters."""


def bars(codes: Int64[np.ndarray, "n k"], columns: Sequence[ModelledColumn], across: int | None = None) -> Image.Image:
    """Draw a bar chart of the values or bins of each column, `across` charts per row of the figure (default: 4)."""
    selected = columns[:MOST_PANELS]
    figure, axes = panels(len(selected), across or 4, width=3.0, height=2.2)
    for j, (axis, column) in enumerate(zip(axes, selected, strict=True)):
        names = column.level_names
        counts = np.bincount(column.to_levels(codes[:, j]), minlength=len(names))
        indices = np.arange(len(names)) if len(names) <= BARS else np.sort(np.argsort(-counts, kind="stable")[:BARS])
        axis.bar(np.arange(len(indices)), counts[indices] / max(len(codes), 1), color=INK, width=0.8)
        axis.set_title(column.name, fontsize=8, parse_math=False)
        stride = max(1, len(indices) // 8)
        ticks = np.arange(0, len(indices), stride)
        labels = [_short(names[indices[i]]) for i in ticks]
        axis.set_xticks(ticks, labels, fontsize=5, rotation=60, ha="right", parse_math=False)
        axis.tick_params(axis="y", labelsize=5)
    return figure_to_image(figure, None, ())


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
