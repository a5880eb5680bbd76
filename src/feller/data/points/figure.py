"""Plots of points: a histogram for one column, otherwise a scatter plot for each pair of neighbouring columns."""

import numpy as np
from PIL import Image

from feller.data.figures import MAX_POINTS, PANELS, class_masks, figure_to_image, marker_size, panels

GREY = "0.82"
"""Colour of background points."""


def scatter(
    values: np.ndarray,
    columns: tuple[str, ...],
    labels: np.ndarray | None,
    classes: tuple[str, ...],
    across: int | None = None,
    same_scale_as: np.ndarray | None = None,
    background: np.ndarray | None = None,
) -> Image.Image:
    """Plot points [n, d] in panels, coloured by labels [n], `across` panels in a row.

    The axes also fit the points `same_scale_as`, so that images are comparable, and the points `background`, which are
    drawn in grey below the other points.
    """
    values = values[:MAX_POINTS]
    extra_points = [points[:MAX_POINTS] for points in (same_scale_as, background) if points is not None]
    all_points = np.concatenate([values, *extra_points]) if extra_points else None
    count = min(max(1, values.shape[1] - 1), PANELS)
    figure, all_axes = panels(count, across, width=4.2, height=4.0)
    for i, axes in enumerate(all_axes):
        if background is not None and values.shape[1] > 1:
            style = {"s": marker_size(len(background[:MAX_POINTS])), "color": GREY, "linewidths": 0, "zorder": 0}
            axes.scatter(background[:MAX_POINTS, i], background[:MAX_POINTS, i + 1], **style)
        for colour, rows in class_masks(len(values), labels, classes):
            if values.shape[1] == 1:
                axes.hist(values[rows, 0], bins=50, color=colour, alpha=0.6)
            else:
                size = marker_size(len(values))
                axes.scatter(values[rows, i], values[rows, i + 1], s=size, color=colour, linewidths=0, alpha=0.7)
                axes.set_ylabel(columns[i + 1], parse_math=False)
        axes.set_xlabel(columns[i], parse_math=False)
        if all_points is not None:
            axes.set_xlim(*_limits(all_points[:, i]))
            if all_points.shape[1] > 1:
                axes.set_ylim(*_limits(all_points[:, i + 1]))
    return figure_to_image(figure, labels, classes)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin
