"""Plots of privacy attacks with their bounds, and of the most exposed rows."""

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
"""Figure width, height of a figure with axes, and height per table column, in inches."""
BINS = 40
ATTACK, OTHER = "#1f5fa8", "#b4b8bd"


@dataclass(frozen=True)
class ColumnGuess:
    """Accuracy of attribute inference on one table column, from 0 to 1."""

    name: str
    prior: float
    """Accuracy of guessing the most frequent value, without a model."""
    others: float | None
    """Accuracy with the model on rows outside the training set."""
    members: float | None
    """Accuracy with the model on training rows."""
    bound: float | None
    """Upper bound on `members` that the privacy guarantee implies, given `others`."""


def plot_error_bounds(
    rows: Float64[np.ndarray, " n"], renyi_bound: float | None, blind_error: float | None
) -> Image.Image:
    """Plot a histogram of the per-row lower bounds on the reconstruction error, on a log scale.

    Vertical lines mark the `renyi_bound` on the error of any row, unless it is zero, and the `blind_error`, the error
    of guessing the mean.
    """
    bounds = rows[np.isfinite(rows) & (rows > 0)]
    figure = new_figure(WIDE, HIGH)
    axes = figure.subplots()
    lines = [value for value in (renyi_bound, blind_error) if value]
    low, high = min([bounds.min(), *lines]), max([bounds.max(), *lines])
    edges = np.geomspace(low / 1.5, high * 1.5, BINS + 1)
    axes.hist(bounds, bins=edges, color=ATTACK, alpha=0.85)
    axes.set_xscale("log")
    if blind_error:
        axes.axvline(blind_error, color=OTHER, linewidth=2, label="guessing the mean")
    if renyi_bound:
        axes.axvline(renyi_bound, color="#c0392b", linewidth=1.5, label="Rényi bound, all rows")
    axes.set_xlabel("lower bound on the mean squared error of an unbiased attacker, per value", fontsize=8.5)
    axes.set_ylabel("rows", fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if lines:
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8.5)
    return to_image(figure)


def plot_guesses(guesses: Sequence[ColumnGuess]) -> Image.Image:
    """Plot the accuracy of attribute inference per column, without and with the model, and its upper bound."""
    figure = new_figure(WIDE, LINE * len(guesses) + 1.0)
    axes = figure.subplots()
    for row, guess in enumerate(guesses):
        axes.axhline(row, color="#e6e4de", linewidth=1, zorder=0)
        points = ((guess.prior, "|", OTHER, 11), (guess.others, "o", OTHER, 7), (guess.members, "o", ATTACK, 5))
        for value, marker, colour, size in points:
            if value is not None:
                axes.plot(value, row, marker, color=colour, markersize=size, mew=1.5, clip_on=False)
        if guess.bound is not None:
            axes.plot(guess.bound, row, ">", color="#c0392b", markersize=5, clip_on=False)
    axes.set_yticks(range(len(guesses)), labels=[shorten_middle(guess.name, 24) for guess in guesses], fontsize=8)
    axes.set_ylim(len(guesses) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("accuracy of predicting a cell from all other cells of the row", fontsize=8.5)
    legend = (
        ("|", OTHER, "most frequent value"),
        ("o", OTHER, "with the model, held-out rows"),
        ("o", ATTACK, "with the model, training rows"),
        (">", "#c0392b", "upper bound, training rows"),
    )
    handles = [axes.plot([], [], marker, color=colour)[0] for marker, colour, _ in legend]
    figure.legend(handles, [name for *_, name in legend], loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    return to_image(figure)


PICTURE_WIDTH = 96
"""Minimum width of an image in pixels, with room for its caption."""


def plot_reconstructions(kind: Images, lines: Sequence[tuple[UInt8[Tensor, "n c h w"], Sequence[str]]]) -> Image.Image:
    """Draw rows of captioned images; each entry of `lines` holds the images of a row, and a caption for each image."""
    columns = len(lines[0][1])
    grid = kind.show(torch.cat([values for values, _ in lines]), {}, columns)
    factor = -(-PICTURE_WIDTH * columns // grid.width)
    enlarged = grid.resize((grid.width * factor, grid.height * factor), Image.Resampling.NEAREST)
    return add_captions(enlarged, [name for _, names in lines for name in names], columns)


SHOWN = 5
"""Number of most exposed rows shown, and number of least exposed rows shown."""


def plot_exposed_rows(
    data: Dataset, rows: Int64[Tensor, " n"], error_bounds: Float[Tensor, " n"]
) -> Image.Image | None:
    """Draw the images of the most exposed of the given rows above the least exposed, each with its error bound.

    Return None if the data are not images.

    Args:
        data: Training data.
        rows: Indices of the rows in the data.
        error_bounds: Lower bound on the reconstruction error of each row; the lower it is, the more exposed is the row.
    """
    if (images := data.modality.view(Images)) is None:
        return None
    order, n = error_bounds.argsort(), min(SHOWN, len(rows) // 2)
    if not n:
        return None
    extremes = torch.cat([order[:n], order[-n:]])
    values, names = (
        data.values[rows[extremes]],
        [format_brief(float(f"{value:.3g}")) for value in error_bounds[extremes].tolist()],
    )
    return plot_reconstructions(images, [(values[:n], names[:n]), (values[n:], names[n:])])
