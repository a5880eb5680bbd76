"""How a network sees a leaf of the state, and what it answers about it.

Each kind turns a leaf with one row per site, [b, n, ...], into features of the sites, and numbers per site into the
answer that a path wants: no weights, so that any network of sites can use it.
"""

import abc
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import State, append_dims
from feller.networks.blocks.conditioning import fourier
from feller.spaces.rotations import hat

SOONEST = 0.03
"""Where data are thin, velocities are distances from them over 1 - t; the network sees entries over 1 - t + this."""
TURN = 2 * math.pi


class Leaf(abc.ABC):
    """A kind of leaf. Implement four methods to add one."""

    @property
    def skips(self) -> bool:
        """Whether the leaf itself, scaled by a function of the times, is added to the answer."""
        return False

    @abc.abstractmethod
    def features(self, shape: tuple[int, ...]) -> int:
        """Return how many features a site has, from the shape of its row.

        Raises:
            UsageError: If the kind has no such rows.
        """

    @abc.abstractmethod
    def answers(self, shape: tuple[int, ...]) -> int:
        """Return how many numbers a site answers with."""

    @abc.abstractmethod
    def see(self, x: Tensor, t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        """Return the features."""

    @abc.abstractmethod
    def say(self, answer: Float[Tensor, "b n answers"], x: Tensor) -> Tensor:
        """Return the answer in the shape that the path wants."""


@dataclass(frozen=True)
class Symbols(Leaf):
    """Whole numbers below `count`, and the mask if there is one; answers are logits, [b, n, ..., count]."""

    count: int
    masked: bool = True
    """The state may hold one more symbol, the mask."""

    def __post_init__(self) -> None:
        check_number("count", self.count, ge=1)

    def features(self, shape: tuple[int, ...]) -> int:
        """Return one for each symbol."""
        return math.prod(shape) * (self.count + self.masked)

    def answers(self, shape: tuple[int, ...]) -> int:
        """Return one for each symbol of the data."""
        return math.prod(shape) * self.count

    def see(self, x: Int[Tensor, "b n *d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        """Mark the symbol."""
        symbols = torch.arange(self.count + self.masked, device=x.device)
        return (x[..., None] == symbols).to(t.dtype).flatten(2)

    def say(self, answer: Float[Tensor, "b n answers"], x: Int[Tensor, "b n *d"]) -> Float[Tensor, "b n *d count"]:
        """Return logits."""
        return answer.unflatten(2, (*x.shape[2:], self.count))


class Continuous(Leaf):
    """A kind whose answers are velocities, or logits of candidate ends, [b, n, ..., ends]."""

    ends: int
    """Candidates; 0 for a velocity."""

    def answers(self, shape: tuple[int, ...]) -> int:
        """Return one for each entry or candidate."""
        return math.prod(shape) * max(self.ends, 1)

    def say(self, answer: Float[Tensor, "b n answers"], x: Float[Tensor, "b n *d"]) -> Tensor:
        """Return a number for each entry, or its logits."""
        return answer.unflatten(2, (*x.shape[2:], self.ends)) if self.ends else answer.reshape(x.shape)


@dataclass(frozen=True)
class Numbers(Continuous):
    """Real numbers; answers are velocities, or logits of candidate ends, [b, n, ..., ends]."""

    octaves: int = 3
    """Frequencies of each entry, from 1/4 cycle per unit up."""
    ends: int = 0  # pyrefly: ignore
    """Candidates; 0 for a velocity."""

    @property
    def skips(self) -> bool:
        """A velocity is mostly a scaled state."""
        return not self.ends

    def features(self, shape: tuple[int, ...]) -> int:
        """Return the entries as they are, in their frequencies, and over the time that is left."""
        return math.prod(shape) * (2 + 2 * self.octaves)

    def see(self, x: Float[Tensor, "b n *d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        """Return the features."""
        return _numbers(rows(x), t, self.octaves)


@dataclass(frozen=True)
class Angles(Continuous):
    """Angles in radians, seen through their waves alone; answers as for `Numbers`."""

    octaves: int = 4
    """Waves of each angle: its 1, 2, 4, ...-fold."""
    ends: int = 0  # pyrefly: ignore
    """Candidates; 0 for a velocity."""

    def features(self, shape: tuple[int, ...]) -> int:
        """Return two for each wave."""
        return math.prod(shape) * 2 * self.octaves

    def see(self, x: Float[Tensor, "b n *d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        """Return sines and cosines."""
        return fourier(rows(x) * (4 / TURN), self.octaves).flatten(2)  # whose slowest wave takes 4


@dataclass(frozen=True)
class Rotations(Leaf):
    """Rotation matrices; answers are velocities, from 3 numbers in the rotation's own frame."""

    octaves: int = 3
    """Frequencies of each entry."""

    def features(self, shape: tuple[int, ...]) -> int:
        """Return those of nine numbers."""
        if shape != (3, 3):
            raise UsageError("rotations, [n, 3, 3]", f"rows of shape {shape}")
        return 9 * (2 + 2 * self.octaves)

    def answers(self, shape: tuple[int, ...]) -> int:
        """Return three."""
        return 3

    def see(self, x: Float[Tensor, "b n 3 3"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        """Return the features of the entries."""
        return _numbers(rows(x), t, self.octaves)

    def say(self, answer: Float[Tensor, "b n 3"], x: Float[Tensor, "b n 3 3"]) -> Float[Tensor, "b n 3 3"]:
        """Turn in the own frame."""
        return x @ hat(answer)


def rows(x: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b n k"]:
    """Lay the entries of each site side by side."""
    return x.flatten(2) if x.ndim > 2 else x[:, :, None]


def _numbers(x: Float[Tensor, "b n k"], t: Float[Tensor, " b"], octaves: int) -> Float[Tensor, "b n features"]:
    late = x / append_dims(1 - t + SOONEST, x)
    return torch.cat([x, fourier(x, octaves).flatten(2), late], 2)


def sites_of(x: Shaped[Tensor, "b n *d"], marks: Tensor | None) -> Bool[Tensor, "b n"]:
    """Tell at which sites a leaf is real, from its marks, [b] or [b, n]; None for everywhere."""
    if marks is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return (marks if marks.ndim > 1 else marks[:, None]).expand(x.shape[:2])


def blanked(x: Shaped[Tensor, "b n *d"], there: Bool[Tensor, "b n"]) -> Shaped[Tensor, "b n *d"]:
    """Put zeros where a leaf is not real, whatever stands there."""
    return torch.where(append_dims(there, x), x, 0)


def see_all(leaves: dict[str, Leaf], x: State, t: State, there: State, like: Tensor) -> Float[Tensor, "b n features"]:
    """Put the features of leaves side by side, each with a mark of where it is real."""
    parts = []
    for name, leaf in leaves.items():
        seen, mark = leaf.see(x[name], t[name].to(like.dtype)).to(like.dtype), there[name]
        parts += [blanked(seen, mark), mark[:, :, None].to(like.dtype)]
    return torch.cat(parts, 2)
