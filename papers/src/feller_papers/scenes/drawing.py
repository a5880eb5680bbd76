"""Scenes: one to three coloured shapes on a ground, with known attributes."""

import functools
import itertools
import string
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.scenes.shapes import BLACK, COLOURS, LIGHT, SHAPES, Choices, blank, make_choices, shape_mask

SIDE = 16
"""Default side, in pixels."""
SIDE_MULTIPLE = 16
"""Sides are multiples of 16."""
MAX_THINGS = 3
"""Largest number of things in a scene."""
SIZES = {"small": 0.29, "large": 0.42}
"""Sizes of things, as fractions of the side."""
PLACES = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Names of positions, by row and column."""
MAX_SHIFT = 0.03
"""Largest random shift, as a fraction of the free space."""
MIN_GAP = 1 / 32
"""Smallest gap of two things along one axis, as a fraction of the side; at 16 pixels they may touch."""
HELD_OUT_EVERY = 8
"""One in this many scenes is held out."""
Cell = tuple[int, int]
"""Row and column of a position, from 0 to 2."""
CELLS: tuple[Cell, ...] = tuple((row, column) for row in range(3) for column in range(3))
Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels; right and bottom are exclusive."""


@dataclass(frozen=True)
class Thing:
    """A shape of one colour."""

    colour: str
    shape: str
    size: str
    cell: Cell
    shift: tuple[float, float] = (0.0, 0.0)
    """Shift down and right, from -1 to 1."""

    @property
    def place(self) -> str:
        """Name of the position."""
        return PLACES[self.cell[0]][self.cell[1]]

    def box(self, side: int) -> Box:
        """Return the bounding box in a picture of this side."""
        size = round(SIZES[self.size] * side)
        top, left = (
            round((side - size) * _offset(cell, shift)) for cell, shift in zip(self.cell, self.shift, strict=True)
        )
        return left, top, left + size, top + size


@dataclass(frozen=True)
class SceneConfig:
    """Distribution of scenes and words."""

    colours: tuple[str, ...] = tuple(COLOURS)
    counts: tuple[int, ...] = (1, 2, 3)
    """Numbers of things, sampled uniformly from this tuple."""
    max_things: int = MAX_THINGS
    """Largest number of things after an edit."""
    shifted: bool = True
    """True if positions are jittered."""
    letters: str = string.ascii_uppercase
    """Alphabet of words."""
    max_letters: int = 3
    """Longest word."""
    held_out: bool | None = None
    """True for held-out scenes and words, False for the others, None for all."""

    def accepts(self, held_out: bool) -> bool:
        """Return whether the split includes held-out, or other, items."""
        return self.held_out in (None, held_out)


ALL = SceneConfig()
SMALL = SceneConfig(
    ("red", "yellow", "blue", "white"), (1,), 2, shifted=False, letters="ACEHLOTX", max_letters=2, held_out=False
)
"""Easy for small models: scenes of one thing, four colours, words of one or two letters."""
SMALL_HELD_OUT = replace(SMALL, held_out=True)
"""Held-out split of `SMALL`."""


@dataclass(frozen=True)
class Scene:
    """Things that do not overlap on a ground; all colours differ."""

    ground: str
    things: tuple[Thing, ...]
    config: SceneConfig = ALL
    """Distribution it was sampled from."""


def render(scene: Scene, side: int = SIDE) -> UInt8[np.ndarray, "side side 3"]:
    """Return the picture of a scene, without anti-aliasing."""
    check_side(side)
    picture = blank(side, COLOURS[scene.ground])
    for thing in scene.things:
        left, top, right, bottom = thing.box(side)
        picture[top:bottom, left:right][shape_mask(thing.shape, right - left)] = COLOURS[thing.colour]
    return picture


def check_side(side: int) -> None:
    """Raise an error unless the side is a multiple of 16.

    Raises:
        UsageError: If it is not a multiple of 16.
    """
    if side < SIDE_MULTIPLE or side % SIDE_MULTIPLE:
        raise UsageError("pictures with a side of 16, 32, 48, ... pixels", side, f"{SIDE} is usual")


def draw_scenes(n: int, rng: Rng, config: SceneConfig = ALL) -> list[Scene]:
    """Return n random scenes; things are in reading order.

    Scene i depends only on i and the seed.
    """
    scenes: dict[int, Scene] = {}
    for attempt in itertools.count():
        if len(scenes) == n:
            break
        for i, choices in enumerate(make_choices(n, "scene", rng.fold_in("attempt", attempt) if attempt else rng)):
            if i not in scenes and config.accepts(is_held_out(scene := _draw_scene(choices, config))):
                scenes[i] = scene
    return [scenes[i] for i in range(n)]


def is_held_out(scene: Scene) -> bool:
    """Return whether a scene is in the held-out eighth, by a hash of its attributes, which all occur in training."""
    colours = scene.config.colours
    code = colours.index(scene.ground)
    for thing in scene.things:
        code += 2 * colours.index(thing.colour) + 4 * list(SIZES).index(thing.size)
        code += list(SHAPES).index(thing.shape) + CELLS.index(thing.cell)
    return code % HELD_OUT_EVERY == 0


