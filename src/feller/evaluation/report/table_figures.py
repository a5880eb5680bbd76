"""Figures of synthetic tables: column marginals, pairs of columns, quantiles, utility and leakage."""

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
from feller.evaluation.tables.structure import Structure

MADE, REAL = "#1f5fa8", "#b4b8bd"
PANELS_ACROSS, PANELS_DOWN = 3, 4
"""Maximum number of panels per figure, across and down."""
WIDE, HIGH = 2.8, 2.15
"""Width and height of a panel in inches."""
BARS = 9
"""Maximum number of values of an unordered column, the most frequent ones, that have their own bars."""
TICKS = 4
"""Maximum number of tick labels of an ordered column."""
NAME, WORD = 20, 16
"""Maximum number of letters shown of a column name, and of a value."""
UNDER, BIN = 24, 12
"""Maximum number of letters in all tick labels of an ordered column together, and in each tick label."""
BETWEEN = " to "
"""Separator between the lower and the upper bound in the label of a bin."""


@dataclass(frozen=True)
class LabelledColumn:
    """Name of a table column and labels of its categories or bins."""

    name: str
    labels: tuple[str, ...]
    """Label of each category or bin."""
    is_ordered: bool = False
    """True if the categories are ordered, as bins of a number are."""


def plot_columns(
    synthetic: Int64[np.ndarray, "n k"], real: Int64[np.ndarray, "m k"], columns: Sequence[LabelledColumn]
) -> list[Image.Image]:
    """Plot the marginals of each column in both tables: step histograms for ordered columns, else pairs of bars.

    Category indices without a label are not shown. Each figure has up to PANELS_ACROSS * PANELS_DOWN columns.
    """
    panels_per_picture, pictures = PANELS_ACROSS * PANELS_DOWN, []
    for start in range(0, len(columns), panels_per_picture):
        indices = range(start, min(start + panels_per_picture, len(columns)))
        num_columns = min(PANELS_ACROSS, len(indices))
        num_rows = -(-len(indices) // num_columns)
        figure = new_figure(WIDE * max(num_columns, 2), HIGH * num_rows + 0.35)
        panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
        for axes, j in zip(panels, indices, strict=False):
            made, true = (_shares(table[:, j], len(columns[j].labels)) for table in (synthetic, real))
            (_outline if columns[j].is_ordered else _bars)(axes, made, true, columns[j].labels)
            _title(axes, columns[j].name, _total_variation(made, true))
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=7.5)
        for axes in panels[len(indices) :]:
            axes.set_axis_off()
        _legend(figure)
        pictures.append(to_image(figure))
    return pictures


def _title(axes: Any, name: str, distance: float) -> None:
    axes.set_title(f"{shorten_middle(name, NAME)}\n", loc="left", fontsize=8.5, fontweight="bold", parse_math=False)
    error_text = f"total variation {format_percent(min(1.0, distance))}"
    axes.annotate(error_text, (0, 1), (0, 4), "axes fraction", "offset points", fontsize=7.5, color="#565d66")


def _shares(codes: Int64[np.ndarray, " n"], count: int) -> Float64[np.ndarray, " count"]:
    valid = codes[(codes >= 0) & (codes < count)]
    return np.bincount(valid, minlength=count) / max(1, len(codes))


def _total_variation(made: Float64[np.ndarray, " c"], real: Float64[np.ndarray, " c"]) -> float:
    """Return the total variation; rows whose category index has no label count as different."""
    return float(np.abs(made - real).sum() + abs(made.sum() - real.sum())) / 2


def _outline(axes: Any, made: np.ndarray, real: np.ndarray, labels: Sequence[str]) -> None:
    edges = np.arange(len(labels) + 1) - 0.5
    axes.stairs(real, edges, fill=True, color=REAL)
    axes.stairs(made, edges, color=MADE, linewidth=1.4)
    short_labels = [shorten_middle(edge, BIN) for edge in bin_edges(labels)]
    ticks = min(TICKS, len(labels), max(2, UNDER // (max(map(len, short_labels)) + 2)))
    labelled = np.unique(np.linspace(0, len(labels) - 1, ticks).round().astype(int))
    axes.set_xticks(labelled, labels=[short_labels[i] for i in labelled], parse_math=False)
    if len(labelled) > 1:
        axes.get_xticklabels()[0].set_ha("left")
        axes.get_xticklabels()[-1].set_ha("right")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    _in_percent(axes.yaxis)


def bin_edges(words: Sequence[str]) -> list[str]:
    """Return short tick labels for bins: the lower edge of each bin, but for the last bin its upper edge.

    `words` are the labels of the bins, each with both edges separated by BETWEEN. Labels without edges are unchanged.
    """
    lower_edges = [label.partition(BETWEEN)[0] for label in words]
    return [*lower_edges[:-1], words[-1].rpartition(BETWEEN)[2]]


def _bars(axes: Any, made: np.ndarray, real: np.ndarray, labels: Sequence[str]) -> None:
    order = np.argsort(-(made + real), kind="stable")
    top = order if len(order) <= BARS + 1 else order[:BARS]
    names = [shorten_middle(labels[i], WORD) for i in top]
    bars = [made[top], real[top]]
    if len(top) < len(order):
        others = order[BARS:]
        bars = [np.append(bar, probs[others].sum()) for bar, probs in zip(bars, (made, real), strict=True)]
        names.append(f"{len(others)} others")
    positions = np.arange(len(names), dtype=float)
    axes.barh(positions - 0.2, bars[0], 0.4, color=MADE)
    axes.barh(positions + 0.2, bars[1], 0.4, color=REAL)
    axes.set_yticks(positions, labels=names, parse_math=False)
    axes.set_ylim(max(len(names), 3) - 0.5, -0.5)
    axes.set_xlim(left=0)
    _in_percent(axes.xaxis)


def _in_percent(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{round(100 * fraction, 6):g}{SPACE}%"))


def _legend(figure: Any) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=MADE, label="synthetic"), Patch(color=REAL, label="real")]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False, fontsize=9)


