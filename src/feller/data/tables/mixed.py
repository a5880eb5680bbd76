"""Mixed tables: numbers as a flow, categories as masked tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Float64, Int64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.data.loading.raw import Found, FoundTable
from feller.data.modality import Dataset, Modality, Write, check_finite_state
from feller.data.tables.bins import Bins
from feller.data.tables.constraints import mended
from feller.data.tables.dates import Datetime
from feller.data.tables.modality import Table
from feller.data.tables.numerical import Numerical
from feller.spaces import Euclidean, MaskSource, Product, Space, Tokens

KNOWN = 0.98
"""How far shares of levels are believed; the rest is spread over all, so that every level has room."""


@dataclass(frozen=True)
class Ruler:
    """Levels side by side, as wide as their shares or all alike, stretched so that the whole is standard normal.

    A cell lies in the middle of its room: of its level, or, where a column is written digit by digit, of its own. What
    the ruler knows of rows are the shares; without any it is the schema's alone. A room below 1e-6 may be lost in
    float32.
    """

    column: Numerical | Datetime
    shares: tuple[float, ...] = ()
    """Of the levels, that of missing cells among them."""
    inside: bool = False
    """Whether each level has the whole line to itself, because something else tells which it is."""

    @cached_property
    def _edges(self) -> Float64[np.ndarray, " edges"]:
        """Where levels begin, from 0, and 1."""
        room = self.column.levels.count
        known = np.array(self.shares[:room] or [1 / room] * room)
        widths = KNOWN * known / max(known.sum(), 1e-12) + (1 - KNOWN) / room
        return np.append(0, np.cumsum(widths) / widths.sum())

    @property
    def _is_written_out(self) -> bool:
        return isinstance(self.column, Numerical) and self.column.digits

    def place(self, codes: Int64[np.ndarray, " n"]) -> Float32[Tensor, " n"]:
        """Return where cells lie; those that are missing lie at 0."""
        levels = self.column.coarse(codes)
        there = levels < self.column.levels.count
        u = np.full(len(codes), 0.5)
        if self._is_written_out:
            u[there] = within(self.column.levels, codes[there] + self.column.levels.starts[0], levels[there])
        if not self.inside:
            u = self._edges[levels] + u * np.diff(self._edges)[levels]
        return torch.special.ndtri(torch.from_numpy(u)).float()

    def codes(self, x: Float32[Tensor, " n"], levels: Int64[np.ndarray, " n"] | None = None) -> Int64[np.ndarray, " n"]:
        """Return the codes whose room holds numbers, among those of levels if they are told."""
        u = torch.special.ndtr(x.double()).clamp(0, 1 - 2**-53).numpy()
        if levels is None:
            levels = np.searchsorted(self._edges[1:-1], u, side="right")
            u = (u - self._edges[levels]) / np.diff(self._edges)[levels]
        return self.column.fine(levels, u)


def within(bins: Bins, numbers: Int64[np.ndarray, " n"], levels: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Return uniform numbers for which `Bins.draw` gives these numbers of these levels: the middle ones."""
    u = np.empty(len(numbers))
    for level in np.unique(levels):
        first, last = bins.span(int(level))
        which = levels == level
        others = [] if first == last else [value for value in bins.heavy if first <= value <= last]
        below = numbers[which] - first - sum((numbers[which] > value).astype(np.int64) for value in others)
        u[which] = (below + 0.5) / (last - first + 1 - len(others))
    return u


LEAST = 8
"""Codes below which a column of numbers is one of words."""


