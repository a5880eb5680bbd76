"""Figures of synthetic tables: columns, pairs, quantiles, utility and audits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from PIL import Image

from feller.data.figures import to_image
from feller.evaluation.number_format import SPACE, format_percent, is_number, shorten_middle
from feller.evaluation.report.embedded_picture import new_figure
from feller.evaluation.report.report_page import Cell, ReportTable
from feller.evaluation.tables.cell_metrics import QUANTILES, NumberColumnPair

MADE, REAL = "#1f5fa8", "#b4b8bd"
PANELS_ACROSS, PANELS_DOWN = 3, 4
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
class LabelledColumn:
    """What a column and its codes are called."""

    name: str
    labels: tuple[str, ...]
    """For each code."""
    is_ordered: bool = False
    """Codes have an order, as bins of a number have."""


def plot_columns(
    synthetic: Int64[np.ndarray, "n k"], real: Int64[np.ndarray, "m k"], columns: Sequence[LabelledColumn]
) -> list[Image.Image]:
    """Draw the shares of each column's values: an outline on grey where they have an order, else pairs of bars.

    Codes that stand for no value are not drawn. There are as many pictures as ACROSS * DOWN columns each ask for.
    """
    panels_per_picture, pictures = PANELS_ACROSS * PANELS_DOWN, []
    for first in range(0, len(columns), panels_per_picture):
        shown = range(first, min(first + panels_per_picture, len(columns)))
        across = min(PANELS_ACROSS, len(shown))
        down = -(-len(shown) // across)
        figure = new_figure(WIDE * max(across, 2), HIGH * down + 0.35)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for axes, j in zip(panels, shown, strict=False):
            made, true = (_shares(table[:, j], len(columns[j].labels)) for table in (synthetic, real))
            (_outline if columns[j].is_ordered else _bars)(axes, made, true, columns[j].labels)
            _title(axes, columns[j].name, _total_variation(made, true))
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=7.5)
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        _legend(figure)
        pictures.append(to_image(figure))
    return pictures


def _title(axes: Any, name: str, off: float) -> None:
    axes.set_title(f"{shorten_middle(name, NAME)}\n", loc="left", fontsize=8.5, fontweight="bold", parse_math=False)
    error_text = f"{format_percent(min(1.0, off))} of the rows off"
    axes.annotate(error_text, (0, 1), (0, 4), "axes fraction", "offset points", fontsize=7.5, color="#565d66")


def _shares(codes: Int64[np.ndarray, " n"], number: int) -> Float64[np.ndarray, " number"]:
    there = codes[(codes >= 0) & (codes < number)]
    return np.bincount(there, minlength=number) / max(1, len(codes))


def _total_variation(made: Float64[np.ndarray, " c"], true: Float64[np.ndarray, " c"]) -> float:
    """Return the total variation; what stands for no value counts as off."""
    return float(np.abs(made - true).sum() + abs(made.sum() - true.sum())) / 2


def _outline(axes: Any, made: np.ndarray, true: np.ndarray, words: Sequence[str]) -> None:
    edges = np.arange(len(words) + 1) - 0.5
    axes.stairs(true, edges, fill=True, color=REAL)
    axes.stairs(made, edges, color=MADE, linewidth=1.4)
    cut = [shorten_middle(word, BIN) for word in bin_edges(words)]
    ticks = min(TICKS, len(words), max(2, UNDER // (max(map(len, cut)) + 2)))
    named = np.unique(np.linspace(0, len(words) - 1, ticks).round().astype(int))
    axes.set_xticks(named, labels=[cut[i] for i in named], parse_math=False)
    if len(named) > 1:
        axes.get_xticklabels()[0].set_ha("left")
        axes.get_xticklabels()[-1].set_ha("right")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    _in_percent(axes.yaxis)


def bin_edges(words: Sequence[str]) -> list[str]:
    """Return where each bin begins, and where the last one ends; other words as they are."""
    begins = [word.partition(BETWEEN)[0] for word in words]
    return [*begins[:-1], words[-1].rpartition(BETWEEN)[2]]


def _bars(axes: Any, made: np.ndarray, true: np.ndarray, words: Sequence[str]) -> None:
    order = np.argsort(-(made + true), kind="stable")
    shown = order if len(order) <= BARS + 1 else order[:BARS]
    names = [shorten_middle(words[i], WORD) for i in shown]
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


TABLE_CAPTION = (
    "Of the numbers as they are written, beside all rows of the real table. Within a bin numbers are drawn evenly:"
    " where a mean is far off, more edges in the schema help, above all in a long tail."
)


def numbers_grid(columns: Sequence[NumberColumnPair]) -> ReportTable:
    """Return a row for each column of numbers; one or more."""
    what = ("mean", "deviation", *(f"{100 * share:g}{SPACE}%" for share in QUANTILES))
    head = ("Column", *(name for one in what for name in (one, f"{one}, real")), "")
    return ReportTable("Means and quantiles", TABLE_CAPTION, head, [_row(column) for column in columns])


def _row(column: NumberColumnPair) -> tuple[Cell, ...]:
    made, real = ((one.mean, one.deviation, *one.quantiles) for one in (column.synthetic, column.real))
    cells = (cell for pair in zip(made, real, strict=True) for cell in pair)
    return (column.name, *cells, "far off" if column.is_far_off else "")


CELL, MAX_CELL, MAP_SIZE = 0.2, 0.5, 4.2
"""Inches of a cell, at least and at most, and of all cells of a small map."""
MAX_COLUMNS_WITH_NUMBERS = 14
"""Columns up to which numbers stand in the cells; beyond, a scale says what colours mean."""
MIN_DARKEST = 0.05
"""Share that has the darkest colour at least, so that a good table looks good."""
PAIR_NAME = 22
"""Letters of a column's name, at most."""


