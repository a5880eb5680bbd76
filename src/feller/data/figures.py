"""Shared helpers for matplotlib figures: panels, class colours, legends, fonts."""

import functools
import io
import math
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from PIL import Image

from feller.core.errors import InputError

OTHERS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK KR", "Source Han Sans", "IPAGothic"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans", "PingFang SC", "Yu Gothic"),
    *("Microsoft YaHei", "MS Gothic", "Malgun Gothic", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Thai"),
    *("Arial Unicode MS", "Unifont"),
)
"""Font families that cover many scripts, in order of preference."""


@functools.cache
def _others() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return tuple(name for name in OTHERS if name in there)


@functools.cache
def _usual() -> Any:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


def save_figure(figure: Any, file: Any) -> None:
    """Write a figure as a PNG, with fallback fonts for characters that the default font lacks."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if any(ord(letter) not in _usual() for letter in text.get_text() if letter.isprintable()):
            text.set_fontfamily([*text.get_fontfamily(), *_others()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no installed font has some characters
        figure.savefig(file, format="png")


def to_image(drawing: Any) -> Image.Image:
    """Convert a matplotlib figure to a PIL image; images are returned unchanged. InputError for any other type."""
    if isinstance(drawing, Image.Image):
        return drawing
    if not hasattr(drawing, "savefig"):
        found = type(drawing).__name__
        raise InputError(argument="figure", expected="a matplotlib figure or a PIL image", found=found)
    file = io.BytesIO()
    save_figure(drawing, file)
    return Image.open(file).convert("RGB")


MAX_POINTS = 20_000
"""Maximum number of rows in a scatter plot; the first ones are shown."""
PANELS = 6
"""Maximum number of column pairs in a figure."""
LEGEND = 10
"""Maximum number of classes in a legend."""
INK = "#1f5fa8"
"""Colour of points without a class."""


def blank_figure(
    wide: float, high: float, *, dpi: int = 100, layout: Literal["constrained"] | None = "constrained"
) -> Any:
    """Return an empty white figure of the given width and height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=dpi, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axisless_panels(
    count: int, columns: int | None, *, width: float, height: float, title: float = 0.0, **limits: tuple[float, float]
) -> tuple[Any, list[Any]]:
    """Return a figure and its panels without axes, `columns` per row; by default the grid is about square.

    `width`, `height` and `title` (room for a title) are inches per panel. `limits` are `xlim` and `ylim`.
    """
    across = min(count, columns or math.ceil(math.sqrt(count)))
    down = -(-count // across)
    figure, drawn = blank_figure(width * across, height * down, layout=None), []
    for i in range(count):
        corner = i % across / across, 1 - (i // across + 1) / down
        drawn.append(figure.add_axes((*corner, 1 / across, (1 - title / height) / down), **limits))
        drawn[-1].set_axis_off()
        drawn[-1].set(xticks=[], yticks=[])  # made all the same, and slowly
    return figure, drawn


def panels(count: int, across: int | None, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """Return a figure and its panels, `across` per row (default 3); sizes are inches per panel."""
    across = min(count, across or 3)
    down = -(-count // across)
    figure = blank_figure(width * across, height * down)
    return figure, [figure.add_subplot(down, across, i + 1) for i in range(count)]


def class_masks(n: int, labels: np.ndarray | None, classes: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the colour of each class and the mask of its examples, among the first n rows."""
    if labels is None:
        yield INK, np.ones(n, dtype=bool)
        return
    for i in range(len(classes)):
        yield f"C{i % 10}", labels[:n] == i


def marker_size(n: int) -> float:
    """Return the marker size in square points for a plot of n points."""
    return float(np.clip(4000 / max(n, 1), 0.5, 36))


def figure_to_image(figure: Any, labels: np.ndarray | None, classes: tuple[str, ...]) -> Image.Image:
    """Convert a figure to an image, with a legend if there are at most `LEGEND` classes."""
    if labels is not None and len(classes) <= LEGEND:
        from matplotlib.lines import Line2D

        marks = [Line2D([], [], marker="o", linestyle="", color=f"C{i}") for i in range(len(classes))]
        for text in figure.legend(marks, classes, loc="outside right upper").get_texts():
            text.set_parse_math(False)
    return to_image(figure)