def _draw_scene(choices: Choices, config: SceneConfig) -> Scene:
    colours, number = config.colours, choices.choose(config.counts)
    ground = choices.choose(colours)
    sizes = tuple(choices.choose(tuple(SIZES)) for _ in range(number))
    things = []
    for size, cell in zip(sizes, choices.choose(layouts(sizes)), strict=True):
        colour = choices.choose(
            [colour for colour in colours if colour not in (ground, *(thing.colour for thing in things))]
        )
        shift = (2 * choices.uniform() - 1, 2 * choices.uniform() - 1) if config.shifted else (0.0, 0.0)
        things.append(Thing(colour, choices.choose(tuple(SHAPES)), size, cell, shift))
    return Scene(ground, in_order(things), config)


def in_order(things: Iterable[Thing]) -> tuple[Thing, ...]:
    """Return things in reading order."""
    return tuple(sorted(things, key=lambda thing: thing.cell))


@functools.cache
def layouts(sizes: tuple[str, ...]) -> tuple[tuple[Cell, ...], ...]:
    """Return all cells for things of these sizes that do not overlap for any shift."""
    return tuple(
        chosen
        for chosen in itertools.permutations(CELLS, len(sizes))
        if all(_apart(*first, *second) for first, second in itertools.combinations(zip(sizes, chosen, strict=True), 2))
    )


def _apart(size: str, cell: Cell, other_size: str, other: Cell) -> bool:
    """Return whether two things have the minimum gap along one axis."""

    def between(a: str, i: int, b: str, j: int) -> float:
        return (1 - SIZES[b]) * _offset(j, -1.0) - (1 - SIZES[a]) * _offset(i, 1.0) - SIZES[a]

    return any(
        max(between(size, i, other_size, j), between(other_size, j, size, i)) >= MIN_GAP
        for i, j in zip(cell, other, strict=True)
    )


def _offset(cell: int, shift: float) -> float:
    """Return the offset of a thing as a fraction of the free space."""
    return (0.04, 0.5, 0.94)[cell] + MAX_SHIFT * shift


LETTER_HEIGHT, LETTER_WIDTH = 5, 4
"""Size of a letter, in dots."""
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
    """Word, text colour and ground colour."""

    word: str
    ink: str
    ground: str


def draw_lettering(choices: Choices, config: SceneConfig = ALL) -> Lettering:
    """Return a random word and two colours, of the split of the configuration."""
    word, ground = choices.choose(choices.choose(_words(config))), choices.choose(config.colours)
    return Lettering(word, choices.choose([colour for colour in config.colours if colour != ground]), ground)


@functools.cache
def _words(config: SceneConfig) -> list[list[str]]:
    """Return the words of each length, without empty lists."""
    all_words = [map("".join, itertools.product(config.letters, repeat=n)) for n in range(1, config.max_letters + 1)]
    accepted = [[word for word in words if config.accepts(_is_held_out_word(word))] for words in all_words]
    return [words for words in accepted if words]


def _is_held_out_word(word: str) -> bool:
    """Return whether a word is in the held-out eighth, by a hash of its letters; single letters never are."""
    return len(word) > 1 and sum(map(ord, word)) % HELD_OUT_EVERY == 0


def render_letters(lettering: Lettering, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Return a picture of a word, centred and as large as possible.

    Raises:
        UsageError: If the word is not one to three letters of A to Z.
    """
    picture = blank(side, COLOURS[lettering.ground])
    picture[letter_mask(lettering.word, side)] = COLOURS[lettering.ink]
    return picture


@functools.lru_cache(maxsize=20_000)
def letter_mask(word: str, side: int) -> Bool[np.ndarray, "side side"]:
    """Return the mask of a word's pixels."""
    check_side(side)
    if not 1 <= len(word) <= MAX_THINGS or not set(word) <= set(FONT):
        raise UsageError("one to three letters of A to Z", repr(word))
    dots = np.zeros((LETTER_HEIGHT, len(word) * (LETTER_WIDTH + 1) - 1), dtype=bool)
    for i, letter in enumerate(word):
        left_dot = i * (LETTER_WIDTH + 1)
        dots[:, left_dot : left_dot + LETTER_WIDTH] = [[dot == "#" for dot in row] for row in FONT[letter].split()]
    scale = (side - 1) // max(dots.shape)
    dots = dots.repeat(scale, 0).repeat(scale, 1)
    top, left = ((side - extent) // 2 for extent in dots.shape)
    mask = np.zeros((side, side), dtype=bool)
    mask[top : top + dots.shape[0], left : left + dots.shape[1]] = dots
    return mask


CLASS_COLOURS = dict(zip(SHAPES, COLOURS.values(), strict=False))
"""Colour of each shape class in segmentation maps."""
EDGE_THRESHOLD = 40
"""Smallest change of a colour channel at an edge."""


def segmentation(scene: Scene, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Return the segmentation map: things in the colour of their class, on black."""
    check_side(side)
    picture = blank(side, BLACK)
    for thing in scene.things:
        left, top, right, bottom = thing.box(side)
        picture[top:bottom, left:right][shape_mask(thing.shape, right - left)] = CLASS_COLOURS[thing.shape]
    return picture


def edges(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return the edge map, white on black, of changes to the next pixel to the right or below.

    It thresholds differences: the Canny filter would blur shapes of a few pixels.
    """
    levels = picture.astype(np.int64)
    mask = np.zeros(levels.shape[:2], dtype=bool)
    mask[:, :-1] |= (abs(np.diff(levels, axis=1)) >= EDGE_THRESHOLD).any(2)
    mask[:-1] |= (abs(np.diff(levels, axis=0)) >= EDGE_THRESHOLD).any(2)
    return np.where(mask[:, :, None], np.array(LIGHT), np.array(BLACK)).astype(np.uint8)
