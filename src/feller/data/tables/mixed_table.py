"""Mixed tables: numbers by a continuous flow, categories as masked tokens."""

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
from feller.data.loading.raw import RawExamples, RawTable
from feller.data.modality import Dataset, Modality, Writer, check_finite_state
from feller.data.tables.bins import Bins
from feller.data.tables.constraints import repair
from feller.data.tables.dates import Datetime
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.spaces import Euclidean, MaskSource, Product, Space, Tokens

KNOWN = 0.98
"""Weight of the marginal over levels; the rest is uniform, so that every level has positive width."""


@dataclass(frozen=True)
class QuantileTransform:
    """Map from cells to a standard normal variable: levels get intervals of [0, 1] as wide as their marginals.

    A cell is at the middle of the interval of its level or, for numbers generated digit by digit, of its value. Only
    the marginals of the rows are used; without them all levels are equally wide. Intervals below 1e-6 may be lost in
    float32.
    """

    column: Numerical | Datetime
    marginal: tuple[float, ...] = ()
    """Marginal of the levels, including missing."""
    is_per_level: bool = False
    """True if each level has the whole line, since a token determines the level."""

    @cached_property
    def _edges(self) -> Float64[np.ndarray, " edges"]:
        """Interval edges of the levels, from 0 to 1."""
        room = self.column.levels.count
        known = np.array(self.marginal[:room] or [1 / room] * room)
        widths = KNOWN * known / max(known.sum(), 1e-12) + (1 - KNOWN) / room
        return np.append(0, np.cumsum(widths) / widths.sum())

    @property
    def _is_written_out(self) -> bool:
        return isinstance(self.column, Numerical) and self.column.digits

    def place(self, codes: Int64[np.ndarray, " n"]) -> Float32[Tensor, " n"]:
        """Map codes to normal scores; 0 for missing cells."""
        levels = self.column.to_levels(codes)
        there = levels < self.column.levels.count
        u = np.full(len(codes), 0.5)
        if self._is_written_out:
            u[there] = mid_quantiles(self.column.levels, codes[there] + self.column.levels.starts[0], levels[there])
        if not self.is_per_level:
            u = self._edges[levels] + u * np.diff(self._edges)[levels]
        return torch.special.ndtri(torch.from_numpy(u)).float()

    def codes(self, x: Float32[Tensor, " n"], levels: Int64[np.ndarray, " n"] | None = None) -> Int64[np.ndarray, " n"]:
        """Map normal scores to codes, within the given levels if any."""
        u = torch.special.ndtr(x.double()).clamp(0, 1 - 2**-53).numpy()
        if levels is None:
            levels = np.searchsorted(self._edges[1:-1], u, side="right")
            u = (u - self._edges[levels]) / np.diff(self._edges)[levels]
        return self.column.from_levels(levels, u)


