"""Network of points in space: turning, mirroring or moving them turns, mirrors and leaves its velocities."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, broadcast_time, is_concrete, submask
from feller.core.rng import Rng
from feller.networks.blocks.conditioning import Conditioning, fourier_features, modulate, zero_init
from feller.networks.blocks.leaf_codecs import LeafCodec, encode_all, mask_out, site_mask
from feller.networks.blocks.relative_positions import size_feature
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.prediction_head import pool_sites
from feller.spaces.safe_math import safe_sqrt

DISTANCE_OCTAVES = 5
"""Frequencies of each distance, from 1/4 cycle per unit up."""
TYPICAL_NEIGHBORS = 5.0
"""Typical number of neighbours that matter, by which sums over all others are divided."""


@dataclass(frozen=True)
class EGNN(NetworkConfig):
    """Messages between all pairs of points, by their distances; both features and places move from block to block.

    The state is a dict: the places [b, n, 3], and leaves with a row per point, [b, n, ...]. Velocities of the places
    are seen from their middle, and move it nowhere: whoever trains must pair data with a source of the same middle, as
    the coupling `ForcedAlignment` does. Padding, where `valid` is False, changes nothing.

    Source: Satorras et al. 2021, "E(n) equivariant graph neural networks", arXiv 2102.09844.
    """

    leaves: dict[str, LeafCodec]
    """Kind of each leaf but the places."""
    position_leaf: str = "place"
    """Leaf of the places."""
    count_condition: str | None = None
    """Condition that says how many points there are, which the network reads off `valid` instead."""
    width: int = 128
    """Features of each point."""
    pair_width: int = 64
    """Features of each pair."""
    depth: int = 6
    """Blocks."""

    def __post_init__(self) -> None:
        if min(self.width, self.pair_width, self.depth) < 1:
            raise UsageError("width, pair and depth of 1 or more", self)
        if self.position_leaf in self.leaves:
            raise UsageError("the places have no other kind", remedy=f"Leave {self.position_leaf} out of the leaves")

    def build(self, shape: State, conditions: dict[str, int], rng: Rng) -> "EGNNNetwork":
        """Make a network with new weights, for places (n, 3) and leaves with as many rows."""
        shapes = shape if isinstance(shape, dict) else {}
        expected = {self.position_leaf, *self.leaves}
        if (
            shapes.keys() != expected
            or shapes[self.position_leaf][1:] != (3,)
            or len({part[:1] for part in shapes.values()}) > 1
        ):
            raise UsageError(f"EGNN expects {self.position_leaf} of shape (n, 3) and rows of {expected}", found=shape)
        with seeded_init(rng):
            return EGNNNetwork(self, shapes, conditions)


class _EncodedPoints(NamedTuple):
    """What the blocks make of a state."""

    x: State
    """Leaves but the places, zero at padding."""
    valid: Bool[Tensor, "b n"]
    vector: Float[Tensor, "b width"]
    h: Float[Tensor, "b n width"]
    start: Float[Tensor, "b n 3"]
    """Where the points are, from their middle."""
    y: Float[Tensor, "b n 3"]
    """Where they have moved to."""


class EGNNNetwork(nn.Module):
    """The network of `EGNN`."""

    def __init__(self, config: EGNN, shapes: dict[str, tuple[int, ...]], conditions: dict[str, int]) -> None:
        super().__init__()
        width, self.config = config.width, config
        self.out_dims = {name: leaf.out_dim(shapes[name][1:]) for name, leaf in config.leaves.items()}
        size = sum(leaf.feature_dim(shapes[name][1:]) + 1 for name, leaf in config.leaves.items())
        conditions = {k: v for k, v in conditions.items() if k != config.count_condition}
        self.conditioning = Conditioning(conditions, width, len(shapes))
        self.null_values, self.feature_dim = self.conditioning.null_values, 2 * width
        self.embed = nn.Linear(size + 1, width)
        self.blocks = nn.ModuleList(EGNNLayer(config) for _ in range(config.depth))
        self.modulation = zero_init(nn.Linear(width, 2 * width))
        self.head = zero_init(nn.Linear(width, sum(self.out_dims.values())))
        self.skip = zero_init(nn.Linear(width, 1))

    def forward(self, x_t: State, t: State, cond: Cond) -> State:
        """Answer with velocities of the places, and what each leaf says."""
        config, encoded = self.config, self._encode(x_t, t, cond)
        velocity = center(encoded.y - encoded.start, encoded.valid) + self.skip(encoded.vector)[:, None] * encoded.start
        outputs = (self.head(encoded.h) * encoded.valid[:, :, None]).split(list(self.out_dims.values()), 2)
        decoded = {
            n: leaf.decode(part, encoded.x[n]) for (n, leaf), part in zip(config.leaves.items(), outputs, strict=True)
        }
        return {name: velocity if name == config.position_leaf else decoded[name] for name in x_t}

    def features(self, x_t: State, t: State, cond: Cond) -> Float[Tensor, "b seen"]:
        """Return what can be said of each example as a whole: the features of its points, pooled."""
        encoded = self._encode(x_t, t, cond)
        return pool_sites(encoded.h, encoded.valid)

    def output_layers(self) -> Iterator[nn.Module]:
        """Yield the layers that answer, and the last one that moves points."""
        yield self.head
        yield self.skip
        for block in self.blocks[-1:]:
            yield block.get_submodule("coord_head")

    def _encode(self, x_t: State, t: State, cond: Cond) -> "_EncodedPoints":
        config, t = self.config, broadcast_time(t, x_t)
        masks = {name: site_mask(leaf, submask(cond.get("valid"), name)) for name, leaf in x_t.items()}
        x = {name: mask_out(x_t[name], masks[name]) for name in config.leaves}
        valid = masks[config.position_leaf]
        vector = self.conditioning(t, {k: v for k, v in cond.items() if k != config.count_condition})
        features = encode_all(config.leaves, x, t, masks, self.embed.weight)
        h = self.embed(torch.cat([features, size_feature(valid, features)], 2))
        pairs = EdgeList.from_mask(valid)
        y = start = center(x_t[config.position_leaf], valid).to(h.dtype)
        for block in self.blocks:
            h, y = block(h, y, start, vector, pairs)
        scale, shift = self.modulation(vector)[:, None].chunk(2, 2)
        return _EncodedPoints(x, valid, vector, modulate(F.layer_norm(h, h.shape[2:]), scale, shift), start, y)


def center(x: Float[Tensor, "b n 3"], valid: Bool[Tensor, "b n"]) -> Float[Tensor, "b n 3"]:
    """Move the middle of each example's points to the origin; padding stays there."""
    middle = mask_out(x, valid).sum(1, keepdim=True) / valid.sum(1).clamp(min=1)[:, None, None]
    return mask_out(x - middle, valid)


