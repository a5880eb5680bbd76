"""One look for all pictures of the site: a light card with dark ink, legible on a white page and on a black one."""

import io
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

CARD, INK, SOFT = "#f7f8fa", "#1f2a37", "#9aa5b1"
"""Ground, words and lines, and what is there to compare with."""
BLUE, ORANGE, GREEN, RED = "#2f6db5", "#d9742b", "#3b8f5a", "#c0392b"
MOST = 100_000
"""Bytes of a picture."""
LOOK = {
    "figure.facecolor": CARD,
    "axes.facecolor": CARD,
    "savefig.facecolor": CARD,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.dpi": 110,
}
"""Settings of matplotlib: draw inside `plt.rc_context(LOOK)`, so that no other picture takes them."""


def bare(axes: Axes) -> Axes:
    """Take ticks and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes


def save(figure: Figure, path: pathlib.Path) -> None:
    """Write a small PNG: few colours, which drawings have."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    for colours in (255, 128, 64, 32):
        picture = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)
        if path.stat().st_size <= MOST:
            break
