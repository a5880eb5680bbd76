"""Modality of tables with columns of any type under a public schema."""

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

from feller.core.errors import InputError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.data.figures import INK, figure_to_image, panels
from feller.data.files import sample_folder
from feller.data.files.numpy_files import write_arrays
from feller.data.loading.raw import Dialect, RawExamples, RawTable, expect, text_array
from feller.data.modality import Dataset, Modality, Writer
from feller.data.tables.column import ModelledColumn
from feller.data.tables.dataframes import to_frame, write_cells
from feller.data.tables.encoding import (
    FILL_MARKS,
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
from feller.data.tables.raking import Crosstab, crosstab_weights, exchange_rows, rake_rows
from feller.data.tables.schema import ROW, Schema
from feller.data.tables.schema_detection import detect_schema
from feller.data.tables.unmodelled_columns import Derived, FreeText, Identifier
from feller.spaces import DigitTokenizer, PairConstraint, TableTokens


def first_of_each(raw: RawTable, unit: str) -> RawTable:
    """Return the first row of each person: which it is hangs on that person's rows alone.

    Args:
        raw: A table.
        unit: The column that tells people apart; or `row`, which leaves the table as it is.

    Raises:
        InputError: If there is no such column, or a cell does not say whose row it is.
    """
    if unit == ROW:
        return raw
    if unit not in raw.columns:
        raise InputError("a column that tells whose each row is", "none of that name", "Add it", column=unit)
    people = raw.factorize(unit)
    nobody = people.is_in(FILL_MARKS)[people.codes]
    if nobody.any():
        raise InputError("whose row it is", "nothing", "Fill it", **raw.error_fields(int(nobody.argmax())), column=unit)
    return raw.subset(np.sort(np.unique(people.codes, return_index=True)[1]))


GUESSED_NOTE = (
    "columns were described by their cells, which is not private; `feller data schema` writes it down to edit"
)
"""What people are told where nobody described a table."""


@dataclass(frozen=True)
class Table(Modality):
    """Values are the codes of the modelled columns, int64 [n, k]; states are tokens, int64 [n, places].

    A column has one place, where its token is its code; a number that is written digit by digit has several.
    """

    display_name = "a table"
    is_read_with_model = True
    raw_type = RawTable
    is_tabular = has_schema = samples_as_frame = True
    has_density = False  # codes have probabilities

    schema: Schema
    marginals: tuple[tuple[float, ...], ...] = ()
    """Share of the rows that has each level of each modelled column, exact or noisy; empty where nobody counted."""
    crosstabs: tuple[Crosstab, ...] = ()
    """Noisy counts of levels of few columns together, to which rows that are drawn are fitted; empty where none are."""
    crosstab_rows: int = 0
    """That were counted for these."""
    dialect: Dialect = Dialect()  # noqa: RUF009 - frozen
    """How the table that was learned from is written as text, and rows that are made are; nothing of its rows."""

    def __post_init__(self) -> None:
        right = [len(column.level_names) for column in self.schema.modelled]
        if self.marginals and [len(each) for each in self.marginals] != right:
            raise InputError(f"shares of {right} levels", [len(each) for each in self.marginals])
        if bool(self.crosstabs) != (self.crosstab_rows > 0):
            raise InputError("counts of some rows, or neither", f"{len(self.crosstabs)} of {self.crosstab_rows:,} rows")
        for table in self.crosstabs:
            if max(table.columns) >= len(right) or table.levels != tuple(right[j] for j in table.columns):
                raise InputError(f"counts of {right} levels", f"{table.levels} of columns {table.columns}")

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of codes of each modelled column."""
        return self.schema.counts

    @property
    def writers(self) -> dict[str, Writer]:
        return self._forms(self.cells)

    def _forms(self, cells: Callable[[Tensor], RawTable]) -> dict[str, Writer]:
        """Return what writes rows, by how their cells are told."""

        def write_table(values: Tensor, given: Cond, out: pathlib.Path) -> None:
            self.write_cells(cells(values), out)

        def write_folder(values: Tensor, given: Cond, out: pathlib.Path) -> None:
            sample_folder.save_table(self.show(values, given), out, lambda table: write_table(values, given, table))

        return {
            **dict.fromkeys((".csv", ".tsv", ".parquet"), write_table),
            ".npz": lambda values, given, out: write_arrays(self._arrays(values, cells(values)), out),
            "": write_folder,
        }

    def space(self) -> TableTokens:
        return self._rows

    @cached_property
    def _rows(self) -> TableTokens:
        rules = tuple(
            PairConstraint(
                pair.first, pair.second, tuple("".join("01"[mark] for mark in line) for line in pair.allowed.tolist())
            )
            for pair in self.schema.pairs
        )
        fields = tuple(column.field for column in self.schema.modelled)
        known = zip(fields, self.marginals, strict=True) if self.marginals else ()
        return TableTokens(
            fields, rules, tuple(() if isinstance(field, DigitTokenizer) else own for field, own in known)
        )

    def encode(self, values: Int64[Tensor, "n k"]) -> Int64[Tensor, "n places"]:
        return self._rows.encode(self._check(values, self.counts, "codes"))

    def decode(self, state: Int64[Tensor, "n places"]) -> Int64[Tensor, "n k"]:
        return self._check(
            self._rows.decode(self._check(state, self._rows.vocab_sizes, "tokens")), self.counts, "codes"
        )

    def resample(self, values: Int64[Tensor, "m k"], n: int, rng: Rng) -> Int64[Tensor, "n k"]:
        """Return n of more rows than that, so that columns have the shares that are known; UsageError if none are."""
        if self.crosstabs:
            levels = self.to_levels(values)
            return values[
                exchange_rows(levels, crosstab_weights(levels, self.crosstabs, float(self.crosstab_rows)), n, rng)
            ]
        if not self.marginals:
            return super().resample(values, n, rng)
        return values[rake_rows(self.to_levels(values), self.marginals, n, rng)]

    def check_codes(self, values: Int64[Tensor, "n k"]) -> Int64[Tensor, "n k"]:
        """Return codes, if all are ours; InputError if some are not."""
        return self._check(values, self.counts, "codes")

    def _check(self, values: Tensor, counts: tuple[int, ...], what: str) -> Tensor:
        if values.dtype != torch.int64 or values.shape[1:] != (len(counts),):
            raise InputError(f"{what} [n, {len(counts)}] in int64", f"{list(values.shape)} in {values.dtype}")
        strange = (values < 0) | (values >= torch.tensor(counts, device=values.device))
        if strange.any():
            raise InputError(
                f"{int(strange.any(1).sum())} of {len(values)} rows hold {what} that no cell has; the model or its"
                " grammar is damaged"
            )
        return values

    def cells(self, values: Int64[Tensor, "n k"], uniforms: Float64[Tensor, "n k"] | None = None) -> RawTable:
        """Return cells of all columns; numbers of one bin are told apart by uniform numbers in [0, 1).

        Without any, those follow from the codes: the same rows are written alike.
        """
        self._check(values, self.counts, "codes")
        return decode(values, self._uniforms(values) if uniforms is None else uniforms, self.schema)

    def _uniforms(self, values: Tensor) -> Tensor:
        digest = blake2b(np.ascontiguousarray(values.cpu().numpy()).tobytes(), digest_size=8).hexdigest()
        return Rng(0).fold_in("cells", digest).stream("bins").uniform(tuple(values.shape), torch.float64)

    @property
    def conditionable_leaves(self) -> tuple[str, ...]:
        return givable(self.schema)

    def parse_condition(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        """Return the code, [1], of what a person writes for a column; that of its source where one is derived."""
        return torch.tensor([self.asked(leaf, text)[1]]), {}

    def asked(self, leaf: str, text: str) -> tuple[int, int]:
        """Return which modelled column a person gives, and its code; errors as of `parse_condition`."""
        return parse_given_code(self.schema, leaf, text)

    def known(self, raw: RawExamples) -> tuple[Int64[Tensor, "n k"], Bool[Tensor, "n k"]]:
        """Return codes and which of them are given, of a table of which the rest is to be filled; see `observed_cells`.

        Raises:
            InputError: If a given cell is outside the schema, or given cells contradict each other.
        """
        return observed_cells(expect(raw, RawTable), self.schema)

    def given_cells(self, given: CellConditions) -> GivenCells:
        """Return what a person gives of rows.

        Raises:
            UsageError: If a column cannot be that, or two say different things.
        """
        return given_cells(given, self.schema)

    def with_given(self, values: Int64[Tensor, "n k"], given: GivenCells) -> RawTable:
        """Return the cells of rows, with numbers and times that a person gives as they are written, not their bins.

        Where several may be, a bin is written as one of those.
        """
        cells = pyarrow.table({leaf: text_array([text] * len(values)) for leaf, text in given.exact.items()})
        uniforms = self._uniforms(values)
        for j, choice in given.choices.items():
            uniforms[:, j] = torch.from_numpy(choice.uniforms(values[:, j].cpu().numpy(), uniforms[:, j].numpy()))
        partial = RawTable(cells, columns=tuple(given.exact))
        return fill_gaps(partial, self._check(values, self.counts, "codes"), uniforms, self.schema)

    def observed_tokens(
        self, codes: Int64[Tensor, "n k"], observed: Bool[Tensor, "n k"]
    ) -> tuple[Int64[Tensor, "n places"], Bool[Tensor, "n places"]]:
        """Return the same of tokens."""
        widths = torch.tensor(self._rows.tokens_per_column)
        return self._rows.encode(codes), observed.repeat_interleave(widths, 1)

    @property
    def missing_tokens(self) -> Int64[Tensor, " places"]:
        """Return the token at each place that says that a cell is missing; -1 where none does."""
        gone = [column.num_codes - 1 if column.missing is not None else -1 for column in self.schema.modelled]
        codes = torch.tensor(gone)
        widths = torch.tensor(self._rows.tokens_per_column)
        begins = torch.zeros(int(widths.sum()), dtype=torch.bool)
        begins[widths.cumsum(0) - widths] = True
        tokens = self._rows.encode(codes.clamp(min=0))
        return torch.where(begins & (codes >= 0).repeat_interleave(widths), tokens, -1)

    def completed(self, raw: RawTable, values: Int64[Tensor, "n k"]) -> RawTable:
        """Return a partial table with its gaps filled from codes, and all else as it was written."""
        return fill_gaps(raw, self._check(values, self.counts, "codes"), self._uniforms(values), self.schema)

    def levels(self, rows: Dataset) -> Int64[Tensor, "n k"]:
        """Return the levels of rows that are seen as this table, or by levels already."""
        seen = rows.modality.view(Table)
        by_levels = seen is not None and seen.schema == self.by_levels().schema
        return rows.values if by_levels else self.to_levels(rows.values)

    def to_levels(self, values: Int64[Tensor, "n k"]) -> Int64[Tensor, "n k"]:
        """Return the level of each code, which is the code but for numbers written digit by digit."""
        columns = zip(self.schema.modelled, values.cpu().numpy().T, strict=True)
        return torch.from_numpy(np.stack([column.to_levels(codes) for column, codes in columns], 1))

    def with_marginals_of(self, values: Int64[Tensor, "n k"]) -> "Table":
        """Return the same with the exact shares of rows, which are not private."""
        levels, n = self.to_levels(values), max(len(values), 1)
        rooms = [len(column.level_names) for column in self.schema.modelled]
        counted = [levels[:, j].bincount(minlength=room).double() / n for j, room in enumerate(rooms)]
        return self.with_marginals(tuple(tuple(marginal.tolist()) for marginal in counted))

    def with_statistics(self, data: Dataset) -> Dataset:
        return data.with_modality(self.with_marginals_of(data.values))

    def with_marginals(self, marginals: tuple[tuple[float, ...], ...]) -> "Table":
        """Return the same with shares of levels alone: counts of an older table are left behind."""
        return replace(self, marginals=marginals, crosstabs=(), crosstab_rows=0)

    def from_levels(self, levels: Int64[Tensor, "n k"], rng: Rng) -> Int64[Tensor, "n k"]:
        """Return rows of such levels; numbers that are written digit by digit are drawn evenly within theirs."""
        u = rng.stream("within").uniform(levels.shape, torch.float64).numpy()
        columns = zip(self.schema.modelled, levels.cpu().numpy().T, u.T, strict=True)
        return torch.from_numpy(np.stack([column.from_levels(own, within) for column, own, within in columns], 1))

    def by_levels(self) -> "Table":
        """Return the same with a code for each level: numbers that were written digit by digit have those of bins."""
        columns = (
            replace(column, digits=False) if isinstance(column, Numerical) else column for column in self.schema.columns
        )
        return replace(self, schema=replace(self.schema, columns=tuple(columns)))

    def convert(self, data: Dataset) -> Dataset:
        kind = data.modality.view(Table)
        if kind is not None and kind.schema != self.schema == kind.by_levels().schema:
            return replace(data, values=kind.to_levels(data.values), modality=self)
        return super().convert(data)

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        return encode(first_of_each(expect(raw, RawTable), self.schema.unit), self.schema).codes, {}

    @property
    def lenient(self) -> "Table":
        return replace(self, schema=replace(self.schema, outside="impute"))

    def strange(self, data: Dataset) -> Sequence[str]:
        """Say which cells no row that was learned has; InputError if one is of another type than its column."""
        if data.raw_table is None:
            return ()
        check_types(self.schema, data.raw_table)
        return [*outside(self.schema, data.raw_table), *empty_cells(self.schema, data.raw_table)]

    def arrays(self, values: Int64[Tensor, "n k"], given: Cond) -> dict[str, np.ndarray]:
        """Return `samples`, cells as words of NumPy [n, columns], their names, and the `codes` of those modelled."""
        return self._arrays(values, self.cells(values))

    def _arrays(self, values: Int64[Tensor, "n k"], table: RawTable) -> dict[str, np.ndarray]:
        return {
            "samples": table.values.to_pandas().to_numpy(dtype=object).astype(np.str_),
            "columns": np.array(table.columns),
            "codes": values.cpu().numpy(),
            "modelled": np.array([column.name for column in self.schema.modelled]),
        }

    def show(self, values: Int64[Tensor, "n k"], given: Cond, columns: int | None = None) -> Image.Image:
        return bars(values.cpu().numpy(), self.schema.modelled, columns)

    def write_given(self, values: Int64[Tensor, "n k"], given: GivenCells, out: pathlib.Path) -> None:
        """Write rows as `write` does, in which what is given stands as it came."""
        self.write_by(self._forms(lambda rows: self.with_given(rows, given)), values, {}, out)

    def frame(self, values: Int64[Tensor, "n k"], given: Cond) -> pd.DataFrame:
        """Return a data frame, with the types that the table had, or those of its columns."""
        return to_frame(self.cells(values), self.schema)

    def write_cells(self, cells: RawTable, out: pathlib.Path) -> None:
        """Write cells of all columns: .csv, .tsv or .parquet."""
        write_cells(cells, self.schema, out, self.dialect)


def table_dataset(raw: RawTable, schema: Schema | None = None) -> Dataset:
    """Make a data set of a table by its schema, or by one that is guessed from its cells.

    Raises:
        InputError: If the table does not fit its schema.
    """
    guessed = () if schema else (GUESSED_NOTE,)
    schema = schema or detect_schema(raw)
    modality = Table(schema, dialect=raw.dialect)
    codes, given = modality.values_from_raw(raw)
    fewer = (f"one row of each {schema.unit} is learned, {len(codes):,} of {len(raw.values):,}",)
    notes = (*raw.notes, *guessed, *unmodelled_notes(schema), *(fewer if len(codes) < len(raw.values) else ()))
    return Dataset(codes, given, modality, notes, raw_table=raw)


def unmodelled_notes(schema: Schema) -> tuple[str, ...]:
    """Tell of columns that no model sees, by what the schema says alone."""
    notes = []
    told: list[tuple[type[Any], str]] = [
        (Identifier, "no model sees {}, whose cells are made anew"),
        (
            FreeText,
            "no model sees {}, which is free text and will be empty; if it is not, describe it (feller data schema)",
        ),
        (Derived, "no model sees {}, whose cells follow from others"),
    ]
    for kind, sentence in told:
        names = [column.name for column in schema.columns if isinstance(column, kind)]
        if names:
            notes.append(sentence.format(", ".join(names)))
    return tuple(notes)


MOST_PANELS = 24
"""Columns that are drawn, at most; the first ones."""
BARS = 30
"""Bars of a panel, at most: the first levels of numbers, the most frequent words."""
LETTERS = 14
"""Letters of a name below a bar, at most."""


def bars(codes: Int64[np.ndarray, "n k"], columns: Sequence[ModelledColumn], across: int | None = None) -> Image.Image:
    """Draw a panel of bars for each column, `across` in a row."""
    shown = columns[:MOST_PANELS]
    figure, axes = panels(len(shown), across or 4, width=3.0, height=2.2)
    for j, (axis, column) in enumerate(zip(axes, shown, strict=True)):
        names = column.level_names
        counts = np.bincount(column.to_levels(codes[:, j]), minlength=len(names))
        kept = np.arange(len(names)) if len(names) <= BARS else np.sort(np.argsort(-counts, kind="stable")[:BARS])
        axis.bar(np.arange(len(kept)), counts[kept] / max(len(codes), 1), color=INK, width=0.8)
        axis.set_title(column.name, fontsize=8, parse_math=False)
        every = max(1, len(kept) // 8)
        places = np.arange(0, len(kept), every)
        labels = [_short(names[kept[i]]) for i in places]
        axis.set_xticks(places, labels, fontsize=5, rotation=60, ha="right", parse_math=False)
        axis.tick_params(axis="y", labelsize=5)
    return figure_to_image(figure, None, ())


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
