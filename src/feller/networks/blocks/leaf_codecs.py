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
from feller.networks.blocks.conditioning import fourier_features
from feller.spaces.rotations import hat

TIME_EPS = 0.03
"""Where data are thin, velocities are distances from them over 1 - t; the network sees entries over 1 - t + this."""
TWO_PI = 2 * math.pi


class LeafCodec(abc.ABC):
    """A kind of leaf. Implement four methods to add one."""

    @property
    def has_skip(self) -> bool:
        """Whether the leaf itself, scaled by a function of the times, is added to the answer."""
        return False

    @abc.abstractmethod
    def feature_dim(self, shape: tuple[int, ...]) -> int:
        """Return how many features a site has, from the shape of its row.

        Raises:
            UsageError: If the kind has no such rows.
        """

    @abc.abstractmethod
    def out_dim(self, shape: tuple[int, ...]) -> int:
        """Return how many numbers a site answers with."""

    @abc.abstractmethod
    def encode(self, x: Tensor, t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        """Return the features."""

    @abc.abstractmethod
    def decode(self, output: Float[Tensor, "b n answers"], x: Tensor) -> Tensor:
        """Return the answer in the shape that the path wants."""


@dataclass(frozen=True)
class TokenCodec(LeafCodec):
    """Whole numbers below `vocab_size`, and the mask if there is one; answers are logits, [b, n, ..., count]."""

    vocab_size: int
    has_mask: bool = True
    """The state may hold one more symbol, the mask."""

    def __post_init__(self) -> None:
        check_number("vocab_size", self.vocab_size, ge=1)

    def feature_dim(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * (self.vocab_size + self.has_mask)

    def out_dim(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * self.vocab_size

    def encode(self, x: Int[Tensor, "b n *d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        symbols = torch.arange(self.vocab_size + self.has_mask, device=x.device)
        return (x[..., None] == symbols).to(t.dtype).flatten(2)

    def decode(self, output: Float[Tensor, "b n answers"], x: Int[Tensor, "b n *d"]) -> Float[Tensor, "b n *d count"]:
        return output.unflatten(2, (*x.shape[2:], self.vocab_size))


class ContinuousCodec(LeafCodec):
    """A kind whose answers are velocities, or logits of candidate ends, [b, n, ..., ends]."""

    num_bins: int
    """Candidates; 0 for a velocity."""

    def out_dim(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * max(self.num_bins, 1)

    def decode(self, output: Float[Tensor, "b n answers"], x: Float[Tensor, "b n *d"]) -> Tensor:
        return output.unflatten(2, (*x.shape[2:], self.num_bins)) if self.num_bins else output.reshape(x.shape)


@dataclass(frozen=True)
class RealCodec(ContinuousCodec):
    """Real numbers; answers are velocities, or logits of candidate ends, [b, n, ..., ends]."""

    octaves: int = 3
    """Frequencies of each entry, from 1/4 cycle per unit up."""
    num_bins: int = 0  # pyrefly: ignore
    """Candidates; 0 for a velocity."""

    @property
    def has_skip(self) -> bool:
        return not self.num_bins

    def feature_dim(self, shape: tuple[int, ...]) -> int:
        """Return the entries as they are, in their frequencies, and over the time that is left."""
        return math.prod(shape) * (2 + 2 * self.octaves)

    def encode(self, x: Float[Tensor, "b n *d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        return _real_features(flatten_entries(x), t, self.octaves)


@dataclass(frozen=True)
class AngleCodec(ContinuousCodec):
    """Angles in radians, seen through their waves alone; answers as for `RealCodec`."""

    octaves: int = 4
    """Waves of each angle: its 1, 2, 4, ...-fold."""
    num_bins: int = 0  # pyrefly: ignore
    """Candidates; 0 for a velocity."""

    def feature_dim(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * 2 * self.octaves

    def encode(self, x: Float[Tensor, "b n *d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        return fourier_features(flatten_entries(x) * (4 / TWO_PI), self.octaves).flatten(
            2
        )  # whose slowest wave takes 4


@dataclass(frozen=True)
class RotationCodec(LeafCodec):
    """Rotation matrices; answers are velocities, from 3 numbers in the rotation's own frame."""

    octaves: int = 3
    """Frequencies of each entry."""

    def feature_dim(self, shape: tuple[int, ...]) -> int:
        if shape != (3, 3):
            raise UsageError("rotations, [n, 3, 3]", f"rows of shape {shape}")
        return 9 * (2 + 2 * self.octaves)

    def out_dim(self, shape: tuple[int, ...]) -> int:
        return 3

    def encode(self, x: Float[Tensor, "b n 3 3"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        return _real_features(flatten_entries(x), t, self.octaves)

    def decode(self, output: Float[Tensor, "b n 3"], x: Float[Tensor, "b n 3 3"]) -> Float[Tensor, "b n 3 3"]:
        return x @ hat(output)


def flatten_entries(x: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b n k"]:
    """Lay the entries of each site side by side."""
    return x.flatten(2) if x.ndim > 2 else x[:, :, None]


def _real_features(x: Float[Tensor, "b n k"], t: Float[Tensor, " b"], octaves: int) -> Float[Tensor, "b n features"]:
    late = x / append_dims(1 - t + TIME_EPS, x)
    return torch.cat([x, fourier_features(x, octaves).flatten(2), late], 2)


def site_mask(x: Shaped[Tensor, "b n *d"], mask: Tensor | None) -> Bool[Tensor, "b n"]:
    """Tell at which sites a leaf is real, from its marks, [b] or [b, n]; None for everywhere."""
    if mask is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return (mask if mask.ndim > 1 else mask[:, None]).expand(x.shape[:2])


def mask_out(x: Shaped[Tensor, "b n *d"], mask: Bool[Tensor, "b n"]) -> Shaped[Tensor, "b n *d"]:
    """Put zeros where a leaf is not real, whatever stands there."""
    return torch.where(append_dims(mask, x), x, 0)


def encode_all(
    codecs: dict[str, LeafCodec], x: State, t: State, masks: State, like: Tensor
) -> Float[Tensor, "b n features"]:
    """Put the features of leaves side by side, each with a mark of where it is real."""
    parts = []
    for name, leaf in codecs.items():
        encoded, mask = leaf.encode(x[name], t[name].to(like.dtype)).to(like.dtype), masks[name]
        parts += [mask_out(encoded, mask), mask[:, :, None].to(like.dtype)]
    return torch.cat(parts, 2)
