"""Pictures of one to three letters, and reading them again."""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from feller.errors import UsageError
from feller.reproduce.cm3leon.colours import COLOURS, blank, nearest_colours
from feller.reproduce.cm3leon.picks import Picks
from feller.reproduce.cm3leon.scenes import ALL, EVERY, Variety, check_side

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
    picture[_ink(lettering.word, side)] = COLOURS[lettering.ink]
    return picture


def read_letters(pictures: UInt8[Tensor, "n 3 side side"]) -> list[str]:
    """Return the letters that each picture shows: those whose drawing has most pixels as it, in any two colours."""
    side, colours = pictures.shape[3], nearest_colours(pictures)
    ground = torch.cat([colours[:, 0], colours[:, -1], colours[:, :, 0], colours[:, :, -1]], 1).mode(1).values
    return [
        max((_best(ink, length, side) for length in range(1, MOST + 1)), key=lambda word: _alike(word, side, ink))
        for ink in (colours != ground[:, None, None]).cpu().numpy()
    ]


def _best(ink: Bool[np.ndarray, "side side"], length: int, side: int) -> str:
    """Return the word of this length that agrees best: letters do not meet, so each is chosen alone."""
    word = length * "A"
    for i in range(length):
        word = max((word[:i] + letter + word[i + 1 :] for letter in FONT), key=lambda one: _alike(one, side, ink))
    return word


def _alike(word: str, side: int, ink: Bool[np.ndarray, "side side"]) -> int:
    return int((_ink(word, side) == ink).sum())


@functools.lru_cache(maxsize=20_000)
def _ink(word: str, side: int) -> Bool[np.ndarray, "side side"]:
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
