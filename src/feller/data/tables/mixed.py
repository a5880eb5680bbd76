"""Tables as numbers that flow beside words that are hidden and revealed."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Given, State
from feller.core.rng import Draws
from feller.data.loading.raw import Found, FoundTable
from feller.data.modality import Dataset, Modality, Write, check_finite_state
from feller.data.tables.constraints import mended
from feller.data.tables.dates import Datetime
from feller.data.tables.modality import Table
from feller.data.tables.numerical import Numerical
from feller.data.tables.ruler import Ruler
from feller.spaces import Euclidean, MaskSource, Product, Space, Tokens

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
    holds = FoundTable

    table: Table

    def __post_init__(self) -> None:
        if not self.rulers:
            raise InputError(
                f"expected a table with a column of numbers, or times, of {LEAST} levels or more, no heavy values and"
                " no missing cells, or one that is written digit by digit; take the recipe `table`"
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
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """None: what is given is part of a row."""
        return {}

    @property
    def forms(self) -> dict[str, Write]:
        """Those of the table."""
        return self.table.forms

    @property
    def log_scale(self) -> None:
        """None: words have no density."""
        return None

    @property
    def leaves(self) -> tuple[str, ...]:
        """Columns, none of which can be given."""
        return self.table.leaves

    def give(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        """Refuse: all columns are drawn together."""
        raise UsageError(
            f"this model draws all columns together, so that {leaf}={text} cannot be given; fit one with"
            " --recipe table, whose columns can"
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

    def taken(self, values: Int64[Tensor, "m k"], n: int, draws: Draws) -> Int64[Tensor, "n k"]:
        """Return n of more rows, as the table takes them."""
        return self.table.taken(values, n, draws)

    def accept(self, found: Found) -> tuple[Tensor, Given]:
        """Take the cells of a table by its schema."""
        return self.table.accept(found)

    def arrays(self, values: Any, given: Given) -> dict[str, np.ndarray]:
        """Return what the table has."""
        return self.table.arrays(values, given)

    def show(self, values: Any, given: Given, columns: int | None = None) -> Image.Image:
        """Draw what the table draws."""
        return self.table.show(values, given, columns)


def as_table(data: Dataset) -> Dataset:
    """Return numbers and words as the table that they are, as measures of tables want them; others as they are."""
    return replace(data, modality=data.modality.table) if isinstance(data.modality, Mixed) else data
