"""Figures of arrays: lines of each channel of series, and slices of fields and volumes in grey levels."""

import math

import numpy as np
from PIL import Image

from feller.data.figures import PANELS, figure_to_image, panels
from feller.data.files import sample_folder

LINES = 24
"""Maximum number of series in a panel."""


def draw_arrays(
    values: np.ndarray,
    names: tuple[str, ...],
    start: float = 0.0,
    step: float = 1.0,
    columns: int | None = None,
    same_scale_as: np.ndarray | None = None,
) -> Image.Image:
    """Draw arrays [n, *sides, channels]: series as lines, a panel per channel; others as slices of the first channel.

    Args:
        values: Arrays; NaN is left blank.
        names: Name of each channel.
        start: Time of the first step of series.
        step: Time between two steps of series.
        columns: Number of panels or slices per row.
        same_scale_as: Arrays that the axes or grey levels also have to fit.
    """
    if values.ndim > 3:
        return _slices(values, columns, same_scale_as)
    times = start + step * np.arange(values.shape[1])
    figure, all_axes = panels(min(len(names), PANELS), columns, width=4.2, height=3.0)
    for i, axes in enumerate(all_axes):
        for series in values[:LINES]:
            axes.plot(times, series[:, i], linewidth=0.9, alpha=0.7)
        axes.set_ylabel(names[i], parse_math=False)
        axes.set_xlabel("t")
        low, high = _range([part[..., i] for part in (values, same_scale_as) if part is not None])
        margin = 0.05 * (high - low) or 0.5
        axes.set_ylim(low - margin, high + margin)
    return figure_to_image(figure, None, ())


def _slices(values: np.ndarray, columns: int | None, same_scale_as: np.ndarray | None) -> Image.Image:
    """Draw the middle slice of the first channel of each array, in grey levels of one range."""
    planes = values[..., 0]
    low, high = _range([part[..., 0] for part in (values, same_scale_as) if part is not None])
    while planes.ndim > 3:
        planes = planes[:, planes.shape[1] // 2]
    levels = np.nan_to_num(np.clip((planes - low) / ((high - low) or 1.0), 0, 1), nan=0.5) * 255
    return sample_folder.tile(np.round(levels).astype(np.uint8)[..., None], columns)


def _range(parts: list[np.ndarray]) -> tuple[float, float]:
    present = np.concatenate([part[np.isfinite(part)] for part in parts])
    low, high = (float(present.min()), float(present.max())) if len(present) else (0.0, 1.0)
    return (low, high) if math.isfinite(low) else (0.0, 1.0)
