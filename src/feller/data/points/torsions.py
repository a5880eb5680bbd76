"""Angles drawn for people: one square for each two neighbouring columns, its edges glued."""

import numpy as np
from PIL import Image

from feller.data.figures import MOST, PANELS, dot, finish, groups, panels

TICKS = (-180, -90, 0, 90, 180)


def ramachandran(
    degrees: np.ndarray,
    columns: tuple[str, ...],
    labels: np.ndarray | None,
    classes: tuple[str, ...],
    across: int | None = None,
) -> Image.Image:
    """Draw angles [n, d] in degrees, coloured by their labels [n] if given, with `across` panels in a row."""
    degrees = (degrees[:MOST] + 180) % 360 - 180
    count = min(max(1, degrees.shape[1] - 1), PANELS)
    figure, drawn = panels(count, across or (2 if count in (2, 4) else 3), width=4.0, height=4.0)
    for i, axes in enumerate(drawn):
        for colour, rows in groups(len(degrees), labels, classes):
            if degrees.shape[1] == 1:
                axes.hist(degrees[rows, 0], bins=np.linspace(-180, 180, 73), color=colour, alpha=0.6)
            else:
                size = dot(len(degrees))
                axes.scatter(degrees[rows, i], degrees[rows, i + 1], s=size, color=colour, linewidths=0, alpha=0.6)
                axes.set(ylim=(-180, 180), yticks=TICKS, aspect="equal")
                axes.set_ylabel(f"{columns[i + 1]} (°)", parse_math=False)
        axes.set(xlim=(-180, 180), xticks=TICKS)
        axes.set_xlabel(f"{columns[i]} (°)", parse_math=False)
        axes.grid(color="#d5dde5", linewidth=0.7)
        axes.axhline(0, color="#9aa7b4", linewidth=0.8, zorder=1)
        axes.axvline(0, color="#9aa7b4", linewidth=0.8, zorder=1)
        axes.set_axisbelow(True)
    return finish(figure, labels, classes)
