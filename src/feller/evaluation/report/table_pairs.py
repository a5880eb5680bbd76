"""Which pairs of columns a synthetic table gets wrong."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from PIL import Image

from feller.evaluation.report.paper import painted, paper
from feller.evaluation.report.wording import shortened

CELL, LARGEST, ALL = 0.2, 0.5, 4.2
"""Inches of a cell, at least and at most, and of all cells of a small map."""
WRITTEN = 14
"""Columns up to which numbers stand in the cells; beyond, a scale says what colours mean."""
DARKEST = 0.05
"""Share that has the darkest colour at least, so that a good table looks good."""
PAIR_NAME = 22
"""Letters of a column's name, at most."""


def pairs_map(errors: Float64[np.ndarray, "k k"], names: Sequence[str]) -> Image.Image:
    """Draw a map of how far pairs of columns are off (total variation), and columns alone on the diagonal.

    Args:
        errors: Symmetric, in [0, 1], one column or more.
        names: Of the columns.
    """
    k = len(errors)
    side = k * max(CELL, min(LARGEST, ALL / k))
    figure = paper(max(4.2, side + 2.4), side + 1.4)
    axes = figure.subplots()
    darkest = max(DARKEST, float(errors.max()))
    seen = np.ma.masked_array(errors, np.triu(np.ones_like(errors, dtype=bool), 1))
    drawn = axes.imshow(seen, cmap="YlOrRd", vmin=0, vmax=darkest)
    size = 9 if k <= WRITTEN else 7
    short = [shortened(name, PAIR_NAME) for name in names]
    axes.set_yticks(range(k), labels=short, fontsize=size, parse_math=False)
    axes.set_xticks(
        range(k), labels=short, fontsize=size, rotation=60, ha="right", rotation_mode="anchor", parse_math=False
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Rows off, of a hundred", loc="left", fontsize=9)
    if k <= WRITTEN:
        for i in range(k):
            for j in range(i + 1):
                ink = "white" if errors[i, j] > 0.6 * darkest else "black"
                axes.text(j, i, f"{100 * errors[i, j]:.1f}", ha="center", va="center", fontsize=7, color=ink)
    else:
        bar = figure.colorbar(drawn, ax=axes, shrink=0.6, pad=0.02, format=lambda share, _: f"{100 * share:g}")
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    return painted(figure)