def pairs_map(errors: Float64[np.ndarray, "k k"], names: Sequence[str]) -> Image.Image:
    """Draw a map of how far pairs of columns are off (total variation), and columns alone on the diagonal."""
    k = len(errors)
    side = k * max(CELL, min(MAX_CELL, MAP_SIZE / k))
    figure = new_figure(max(4.2, side + 2.4), side + 1.4)
    axes = figure.subplots()
    darkest = max(MIN_DARKEST, float(errors.max()))
    lower_triangle = np.ma.masked_array(errors, np.triu(np.ones_like(errors, dtype=bool), 1))
    drawn = axes.imshow(lower_triangle, cmap="YlOrRd", vmin=0, vmax=darkest)
    size = 9 if k <= MAX_COLUMNS_WITH_NUMBERS else 7
    short = [shorten_middle(name, PAIR_NAME) for name in names]
    axes.set_yticks(range(k), labels=short, fontsize=size, parse_math=False)
    axes.set_xticks(
        range(k), labels=short, fontsize=size, rotation=60, ha="right", rotation_mode="anchor", parse_math=False
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Rows off, of a hundred", loc="left", fontsize=9)
    if k <= MAX_COLUMNS_WITH_NUMBERS:
        for i in range(k):
            for j in range(i + 1):
                ink = "white" if errors[i, j] > 0.6 * darkest else "black"
                axes.text(j, i, f"{100 * errors[i, j]:.1f}", ha="center", va="center", fontsize=7, color=ink)
    else:
        bar = figure.colorbar(drawn, ax=axes, shrink=0.6, pad=0.02, format=lambda share, _: f"{100 * share:g}")
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    return to_image(figure)


MARKS_WIDTH, MARKS_HEIGHT = 5.6, 0.42
"""Inches of the picture, and of each line."""
STYLES = {
    "synthetic": ("o", "#1f5fa8", "#1f5fa8", 8.5),
    "learned from real rows": ("D", "none", "#33383e", 10.5),
    "unseen real rows": ("D", "none", "#33383e", 10.5),
    "one answer for all": ("|", "none", "#33383e", 13.0),
    "no copying": ("|", "none", "#33383e", 13.0),
    "a table of copies": ("X", "#c0392b", "#c0392b", 8.0),
}
"""Mark, colour inside, colour of the edge and size of what is called so."""
LEARNERS = {"boosted": "gradient boosting", "linear": "linear model"}
SCORES = {"auc": "ranking (AUC)", "accuracy": "accuracy", "f1": "rarer value (F1)", "r2": "variance explained"}
AUDITS = {"dcr_share": "rows nearer to it\nthan to other people", "membership_auc": "telling who\nwas in it (AUC)"}
Numbers = Mapping[str, float | str | None]


@dataclass(frozen=True)
class ScoreLine:
    """Numbers from 0 to 1 that are to be compared."""

    label: str
    marks: Mapping[str, float | str | None]
    """By what they are called in STYLES, the lowest first; None is not drawn."""


def plot_utility(numbers: Numbers) -> Image.Image | None:
    """Draw what models learned from the synthetic table reach on real rows; None where that was not measured."""
    constant = {"auc": 0.5, "r2": 0.0, "accuracy": numbers.get("accuracy_majority")}
    lines = []
    for score, what in SCORES.items():
        for kind, model in LEARNERS.items():
            name = f"{score}_{kind}"
            real = {"learned from real rows": numbers.get(f"{name}_real"), "one answer for all": constant.get(score)}
            lines.append(ScoreLine(f"{what}\n{model}", {"synthetic": numbers.get(name), **real}))
    return _draw_lines(lines, "Learned from a table, tested on real rows")


def plot_audit(numbers: Numbers) -> Image.Image | None:
    """Draw how often rows are copied and how far they betray who was in the table; None where that was not measured."""
    copies = {"synthetic": numbers.get("copies"), "unseen real rows": numbers.get("copies_held_out")}
    lines = [ScoreLine("rows like a training row\nin all words and bins", copies)]
    for name, label in AUDITS.items():
        rest = {"no copying": 0.5, "a table of copies": numbers.get(f"{name}_copied")}
        lines.append(ScoreLine(label, {"synthetic": numbers.get(name), **rest}))
    return _draw_lines(lines, "An alarm, not a guarantee")


def _draw_lines(lines: Sequence[ScoreLine], title: str) -> Image.Image | None:
    """Draw the lines that have a number of the synthetic table, below each other."""
    lines = [line for line in lines if is_number(line.marks.get("synthetic"))]
    if not lines:
        return None
    figure = new_figure(MARKS_WIDTH, MARKS_HEIGHT * len(lines) + 0.95)
    axes = figure.subplots()
    named: dict[str, object] = {}
    for row, line in enumerate(lines):
        axes.axhline(row, color="#e6e4de", linewidth=1, zorder=0)
        for called, value in line.marks.items():
            if is_number(value):
                mark, inside, edge, size = STYLES[called]
                named[called] = axes.plot(
                    max(0.0, value), row, mark, mfc=inside, mec=edge, markersize=size, mew=1.5, clip_on=False
                )[0]
    axes.set_yticks(range(len(lines)), labels=[line.label for line in lines], fontsize=8.5)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "0.25", "0.5", "0.75", "1"], fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=9.5)
    order = sorted(named, key=list(STYLES).index)
    figure.legend(
        [named[called] for called in order], order, loc="outside lower left", ncols=2, frameon=False, fontsize=8.5
    )
    return to_image(figure)