@dataclass(frozen=True)
class Mixed(Modality):
    """Values are the codes of the table; states are `numbers`, [n, a], and, where there are any, `words`, [n, b].

    A column of numbers or times is a number where each of its cells is one: on a ruler that knows the schema and the
    shares that the table knows, and nothing else of rows. Others are words. A number that is written digit by digit and
    has heavy values, or cells that are missing, is both: a word for its level, a number for its place within that.
    """

    called = "a table of numbers and words"
    rereads = True
    holds = FoundTable
    tabular = draws_frames = True
    has_density = False  # words have none

    table: Table

    def __post_init__(self) -> None:
        if not self.rulers:
            raise InputError(
                expected=f"a table with a column of numbers, or times, of {LEAST} levels or more, no heavy values"
                " and no missing cells, or one that is written digit by digit",
                remedy="Take the recipe `table`",
            )

    @cached_property
    def rulers(self) -> dict[int, Ruler]:
        """The ruler of each column that has a number, by its place among those modelled."""
        shares, found = self.table.shares, {}
        for j, column in enumerate(self.table.schema.modelled):
            if not isinstance(column, Numerical | Datetime):
                continue
            heavy = isinstance(column, Numerical) and bool(column.heavy)
            digits = isinstance(column, Numerical) and column.digits
            apart = heavy or column.missing is not None
            if (digits and apart) or (not apart and column.count >= LEAST):
                found[j] = Ruler(column, shares[j] if shares else (), inside=apart)
        return found

    @cached_property
    def words(self) -> dict[int, int]:
        """Number of words of each column that has some, by its place among those modelled."""
        columns = enumerate(self.table.schema.modelled)
        return {j: len(column.coarse_names) for j, column in columns if j not in self.rulers or self.rulers[j].inside}

    @property
    def forms(self) -> dict[str, Write]:
        """Those of the table."""
        return self.table.forms

    @property
    def leaves(self) -> tuple[str, ...]:
        """Columns, none of which can be given."""
        return self.table.leaves

    def give(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        """Refuse: all columns are drawn together."""
        raise UsageError(
            "cannot be given, as this model draws all columns together",
            remedy="Fit one with --recipe table, whose columns can",
            argument=leaf,
        )

    def space(self) -> Space:
        """Return normal numbers, times words that begin as masks."""
        parts: dict[str, Space] = {"numbers": Euclidean((len(self.rulers),))}
        if self.words:
            parts["words"] = Tokens(max(self.words.values()), (len(self.words),), MaskSource())
        return Product(parts)

    def encode(self, values: Int64[Tensor, "n k"]) -> State:
        """Place numbers on their rulers; words are levels."""
        table = self.table.checked(values)
        codes = table.cpu().numpy()
        state = {"numbers": torch.stack([ruler.place(codes[:, j]) for j, ruler in self.rulers.items()], 1)}
        if self.words:
            state["words"] = self.table.coarse(table)[:, list(self.words)]
        return {name: leaf.to(values.device) for name, leaf in state.items()}

    def decode(self, state: State) -> Int64[Tensor, "n k"]:
        """Read codes; those of a row that breaks a rule are moved to the nearest that keep all."""
        check_finite_state(state)
        numbers, schema = state["numbers"].cpu().float(), self.table.schema
        told = dict(zip(self.words, state["words"].cpu().numpy().T, strict=True)) if self.words else {}
        for j, levels in told.items():
            if ((levels < 0) | (levels >= self.words[j])).any():
                raise InputError("some words of the samples are no words of their columns; the model is damaged")
        columns = {**told}
        for place, (j, ruler) in enumerate(self.rulers.items()):
            columns[j] = ruler.codes(numbers[:, place], told.get(j))
        codes = np.stack([columns[j] for j in range(len(schema.modelled))], 1).astype(np.int64)
        codes = mended(codes, schema.pairs, schema.counts) if schema.pairs else codes
        return self.table.checked(torch.from_numpy(codes)).to(state["numbers"].device)

    def taken(self, values: Int64[Tensor, "m k"], n: int, draws: Rng) -> Int64[Tensor, "n k"]:
        """Return n of more rows, as the table takes them."""
        return self.table.taken(values, n, draws)

    def accept(self, found: Found) -> tuple[Tensor, Cond]:
        """Take the cells of a table by its schema."""
        return self.table.accept(found)

    @property
    def lenient(self) -> "Mixed":
        """The same of a lenient table."""
        return replace(self, table=self.table.lenient)

    def strange(self, data: Dataset) -> Sequence[str]:
        """Say what the table says."""
        return self.table.strange(data)

    def arrays(self, values: Any, given: Cond) -> dict[str, np.ndarray]:
        """Return what the table has."""
        return self.table.arrays(values, given)

    def frame(self, values: Any, given: Cond) -> pd.DataFrame:
        """Return what the table has."""
        return self.table.frame(values, given)

    def for_measures(self, data: Dataset) -> Dataset:
        """Return numbers and words as the table that they are."""
        return replace(data, modality=self.table)

    def show(self, values: Any, given: Cond, columns: int | None = None) -> Image.Image:
        """Draw what the table draws."""
        return self.table.show(values, given, columns)


def as_table(data: Dataset) -> Dataset:
    """Return numbers and words as the table that they are, as what protects rows wants them; others as they are."""
    mixed = data.modality.view(Mixed)
    return data if mixed is None else mixed.for_measures(data)
