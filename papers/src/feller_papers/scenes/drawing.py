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
from feller_papers.scenes.shapes import BLACK, COLOURS, LIGHT, SHAPES, Choices, blank, make_choices, shape_mask

SIDE = 16
"""Pixels of a side, where nothing else is asked for."""
SIDE_MULTIPLE = 16
"""Sides are multiples of this."""
MAX_THINGS = 3
"""Things in a scene."""
SIZES = {"small": 0.29, "large": 0.42}
"""Of things, as shares of the side."""
PLACES = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Names of the places, by row and column."""
MAX_SHIFT = 0.03
"""How far from the usual a thing is in its place, of the room that it has to move in."""
MIN_GAP = 1 / 32
"""Between two things, in one direction at least, as a share of the side; at 16 pixels they may touch."""
HELD_OUT_EVERY = 8
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
        size = round(SIZES[self.size] * side)
        top, left = (
            round((side - size) * _offset(cell, shift)) for cell, shift in zip(self.cell, self.shift, strict=True)
        )
        return left, top, left + size, top + size


@dataclass(frozen=True)
class SceneConfig:
    """How much pictures differ from each other."""

    colours: tuple[str, ...] = tuple(COLOURS)
    counts: tuple[int, ...] = (1, 2, 3)
    """Numbers of things, each as likely; what stands twice is twice as likely."""
    max_things: int = MAX_THINGS
    """Things that there may be once one is added."""
    shifted: bool = True
    """Whether things are a little beside the middle of their place."""
    letters: str = string.ascii_uppercase
    """Of words."""
    max_letters: int = 3
    """Letters of a word, at most."""
    held_out: bool | None = None
    """Whether scenes and words are among those that are kept, so that nothing is learned of them; None takes all."""

    def accepts(self, held_out: bool) -> bool:
        """Tell whether there is what is one of those that are kept, or is none of them."""
        return self.held_out in (None, held_out)


ALL = SceneConfig()
SMALL = SceneConfig(
    ("red", "yellow", "blue", "white"), (1,), 2, shifted=False, letters="ACEHLOTX", max_letters=2, held_out=False
)
"""What small models learn soon: scenes of one thing, colours of which a picture has few pairs, words of few letters."""
SMALL_HELD_OUT = replace(SMALL, held_out=True)
"""Such scenes, of which none is one of those."""


@dataclass(frozen=True)
class Scene:
    """Things that do not meet, each of a colour of its own, on a ground of another."""

    ground: str
    things: tuple[Thing, ...]
    config: SceneConfig = ALL
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
    if side < SIDE_MULTIPLE or side % SIDE_MULTIPLE:
        raise UsageError("pictures with a side of 16, 32, 48, ... pixels", side, f"{SIDE} is usual")


def draw_scenes(n: int, rng: Rng, config: SceneConfig = ALL) -> list[Scene]:
    """Draw scenes, with shapes, colours, sizes and places at random; things stand in the order in which one reads.

    What scene i is depends on i and the seed alone.
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
    """Tell whether a scene is one of the eighth that is kept, by all that is in it; each of its parts is in others."""
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
    """Return things from the left to the right in each row, from the top down."""
    return tuple(sorted(things, key=lambda thing: thing.cell))


@functools.cache
def layouts(sizes: tuple[str, ...]) -> tuple[tuple[Cell, ...], ...]:
    """Return all places that things of these sizes can take together, wherever in its place each is."""
    return tuple(
        chosen
        for chosen in itertools.permutations(CELLS, len(sizes))
        if all(_apart(*first, *second) for first, second in itertools.combinations(zip(sizes, chosen, strict=True), 2))
    )


def _apart(size: str, cell: Cell, other_size: str, other: Cell) -> bool:
    """Tell whether two things keep their distance in one direction."""

    def between(a: str, i: int, b: str, j: int) -> float:
        return (1 - SIZES[b]) * _offset(j, -1.0) - (1 - SIZES[a]) * _offset(i, 1.0) - SIZES[a]

    return any(
        max(between(size, i, other_size, j), between(other_size, j, size, i)) >= MIN_GAP
        for i, j in zip(cell, other, strict=True)
    )


def _offset(cell: int, shift: float) -> float:
    """Return how much of the room that a thing can move in lies before it."""
    return (0.04, 0.5, 0.94)[cell] + MAX_SHIFT * shift


LETTER_HEIGHT, LETTER_WIDTH = 5, 4
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


def draw_lettering(choices: Choices, config: SceneConfig = ALL) -> Lettering:
    """Draw a word and two colours; where some are kept, a word of these or of the others."""
    word, ground = choices.choose(choices.choose(_words(config))), choices.choose(config.colours)
    return Lettering(word, choices.choose([colour for colour in config.colours if colour != ground]), ground)


@functools.cache
def _words(config: SceneConfig) -> list[list[str]]:
    """Return the words of each length of which there are any."""
    all_words = [map("".join, itertools.product(config.letters, repeat=n)) for n in range(1, config.max_letters + 1)]
    accepted = [[word for word in words if config.accepts(_is_held_out_word(word))] for words in all_words]
    return [words for words in accepted if words]


def _is_held_out_word(word: str) -> bool:
    """Tell whether a word is one of the eighth that is kept, by its letters; none of these is a letter alone."""
    return len(word) > 1 and sum(map(ord, word)) % HELD_OUT_EVERY == 0


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
"""Colour of each shape in a map, whatever its colour in the scene."""
EDGE_THRESHOLD = 40
"""Levels that a colour changes by at an edge, at least, in red, green or blue."""


def segmentation(scene: Scene, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Draw each thing in the colour of its shape's class, on black."""
    check_side(side)
    picture = blank(side, BLACK)
    for thing in scene.things:
        left, top, right, bottom = thing.box(side)
        picture[top:bottom, left:right][shape_mask(thing.shape, right - left)] = CLASS_COLOURS[thing.shape]
    return picture


def edges(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Draw in white on black where a picture changes from a pixel to the next, to the right or below.

    A plain threshold of differences: Canny's filter would blur shapes of a few pixels away.
    """
    levels = picture.astype(np.int64)
    mask = np.zeros(levels.shape[:2], dtype=bool)
    mask[:, :-1] |= (abs(np.diff(levels, axis=1)) >= EDGE_THRESHOLD).any(2)
    mask[:-1] |= (abs(np.diff(levels, axis=0)) >= EDGE_THRESHOLD).any(2)
    return np.where(mask[:, :, None], np.array(LIGHT), np.array(BLACK)).astype(np.uint8)
