"""Values within bins for columns in order: joint draws of cells a <= b, given the bins of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from feller.core.rng import Rng
from feller.data.tables.bins import Bins
from feller.data.tables.column import ModelledColumn
from feller.data.tables.dates import Datetime
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.rules import OrderedPair
from feller.data.tables.schema import Schema

ROUNDS = 64
"""Number of joint draws for each row; rows without one in order get their smallest values in order."""
Spans = Sequence[tuple[int, int]]
"""First and last value of ranges, ascending and disjoint."""


@dataclass
class _Values:
    """Values of a column in the rows that are drawn, with the limits within which they may lie."""

    bins: Bins
    codes: Int64[np.ndarray, " n"]
    present: Bool[np.ndarray, " n"]
    """False for missing cells."""
    low: Int64[np.ndarray, " n"]
    high: Int64[np.ndarray, " n"]
    values: Int64[np.ndarray, " n"]
    spans: Spans | None

    def draw(self, rows: Int64[np.ndarray, " m"], uniforms: Float64[np.ndarray, " m"]) -> None:
        """Draw values uniformly within the limits in some rows."""
        rows, uniforms = rows[self.present[rows]], uniforms[self.present[rows]]
        self.values[rows] = self.bins.draw_between(self.codes[rows], self.low[rows], self.high[rows], uniforms)

    def are_allowed(self, rows: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Return True for rows whose value lies in the given spans."""
        values = self.values[rows]
        if self.spans is None:
            return np.ones(len(rows), dtype=bool)
        return ~self.present[rows] | np.any([(first <= values) & (values <= last) for first, last in self.spans], 0)

    def smallest(self, rows: Int64[np.ndarray, " m"], least: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """Return the smallest allowed values of the codes that are at least `least`."""
        values, is_placed = least.copy(), ~self.present[rows]
        for first, last in self.spans or ():
            values = np.where(~is_placed & (values <= last), np.maximum(values, first), values)
            is_placed = is_placed | (values <= last)
        is_bin = self.bins.is_wide[np.minimum(self.codes[rows], self.bins.count - 1)]
        for heavy in self.bins.heavy:  # ascending
            values = values + (self.present[rows] & is_bin & (values == heavy))
        return values


def ordered_uniforms(
    codes: Int64[np.ndarray, "n k"],
    uniforms: Float64[np.ndarray, "n k"],
    schema: Schema,
    *,
    fixed: Mapping[int, tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]] | None = None,
    spans: Mapping[int, Spans] | None = None,
) -> Float64[np.ndarray, "n k"]:
    """Return uniform numbers for which decoded cells satisfy the rules of order.

    Rows whose cells are in order keep their numbers. In other rows, the columns in order are drawn again together until
    they are in order, so that they have the distribution of independent draws, given the order.

    Args:
        codes: Codes of rows.
        uniforms: Numbers in [0, 1), which choose a value within each code.
        schema: Schema of the table.
        fixed: Known values of columns, by column index: mask of the rows, and the values there.
        spans: Allowed ranges of values, by column index.
    """
    if not schema.ordered_pairs or not len(codes):
        return uniforms
    uniforms = uniforms.copy()
    for pairs in _components(schema.ordered_pairs):
        columns = list(dict.fromkeys(j for pair in pairs for j in (pair.lower, pair.upper)))
        state = {
            j: _start(codes[:, j], uniforms[:, j], schema.modelled[j], (fixed or {}).get(j), (spans or {}).get(j))
            for j in columns
        }
        rows = np.flatnonzero(~_in_order(pairs, state, np.arange(len(codes))))
        if not len(rows):
            continue
        _tighten(pairs, state)
        feasible = np.all([state[j].low[rows] <= state[j].high[rows] for j in columns], 0)
        changed = rows = rows[feasible]
        digest = blake2b(np.ascontiguousarray(uniforms[:, columns]).tobytes(), digest_size=8).hexdigest()
        rng = Rng(0).fold_in("order", digest)
        for i in range(ROUNDS):
            if not len(rows):
                break
            draws = rng.stream(str(i)).uniform((len(rows), len(columns)), torch.float64).numpy()
            for draw, j in zip(draws.T, columns, strict=True):
                state[j].draw(rows, draw)
            rows = rows[~_in_order(pairs, state, rows)]
        _set_smallest(pairs, state, rows)
        for j in columns:
            present = changed[state[j].present[changed]]
            uniforms[present, j] = state[j].bins.middles(state[j].codes[present], state[j].values[present])
    return uniforms


