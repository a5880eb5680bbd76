"""Each column of a synthetic table on top of the real one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from PIL import Image

from feller.evaluation.report.paper import painted, paper
from feller.evaluation.report.wording import SPACE, percent, shortened

MADE, REAL = "#1f5fa8", "#b4b8bd"
ACROSS, DOWN = 3, 4
"""Panels of a picture."""
WIDE, HIGH = 2.8, 2.15
"""Inches of a panel."""
BARS = 9
"""Values of a column without an order that have bars of their own: the commonest."""
TICKS = 4
"""Values of a column with an order that are named, at most."""
NAME, WORD = 20, 16
"""Letters of a column's name and of a value, at most."""
UNDER, BIN = 24, 12
"""Letters of all values below an outline, and of one of them, at most."""
BETWEEN = " to "
"""Between the bounds of a bin, in what it is called."""


@dataclass(frozen=True)
class Labelled:
    """What a column and its codes are called."""

    name: str
    words: tuple[str, ...]
    """For each code."""
    ordered: bool = False
    """Codes have an order, as bins of a number have."""


def columns_beside(
    synthetic: Int64[np.ndarray, "n k"], real: Int64[np.ndarray, "m k"], columns: Sequence[Labelled]
) -> list[Image.Image]:
    """Draw the shares of each column's values: an outline on grey where they have an order, else pairs of bars.

    Args:
        synthetic: Codes; those that stand for no value are not drawn.
        real: Codes, one row or more.
        columns: What they are called.

    Returns:
        As many pictures as ACROSS * DOWN columns each ask for.
    """
    at_once, pictures = ACROSS * DOWN, []
    for first in range(0, len(columns), at_once):
        shown = range(first, min(first + at_once, len(columns)))
        across = min(ACROSS, len(shown))
        down = -(-len(shown) // across)
        figure = paper(WIDE * max(across, 2), HIGH * down + 0.35)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for axes, j in zip(panels, shown, strict=False):
            made, true = (_shares(table[:, j], len(columns[j].words)) for table in (synthetic, real))
            (_outline if columns[j].ordered else _bars)(axes, made, true, columns[j].words)
            _title(axes, columns[j].name, _apart(made, true))
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=7.5)
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        _legend(figure)
        pictures.append(painted(figure))
    return pictures


def _title(axes: Any, name: str, off: float) -> None:
    axes.set_title(f"{shortened(name, NAME)}\n", loc="left", fontsize=8.5, fontweight="bold", parse_math=False)
    said = f"{percent(min(1.0, off))} of the rows off"
    axes.annotate(said, (0, 1), (0, 4), "axes fraction", "offset points", fontsize=7.5, color="#565d66")


def _shares(codes: Int64[np.ndarray, " n"], number: int) -> Float64[np.ndarray, " number"]:
    there = codes[(codes >= 0) & (codes < number)]
    return np.bincount(there, minlength=number) / max(1, len(codes))


def _apart(made: Float64[np.ndarray, " c"], true: Float64[np.ndarray, " c"]) -> float:
    """Return the total variation; what stands for no value counts as off."""
    return float(np.abs(made - true).sum() + abs(made.sum() - true.sum())) / 2


def _outline(axes: Any, made: np.ndarray, true: np.ndarray, words: Sequence[str]) -> None:
    edges = np.arange(len(words) + 1) - 0.5
    axes.stairs(true, edges, fill=True, color=REAL)
    axes.stairs(made, edges, color=MADE, linewidth=1.4)
    cut = [shortened(word, BIN) for word in ends_of(words)]
    ticks = min(TICKS, len(words), max(2, UNDER // (max(map(len, cut)) + 2)))
    named = np.unique(np.linspace(0, len(words) - 1, ticks).round().astype(int))
    axes.set_xticks(named, labels=[cut[i] for i in named], parse_math=False)
    if len(named) > 1:
        axes.get_xticklabels()[0].set_ha("left")
        axes.get_xticklabels()[-1].set_ha("right")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    _in_percent(axes.yaxis)


def ends_of(words: Sequence[str]) -> list[str]:
    """Return where each bin begins, and where the last one ends; other words as they are."""
    begins = [word.partition(BETWEEN)[0] for word in words]
    return [*begins[:-1], words[-1].rpartition(BETWEEN)[2]]


def _bars(axes: Any, made: np.ndarray, true: np.ndarray, words: Sequence[str]) -> None:
    order = np.argsort(-(made + true), kind="stable")
    shown = order if len(order) <= BARS + 1 else order[:BARS]
    names = [shortened(words[i], WORD) for i in shown]
    both = [made[shown], true[shown]]
    if len(shown) < len(order):
        rest = order[BARS:]
        both = [np.append(part, whole[rest].sum()) for part, whole in zip(both, (made, true), strict=True)]
        names.append(f"{len(rest)} others")
    place = np.arange(len(names), dtype=float)
    axes.barh(place - 0.2, both[0], 0.4, color=MADE)
    axes.barh(place + 0.2, both[1], 0.4, color=REAL)
    axes.set_yticks(place, labels=names, parse_math=False)
    axes.set_ylim(max(len(names), 3) - 0.5, -0.5)
    axes.set_xlim(left=0)
    _in_percent(axes.xaxis)


def _in_percent(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6):g}{SPACE}%"))


def _legend(figure: Any) -> None:
    from matplotlib.patches import Patch

    marks = [Patch(color=MADE, label="synthetic"), Patch(color=REAL, label="real")]
    figure.legend(handles=marks, loc="outside lower left", ncols=2, frameon=False, fontsize=9)
