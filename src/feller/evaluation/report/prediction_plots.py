"""Plots of predictions against true values, and of the reconstructions and code usage of tokenizers."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from feller.data.figures import INK, MAX_POINTS, figure_to_image, marker_size, panels
from feller.data.images.modality import Images

MAX_NAMED_CLASSES = 30
"""Maximum number of classes for which a confusion matrix shows tick labels and counts."""


def plot_predictions(
    predicted: Float[np.ndarray, "n k"], true: Float[np.ndarray, "n k"], names: tuple[str, ...]
) -> Image.Image:
    """Plot predicted against true values, with one panel per target and a diagonal line."""
    figure, all_axes = panels(len(names), None, width=4.0, height=4.0)
    predicted, true = predicted[:MAX_POINTS], true[:MAX_POINTS]
    for i, (axes, name) in enumerate(zip(all_axes, names, strict=True)):
        limits = [min(predicted[:, i].min(), true[:, i].min()), max(predicted[:, i].max(), true[:, i].max())]
        axes.plot(limits, limits, color="#888888", linewidth=1)
        axes.scatter(true[:, i], predicted[:, i], s=marker_size(len(true)), color=INK, linewidths=0, alpha=0.7)
        axes.set_xlabel(f"{name}, true", parse_math=False)
        axes.set_ylabel(f"{name}, predicted", parse_math=False)
    return figure_to_image(figure, None, ())


def plot_confusion_matrix(
    predicted: Int[np.ndarray, " n"], true: Int[np.ndarray, " n"], classes: tuple[str, ...]
) -> Image.Image:
    """Plot the confusion matrix: true classes as rows, predicted classes as columns."""
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (true, predicted), 1)
    fractions = counts / counts.sum(1, keepdims=True).clip(min=1)
    figure, (axes,) = panels(1, 1, width=5.0, height=5.0)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MAX_NAMED_CLASSES:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(range(len(classes)), labels=classes, parse_math=False)
        for i, j in np.argwhere(counts):
            colour = "white" if fractions[i, j] > 0.5 else "black"
            axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=colour, fontsize=7)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure_to_image(figure, None, ())


def plot_reconstructions_grid(
    kind: Images, real: UInt8[Tensor, "n c h w"], made: UInt8[Tensor, "n c h w"], columns: int
) -> Image.Image:
    """Draw rows of real images, each above the row of its reconstructions; an incomplete last row is dropped."""
    columns = min(columns, len(real))
    full_rows = slice(len(real) // columns * columns)
    real, made = real[full_rows], made[full_rows]
    rows = [images for pair in zip(real.split(columns), made.split(columns), strict=True) for images in pair]
    return kind.show(torch.cat(rows), {}, columns)


def plot_code_usage(shares: Float[np.ndarray, " count"]) -> Image.Image:
    """Plot a histogram of the relative frequencies of a tokenizer's codes."""
    figure, (axes,) = panels(1, 1, width=5.6, height=3.2)
    percent = 100 * shares
    axes.hist(percent, bins=min(40, max(5, len(shares) // 4)), color=INK)
    uniform = 100 / len(shares)
    axes.axvline(uniform, color="#888888", linewidth=1)
    axes.annotate("uniform", (uniform, 1), xycoords=("data", "axes fraction"), color="#555555", fontsize=8, va="bottom")
    axes.set_xlabel("frequency of a code, in percent")
    axes.set_ylabel("codes")
    return figure_to_image(figure, None, ())
