"""Creatures with made-up names, each with a look of its own: what a model can only know from its data.

Those of the head are in the training data several times; those of the tail are kept out of them, and only a memory
tells what they look like.
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
"""Of a creature, across and down."""
GRID_SIZE = 8
"""Dots of a picture; the creature is in its middle."""
MIDDLE = slice((GRID_SIZE - CREATURE_SIZE) // 2, (GRID_SIZE + CREATURE_SIZE) // 2)
"""Its rows and columns."""
BODY, MARK = 1, 2
"""What a dot shows, if not the ground."""
MIN_DIFFERENCE = 2
"""Dots in which the same halves of two creatures differ, at least."""
PARTS = {
    "whole": slice(0, CREATURE_SIZE),
    "upper": slice(0, CREATURE_SIZE // 2),
    "lower": slice(CREATURE_SIZE // 2, CREATURE_SIZE),
}
"""What a view shows of a creature, and the rows that this is."""
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
"""What names are made of."""


@dataclass(frozen=True)
class Creature:
    """A name and a look."""

    name: str
    pattern: tuple[tuple[int, ...], ...]
    """For each dot 0, 1 or 2: ground, body or mark; the same on the left and on the right."""
    body: str
    """Colour of the body."""
    mark: str
    """Colour of what is on it."""

    @property
    def grounds(self) -> tuple[str, ...]:
        """Grounds that it is drawn on: those whose colour it has not."""
        return tuple(colour for colour in COLOURS if colour not in (self.body, self.mark))


@dataclass(frozen=True)
class View:
    """A creature on a ground, or half of it: the ground hides the other."""

    creature: Creature
    ground: str
    part: str = "whole"
    """One of `PARTS`."""

    def caption(self) -> str:
        """Say what it shows."""
        return f"{with_article(self.creature.name)} on {with_article(self.ground)} ground"


@functools.cache
def names() -> tuple[str, ...]:
    """Return all names that there are, some thousands."""
    return tuple("".join(parts) for parts in itertools.product(ONSETS, VOWELS, CODAS, SUFFIXES))


def invent(n: int, rng: Rng) -> list[Creature]:
    """Invent creatures with different names and clearly different looks; the first ones are the same for every n.

    Raises:
        UsageError: If there are not so many names.
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
    """Draw a pattern that is likelier to have dots near its middle, and two colours."""
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
    """Return the number of the colour of each dot, from 1 in the order of `COLOURS`; 0 where the ground is seen."""
    order = list(COLOURS)
    colours = np.array([0, 1 + order.index(creature.body), 1 + order.index(creature.mark)], dtype=np.int8)
    return colours[np.array(creature.pattern).ravel()]


def render_creature(view: View, side: int = SIDE) -> UInt8[np.ndarray, "side side 3"]:
    """Draw a creature in the middle of its ground.

    Raises:
        UsageError: If the side is no multiple of 16.
    """
    check_side(side)
    picture = blank(GRID_SIZE, COLOURS[view.ground])
    rows = PARTS[view.part]
    pattern = np.array(view.creature.pattern)[rows]
    for dot, colour in ((BODY, view.creature.body), (MARK, view.creature.mark)):
        picture[MIDDLE, MIDDLE][rows][pattern == dot] = COLOURS[colour]
    return picture.repeat(side // GRID_SIZE, 0).repeat(side // GRID_SIZE, 1)


def views(creature: Creature, n: int, rng: Rng) -> list[View]:
    """Draw n views of a creature, each on another ground.

    Raises:
        UsageError: If there are not so many grounds.
    """
    grounds = creature.grounds
    if n > len(grounds):
        raise UsageError(f"a creature has {len(grounds)} grounds", found=f"{n} views", remedy="Ask for fewer")
    order = torch.randperm(len(grounds), generator=rng.stream("grounds").shared_generator()).tolist()
    return [View(creature, grounds[i]) for i in order[:n]]
