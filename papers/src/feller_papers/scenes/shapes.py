"""Distinct colours, shape masks, and random choices by address."""

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, UInt8

from feller.core.rng import Rng

COLOURS = {
    "red": (214, 38, 44),
    "orange": (246, 134, 32),
    "yellow": (252, 214, 52),
    "green": (44, 150, 62),
    "cyan": (84, 206, 226),
    "blue": (36, 72, 196),
    "purple": (130, 50, 172),
    "pink": (250, 142, 194),
    "white": (250, 250, 250),
    "gray": (122, 126, 132),
}
"""RGB of things and grounds, from 0 to 255."""
BLACK = (0, 0, 0)
"""Ground of maps."""
LIGHT = (255, 255, 255)
"""Lines of maps."""


def blank(side: int, colour: tuple[int, int, int]) -> UInt8[np.ndarray, "side side 3"]:
    """Return a uniform picture."""
    return np.full((side, side, 3), colour, dtype=np.uint8)


ShapeFn = Callable[[Float[np.ndarray, "d d"], Float[np.ndarray, "d d"]], Bool[np.ndarray, "d d"]]
"""(x to the right, y down, from -1 to 1) -> whether inside."""


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x**2 + y**2 <= 1


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(abs(x), abs(y)) <= 1


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return abs(x) <= (1 + y) / 2


def _diamond(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return abs(x) + abs(y) <= 1


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(abs(x), abs(y)) <= 0.28


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    radius = np.hypot(x, y)
    return (radius <= 1) & (radius >= 0.45)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    lobes = np.hypot(abs(x) - 0.48, y + 0.4) <= 0.55
    point = (y >= -0.4) & (abs(x) * 1.05 <= 1 - y)
    return lobes | (point & (abs(x) <= 1))


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x * np.sin(0.4 * np.pi), (1 + y) / 2 * (1 + np.cos(0.2 * np.pi)) - 1  # its five points touch the box
    angle = (np.arctan2(x, -y) + 0.2 * np.pi) % (0.4 * np.pi) - 0.2 * np.pi  # away from the nearest point
    radius, half_sector = np.hypot(x, y), 0.2 * np.pi
    along, across = radius * np.cos(angle), radius * abs(np.sin(angle))
    inner_radius, larger = 0.4, 1.2  # so that a star of five pixels still has arms
    return across * (1 - inner_radius * np.cos(half_sector)) <= (larger - along) * inner_radius * np.sin(half_sector)


SHAPES: dict[str, ShapeFn] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "diamond": _diamond,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
}


@functools.cache
def shape_mask(shape: str, size: int) -> Bool[np.ndarray, "size size"]:
    """Return the mask of a shape in its bounding box, by pixel centres."""
    middle = (2 * np.arange(size) + 1 - size) / size
    return SHAPES[shape](*np.meshgrid(middle, middle))


T = TypeVar("T")
MAX_CHOICES = 48
"""Largest number of choices per example."""


class Choices:
    """Random choices of one example; each uses the next of its uniform numbers."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers = iter(numbers)

    def uniform(self) -> float:
        """Return a uniform number from [0, 1)."""
        return next(self._numbers)

    def randint(self, high: int) -> int:
        """Return a random integer from 0 to high - 1."""
        return int(self.uniform() * high)

    def choose(self, options: Sequence[T]) -> T:
        """Return a uniformly random option."""
        return options[self.randint(len(options))]


def make_choices(n: int, purpose: str, rng: Rng) -> list[Choices]:
    """Return choices for n examples, which depend only on the index, the purpose and the seed."""
    return [Choices(row) for row in rng.stream(purpose).uniform((n, MAX_CHOICES)).double().tolist()]
