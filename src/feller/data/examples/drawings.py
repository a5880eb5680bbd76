"""Pictures other than scenes: one to three letters, segmentation maps and edges."""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from feller.core.errors import UsageError
from feller.data.examples.picks import Picks
from feller.data.examples.scenes import ALL, EVERY, Scene, Variety, check_side
from feller.data.examples.shapes import BLACK, COLOURS, LIGHT, SHAPES, blank, shape_mask

HIGH, WIDE = 5, 4
"""Dots of a letter."""
MOST = 3
"""Letters in a picture."""
FONT = {
    "A": ".##. #..# #### #..# #..#",
    "B": "###. #..# ###. #..# ###.",
    "C": ".### #... #... #... .###",
    "D": "###. #..# #..# #..# ###.",
    "E": "#### #... ###. #... ####",
    "F": "#### #... ###. #... #...",
    "G": ".### #... #.## #..# .###",
    "H": "#..# #..# #### #..# #..#",
    "I": ".### ..#. ..#. ..#. .###",
    "J": "..## ...# ...# #..# .##.",
    "K": "#..# #.#. ##.. #.#. #..#",
    "L": "#... #... #... #... ####",
    "M": "#..# #### #### #..# #..#",
    "N": "#..# ##.# #.## #..# #..#",
    "O": ".##. #..# #..# #..# .##.",
    "P": "###. #..# ###. #... #...",
    "Q": ".##. #..# #..# #.#. .#.#",
    "R": "###. #..# ###. #.#. #..#",
    "S": ".### #... .##. ...# ###.",
    "T": "#### .##. .##. .##. .##.",
    "U": "#..# #..# #..# #..# ####",
    "V": "#..# #..# #..# .##. .##.",
    "W": "#..# #..# #### #### #..#",
    "X": "#..# .##. .##. .##. #..#",
    "Y": "#..# #..# .### ...# ###.",
    "Z": "#### ..#. .#.. #... ####",
}
"""Rows of dots of each letter."""


@dataclass(frozen=True)
class Lettering:
    """Letters in one colour on another."""

    word: str
    ink: str
    ground: str


def draw_lettering(pick: Picks, of: Variety = ALL) -> Lettering:
    """Draw a word and two colours; where some are kept, a word of these or of the others."""
    word, ground = pick.one(pick.one(_words(of))), pick.one(of.colours)
    return Lettering(word, pick.one([colour for colour in of.colours if colour != ground]), ground)


@functools.cache
def _words(of: Variety) -> list[list[str]]:
    """Return the words of each length of which there are any."""
    each = [map("".join, itertools.product(of.letters, repeat=n)) for n in range(1, of.longest + 1)]
    chosen = [[word for word in words if of.takes(_is_kept(word))] for words in each]
    return [words for words in chosen if words]


def _is_kept(word: str) -> bool:
    """Tell whether a word is one of the eighth that is kept, by its letters; none of these is a letter alone."""
    return len(word) > 1 and sum(map(ord, word)) % EVERY == 0


def render_letters(lettering: Lettering, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Draw letters as large as they fit, in the middle.

    Raises:
        UsageError: If they are not one to three of A to Z.
    """
    picture = blank(side, COLOURS[lettering.ground])
    picture[letter_mask(lettering.word, side)] = COLOURS[lettering.ink]
    return picture


@functools.lru_cache(maxsize=20_000)
def letter_mask(word: str, side: int) -> Bool[np.ndarray, "side side"]:
    """Return which pixels of a picture are of its letters."""
    check_side(side)
    if not 1 <= len(word) <= MOST or not set(word) <= set(FONT):
        raise UsageError(f"expected one to three letters of A to Z, got {word!r}")
    dots = np.zeros((HIGH, len(word) * (WIDE + 1) - 1), dtype=bool)
    for i, letter in enumerate(word):
        first = i * (WIDE + 1)
        dots[:, first : first + WIDE] = [[dot == "#" for dot in row] for row in FONT[letter].split()]
    large = (side - 1) // max(dots.shape)
    dots = dots.repeat(large, 0).repeat(large, 1)
    top, left = ((side - room) // 2 for room in dots.shape)
    ink = np.zeros((side, side), dtype=bool)
    ink[top : top + dots.shape[0], left : left + dots.shape[1]] = dots
    return ink


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
