"""Scenes: one to three coloured shapes on a ground, of which everything is known."""

import functools
import itertools
import string
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.scenes.shapes import BLACK, COLOURS, LIGHT, SHAPES, Picks, blank, picks, shape_mask

SIDE = 16
"""Pixels of a side, where nothing else is asked for."""
LEAST = 16
"""Sides are multiples of this."""
MOST = 3
"""Things in a scene."""
SIZES = {"small": 0.29, "large": 0.42}
"""Of things, as shares of the side."""
PLACES = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Names of the places, by row and column."""
REACH = 0.03
"""How far from the usual a thing is in its place, of the room that it has to move in."""
GAP = 1 / 32
"""Between two things, in one direction at least, as a share of the side; at 16 pixels they may touch."""
EVERY = 8
"""Of so many scenes one is kept."""
Cell = tuple[int, int]
"""Row and column of a place, from 0 to 2."""
CELLS: tuple[Cell, ...] = tuple((row, column) for row in range(3) for column in range(3))
Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels; right and bottom are the first that are outside."""


@dataclass(frozen=True)
class Thing:
    """A shape of one colour."""

    colour: str
    shape: str
    size: str
    cell: Cell
    shift: tuple[float, float] = (0.0, 0.0)
    """How far down and to the right of the usual, from -1 to 1."""

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return PLACES[self.cell[0]][self.cell[1]]

    def box(self, side: int) -> Box:
        """Return the pixels that it fills, in a picture with this side."""
        across = round(SIZES[self.size] * side)
        top, left = (
            round((side - across) * _share(cell, shift)) for cell, shift in zip(self.cell, self.shift, strict=True)
        )
        return left, top, left + across, top + across


@dataclass(frozen=True)
class Variety:
    """How much pictures differ from each other."""

    colours: tuple[str, ...] = tuple(COLOURS)
    counts: tuple[int, ...] = (1, 2, 3)
    """Numbers of things, each as likely; what stands twice is twice as likely."""
    most: int = MOST
    """Things that there may be once one is added."""
    shifted: bool = True
    """Whether things are a little beside the middle of their place."""
    letters: str = string.ascii_uppercase
    """Of words."""
    longest: int = 3
    """Letters of a word, at most."""
    kept: bool | None = None
    """Whether scenes and words are among those that are kept, so that nothing is learned of them; None takes all."""

    def takes(self, kept: bool) -> bool:
        """Tell whether there is what is one of those that are kept, or is none of them."""
        return self.kept in (None, kept)


ALL = Variety()
FEW = Variety(("red", "yellow", "blue", "white"), (1,), 2, shifted=False, letters="ACEHLOTX", longest=2, kept=False)
"""What small models learn soon: scenes of one thing, colours of which a picture has few pairs, words of few letters."""
FEW_HELD_OUT = replace(FEW, kept=True)
"""Such scenes, of which none is one of those."""


@dataclass(frozen=True)
class Scene:
    """Things that do not meet, each of a colour of its own, on a ground of another."""

    ground: str
    things: tuple[Thing, ...]
    of: Variety = ALL
    """What else it might have been."""


def render(scene: Scene, side: int = SIDE) -> UInt8[np.ndarray, "side side 3"]:
    """Draw a scene; each pixel has the colour of the ground or of one thing."""
    check_side(side)
    picture = blank(side, COLOURS[scene.ground])
    for thing in scene.things:
        left, top, right, bottom = thing.box(side)
        picture[top:bottom, left:right][shape_mask(thing.shape, right - left)] = COLOURS[thing.colour]
    return picture


def check_side(side: int) -> None:
    """Refuse sides at which shapes and letters are not whole.

    Raises:
        UsageError: If it is no multiple of 16.
    """
    if side < LEAST or side % LEAST:
        raise UsageError("pictures with a side of 16, 32, 48, ... pixels", side, f"{SIDE} is usual")


def draw_scenes(n: int, draws: Rng, of: Variety = ALL) -> list[Scene]:
    """Draw scenes, with shapes, colours, sizes and places at random; things stand in the order in which one reads.

    What scene i is depends on i and the seed alone.
    """
    found: dict[int, Scene] = {}
    for attempt in itertools.count():
        if len(found) == n:
            break
        for i, pick in enumerate(picks(n, "scene", draws.fold_in("attempt", attempt) if attempt else draws)):
            if i not in found and of.takes(is_kept(scene := _draw_scene(pick, of))):
                found[i] = scene
    return [found[i] for i in range(n)]


def is_kept(scene: Scene) -> bool:
    """Tell whether a scene is one of the eighth that is kept, by all that is in it; each of its parts is in others."""
    colours = scene.of.colours
    number = colours.index(scene.ground)
    for thing in scene.things:
        number += 2 * colours.index(thing.colour) + 4 * list(SIZES).index(thing.size)
        number += list(SHAPES).index(thing.shape) + CELLS.index(thing.cell)
    return number % EVERY == 0


def _draw_scene(pick: Picks, of: Variety) -> Scene:
    colours, number = of.colours, pick.one(of.counts)
    ground = pick.one(colours)
    sizes = tuple(pick.one(tuple(SIZES)) for _ in range(number))
    things = []
    for size, cell in zip(sizes, pick.one(layouts(sizes)), strict=True):
        colour = pick.one([one for one in colours if one not in (ground, *(thing.colour for thing in things))])
        shift = (2 * pick.share() - 1, 2 * pick.share() - 1) if of.shifted else (0.0, 0.0)
        things.append(Thing(colour, pick.one(tuple(SHAPES)), size, cell, shift))
    return Scene(ground, in_order(things), of)


def in_order(things: Iterable[Thing]) -> tuple[Thing, ...]:
    """Return things from the left to the right in each row, from the top down."""
    return tuple(sorted(things, key=lambda thing: thing.cell))


@functools.cache
def layouts(sizes: tuple[str, ...]) -> tuple[tuple[Cell, ...], ...]:
    """Return all places that things of these sizes can take together, wherever in its place each is."""
    return tuple(
        chosen
        for chosen in itertools.permutations(CELLS, len(sizes))
        if all(_apart(*one, *other) for one, other in itertools.combinations(zip(sizes, chosen, strict=True), 2))
    )


def _apart(size: str, cell: Cell, other_size: str, other: Cell) -> bool:
    """Tell whether two things keep their distance in one direction."""

    def between(a: str, i: int, b: str, j: int) -> float:
        return (1 - SIZES[b]) * _share(j, -1.0) - (1 - SIZES[a]) * _share(i, 1.0) - SIZES[a]

    return any(
        max(between(size, i, other_size, j), between(other_size, j, size, i)) >= GAP
        for i, j in zip(cell, other, strict=True)
    )


def _share(cell: int, shift: float) -> float:
    """Return how much of the room that a thing can move in lies before it."""
    return (0.04, 0.5, 0.94)[cell] + REACH * shift


HIGH, WIDE = 5, 4
"""Dots of a letter."""
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
        raise UsageError("one to three letters of A to Z", repr(word))
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
