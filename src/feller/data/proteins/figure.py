"""Figures of backbones: CA traces coloured from blue (first residue) to red (last)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from feller.data.figures import axisless_panels, figure_to_image

MAX_CHAINS = 25
"""Maximum number of chains in a figure; if there are more, the first chains are shown."""
FINE = 6
"""Number of line segments drawn between two neighbouring residues."""
PANEL = 3.2
"""Width of a panel in inches."""
BAR = 10.0
"""Length of the scale bar, in Å."""
THICK = 4.2
"""Line width in points of the segment nearest to the viewer."""


def traces(
    chains: list[np.ndarray], columns: int | None = None, *, same_scale_as: Sequence[np.ndarray] = ()
) -> Image.Image:
    """Draw chains of CA atoms [l, 3], each seen along its thinnest axis, at a scale that also fits `same_scale_as`."""
    courses = [_course(_turned(chain)) for chain in chains[:MAX_CHAINS]]
    others = [_course(_turned(chain)) for chain in same_scale_as[:MAX_CHAINS]]
    wide, high = (1.05 * max(np.abs(course[:, i]).max() for course in (*courses, *others)) + 2 for i in (0, 1))
    limits = {"xlim": (-wide, wide), "ylim": (-high, high)}
    figure, panels = axisless_panels(len(courses), columns, width=PANEL, height=PANEL * high / wide, **limits)
    for axes, course in zip(panels, courses, strict=True):
        _draw(axes, course)
    x, y = 2 - wide, 2 - high
    panels[0].plot([x, x + BAR], [y, y], color="0.4", linewidth=1.5)
    panels[0].text(x, y + 0.8, f"{BAR:g} Å", color="0.4", fontsize=8, va="bottom")
    return figure_to_image(figure, None, ())


def _turned(chain: np.ndarray) -> np.ndarray:
    """Rotate a chain to its principal axes, widest first, without reflection."""
    centred = chain - chain.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False) if len(chain) >= 3 else (0, 0, np.eye(3))
    directions[2] *= np.sign(np.linalg.det(directions))
    turned = centred @ directions.T
    return turned if turned[0, 0] <= turned[-1, 0] else turned * (-1, -1, 1)


def _course(chain: np.ndarray) -> np.ndarray:
    """Return a cubic spline through the atoms, with `FINE` line segments between two neighbours."""
    from scipy.interpolate import CubicSpline

    if len(chain) < 2:
        return chain.repeat(2, axis=0)
    place = np.arange(len(chain))
    return CubicSpline(place, chain)(np.linspace(0, len(chain) - 1, FINE * (len(chain) - 1) + 1))


def _draw(axes: Any, course: np.ndarray) -> None:
    """Draw segments from back to front, each with a white edge so that crossings are visible."""
    import matplotlib as mpl
    from matplotlib.collections import LineCollection

    around = np.clip(np.arange(len(course) - 1)[:, None] + (-1, 0, 1, 2), 0, len(course) - 1)
    depth = course[around, 2].mean(1)
    near = (depth - depth.min()) / max(np.ptp(depth), 1.0)
    colours = mpl.colormaps["turbo"](np.linspace(0.06, 0.94, len(depth)))[:, :3]
    colours = 1 - (1 - colours) * (0.6 + 0.4 * near[:, None])
    widths = THICK * (0.6 + 0.4 * near)
    lines, shades, sizes = [], [], []
    for i in np.argsort(near, kind="stable"):
        lines += [course[around[i, 1:3], :2], course[around[i], :2]]  # colours overlap, edges do not
        shades += [np.ones(3), colours[i]]
        sizes += [widths[i] + 2.4, widths[i]]
    axes.add_collection(LineCollection(lines, colors=shades, linewidths=sizes, capstyle="butt"))
    for end, colour in ((course[0], colours[0]), (course[-1], colours[-1])):
        axes.plot(*end[:2], "o", color=colour, markersize=7, markeredgecolor="white", markeredgewidth=1)
