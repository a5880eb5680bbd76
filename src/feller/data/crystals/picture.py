"""Crystals drawn for people: their cells and what is in them, atoms in the colours of their elements."""

import colorsys
import itertools
import math
from typing import Any

import numpy as np
import torch
from PIL import Image

from feller.data.crystals.crystal import Crystal, formula
from feller.data.crystals.elements import SYMBOLS
from feller.data.crystals.lattice import vectors
from feller.data.drawing import finish

MOST = 25
"""Crystals that are drawn, at most; the first ones."""
PANEL = 2.4
"""Width of a panel in inches."""
GOLDEN = (math.sqrt(5) - 1) / 2
EDGE = 0.02
"""How near to a face, in edges of the cell, an atom is drawn on the opposite face, too."""
TILT = (math.radians(18), math.radians(24))
"""How far cells are turned about the vertical, then tipped towards who looks."""


def picture(crystals: list[Crystal], columns: int | None = None) -> Image.Image:
    """Draw cells from a little above their front, each to its own scale, with its formula."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = crystals[:MOST]
    across = min(len(drawn), columns or math.ceil(math.sqrt(len(drawn))))
    down = -(-len(drawn) // across)
    figure = Figure(figsize=(PANEL * across, PANEL * down), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    for i, crystal in enumerate(drawn):
        axes = figure.add_axes((i % across / across, 1 - (i // across + 1) / down, 1 / across, 0.88 / down))
        axes.set_axis_off()
        axes.set_aspect("equal")
        _draw(axes, crystal)
        axes.set_title(formula(crystal.numbers)[:24], fontsize=9, color="0.3", pad=2)
    return finish(figure, None, ())


def _seen(lattice: np.ndarray) -> np.ndarray:
    """Return the edges of a cell as rows, seen: to the right, up, and towards who looks."""
    edges = vectors(torch.from_numpy(lattice)[None])[0].numpy()[:, [1, 2, 0]]  # b right, c up, a to the front
    turn, tip = TILT
    about = np.array([[math.cos(turn), 0, -math.sin(turn)], [0, 1, 0], [math.sin(turn), 0, math.cos(turn)]])
    down = np.array([[1, 0, 0], [0, math.cos(tip), math.sin(tip)], [0, -math.sin(tip), math.cos(tip)]])
    return edges @ about @ down


def with_images(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Return atomic numbers [k] and places [k, 3]; atoms on a face are on the opposite one as well."""
    numbers, places = [], []
    for number, place in zip(crystal.numbers.tolist(), crystal.places, strict=True):
        where = [(v, v + 1) if v < EDGE else (v, v - 1) if v > 1 - EDGE else (v,) for v in place]
        for image in itertools.product(*where):
            numbers.append(number)
            places.append(image)
    return np.array(numbers), np.array(places)


def colour(number: int) -> tuple[float, float, float]:
    """Return the colour of an element: hues that go around by the golden ratio are well apart."""
    return colorsys.hls_to_rgb(number * GOLDEN % 1, 0.52 if number % 2 else 0.62, 0.62)


def _draw(axes: Any, crystal: Crystal) -> None:
    """Draw the edges of the cell, then the atoms from back to front."""
    edges = _seen(crystal.lattice)
    corners = np.array(list(itertools.product((0, 1), repeat=3)))
    for one, other in itertools.combinations(corners, 2):
        if abs(one - other).sum() == 1:
            x, y, _ = (np.array([one, other]) @ edges).T
            axes.plot(x, y, color="0.6", linewidth=0.8, zorder=0)
    numbers, places = with_images(crystal)
    points = places @ edges
    order = points[:, 2].argsort()
    spread = np.ptp(corners @ edges, axis=0)[:2].max()
    size = min(300.0, 2600 / len(numbers))
    for depth, i in enumerate(order, 1):
        x, y, _ = points[i]
        number = int(numbers[i])
        axes.scatter(x, y, s=size, color=[colour(number)], edgecolors="white", linewidths=0.6, zorder=depth)
        if size > 60:
            font = min(8, 0.4 * size**0.5 + 1)
            axes.text(x, y, SYMBOLS[number], fontsize=font, ha="center", va="center", zorder=depth)
    middle = (corners @ edges).mean(0)
    reach = 0.58 * spread + 1e-3
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
