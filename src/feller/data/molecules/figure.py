"""Figures of molecules: ball-and-stick drawings with CPK colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from feller.data.atoms.elements import RADII, colour_of, hill_formula
from feller.data.figures import axisless_panels, figure_to_image
from feller.data.molecules.molecule import Molecule

MAX_MOLECULES = 25
"""Maximum number of molecules in a figure; if there are more, the first molecules are shown."""
PANEL = 2.4
"""Width of a panel in inches."""
BALL = 0.45
"""Ratio of the drawn radius of a ball to the covalent radius of the atom."""
STICK = 0.1
"""Half the drawn width of a bond, in Å."""
MIN_BALL_RADIUS = 0.06
"""Radius in Å that is added to the radius of each ball, so that no ball is smaller."""
EDGE = 0.8
"""Margin around the widest molecule, in Å."""
TITLE = 0.22
"""Height of the formula above a molecule, in inches."""


def balls(
    molecules: list[Molecule], columns: int | None = None, *, same_scale_as: Sequence[Molecule] = ()
) -> Image.Image:
    """Draw molecules with formulas, each seen along its thinnest axis, `columns` per row.

    All molecules are drawn at one scale, at which the molecules `same_scale_as`, which are not drawn, would fit too.
    """
    drawn = molecules[:MAX_MOLECULES]
    rotated = [_turned(molecule.positions) for molecule in drawn]
    refs = [_turned(molecule.positions) for molecule in same_scale_as[:MAX_MOLECULES]]
    x_max, y_max = (max(float(np.abs(coords[:, i]).max()) for coords in (*rotated, *refs)) + EDGE for i in (0, 1))
    height = PANEL * y_max / x_max + TITLE
    limits = {"xlim": (-x_max, x_max), "ylim": (-y_max, y_max)}
    figure, panels = axisless_panels(len(drawn), columns, width=PANEL, height=height, title=TITLE, **limits)
    for axes, molecule, coords in zip(panels, drawn, rotated, strict=True):
        _draw(axes, molecule, coords)
        axes.set_title(hill_formula(molecule.atomic_numbers)[:24], fontsize=9, color="0.3", pad=2)
    return figure_to_image(figure, None, ())


def _turned(coords: np.ndarray) -> np.ndarray:
    """Return the atom positions along the principal axes of a molecule, widest first, centred; without reflection."""
    centred = coords - (coords.max(0) + coords.min(0)) / 2
    _, _, directions = np.linalg.svd(coords - coords.mean(0)) if len(coords) > 1 else (0, 0, np.eye(3))
    directions[2] *= np.sign(np.linalg.det(directions))
    rotated = centred @ directions.T
    return rotated - (rotated.max(0) + rotated.min(0)) / 2


def _draw(axes: Any, molecule: Molecule, coords: np.ndarray) -> None:
    """Draw atoms and bonds from back to front as one collection, since samples may have hundreds of bonds."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle, Polygon

    shapes: list[tuple[float, Any, str]] = []
    for number, point in zip(molecule.atomic_numbers.tolist(), coords, strict=True):
        shapes.append((point[2], Circle(point[:2], BALL * RADII[number] + MIN_BALL_RADIUS), colour_of(number)))
    for i, j in np.argwhere(molecule.bond_mask()).tolist():
        midpoint = (coords[i] + coords[j]) / 2  # each half of a bond has the colour of its atom
        depth = (coords[i, 2] + midpoint[2]) / 2
        shapes.append((depth, Polygon(_stick(coords[i, :2], midpoint[:2])), colour_of(int(molecule.atomic_numbers[i]))))
    shapes.sort(key=lambda shape: shape[0])
    _, patches, colours = zip(*shapes, strict=True)
    axes.add_collection(PatchCollection(patches, facecolors=colours, edgecolors="0.25", linewidths=0.6))


def _stick(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the corners [4, 2] of the rectangle that draws a bond between two points in the plane."""
    direction = end - start
    offset = STICK * np.array([-direction[1], direction[0]]) / max(float(np.hypot(*direction)), 1e-9)
    return np.stack([start + offset, end + offset, end - offset, start - offset])
