"""Creatures with invented names and unique looks, which a model can know only from data.

Head creatures are in the training data several times; tail creatures are only in the retrieval memory.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int8, UInt8

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.scenes.captions import with_article
from feller_papers.scenes.drawing import SIDE, check_side
from feller_papers.scenes.shapes import COLOURS, Choices, blank, make_choices

CREATURE_SIZE = 4
"""Width and height of a creature, in dots."""
GRID_SIZE = 8
"""Width and height of a picture, in dots; the creature is centred."""
MIDDLE = slice((GRID_SIZE - CREATURE_SIZE) // 2, (GRID_SIZE + CREATURE_SIZE) // 2)
"""Rows and columns of the creature."""
BODY, MARK = 1, 2
"""Values of dots; 0 is the ground."""
MIN_DIFFERENCE = 2
"""Smallest number of dots in which the same halves of two creatures differ."""
PARTS = {
    "whole": slice(0, CREATURE_SIZE),
    "upper": slice(0, CREATURE_SIZE // 2),
    "lower": slice(CREATURE_SIZE // 2, CREATURE_SIZE),
}
"""Visible parts of a creature, and their rows."""
ONSETS = (
    "bl",
    "br",
    "d",
    "dr",
    "fl",
    "gl",
    "gr",
    "l",
    "m",
    "pl",
    "pr",
    "r",
    "sm",
    "sn",
    "st",
    "t",
    "tr",
    "w",
    "y",
    "z",
)
VOWELS = ("a", "e", "i", "u")
CODAS = ("b", "f", "g", "l", "m", "x", "lk", "rn", "sk", "ft", "mp", "rb")
SUFFIXES = ("", "o", "et", "ip", "an", "us", "obi")
"""Parts of names."""


@dataclass(frozen=True)
class Creature:
    """Name, pattern and colours of a creature."""

    name: str
    pattern: tuple[tuple[int, ...], ...]
    """For each dot 0, 1 or 2: ground, body or mark; symmetric."""
    body: str
    """Colour of body dots."""
    mark: str
    """Colour of mark dots."""

    @property
    def grounds(self) -> tuple[str, ...]:
        """Allowed ground colours: those that the creature does not have."""
        return tuple(colour for colour in COLOURS if colour not in (self.body, self.mark))


@dataclass(frozen=True)
class View:
    """A creature or half of it on a ground."""

    creature: Creature
    ground: str
    part: str = "whole"
    """One of `PARTS`."""

    def caption(self) -> str:
        """Return the caption."""
        return f"{with_article(self.creature.name)} on {with_article(self.ground)} ground"


@functools.cache
def names() -> tuple[str, ...]:
    """Return all names, some thousands."""
    return tuple("".join(parts) for parts in itertools.product(ONSETS, VOWELS, CODAS, SUFFIXES))


def invent(n: int, rng: Rng) -> list[Creature]:
    """Return n random creatures with different names and looks; the first ones are the same for every n.

    Raises:
        UsageError: If n exceeds the number of names.
    """
    if n > len(names()):
        raise UsageError(f"there are names for {len(names()):,} creatures", found=f"{n:,}", remedy="Ask for fewer")
    order = torch.randperm(len(names()), generator=rng.stream("names").shared_generator()).tolist()
    all_colours = np.zeros((n, CREATURE_SIZE * CREATURE_SIZE), dtype=np.int8)
    creatures: list[Creature] = []
    for attempt in itertools.count():
        for choices in make_choices(2 * n, "looks", rng.fold_in("attempt", attempt)):
            if len(creatures) == n:
                return creatures
            creature = _look(names()[order[len(creatures)]], choices)
            colours = dot_colours(creature)
            differences = (
                (all_colours[: len(creatures)] != colours).reshape(-1, 2, CREATURE_SIZE * CREATURE_SIZE // 2).sum(2)
            )
            if colours.reshape(2, -1).any(1).all() and not (differences < MIN_DIFFERENCE).any():
                all_colours[len(creatures)] = colours
                creatures.append(creature)
    return creatures


def _look(name: str, choices: Choices) -> Creature:
    """Return a random creature; dots are more likely near the middle."""
    half = [[_dot(row, column, choices) for column in range(CREATURE_SIZE // 2)] for row in range(CREATURE_SIZE)]
    body = choices.choose(tuple(COLOURS))
    mark = choices.choose([colour for colour in COLOURS if colour != body])
    return Creature(name, tuple((*row, *row[::-1]) for row in half), body, mark)


def _dot(row: int, column: int, choices: Choices) -> int:
    # 1 at the border, near 0 in the middle
    distance = max(abs(2 * row + 1 - CREATURE_SIZE), CREATURE_SIZE - 1 - 2 * column) / (CREATURE_SIZE - 1)
    u = choices.uniform()
    return 0 if u < 0.6 * distance**2 else BODY if u < 0.72 + 0.1 * distance else MARK


def dot_colours(creature: Creature) -> Int8[np.ndarray, " dots"]:
    """Return the colour index of each dot, from 1 in the order of `COLOURS`; 0 for the ground."""
    order = list(COLOURS)
    colours = np.array([0, 1 + order.index(creature.body), 1 + order.index(creature.mark)], dtype=np.int8)
    return colours[np.array(creature.pattern).ravel()]


def render_creature(view: View, side: int = SIDE) -> UInt8[np.ndarray, "side side 3"]:
    """Return a picture of a creature, centred on its ground.

    Raises:
        UsageError: If the side is not a multiple of 16.
    """
    check_side(side)
    picture = blank(GRID_SIZE, COLOURS[view.ground])
    rows = PARTS[view.part]
    pattern = np.array(view.creature.pattern)[rows]
    for dot, colour in ((BODY, view.creature.body), (MARK, view.creature.mark)):
        picture[MIDDLE, MIDDLE][rows][pattern == dot] = COLOURS[colour]
    return picture.repeat(side // GRID_SIZE, 0).repeat(side // GRID_SIZE, 1)


def views(creature: Creature, n: int, rng: Rng) -> list[View]:
    """Return n random views of a creature, each on a different ground.

    Raises:
        UsageError: If n exceeds the number of grounds.
    """
    grounds = creature.grounds
    if n > len(grounds):
        raise UsageError(f"a creature has {len(grounds)} grounds", found=f"{n} views", remedy="Ask for fewer")
    order = torch.randperm(len(grounds), generator=rng.stream("grounds").shared_generator()).tolist()
    return [View(creature, grounds[i]) for i in order[:n]]
