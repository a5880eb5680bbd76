"""Codecs without weights, which encode state components (leaves) as features, and decode outputs to predictions."""

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
"""Offset in the feature x / (1 - t + offset), which is used since velocities in sparse regions are proportional to x /
(1 - t)."""
TWO_PI = 2 * math.pi


class LeafCodec(abc.ABC):
    """Base class of codecs of one component (leaf) of a state, [b, n, ...], with entries at each of n sites.

    Sites are, for example, the atoms of a crystal or the residues of a protein.

    Subclasses implement `feature_dim`, `out_dim`, `encode` and `decode`.
    """

    @property
    def has_skip(self) -> bool:
        """True if the input state component itself, scaled by a function of time, is added to the network's output."""
        return False

    @abc.abstractmethod
    def feature_dim(self, shape: tuple[int, ...]) -> int:
        """Return the number of input features per site, given the shape of a site's entries.

        Raises:
            UsageError: If the codec does not support this shape.
        """

    @abc.abstractmethod
    def out_dim(self, shape: tuple[int, ...]) -> int:
        """Return the number of network outputs per site, given the shape of a site's entries."""

    @abc.abstractmethod
    def encode(self, x: Tensor, t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        """Return the network's input features for each site."""

    @abc.abstractmethod
    def decode(self, output: Float[Tensor, "b n answers"], x: Tensor) -> Tensor:
        """Convert the network's output for each site to the prediction of the state component."""


@dataclass(frozen=True)
class TokenCodec(LeafCodec):
    """Codec of tokens below `vocab_size` and an optional mask token; outputs are logits, [b, n, ..., vocab_size]."""

    vocab_size: int
    has_mask: bool = True
    """True if the state may contain a mask token."""

    def __post_init__(self) -> None:
        check_number("vocab_size", self.vocab_size, ge=1)

    def feature_dim(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * (self.vocab_size + self.has_mask)

    def out_dim(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * self.vocab_size

    def encode(self, x: Int[Tensor, "b n *d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        tokens = torch.arange(self.vocab_size + self.has_mask, device=x.device)
        return (x[..., None] == tokens).to(t.dtype).flatten(2)

    def decode(self, output: Float[Tensor, "b n answers"], x: Int[Tensor, "b n *d"]) -> Float[Tensor, "b n *d count"]:
        return output.unflatten(2, (*x.shape[2:], self.vocab_size))


class ContinuousCodec(LeafCodec):
    """Base class of codecs whose outputs are velocities, or logits of bins of the endpoint x_1, [b, n, ..., bins]."""

    num_bins: int
    """Number of bins of the endpoint x_1, for logits as outputs; 0 for velocities."""

    def out_dim(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * max(self.num_bins, 1)

    def decode(self, output: Float[Tensor, "b n answers"], x: Float[Tensor, "b n *d"]) -> Tensor:
        return output.unflatten(2, (*x.shape[2:], self.num_bins)) if self.num_bins else output.reshape(x.shape)


@dataclass(frozen=True)
class RealCodec(ContinuousCodec):
    """Codec of real numbers; outputs are velocities, or logits of bins of the endpoint x_1, [b, n, ..., bins]."""

    octaves: int = 3
    """Number of octaves of Fourier features of each entry, from 1/4 cycle per unit."""
    num_bins: int = 0  # pyrefly: ignore
    """Number of bins of the endpoint x_1, for logits as outputs; 0 for velocities."""

    @property
    def has_skip(self) -> bool:
        return not self.num_bins

    def feature_dim(self, shape: tuple[int, ...]) -> int:
        """Return the number of features per site: entries, their Fourier features, and entries divided by 1 - t."""
        return math.prod(shape) * (2 + 2 * self.octaves)

    def encode(self, x: Float[Tensor, "b n *d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        return _real_features(flatten_entries(x), t, self.octaves)


@dataclass(frozen=True)
class AngleCodec(ContinuousCodec):
    """Codec of angles in radians, which are encoded by Fourier features only; outputs are those of `RealCodec`."""

    octaves: int = 4
    """Number of frequencies of the Fourier features of each angle, which are 1, 2, 4, ..."""
    num_bins: int = 0  # pyrefly: ignore
    """Number of bins of the endpoint x_1, for logits as outputs; 0 for velocities."""

    def feature_dim(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * 2 * self.octaves

    def encode(self, x: Float[Tensor, "b n *d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        return fourier_features(flatten_entries(x) * (4 / TWO_PI), self.octaves).flatten(2)  # slowest wave: period 4


@dataclass(frozen=True)
class RotationCodec(LeafCodec):
    """Codec of rotation matrices; outputs are angular velocities, as rotation vectors in the body frame."""

    octaves: int = 3
    """Number of octaves of Fourier features of each entry."""

    def feature_dim(self, shape: tuple[int, ...]) -> int:
        if shape != (3, 3):
            raise UsageError("rotation matrices [n, 3, 3]", f"entries of shape {shape}")
        return 9 * (2 + 2 * self.octaves)

    def out_dim(self, shape: tuple[int, ...]) -> int:
        return 3

    def encode(self, x: Float[Tensor, "b n 3 3"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n features"]:
        return _real_features(flatten_entries(x), t, self.octaves)

    def decode(self, output: Float[Tensor, "b n 3"], x: Float[Tensor, "b n 3 3"]) -> Float[Tensor, "b n 3 3"]:
        return x @ hat(output)


def flatten_entries(x: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b n k"]:
    """Flatten the entries of a state component at each site into one axis."""
    return x.flatten(2) if x.ndim > 2 else x[:, :, None]


def _real_features(x: Float[Tensor, "b n k"], t: Float[Tensor, " b"], octaves: int) -> Float[Tensor, "b n features"]:
    scaled = x / append_dims(1 - t + TIME_EPS, x)
    return torch.cat([x, fourier_features(x, octaves).flatten(2), scaled], 2)


def site_mask(x: Shaped[Tensor, "b n *d"], mask: Tensor | None) -> Bool[Tensor, "b n"]:
    """Broadcast a validity mask, [b] or [b, n], to the n sites of a state component; None means that all are valid."""
    if mask is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return (mask if mask.ndim > 1 else mask[:, None]).expand(x.shape[:2])


def mask_out(x: Shaped[Tensor, "b n *d"], mask: Bool[Tensor, "b n"]) -> Shaped[Tensor, "b n *d"]:
    """Set the entries of a state component at invalid sites to zero, even if they are NaN."""
    return torch.where(append_dims(mask, x), x, 0)


def encode_all(
    codecs: dict[str, LeafCodec], x: State, t: State, masks: State, like: Tensor
) -> Float[Tensor, "b n features"]:
    """Return the concatenated features of all state components (leaves), zero at invalid sites, and each leaf's mask.

    Args:
        codecs: Codec of each leaf, by its name.
        x: State, a dict of leaves [b, n, ...].
        t: Times [b] of each leaf, by its name.
        masks: Mask [b, n] of each leaf, by its name; True for valid sites.
        like: Tensor whose dtype the features take.
    """
    features = []
    for name, leaf in codecs.items():
        encoded, mask = leaf.encode(x[name], t[name].to(like.dtype)).to(like.dtype), masks[name]
        features += [mask_out(encoded, mask), mask[:, :, None].to(like.dtype)]
    return torch.cat(features, 2)
