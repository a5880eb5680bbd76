"""What pictures of rows share: panels, colours of classes, a legend."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from feller.data.letters import save

MOST = 20_000
"""Rows that are drawn, at most; the first ones."""
PANELS = 6
"""Pairs of columns that are drawn, at most."""
LEGEND = 10
"""Classes that get a colour in the legend, at most."""
INK = "#1f5fa8"
"""Colour of rows without a class."""


def panels(count: int, across: int | None, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """Return a figure and its panels, `across` in a row; sizes are those of one panel, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(count, across or 3)
    down = -(-count // across)
    figure = Figure(figsize=(width * across, height * down), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(down, across, i + 1) for i in range(count)]


def groups(n: int, labels: np.ndarray | None, classes: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a colour and which of the first rows have it, [n], class by class."""
    if labels is None:
        yield INK, np.ones(n, dtype=bool)
        return
    for i in range(len(classes)):
        yield f"C{i % 10}", labels[:n] == i


def dot(n: int) -> float:
    """Return the size of a point among n, in square points."""
    return float(np.clip(4000 / max(n, 1), 0.5, 36))


def finish(figure: Any, labels: np.ndarray | None, classes: tuple[str, ...]) -> Image.Image:
    """Add a legend where there are few classes, and return the picture."""
    if labels is not None and len(classes) <= LEGEND:
        from matplotlib.lines import Line2D

        marks = [Line2D([], [], marker="o", linestyle="", color=f"C{i}") for i in range(len(classes))]
        for text in figure.legend(marks, classes, loc="outside right upper").get_texts():
            text.set_parse_math(False)
    file = io.BytesIO()
    save(figure, file)
    return Image.open(file).convert("RGB")