def _components(pairs: Sequence[OrderedPair]) -> list[list[OrderedPair]]:
    """Group pairs that share columns, in their order."""
    groups: list[list[OrderedPair]] = []
    for pair in pairs:
        columns = {pair.lower, pair.upper}
        linked = [group for group in groups if any({other.lower, other.upper} & columns for other in group)]
        groups = [group for group in groups if group not in linked]
        groups.append([*(other for group in linked for other in group), pair])
    order = {id(pair): i for i, pair in enumerate(pairs)}
    return [sorted(group, key=lambda pair: order[id(pair)]) for group in groups]


def _start(
    codes: Int64[np.ndarray, " n"],
    uniforms: Float64[np.ndarray, " n"],
    column: ModelledColumn,
    fixed: tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]] | None,
    spans: Spans | None,
) -> _Values:
    assert isinstance(column, Numerical | Datetime)
    bounds = np.array([*map(column.levels.value_bounds, range(column.num_values)), (0, 0)])
    present = codes < column.num_values
    low, high = bounds[np.where(present, codes, column.num_values)].T
    if spans:
        low, high = np.maximum(low, spans[0][0]), np.minimum(high, spans[-1][1])
    values = np.zeros(len(codes), dtype=np.int64)
    values[present] = column.levels.draw(codes[present], uniforms[present])
    if fixed is not None:
        mask, known = fixed
        low, high, values = (np.where(mask & present, known, other) for other in (low, high, values))
    return _Values(column.levels, codes, present, low, high, values, spans)


def _in_order(
    pairs: Sequence[OrderedPair], state: Mapping[int, _Values], rows: Int64[np.ndarray, " m"]
) -> Bool[np.ndarray, " m"]:
    ordered = np.all([column.are_allowed(rows) for column in state.values()], 0)
    for pair in pairs:
        a, b = state[pair.lower], state[pair.upper]
        below = pair.lower_scale.common(a.values[rows]) <= pair.upper_scale.common(b.values[rows])
        ordered &= below | ~a.present[rows] | ~b.present[rows]
    return ordered


def _tighten(pairs: Sequence[OrderedPair], state: Mapping[int, _Values]) -> None:
    """Narrow the limits of all columns to values that have values in order in the other columns."""
    for pair in pairs:
        a, b = state[pair.lower], state[pair.upper]
        least = pair.upper_scale.lowest(pair.lower_scale.common(a.low))
        b.low = np.where(a.present & b.present, np.maximum(b.low, least), b.low)
    for pair in reversed(pairs):
        a, b = state[pair.lower], state[pair.upper]
        most = pair.lower_scale.highest(pair.upper_scale.common(b.high))
        a.high = np.where(a.present & b.present, np.minimum(a.high, most), a.high)


def _set_smallest(pairs: Sequence[OrderedPair], state: Mapping[int, _Values], rows: Int64[np.ndarray, " m"]) -> None:
    """Set all columns in some rows to their smallest values in order."""
    if not len(rows):
        return
    for column in state.values():
        column.values[rows] = column.smallest(rows, column.low[rows])
    for pair in pairs:
        a, b = state[pair.lower], state[pair.upper]
        least = pair.upper_scale.lowest(pair.lower_scale.common(a.values[rows]))
        is_bound = a.present[rows] & b.present[rows]
        b.values[rows] = b.smallest(rows, np.where(is_bound, np.maximum(b.values[rows], least), b.values[rows]))
