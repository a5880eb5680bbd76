"""Residual MLPs for states of any shape and for states with several components (leaves)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, append_dims, broadcast_time, submask
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning, fourier_features, modulate, zero_init
from feller.networks.blocks.leaf_codecs import LeafCodec, encode_all, site_mask
from feller.networks.network_config import NetworkConfig, seeded_init


@dataclass(frozen=True)
class MLP(NetworkConfig):
    """Residual MLP for states of any shape, which are flattened to vectors."""

    width: int = 256
    """Number of features per layer."""
    depth: int = 4
    """Number of residual blocks."""
    frequencies: int = 0
    """Number of octaves of Fourier features of the state, starting at 1/4 cycle per unit; use 3 or 4 for sharp
    densities in the plane."""
    period: float | None = None
    """Period of the entries if they are angles; the input then consists only of their Fourier features of order 1, 2,
    4, ..."""
    num_bins: int = 0
    """Number of bins of the endpoint x_1 per entry, for outputs that are logits of bins, [..., bins]; 0 for one real
    output per entry."""
    condition_width: int = 0
    """Number of features of the embedding of time and conditions; 0 for a quarter of `width`, which is too narrow for
    numbers and vectors as conditions."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 1 or min(self.frequencies, self.num_bins, self.condition_width) < 0:
            raise UsageError("width and depth of at least 1; frequencies, bins and condition_width of at least 0", self)
        if self.period is not None and (self.period <= 0 or not self.frequencies):
            raise UsageError("a positive period, with at least one frequency", self)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "ResidualMLP":
        with seeded_init(rng):
            return ResidualMLP(self, shape, conditions)


