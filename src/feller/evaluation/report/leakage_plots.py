"""Plots of attacks next to their bounds, and of the rows that leak most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from PIL import Image
from torch import Tensor

from feller.data.figures import to_image
from feller.data.files.sample_folder import add_captions
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation.number_format import format_brief, shorten_middle
from feller.evaluation.report.embedded_picture import new_figure

WIDE, HIGH, LINE = 5.6, 2.9, 0.24
"""Inches of a picture, of one with axes, and of each line of columns."""
BINS = 40
ATTACK, OTHER = "#1f5fa8", "#b4b8bd"


@dataclass(frozen=True)
class ColumnGuess:
    """How often a column is guessed right by somebody who knows the others, shares from 0 to 1."""

    name: str
    prior: float
    """The commonest value, without a model."""
    others: float | None
    """With the model, of rows that it did not learn from."""
    members: float | None
    """Of rows that it did."""
    bound: float | None
    """At most, of members, given what is reached of others."""


def plot_error_bounds(
    rows: Float64[np.ndarray, " n"], renyi_bound: float | None, blind_error: float | None
) -> Image.Image:
    """Draw how many rows have which least mean squared error, beside the bound for all rows, on a log scale.

    That is the `renyi_bound` from Rényi privacy, left out where it is zero; the `blind_error`, the error of answering
    the mean, is drawn as what a blind guess reaches.
    """
    there = rows[np.isfinite(rows) & (rows > 0)]
    figure = new_figure(WIDE, HIGH)
    axes = figure.subplots()
    marks = [value for value in (renyi_bound, blind_error) if value]
    low, high = min([there.min(), *marks]), max([there.max(), *marks])
    edges = np.geomspace(low / 1.5, high * 1.5, BINS + 1)
    axes.hist(there, bins=edges, color=ATTACK, alpha=0.85)
    axes.set_xscale("log")
    if blind_error:
        axes.axvline(blind_error, color=OTHER, linewidth=2, label="a blind guess")
    if renyi_bound:
        axes.axvline(renyi_bound, color="#c0392b", linewidth=1.5, label="Rényi privacy, all rows")
    axes.set_xlabel("least mean squared error of an attacker without bias, per number", fontsize=8.5)
    axes.set_ylabel("rows", fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if marks:
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8.5)
    return to_image(figure)


def plot_guesses(guesses: Sequence[ColumnGuess]) -> Image.Image:
    """Draw for each column what is guessed right without and with the model, and where the bound lies."""
    figure = new_figure(WIDE, LINE * len(guesses) + 1.0)
    axes = figure.subplots()
    for row, one in enumerate(guesses):
        axes.axhline(row, color="#e6e4de", linewidth=1, zorder=0)
        marks = ((one.prior, "|", OTHER, 11), (one.others, "o", OTHER, 7), (one.members, "o", ATTACK, 5))
        for value, mark, colour, size in marks:
            if value is not None:
                axes.plot(value, row, mark, color=colour, markersize=size, mew=1.5, clip_on=False)
        if one.bound is not None:
            axes.plot(one.bound, row, ">", color="#c0392b", markersize=5, clip_on=False)
    axes.set_yticks(range(len(guesses)), labels=[shorten_middle(one.name, 24) for one in guesses], fontsize=8)
    axes.set_ylim(len(guesses) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("share of rows in which a cell is guessed right by who knows all others", fontsize=8.5)
    shown = (
        ("|", OTHER, "commonest value"),
        ("o", OTHER, "with the model, unseen rows"),
        ("o", ATTACK, "with the model, learned rows"),
        (">", "#c0392b", "learned rows at most"),
    )
    handles = [axes.plot([], [], mark, color=colour)[0] for mark, colour, _ in shown]
    figure.legend(handles, [name for *_, name in shown], loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    return to_image(figure)


PICTURE_WIDTH = 96
"""Pixels of a picture, at least, so that there is room for words."""


def plot_reconstructions(kind: Images, lines: Sequence[tuple[UInt8[Tensor, "n c h w"], Sequence[str]]]) -> Image.Image:
    """Draw lines of as many pictures, in the levels of their kind, one below the other, with a few words for each."""
    columns = len(lines[0][1])
    whole = kind.show(torch.cat([values for values, _ in lines]), {}, columns)
    factor = -(-PICTURE_WIDTH * columns // whole.width)
    large = whole.resize((whole.width * factor, whole.height * factor), Image.Resampling.NEAREST)
    return add_captions(large, [name for _, names in lines for name in names], columns)


SHOWN = 5
"""Of the most exposed rows, and of the least."""


def plot_exposed_rows(
    data: Dataset, rows: Int64[Tensor, " n"], error_bounds: Float[Tensor, " n"]
) -> Image.Image | None:
    """Draw the most exposed of the rows that were watched above the least exposed; None where rows are no pictures.

    With each stands its bound, the least mean squared error.
    """
    if (images := data.modality.view(Images)) is None:
        return None
    order, shown = error_bounds.argsort(), min(SHOWN, len(rows) // 2)
    if not shown:
        return None
    ends = torch.cat([order[:shown], order[-shown:]])
    values, names = (
        data.values[rows[ends]],
        [format_brief(float(f"{value:.3g}")) for value in error_bounds[ends].tolist()],
    )
    return plot_reconstructions(images, [(values[:shown], names[:shown]), (values[shown:], names[shown:])])
