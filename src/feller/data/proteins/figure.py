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
    """Draw each chain in a panel of its own, seen along its thinnest axis; all panels have the same scale.

    Args:
        chains: CA coordinates of each chain in Å, [l, 3].
        columns: Number of panels per row of the figure.
        same_scale_as: Chains that are not drawn, but that would also fit into a panel at the chosen scale.
    """
    curves = [_course(_turned(chain)) for chain in chains[:MAX_CHAINS]]
    refs = [_course(_turned(chain)) for chain in same_scale_as[:MAX_CHAINS]]
    x_max, y_max = (1.05 * max(np.abs(curve[:, i]).max() for curve in (*curves, *refs)) + 2 for i in (0, 1))
    limits = {"xlim": (-x_max, x_max), "ylim": (-y_max, y_max)}
    figure, panels = axisless_panels(len(curves), columns, width=PANEL, height=PANEL * y_max / x_max, **limits)
    for axes, curve in zip(panels, curves, strict=True):
        _draw(axes, curve)
    x, y = 2 - x_max, 2 - y_max
    panels[0].plot([x, x + BAR], [y, y], color="0.4", linewidth=1.5)
    panels[0].text(x, y + 0.8, f"{BAR:g} Å", color="0.4", fontsize=8, va="bottom")
    return figure_to_image(figure, None, ())


def _turned(chain: np.ndarray) -> np.ndarray:
    """Rotate a chain to its principal axes, widest first, without reflection."""
    centred = chain - chain.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False) if len(chain) >= 3 else (0, 0, np.eye(3))
    directions[2] *= np.sign(np.linalg.det(directions))
    rotated = centred @ directions.T
    return rotated if rotated[0, 0] <= rotated[-1, 0] else rotated * (-1, -1, 1)


def _course(chain: np.ndarray) -> np.ndarray:
    """Return points of a cubic spline through the CA atoms of a chain, `FINE` per interval between two atoms."""
    from scipy.interpolate import CubicSpline

    if len(chain) < 2:
        return chain.repeat(2, axis=0)
    knots = np.arange(len(chain))
    return CubicSpline(knots, chain)(np.linspace(0, len(chain) - 1, FINE * (len(chain) - 1) + 1))


def _draw(axes: Any, curve: np.ndarray) -> None:
    """Draw segments from back to front, each with a white edge so that crossings are visible."""
    import matplotlib as mpl
    from matplotlib.collections import LineCollection

    neighbours = np.clip(np.arange(len(curve) - 1)[:, None] + (-1, 0, 1, 2), 0, len(curve) - 1)
    depth = curve[neighbours, 2].mean(1)
    closeness = (depth - depth.min()) / max(np.ptp(depth), 1.0)
    colours = mpl.colormaps["turbo"](np.linspace(0.06, 0.94, len(depth)))[:, :3]
    colours = 1 - (1 - colours) * (0.6 + 0.4 * closeness[:, None])
    widths = THICK * (0.6 + 0.4 * closeness)
    lines, line_colours, line_widths = [], [], []
    for i in np.argsort(closeness, kind="stable"):
        lines += [curve[neighbours[i, 1:3], :2], curve[neighbours[i], :2]]  # colours overlap, edges do not
        line_colours += [np.ones(3), colours[i]]
        line_widths += [widths[i] + 2.4, widths[i]]
    axes.add_collection(LineCollection(lines, colors=line_colours, linewidths=line_widths, capstyle="butt"))
    for point, colour in ((curve[0], colours[0]), (curve[-1], colours[-1])):
        axes.plot(*point[:2], "o", color=colour, markersize=7, markeredgecolor="white", markeredgewidth=1)