class ResidualMLP(nn.Module):
    """Residual MLP for states of any shape, configured by `MLP`."""

    def __init__(self, config: MLP, shape: tuple[int, ...], conditions: ConditionTypes) -> None:
        super().__init__()
        width, self.size, self.num_bins = config.width, math.prod(shape), config.num_bins
        self.frequencies, self.period = config.frequencies, config.period
        inner = config.condition_width or -(-width // 4)  # at full width, the time embedding costs as much as a block
        self.conditioning = Conditioning(conditions, inner)
        self.null_values, self.feature_dim = self.conditioning.null_values, width
        self.embed = nn.Linear(self.size * ((self.period is None) + 2 * self.frequencies), width)
        self.blocks = nn.ModuleList(ResidualMLPBlock(width, inner) for _ in range(config.depth))
        self.head = zero_init(nn.Linear(width, self.size * max(self.num_bins, 1)))

    def forward(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, " b *d_out"]:
        """Predict one value, or the logits of the bins of the endpoint x_1, for each entry of the state."""
        output = self.head(self.features(x_t, t, cond))
        return output.reshape(*x_t.shape, self.num_bins) if self.num_bins else output.reshape(x_t.shape)

    def features(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b width"]:
        """Return the feature vector of each example, the input of the output layer."""
        vector = self.conditioning(t, cond)
        h = self.embed(self._input_features(x_t.reshape(x_t.shape[0], self.size)))
        for block in self.blocks:
            h = block(h, vector)
        return F.silu(F.layer_norm(h, h.shape[1:]))

    def output_layers(self) -> Iterator[nn.Module]:
        """Yield the output layer."""
        yield self.head

    def _input_features(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b features"]:
        """Return the entries of the state and their Fourier features; for angles, the Fourier features only."""
        if not self.frequencies:
            return x
        if self.period is None:
            return torch.cat([x, fourier_features(x, self.frequencies).flatten(1)], 1)
        return fourier_features(x * (4 / self.period), self.frequencies).flatten(1)  # the slowest wave has period 4


class ResidualMLPBlock(nn.Module):
    """Residual block of two linear layers; a vector of size `inner`, if not 0, modulates the normalised features."""

    def __init__(self, width: int, inner: int = 0) -> None:
        super().__init__()
        self.modulation = nn.Linear(inner, 2 * width) if inner else None
        self.fc1 = nn.Linear(width, width)
        self.fc2 = zero_init(nn.Linear(width, width))

    def forward(
        self, h: Float[Tensor, "b width"], vector: Float[Tensor, "b inner"] | None = None
    ) -> Float[Tensor, "b width"]:
        y = F.layer_norm(h, h.shape[1:])
        if self.modulation is not None:
            y = modulate(y, *self.modulation(vector).chunk(2, 1))
        return h + self.fc2(F.silu(self.fc1(y)))


@dataclass(frozen=True)
class JointMLP(NetworkConfig):
    """Residual MLP on all parts (leaves) of a state, each with its own time; invalid leaves and entries are masked.

    It is meant for leaves whose entries have a fixed order, such as the pixels of small images. Use `SetTransformer`
    for exchangeable sites.
    """

    leaves: dict[str, LeafCodec]
    """Codec of each component (leaf) of the state, which encodes inputs and decodes outputs."""
    width: int = 256
    """Number of features per layer."""
    depth: int = 4
    """Number of residual blocks."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth) < 1:
            raise UsageError("width and depth of at least 1", self)

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "JointMLPNetwork":
        if not isinstance(shape, dict) or shape.keys() != self.leaves.keys():
            raise UsageError(f"JointMLP expects the leaves {', '.join(self.leaves)}", found=shape)
        with seeded_init(rng):
            return JointMLPNetwork(self, shape, conditions)


class JointMLPNetwork(nn.Module):
    """Residual MLP on all components of a state, configured by `JointMLP`."""

    def __init__(self, config: JointMLP, shapes: dict[str, tuple[int, ...]], conditions: ConditionTypes) -> None:
        super().__init__()
        self.leaves, width, inner = config.leaves, config.width, -(-config.width // 4)
        self.out_dims = {name: leaf.out_dim(shapes[name]) for name, leaf in self.leaves.items()}
        self.skip_dims = {name: math.prod(shapes[name]) for name, leaf in self.leaves.items() if leaf.has_skip}
        self.conditioning = Conditioning(conditions, inner, len(shapes))
        self.null_values = self.conditioning.null_values
        self.embed = nn.Linear(sum(leaf.feature_dim(shapes[name]) + 1 for name, leaf in self.leaves.items()), width)
        self.blocks = nn.ModuleList(ResidualMLPBlock(width, inner) for _ in range(config.depth))
        self.head = zero_init(nn.Linear(width, sum(self.out_dims.values())))
        self.skip = zero_init(nn.Linear(inner, len(self.skip_dims))) if self.skip_dims else None

    def forward(self, x_t: State, t: State, cond: Cond) -> State:
        """Predict the output for each component of the state."""
        t = broadcast_time(t, x_t)
        vector = self.conditioning(t, cond)
        valid = {name: submask(cond.get("valid"), name) for name in self.leaves}
        x = {name: _zero_invalid(x_t[name], mask)[:, None] for name, mask in valid.items()}  # one site per example
        masks = {
            name: site_mask(x[name], None if mask is None else mask.reshape(mask.shape[0], -1).any(1))
            for name, mask in valid.items()
        }
        h = self.embed(encode_all(self.leaves, x, t, masks, self.embed.weight)[:, 0])
        for block in self.blocks:
            h = block(h, vector)
        outputs = self.head(F.silu(F.layer_norm(h, h.shape[1:])))[:, None].split(list(self.out_dims.values()), 2)
        scales = () if self.skip is None else self.skip(vector).split(1, 1)
        skips = dict(zip(self.skip_dims, scales, strict=True))
        decoded = {}
        for (name, leaf), output in zip(self.leaves.items(), outputs, strict=True):
            decoded[name] = leaf.decode(output, x[name])[:, 0]
            if name in skips:
                decoded[name] = decoded[name] + append_dims(skips[name][:, 0], decoded[name]) * x[name][:, 0]
        return decoded


def _zero_invalid(x: Tensor, valid: Tensor | None) -> Tensor:
    return x if valid is None else torch.where(append_dims(valid, x), x, 0)