TABLE_CAPTION = (
    "Numbers as written, compared with all rows of the real table. Within a bin, numbers are sampled uniformly: if a"
    " mean is far off, add edges to the schema, above all in a long tail."
)


def numbers_grid(columns: Sequence[NumberColumnPair]) -> ReportTable:
    """Return a table of means and quantiles in the synthetic and the real table, with one row per numeric column."""
    statistics = ("mean", "deviation", *(f"{100 * fraction:g}{SPACE}%" for fraction in QUANTILES))
    header = ("Column", *(name for statistic in statistics for name in (statistic, f"{statistic}, real")), "")
    return ReportTable("Means and quantiles", TABLE_CAPTION, header, [_row(column) for column in columns])


def _row(column: NumberColumnPair) -> tuple[Cell, ...]:
    made, real = ((stats.mean, stats.deviation, *stats.quantiles) for stats in (column.synthetic, column.real))
    cells = (cell for pair in zip(made, real, strict=True) for cell in pair)
    return (column.name, *cells, "far off" if column.is_far_off else "")


MOST_FACTS = 25
"""Maximum number of facts in the table of what is impossible."""
STRUCTURE_CAPTION = (
    "Facts that hold in nearly all real rows, and that independent columns would break. They were found on one half of"
    " the real rows; the shares of real rows are of the other half. The facts broken most often come first."
)


def structure_grid(structure: Structure) -> ReportTable:
    """Return a table of the facts of the real table, with the shares of rows that break them."""
    facts = [fact for fact in structure.facts if fact.synthetic > 0 or len(fact.columns) > 1][:MOST_FACTS]
    count, num_kept = len(structure.facts), sum(fact.synthetic == 0 for fact in structure.facts)
    caption = f"{STRUCTURE_CAPTION} Facts: {count}; no synthetic row breaks {num_kept} of them."
    header = ("Fact", "synthetic rows", "real rows", "independent columns")
    rows = [
        (
            fact.text,
            format_percent(fact.synthetic),
            format_percent(fact.real),
            None if np.isnan(fact.independent) else format_percent(fact.independent),
        )
        for fact in facts
    ]
    return ReportTable("What is impossible here", caption, header, rows, is_first=True)


CELL, MAX_CELL, MAP_SIZE = 0.2, 0.5, 4.2
"""Minimum and maximum size of a cell, and size of a small heat map, in inches."""
MAX_COLUMNS_WITH_NUMBERS = 14
"""Maximum number of columns at which a heat map shows values in its cells; larger heat maps have a colour bar."""
MIN_DARKEST = 0.05
"""Minimum total variation that the darkest colour stands for, so that small errors have light colours."""
PAIR_NAME = 22
"""Maximum number of letters of a column name in the heat map of pairs."""


def pairs_map(errors: Float64[np.ndarray, "k k"], names: Sequence[str]) -> Image.Image:
    """Plot a heat map of the total variation errors of pairs of columns, with single columns on the diagonal."""
    k = len(errors)
    side = k * max(CELL, min(MAX_CELL, MAP_SIZE / k))
    figure = new_figure(max(4.2, side + 2.4), side + 1.4)
    axes = figure.subplots()
    darkest = max(MIN_DARKEST, float(errors.max()))
    lower_triangle = np.ma.masked_array(errors, np.triu(np.ones_like(errors, dtype=bool), 1))
    image = axes.imshow(lower_triangle, cmap="YlOrRd", vmin=0, vmax=darkest)
    font_size = 9 if k <= MAX_COLUMNS_WITH_NUMBERS else 7
    labels = [shorten_middle(name, PAIR_NAME) for name in names]
    axes.set_yticks(range(k), labels=labels, fontsize=font_size, parse_math=False)
    axes.set_xticks(
        range(k), labels=labels, fontsize=font_size, rotation=60, ha="right", rotation_mode="anchor", parse_math=False
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Total variation in percent", loc="left", fontsize=9)
    if k <= MAX_COLUMNS_WITH_NUMBERS:
        for i in range(k):
            for j in range(i + 1):
                colour = "white" if errors[i, j] > 0.6 * darkest else "black"
                axes.text(j, i, f"{100 * errors[i, j]:.1f}", ha="center", va="center", fontsize=7, color=colour)
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02, format=lambda x, _: f"{100 * x:g}")
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    return to_image(figure)


