"""Points drawn for people: a histogram in one dimension, else one panel for each two neighbouring columns."""

import io
import warnings

import numpy as np
from PIL import Image

MOST = 20_000
"""Points that are drawn, at most; the first ones."""
PANELS = 6
"""Pairs of columns that are drawn, at most."""
LEGEND = 10
"""Classes that get a colour in the legend, at most."""


def scatter(
    values: np.ndarray,
    columns: tuple[str, ...],
    labels: np.ndarray | None,
    classes: tuple[str, ...],
    across: int | None = None,
) -> Image.Image:
    """Draw points [n, d], coloured by their labels [n] if given, with `across` panels in a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values, labels = values[:MOST], None if labels is None else labels[:MOST]
    panels = min(max(1, values.shape[1] - 1), PANELS)
    across = min(panels, across or 3)
    down = -(-panels // across)
    figure = Figure(figsize=(4.2 * across, 4 * down), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    groups = [(None, slice(None))] if labels is None else [(i, labels == i) for i in range(len(classes))]
    for i in range(panels):
        axes = figure.add_subplot(down, across, i + 1)
        for group, rows in groups:
            colour = None if group is None else f"C{group % 10}"
            if values.shape[1] == 1:
                axes.hist(values[rows, 0], bins=50, color=colour, alpha=0.6)
            else:
                size = float(np.clip(4000 / max(len(values), 1), 0.5, 12))
                axes.scatter(values[rows, i], values[rows, i + 1], s=size, color=colour, linewidths=0, alpha=0.7)
                axes.set_ylabel(columns[i + 1], parse_math=False)
        axes.set_xlabel(columns[i], parse_math=False)
    if labels is not None and len(classes) <= LEGEND:
        from matplotlib.lines import Line2D

        marks = [Line2D([], [], marker="o", linestyle="", color=f"C{i}") for i in range(len(classes))]
        for text in figure.legend(marks, classes, loc="outside right upper").get_texts():
            text.set_parse_math(False)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks
        figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")