def mid_quantiles(
    bins: Bins, numbers: Int64[np.ndarray, " n"], levels: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Return the mid-point uniforms for which `Bins.draw` returns these numbers in these levels."""
    u = np.empty(len(numbers))
    for level in np.unique(levels):
        first, last = bins.span(int(level))
        which = levels == level
        others = [] if first == last else [value for value in bins.heavy if first <= value <= last]
        below = numbers[which] - first - sum((numbers[which] > value).astype(np.int64) for value in others)
        u[which] = (below + 0.5) / (last - first + 1 - len(others))
    return u


MIN_LEVELS = 8
"""Number of codes below which a numerical column is categorical."""


@dataclass(frozen=True)
class MixedTable(Modality):
    """Modality of mixed tables: values are integer codes; states are `numbers` [n, a] and, if any, `words` [n, b].

    Numerical and date columns become normal scores, computed from the schema and the marginals of the table. Other
    columns become tokens. Columns generated digit by digit, with heavy (frequent) values or missing cells, are both: a
    token for the level, a number for the position within it.
    """

    display_name = "a table of numbers and categories"
    is_read_with_model = True
    raw_type = RawTable
    is_tabular = samples_as_frame = True
    has_density = False  # tokens are discrete

    table: Table

    def __post_init__(self) -> None:
        if not self.transforms:
            raise InputError(
                expected=f"a table with a numerical or date column of at least {MIN_LEVELS} levels without heavy"
                " values or missing cells, or with a column generated digit by digit",
                remedy="Use the recipe `table`",
            )

    @cached_property
    def transforms(self) -> dict[int, QuantileTransform]:
        """Transform of each column with a continuous part, by index among the modelled columns."""
        marginals, found = self.table.marginals, {}
        for j, column in enumerate(self.table.schema.modelled):
            if not isinstance(column, Numerical | Datetime):
                continue
            heavy = isinstance(column, Numerical) and bool(column.heavy)
            digits = isinstance(column, Numerical) and column.digits
            apart = heavy or column.missing is not None
            if (digits and apart) or (not apart and column.num_codes >= MIN_LEVELS):
                found[j] = QuantileTransform(column, marginals[j] if marginals else (), is_per_level=apart)
        return found

    @cached_property
    def words(self) -> dict[int, int]:
        """Number of tokens of each column with a discrete part, by index among the modelled columns."""
        columns = enumerate(self.table.schema.modelled)
        return {
            j: len(column.level_names)
            for j, column in columns
            if j not in self.transforms or self.transforms[j].is_per_level
        }

    @property
    def writers(self) -> dict[str, Writer]:
        return self.table.writers

    @property
    def conditionable_leaves(self) -> tuple[str, ...]:
        return self.table.conditionable_leaves

    def parse_condition(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        raise UsageError(
            "cannot be given, since this model generates all columns jointly",
            remedy="Fit a model with --recipe table, which can be conditioned on columns",
            argument=leaf,
        )

    def space(self) -> Space:
        parts: dict[str, Space] = {"numbers": Euclidean((len(self.transforms),))}
        if self.words:
            parts["words"] = Tokens(max(self.words.values()), (len(self.words),), MaskSource())
        return Product(parts)

    def encode(self, values: Int64[Tensor, "n k"]) -> State:
        table = self.table.check_codes(values)
        codes = table.cpu().numpy()
        state = {"numbers": torch.stack([ruler.place(codes[:, j]) for j, ruler in self.transforms.items()], 1)}
        if self.words:
            state["words"] = self.table.to_levels(table)[:, list(self.words)]
        return {name: leaf.to(values.device) for name, leaf in state.items()}

    def decode(self, state: State) -> Int64[Tensor, "n k"]:
        """Decode states to codes; rows that violate a rule are moved to the nearest codes that satisfy all."""
        check_finite_state(state)
        numbers, schema = state["numbers"].cpu().float(), self.table.schema
        levels_of = dict(zip(self.words, state["words"].cpu().numpy().T, strict=True)) if self.words else {}
        for j, levels in levels_of.items():
            if ((levels < 0) | (levels >= self.words[j])).any():
                raise InputError("some sampled tokens are not codes of their columns; the model is damaged")
        columns = {**levels_of}
        for place, (j, ruler) in enumerate(self.transforms.items()):
            columns[j] = ruler.codes(numbers[:, place], levels_of.get(j))
        codes = np.stack([columns[j] for j in range(len(schema.modelled))], 1).astype(np.int64)
        codes = repair(codes, schema.pairs, schema.counts) if schema.pairs else codes
        return self.table.check_codes(torch.from_numpy(codes)).to(state["numbers"].device)

    def resample(self, values: Int64[Tensor, "m k"], n: int, rng: Rng) -> Int64[Tensor, "n k"]:
        return self.table.resample(values, n, rng)

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        return self.table.values_from_raw(raw)

    @property
    def lenient(self) -> "MixedTable":
        return replace(self, table=self.table.lenient)

    def strange(self, data: Dataset) -> Sequence[str]:
        return self.table.strange(data)

    def arrays(self, values: Any, given: Cond) -> dict[str, np.ndarray]:
        return self.table.arrays(values, given)

    def frame(self, values: Any, given: Cond) -> pd.DataFrame:
        return self.table.frame(values, given)

    def for_metrics(self, data: Dataset) -> Dataset:
        return replace(data, modality=self.table)

    def show(self, values: Any, given: Cond, columns: int | None = None) -> Image.Image:
        return self.table.show(values, given, columns)


def as_table(data: Dataset) -> Dataset:
    """Convert mixed tables to plain tables, as privacy evaluations need; other data are returned unchanged."""
    mixed = data.modality.view(MixedTable)
    return data if mixed is None else mixed.for_metrics(data)
