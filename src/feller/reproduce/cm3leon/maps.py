"""Maps of pictures: which class each pixel is of, and where edges are."""

import numpy as np
from jaxtyping import UInt8

from feller.reproduce.cm3leon.colours import BLACK, COLOURS, LIGHT, blank
from feller.reproduce.cm3leon.scenes import Scene, check_side
from feller.reproduce.cm3leon.shapes import SHAPES, shape_mask

CLASSES = dict(zip(SHAPES, COLOURS.values(), strict=False))
"""Colour of each shape in a map, whatever its colour in the scene."""
STEP = 40
"""Levels that a colour changes by at an edge, at least, in red, green or blue."""


def segmentation(scene: Scene, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Draw each thing in the colour of its shape's class, on black."""
    check_side(side)
    picture = blank(side, BLACK)
    for thing in scene.things:
        left, top, right, bottom = thing.box(side)
        picture[top:bottom, left:right][shape_mask(thing.shape, right - left)] = CLASSES[thing.shape]
    return picture


def edges(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Draw in white on black where a picture changes from a pixel to the next, to the right or below.

    A plain threshold of differences: Canny's filter would blur shapes of a few pixels away.
    """
    levels = picture.astype(np.int64)
    found = np.zeros(levels.shape[:2], dtype=bool)
    found[:, :-1] |= (abs(np.diff(levels, axis=1)) >= STEP).any(2)
    found[:-1] |= (abs(np.diff(levels, axis=0)) >= STEP).any(2)
    return np.where(found[:, :, None], np.array(LIGHT), np.array(BLACK)).astype(np.uint8)