@dataclass(frozen=True, eq=False)
class EdgeList:
    """All ordered pairs of different points of an example, as a list: padding has none, so that it costs nothing."""

    receivers: Int[Tensor, " pairs"]
    """Number of the point that hears, among all b n."""
    senders: Int[Tensor, " pairs"]
    """Number of the point that speaks."""
    weight: Float[Tensor, "pairs 1"] | None
    """Zero for pairs that are none, where they cannot be left out; None otherwise."""

    @classmethod
    def from_mask(cls, valid: Bool[Tensor, "b n"]) -> "EdgeList":
        """List the pairs, or where values cannot be looked at all pairs there might be."""
        b, n = valid.shape
        real = valid[:, :, None] & valid[:, None] & ~torch.eye(n, dtype=torch.bool, device=valid.device)
        known = is_concrete(valid)
        which, i, j = real.nonzero(as_tuple=True) if known else _all(b, n, valid.device)
        return cls(which * n + i, which * n + j, None if known else real.flatten()[:, None].float())


def _all(b: int, n: int, device: torch.device) -> tuple[Tensor, ...]:
    counts = (torch.arange(k, device=device) for k in (b, n, n))
    return tuple(part.flatten() for part in torch.meshgrid(*counts, indexing="ij"))


class EGNNLayer(nn.Module):
    """Messages between points, then new features and new places of each."""

    def __init__(self, config: EGNN) -> None:
        super().__init__()
        width, pair = config.width, config.pair_width
        self.modulation = zero_init(nn.Linear(width, 3 * width))
        self.receiver, self.sender = nn.Linear(width, pair), nn.Linear(width, pair, bias=False)
        self.distance_embed = nn.Linear(2 * (2 * DISTANCE_OCTAVES + 1), pair, bias=False)
        self.message = nn.Linear(pair, pair)
        self.gate = nn.Linear(pair, 1)
        self.coord_head = zero_init(nn.Linear(pair, 1, bias=False))
        self.fc1 = nn.Linear(width + pair, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(
        self,
        h: Float[Tensor, "b n width"],
        y: Float[Tensor, "b n 3"],
        start: Float[Tensor, "b n 3"],
        vector: Float[Tensor, "b width"],
        pairs: EdgeList,
    ) -> tuple[Float[Tensor, "b n width"], Float[Tensor, "b n 3"]]:
        """Return the next features and places; `start` is where the points are."""
        scale, shift, gate = self.modulation(vector)[:, None].chunk(3, 2)
        z = modulate(F.layer_norm(h, h.shape[2:]), scale, shift)
        displacement, distance = _displacement(y, pairs)
        _, before = _displacement(start, pairs)
        distance_features = torch.cat([_waves(distance), _waves(before)], 1)
        hear, speak = self.receiver(z).flatten(0, 1), self.sender(z).flatten(0, 1)
        m = F.silu(
            self.message(
                F.silu(
                    hear.index_select(0, pairs.receivers)
                    + speak.index_select(0, pairs.senders)
                    + self.distance_embed(distance_features)
                )
            )
        )
        m = m * torch.sigmoid(self.gate(m))
        if pairs.weight is not None:
            m = m * pairs.weight.to(m.dtype)
        aggregated = torch.zeros_like(hear).index_add(0, pairs.receivers, m) / TYPICAL_NEIGHBORS
        moved = (
            torch.zeros_like(y)
            .flatten(0, 1)
            .index_add(0, pairs.receivers, displacement / (1 + distance) * self.coord_head(m))
            / TYPICAL_NEIGHBORS
        )
        new = self.fc2(F.silu(self.fc1(torch.cat([z, aggregated.view(*z.shape[:2], -1)], 2))))
        return h + (1 + gate) * new, y + moved.view(y.shape)


def _displacement(
    y: Float[Tensor, "b n 3"], pairs: EdgeList
) -> tuple[Float[Tensor, "pairs 3"], Float[Tensor, "pairs 1"]]:
    """Return the ways between points and their lengths."""
    y = y.flatten(0, 1)
    displacement = y.index_select(0, pairs.receivers) - y.index_select(0, pairs.senders)
    return displacement, safe_sqrt(displacement.square().sum(1, keepdim=True))


def _waves(distance: Float[Tensor, "pairs 1"]) -> Float[Tensor, "pairs features"]:
    return torch.cat([distance, fourier_features(distance, DISTANCE_OCTAVES).flatten(1)], 1)