MARKS_WIDTH, MARKS_HEIGHT = 5.6, 0.42
"""Figure width, and height per line of scores, in inches."""
STYLES = {
    "synthetic": ("o", "#1f5fa8", "#1f5fa8", 8.5),
    "trained on real rows": ("D", "none", "#33383e", 10.5),
    "held-out real rows": ("D", "none", "#33383e", 10.5),
    "constant prediction": ("|", "none", "#33383e", 13.0),
    "no copying": ("|", "none", "#33383e", 13.0),
    "a table of copies": ("X", "#c0392b", "#c0392b", 8.0),
}
"""Mapping from a legend label to marker, face colour, edge colour and size."""
LEARNERS = {"boosted": "gradient boosting", "linear": "linear model", "forest": "random forest"}
SCORES = {"auc": "AUC", "accuracy": "accuracy", "f1": "F1 (rarer value)", "r2": "explained variance"}
AUDITS = {
    "dcr_share": "rows closer to training\nthan to held-out rows",
    "membership_auc": "membership\ninference (AUC)",
}
Numbers = Mapping[str, float | str | None]


@dataclass(frozen=True)
class ScoreLine:
    """Scores from 0 to 1 that are drawn on one line of a plot."""

    label: str
    marks: Mapping[str, float | str | None]
    """Scores by their legend labels in STYLES, in drawing order; None values are not drawn."""


def plot_utility(numbers: Numbers) -> Image.Image | None:
    """Plot the scores of models trained on synthetic rows and tested on real rows; None without these scores."""
    constant = {"auc": 0.5, "r2": 0.0, "accuracy": numbers.get("accuracy_majority")}
    lines = []
    for score, title in SCORES.items():
        for learner, learner_name in LEARNERS.items():
            name = f"{score}_{learner}"
            refs = {"trained on real rows": numbers.get(f"{name}_real"), "constant prediction": constant.get(score)}
            lines.append(ScoreLine(f"{title}\n{learner_name}", {"synthetic": numbers.get(name), **refs}))
    return _draw_lines(lines, "Train on synthetic, test on real")


def plot_audit(numbers: Numbers) -> Image.Image | None:
    """Plot the metrics that warn of copied training rows; None if the report's metrics `numbers` include none of them.

    These are the fraction of copied rows, nearest-neighbour distances, and the success of membership inference.
    """
    copies = {"synthetic": numbers.get("copies"), "held-out real rows": numbers.get("copies_held_out")}
    lines = [ScoreLine("rows equal to a training row\nin all words and bins", copies)]
    for name, label in AUDITS.items():
        references = {"no copying": 0.5, "a table of copies": numbers.get(f"{name}_copied")}
        lines.append(ScoreLine(label, {"synthetic": numbers.get(name), **references}))
    return _draw_lines(lines, "Warning signs, not a guarantee")


def _draw_lines(lines: Sequence[ScoreLine], title: str) -> Image.Image | None:
    """Plot the lines with a synthetic score, one below the other; None if there are none."""
    lines = [line for line in lines if is_number(line.marks.get("synthetic"))]
    if not lines:
        return None
    figure = new_figure(MARKS_WIDTH, MARKS_HEIGHT * len(lines) + 0.95)
    axes = figure.subplots()
    handles: dict[str, object] = {}
    for row, line in enumerate(lines):
        axes.axhline(row, color="#e6e4de", linewidth=1, zorder=0)
        for label, value in line.marks.items():
            if is_number(value):
                marker, fill, edge, size = STYLES[label]
                handles[label] = axes.plot(
                    max(0.0, value), row, marker, mfc=fill, mec=edge, markersize=size, mew=1.5, clip_on=False
                )[0]
    axes.set_yticks(range(len(lines)), labels=[line.label for line in lines], fontsize=8.5)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "0.25", "0.5", "0.75", "1"], fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=9.5)
    order = sorted(handles, key=list(STYLES).index)
    figure.legend(
        [handles[label] for label in order], order, loc="outside lower left", ncols=2, frameon=False, fontsize=8.5
    )
    return to_image(figure)
