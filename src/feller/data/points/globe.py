"""Points of a sphere drawn for people: the globe from four sides."""

import numpy as np
from PIL import Image

from feller.data.figures import MOST, dot, finish, groups, panels

VIEWS = ((0.0, "0°"), (90.0, "90° E"), (180.0, "180°"), (270.0, "90° W"))
"""Longitude in the middle of each view, in degrees, and its name."""
TILT = 20.0
"""Latitude in the middle, in degrees."""
EDGE, GRID, SEA = "#8a98a6", "#c9d3dc", "#f3f7fb"


def seen_from(longitude: float, vectors: np.ndarray) -> np.ndarray:
    """Turn unit vectors [..., 3] so that the middle of the view comes first: depth, right, up."""
    a, b = np.deg2rad(longitude), np.deg2rad(TILT)
    depth = np.array([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)])
    right = np.array([-np.sin(a), np.cos(a), 0])
    return vectors @ np.stack([depth, right, np.cross(depth, right)], 1)


def graticule() -> list[np.ndarray]:
    """Return meridians and parallels, 30 degrees apart, as curves [k, 3]."""
    along = np.deg2rad(np.linspace(-180, 180, 241))
    meridians = [(along[60:181], np.full(121, np.deg2rad(angle))) for angle in range(-180, 180, 30)]
    parallels = [(np.full(241, np.deg2rad(angle)), along) for angle in range(-60, 90, 30)]
    return [
        np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], 1)
        for latitude, longitude in (*meridians, *parallels)
    ]


def globe(
    vectors: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...], across: int | None = None
) -> Image.Image:
    """Draw unit vectors [n, 3] in orthographic views, coloured by their labels [n] if given, `across` in a row."""
    from matplotlib.patches import Circle

    vectors = vectors[:MOST]
    figure, drawn = panels(len(VIEWS), across or 2, width=3.4, height=3.6)
    for axes, (longitude, name) in zip(drawn, VIEWS, strict=True):
        axes.add_patch(Circle((0, 0), 1, facecolor=SEA, edgecolor=EDGE, linewidth=1, zorder=0))
        for curve in graticule():
            depth, right, up = seen_from(longitude, curve).T
            front = np.where(depth > 0, 1.0, np.nan)
            axes.plot(front * right, front * up, color=GRID, linewidth=0.7, zorder=1)
        depth, right, up = seen_from(longitude, vectors).T
        for colour, rows in groups(len(vectors), labels, classes):
            rows = rows & (depth > 0)
            size = 1.6 * dot(len(vectors))
            axes.scatter(right[rows], up[rows], s=size, color=colour, linewidths=0, alpha=0.7, zorder=2)
        axes.set(xlim=(-1.03, 1.03), ylim=(-1.03, 1.03), aspect="equal")
        axes.set_axis_off()
        axes.set_title(name, fontsize=10, color="#44505c")
    return finish(figure, labels, classes)
