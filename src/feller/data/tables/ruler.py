"""Where the cells of a column of numbers lie on the real line."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from feller.data.tables.bins import Bins
from feller.data.tables.dates import Datetime
from feller.data.tables.numerical import Numerical

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
