"""What a synthetic table is worth and what it gives away, each beside its references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from feller.evaluation.report.paper import painted, paper
from feller.evaluation.report.wording import is_number

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
class Line:
    """Numbers from 0 to 1 that are to be compared."""

    label: str
    marks: Mapping[str, float | str | None]
    """By what they are called in STYLES, the lowest first; None is not drawn."""


def worth_picture(numbers: Numbers) -> Image.Image | None:
    """Draw what models learned from the synthetic table reach on real rows; None where that was not measured."""
    constant = {"auc": 0.5, "r2": 0.0, "accuracy": numbers.get("accuracy_majority")}
    lines = []
    for score, what in SCORES.items():
        for kind, model in LEARNERS.items():
            name = f"{score}_{kind}"
            real = {"learned from real rows": numbers.get(f"{name}_real"), "one answer for all": constant.get(score)}
            lines.append(Line(f"{what}\n{model}", {"synthetic": numbers.get(name), **real}))
    return _drawn(lines, "Learned from a table, tested on real rows")


def audit_picture(numbers: Numbers) -> Image.Image | None:
    """Draw how often rows are copied and how far they betray who was in the table; None where that was not measured."""
    copies = {"synthetic": numbers.get("copies"), "unseen real rows": numbers.get("copies_held_out")}
    lines = [Line("rows like a training row\nin all words and bins", copies)]
    for name, label in AUDITS.items():
        rest = {"no copying": 0.5, "a table of copies": numbers.get(f"{name}_copied")}
        lines.append(Line(label, {"synthetic": numbers.get(name), **rest}))
    return _drawn(lines, "An alarm, not a guarantee")


def _drawn(lines: Sequence[Line], title: str) -> Image.Image | None:
    """Draw the lines that have a number of the synthetic table, below each other."""
    lines = [line for line in lines if is_number(line.marks.get("synthetic"))]
    if not lines:
        return None
    figure = paper(MARKS_WIDTH, MARKS_HEIGHT * len(lines) + 0.95)
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
    return painted(figure)
