"""A picture of a table: for each column, which share of the rows has each code."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64
from PIL import Image

from feller.data.figures import INK, finish, panels
from feller.data.tables.column import Modelled

MOST = 24
"""Columns that are drawn, at most; the first ones."""
BARS = 30
"""Bars of a panel, at most: the first levels of numbers, the most frequent words."""
LETTERS = 14
"""Letters of a name below a bar, at most."""


def bars(codes: Int64[np.ndarray, "n k"], columns: Sequence[Modelled], across: int | None = None) -> Image.Image:
    """Draw a panel of bars for each column, `across` in a row."""
    shown = columns[:MOST]
    figure, axes = panels(len(shown), across or 4, width=3.0, height=2.2)
    for j, (axis, column) in enumerate(zip(axes, shown, strict=True)):
        names = column.coarse_names
        counts = np.bincount(column.coarse(codes[:, j]), minlength=len(names))
        kept = np.arange(len(names)) if len(names) <= BARS else np.sort(np.argsort(-counts, kind="stable")[:BARS])
        axis.bar(np.arange(len(kept)), counts[kept] / max(len(codes), 1), color=INK, width=0.8)
        axis.set_title(column.name, fontsize=8, parse_math=False)
        every = max(1, len(kept) // 8)
        places = np.arange(0, len(kept), every)
        labels = [_short(names[kept[i]]) for i in places]
        axis.set_xticks(places, labels, fontsize=5, rotation=60, ha="right", parse_math=False)
        axis.tick_params(axis="y", labelsize=5)
    return finish(figure, None, ())


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
