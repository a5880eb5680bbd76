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
"""Fallback font families that cover many scripts, in order of preference."""


@functools.cache
def _others() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return tuple(name for name in OTHERS if name in installed)


@functools.cache
def _usual() -> Any:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


def save_figure(figure: Any, file: Any) -> None:
    """Write a figure as a PNG, with fallback fonts for characters that the default font lacks."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if any(ord(char) not in _usual() for char in text.get_text() if char.isprintable()):
            text.set_fontfamily([*text.get_fontfamily(), *_others()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no installed font has some characters
        figure.savefig(file, format="png")


def to_image(drawing: Any) -> Image.Image:
    """Convert a matplotlib figure to a PIL image; images are returned unchanged. InputError for any other type."""
    if isinstance(drawing, Image.Image):
        return drawing
    if not hasattr(drawing, "savefig"):
        type_name = type(drawing).__name__
        raise InputError(argument="figure", expected="a matplotlib figure or a PIL image", found=type_name)
    file = io.BytesIO()
    save_figure(drawing, file)
    return Image.open(file).convert("RGB")


MAX_POINTS = 20_000
"""Maximum number of points in a scatter plot; if there are more, the first points are shown."""
PANELS = 6
"""Maximum number of column pairs that are plotted in a figure."""
LEGEND = 10
"""Maximum number of classes for which a figure has a legend."""
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
    """Return a figure and `count` panels without axes, `columns` per row; by default the grid is about square.

    `width`, `height` and `title` (height of the title) are in inches per panel. `limits` are the axis limits `xlim` and
    `ylim`.
    """
    num_columns = min(count, columns or math.ceil(math.sqrt(count)))
    num_rows = -(-count // num_columns)
    figure, axes = blank_figure(width * num_columns, height * num_rows, layout=None), []
    for i in range(count):
        corner = i % num_columns / num_columns, 1 - (i // num_columns + 1) / num_rows
        axes.append(figure.add_axes((*corner, 1 / num_columns, (1 - title / height) / num_rows), **limits))
        axes[-1].set_axis_off()
        axes[-1].set(xticks=[], yticks=[])  # hidden ticks are created all the same, which is slow
    return figure, axes


def panels(count: int, across: int | None, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """Return a figure and `count` panels, `across` per row (default 3), each `width` x `height` inches."""
    across = min(count, across or 3)
    num_rows = -(-count // across)
    figure = blank_figure(width * across, height * num_rows)
    return figure, [figure.add_subplot(num_rows, across, i + 1) for i in range(count)]


def class_masks(n: int, labels: np.ndarray | None, classes: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield, for each class, its colour and the mask of its examples among the first `n` examples, [n].

    `labels` holds the class index of each example; if it is None, one colour for all examples is yielded.
    """
    if labels is None:
        yield INK, np.ones(n, dtype=bool)
        return
    for i in range(len(classes)):
        yield f"C{i % 10}", labels[:n] == i


def marker_size(n: int) -> float:
    """Return the marker size, in square typographic points, for a scatter plot of `n` data points."""
    return float(np.clip(4000 / max(n, 1), 0.5, 36))


def figure_to_image(figure: Any, labels: np.ndarray | None, classes: tuple[str, ...]) -> Image.Image:
    """Convert a matplotlib figure to an image, with a legend of the classes if there are at most `LEGEND` of them.

    If `labels`, the class indices of the plotted examples, is None, there is no legend.
    """
    if labels is not None and len(classes) <= LEGEND:
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], marker="o", linestyle="", color=f"C{i}") for i in range(len(classes))]
        for text in figure.legend(handles, classes, loc="outside right upper").get_texts():
            text.set_parse_math(False)
    return to_image(figure)
