"""Shared helpers of figures: panels, class colours, legends, fonts."""

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
"""Families with letters of many scripts, as systems have them, the better ones first."""


@functools.cache
def _others() -> tuple[str, ...]:
    """Return those that are there."""
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return tuple(name for name in OTHERS if name in there)


@functools.cache
def _usual() -> Any:
    """Return the letters of the usual font."""
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


def save_figure(figure: Any, file: Any) -> None:
    """Write a figure as a PNG; letters that no font has are boxes, of which nobody is told."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if any(ord(letter) not in _usual() for letter in text.get_text() if letter.isprintable()):
            text.set_fontfamily([*text.get_fontfamily(), *_others()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that all fonts lack
        figure.savefig(file, format="png")


def to_image(drawing: Any) -> Image.Image:
    """Return a matplotlib figure, or a picture, as a picture; InputError if it is neither."""
    if isinstance(drawing, Image.Image):
        return drawing
    if not hasattr(drawing, "savefig"):
        found = type(drawing).__name__
        raise InputError(argument="figure", expected="a matplotlib figure or a PIL image", found=found)
    file = io.BytesIO()
    save_figure(drawing, file)
    return Image.open(file).convert("RGB")


MAX_POINTS = 20_000
"""Rows that are drawn, at most; the first ones."""
PANELS = 6
"""Pairs of columns that are drawn, at most."""
LEGEND = 10
"""Classes that get a colour in the legend, at most."""
INK = "#1f5fa8"
"""Colour of rows without a class."""


def blank_figure(
    wide: float, high: float, *, dpi: int = 100, layout: Literal["constrained"] | None = "constrained"
) -> Any:
    """Return an empty white figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=dpi, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axisless_panels(
    count: int, columns: int | None, *, width: float, height: float, title: float = 0.0, **limits: tuple[float, float]
) -> tuple[Any, list[Any]]:
    """Return a figure and its panels without axes, `columns` in a row, or as many as make a square.

    Sizes are those of one panel, in inches; a `title` takes so much of its height. `limits` are `xlim` and `ylim`.
    """
    across = min(count, columns or math.ceil(math.sqrt(count)))
    down = -(-count // across)
    figure, drawn = blank_figure(width * across, height * down, layout=None), []
    for i in range(count):
        corner = i % across / across, 1 - (i // across + 1) / down
        drawn.append(figure.add_axes((*corner, 1 / across, (1 - title / height) / down), **limits))
        drawn[-1].set_axis_off()
    return figure, drawn


def panels(count: int, across: int | None, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """Return a figure and its panels, `across` in a row; sizes are those of one panel, in inches."""
    across = min(count, across or 3)
    down = -(-count // across)
    figure = blank_figure(width * across, height * down)
    return figure, [figure.add_subplot(down, across, i + 1) for i in range(count)]


def class_masks(n: int, labels: np.ndarray | None, classes: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a colour and which of the first rows have it, [n], class by class."""
    if labels is None:
        yield INK, np.ones(n, dtype=bool)
        return
    for i in range(len(classes)):
        yield f"C{i % 10}", labels[:n] == i


def marker_size(n: int) -> float:
    """Return the size of a point among n, in square points."""
    return float(np.clip(4000 / max(n, 1), 0.5, 36))


def figure_to_image(figure: Any, labels: np.ndarray | None, classes: tuple[str, ...]) -> Image.Image:
    """Add a legend where there are few classes, and return the picture."""
    if labels is not None and len(classes) <= LEGEND:
        from matplotlib.lines import Line2D

        marks = [Line2D([], [], marker="o", linestyle="", color=f"C{i}") for i in range(len(classes))]
        for text in figure.legend(marks, classes, loc="outside right upper").get_texts():
            text.set_parse_math(False)
    return to_image(figure)
