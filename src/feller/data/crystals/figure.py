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
    """Return the cell vectors as rows in viewer coordinates: right, up, towards the viewer."""
    edges = vectors(torch.from_numpy(lattice)[None])[0].numpy()[:, [1, 2, 0]]  # b right, c up, a to the front
    turn, tip = TILT
    about = np.array([[math.cos(turn), 0, -math.sin(turn)], [0, 1, 0], [math.sin(turn), 0, math.cos(turn)]])
    down = np.array([[1, 0, 0], [0, math.cos(tip), math.sin(tip)], [0, -math.sin(tip), math.cos(tip)]])
    return edges @ about @ down


def with_images(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Return atomic numbers [k] and fractional coordinates [k, 3], with face atoms repeated on the opposite face."""
    numbers, places = [], []
    for number, place in zip(crystal.atomic_numbers.tolist(), crystal.frac_coords, strict=True):
        where = [(v, v + 1) if v < EDGE else (v, v - 1) if v > 1 - EDGE else (v,) for v in place]
        for image in itertools.product(*where):
            numbers.append(number)
            places.append(image)
    return np.array(numbers), np.array(places)


def reduced(numbers: np.ndarray) -> str:
    """Return the reduced formula of atomic numbers, with elements in the order of first occurrence."""
    found = counts(numbers)
    whole = math.gcd(*found.values())
    return formula_text({symbol: n // whole for symbol, n in found.items()})


def _draw(axes: Any, crystal: Crystal) -> None:
    edges = _seen(crystal.lattice)
    corners = np.array(list(itertools.product((0, 1), repeat=3)))
    for one, other in itertools.combinations(corners, 2):
        if abs(one - other).sum() == 1:
            x, y, _ = (np.array([one, other]) @ edges).T
            axes.plot(x, y, color="0.6", linewidth=0.8, zorder=0)
    numbers, places = with_images(crystal)
    order = (places @ edges)[:, 2].argsort()
    numbers, points = numbers[order], (places @ edges)[order]
    same = np.linalg.norm(points[:, None] - points, axis=2) < OVERLAP_DISTANCE
    behind, ahead = np.tril(same, -1).sum(1), np.triu(same, 1).sum(1)
    size = min(300.0, 2600 / len(numbers))
    for i, (x, y, _) in enumerate(points):
        colour = colour_of(int(numbers[i]))
        disc = size / 2 ** behind[i]
        axes.scatter(x, y, s=disc, color=[colour], edgecolors="0.25", linewidths=0.6, zorder=i + 1)
        if size > SMALL and not ahead[i]:
            found = counts(numbers[same[i]])
            symbols = " + ".join(f"{n} {symbol}" if n > 1 else symbol for symbol, n in found.items())
            label_beside = {"xytext": (size**0.5 / 2 + 1, 0), "ha": "left", "color": "0.2", "zorder": len(points) + 1}
            inside = {"xytext": (0, 0), "ha": "center", "color": ink_on(colour), "zorder": i + 1}
            form = {"textcoords": "offset points", "fontsize": min(8, 0.4 * size**0.5 + 1), "va": "center"}
            axes.annotate(symbols, (x, y), **form, **(label_beside if behind[i] else inside))
    if size <= SMALL:
        _name(axes, crystal.atomic_numbers)
    corner = corners @ edges
    middle, reach = corner.mean(0), 0.58 * np.ptp(corner, axis=0)[:2].max() + 1e-3
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)


def _name(axes: Any, numbers: np.ndarray) -> None:
    """Add a legend of element colours below a cell."""
    from matplotlib.lines import Line2D

    elements = list(dict.fromkeys(numbers.tolist()))
    form: dict[str, Any] = {
        "marker": "o",
        "linestyle": "",
        "markersize": 5,
        "markeredgecolor": "0.25",
        "markeredgewidth": 0.6,
    }
    marks = [Line2D([], [], color=colour_of(number), **form) for number in elements]
    where = {"loc": "lower center", "bbox_to_anchor": (0.5, -0.04), "ncols": min(len(elements), 6), "frameon": False}
    tight = {"handletextpad": 0, "columnspacing": 0.4, "borderpad": 0, "labelspacing": 0.2}
    axes.legend(marks, [SYMBOLS[number] for number in elements], fontsize=7, labelcolor="0.3", **where, **tight)
