"""Figures of crystals: unit cells with atoms in CPK colours."""

import itertools
import math
from typing import Any

import numpy as np
import torch
from PIL import Image

from feller.data.atoms.elements import SYMBOLS, colour_of, counts, formula_text, ink_on
from feller.data.crystals.cif import Crystal
from feller.data.crystals.lattice import vectors
from feller.data.figures import axisless_panels, figure_to_image

MAX_CRYSTALS = 25
"""Maximum number of crystals in a figure; if there are more, the first crystals are shown."""
PANEL, TITLE = 2.4, 0.288
"""Side of a panel, and height of the formula above it, in inches."""
EDGE = 0.02
"""Distance from a face, as a fraction of the cell, within which an atom is repeated on the opposite face."""
OVERLAP_DISTANCE = 0.4
"""Projected distance in Å below which atoms overlap; the front atoms are drawn smaller, so that rings are visible."""
SMALL = 60.0
"""Marker size, in square points, up to which a legend replaces the element symbols on the atoms."""
TILT = (math.radians(18), math.radians(24))
"""Angles of the view in radians: rotation about the vertical axis, then tilt towards the viewer."""


def picture(crystals: list[Crystal], columns: int | None = None) -> Image.Image:
    """Draw unit cells, seen from the front and slightly above, each at its own scale and with its formula."""
    drawn = crystals[:MAX_CRYSTALS]
    figure, panels = axisless_panels(len(drawn), columns, width=PANEL, height=PANEL, title=TITLE)
    for axes, crystal in zip(panels, drawn, strict=True):
        axes.set_aspect("equal")
        _draw(axes, crystal)
        axes.set_title(reduced(crystal.atomic_numbers)[:24], fontsize=9, color="0.3", pad=2)
    return figure_to_image(figure, None, ())


def _seen(lattice: np.ndarray) -> np.ndarray:
    """Return the three cell vectors as rows, in viewer coordinates: right, up, towards the viewer."""
    edges = vectors(torch.from_numpy(lattice)[None])[0].numpy()[:, [1, 2, 0]]  # b right, c up, a to the front
    yaw, pitch = TILT
    rotation = np.array([[math.cos(yaw), 0, -math.sin(yaw)], [0, 1, 0], [math.sin(yaw), 0, math.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, math.cos(pitch), math.sin(pitch)], [0, -math.sin(pitch), math.cos(pitch)]])
    return edges @ rotation @ tilt


def with_images(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Return atomic numbers [k] and fractional coordinates [k, 3], with face atoms repeated on the opposite face."""
    atomic_numbers, coords = [], []
    for atomic_number, site in zip(crystal.atomic_numbers.tolist(), crystal.frac_coords, strict=True):
        options = [(v, v + 1) if v < EDGE else (v, v - 1) if v > 1 - EDGE else (v,) for v in site]
        for image in itertools.product(*options):
            atomic_numbers.append(atomic_number)
            coords.append(image)
    return np.array(atomic_numbers), np.array(coords)


def reduced(numbers: np.ndarray) -> str:
    """Return the formula of atomic numbers with counts in lowest terms; elements are in order of first occurrence."""
    element_counts = counts(numbers)
    divisor = math.gcd(*element_counts.values())
    return formula_text({symbol: n // divisor for symbol, n in element_counts.items()})


def _draw(axes: Any, crystal: Crystal) -> None:
    edges = _seen(crystal.lattice)
    corners = np.array(list(itertools.product((0, 1), repeat=3)))
    for start, end in itertools.combinations(corners, 2):
        if abs(start - end).sum() == 1:
            x, y, _ = (np.array([start, end]) @ edges).T
            axes.plot(x, y, color="0.6", linewidth=0.8, zorder=0)
    atomic_numbers, coords = with_images(crystal)
    order = (coords @ edges)[:, 2].argsort()
    atomic_numbers, points = atomic_numbers[order], (coords @ edges)[order]
    overlaps = np.linalg.norm(points[:, None] - points, axis=2) < OVERLAP_DISTANCE
    num_behind, num_ahead = np.tril(overlaps, -1).sum(1), np.triu(overlaps, 1).sum(1)
    area = min(300.0, 2600 / len(atomic_numbers))
    for i, (x, y, _) in enumerate(points):
        colour = colour_of(int(atomic_numbers[i]))
        disc_area = area / 2 ** num_behind[i]
        axes.scatter(x, y, s=disc_area, color=[colour], edgecolors="0.25", linewidths=0.6, zorder=i + 1)
        if area > SMALL and not num_ahead[i]:
            overlapping = counts(atomic_numbers[overlaps[i]])
            symbols = " + ".join(f"{n} {symbol}" if n > 1 else symbol for symbol, n in overlapping.items())
            beside = {"xytext": (area**0.5 / 2 + 1, 0), "ha": "left", "color": "0.2", "zorder": len(points) + 1}
            inside = {"xytext": (0, 0), "ha": "center", "color": ink_on(colour), "zorder": i + 1}
            style = {"textcoords": "offset points", "fontsize": min(8, 0.4 * area**0.5 + 1), "va": "center"}
            axes.annotate(symbols, (x, y), **style, **(beside if num_behind[i] else inside))
    if area <= SMALL:
        _name(axes, crystal.atomic_numbers)
    projected = corners @ edges
    centre, half_width = projected.mean(0), 0.58 * np.ptp(projected, axis=0)[:2].max() + 1e-3
    axes.set_xlim(centre[0] - half_width, centre[0] + half_width)
    axes.set_ylim(centre[1] - half_width, centre[1] + half_width)


def _name(axes: Any, atomic_numbers: np.ndarray) -> None:
    """Add a legend of element colours below a cell."""
    from matplotlib.lines import Line2D

    elements = list(dict.fromkeys(atomic_numbers.tolist()))
    marker_style: dict[str, Any] = {
        "marker": "o",
        "linestyle": "",
        "markersize": 5,
        "markeredgecolor": "0.25",
        "markeredgewidth": 0.6,
    }
    handles = [Line2D([], [], color=colour_of(number), **marker_style) for number in elements]
    anchor = {"loc": "lower center", "bbox_to_anchor": (0.5, -0.04), "ncols": min(len(elements), 6), "frameon": False}
    spacing = {"handletextpad": 0, "columnspacing": 0.4, "borderpad": 0, "labelspacing": 0.2}
    axes.legend(handles, [SYMBOLS[number] for number in elements], fontsize=7, labelcolor="0.3", **anchor, **spacing)
