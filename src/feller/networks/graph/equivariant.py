"""E(n)-equivariant graph network on point clouds."""

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
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning, fourier_features, modulate, zero_init
from feller.networks.blocks.leaf_codecs import LeafCodec, encode_all, mask_out, site_mask
from feller.networks.blocks.relative_positions import size_feature
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.prediction_head import pool_sites
from feller.spaces.safe_math import safe_sqrt

DISTANCE_OCTAVES = 5
"""Number of octaves of the Fourier features of each distance, starting at 1/4 cycle per unit."""
TYPICAL_NEIGHBORS = 5.0
"""Typical number of relevant neighbours of a point; sums over neighbours are divided by this number."""


@dataclass(frozen=True)
class EGNN(NetworkConfig):
    """E(n)-equivariant graph network on all pairs of points, whose blocks update features and positions.

    The state is a dict of positions [b, n, 3] and other components (leaves) [b, n, ...]. Velocities of the positions
    are translation invariant and have zero mean over the points, so training must couple each example with a source
    sample that has the same centre, as `EquivariantOT` does. Padding, where `valid` is False, is masked.

    Source: Satorras et al. 2021, "E(n) equivariant graph neural networks", arXiv 2102.09844.
    """

    leaves: dict[str, LeafCodec]
    """Codec of each component (leaf) of the state except the positions; it encodes inputs and decodes outputs."""
    position_leaf: str = "place"
    """Name of the state component (leaf) that holds the positions."""
    count_condition: str | None = None
    """Name of the condition that gives the number of points. The network does not embed this condition, but counts the
    True entries of the mask `valid`."""
    width: int = 128
    """Number of features per point."""
    pair_width: int = 64
    """Number of features per pair of points."""
    depth: int = 6
    """Number of blocks."""

    def __post_init__(self) -> None:
        if min(self.width, self.pair_width, self.depth) < 1:
            raise UsageError("width, pair_width and depth of at least 1", self)
        if self.position_leaf in self.leaves:
            raise UsageError(
                f"the positions, {self.position_leaf}, are processed without an encoder of their own",
                remedy=f"Remove {self.position_leaf} from `leaves`",
            )

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "EGNNNetwork":
        """Return a new network for positions of shape (n, 3) and other state components with n rows."""
        shapes = shape if isinstance(shape, dict) else {}
        expected = {self.position_leaf, *self.leaves}
        if (
            shapes.keys() != expected
            or shapes[self.position_leaf][1:] != (3,)
            or len({leaf_shape[:1] for leaf_shape in shapes.values()}) > 1
        ):
            raise UsageError(f"EGNN expects {self.position_leaf} of shape (n, 3) and rows of {expected}", found=shape)
        with seeded_init(rng):
            return EGNNNetwork(self, shapes, conditions)


class _EncodedPoints(NamedTuple):
    """Result of `EGNNNetwork._encode`: inputs of the network, and point features after its last block."""

    x: State
    """Leaves except the positions, zero at padding."""
    valid: Bool[Tensor, "b n"]
    vector: Float[Tensor, "b width"]
    """Embedding of time and conditions."""
    h: Float[Tensor, "b n width"]
    """Point features after the last block."""
    start: Float[Tensor, "b n 3"]
    """Centred positions of the input."""
    y: Float[Tensor, "b n 3"]
    """Positions after the last block."""


class EGNNNetwork(nn.Module):
    """E(n)-equivariant graph network on point clouds, configured by `EGNN`."""

    def __init__(self, config: EGNN, shapes: dict[str, tuple[int, ...]], conditions: ConditionTypes) -> None:
        super().__init__()
        width, self.config = config.width, config
        self.out_dims = {name: leaf.out_dim(shapes[name][1:]) for name, leaf in config.leaves.items()}
        in_dim = sum(leaf.feature_dim(shapes[name][1:]) + 1 for name, leaf in config.leaves.items())
        conditions = {k: v for k, v in conditions.items() if k != config.count_condition}
        self.conditioning = Conditioning(conditions, width, len(shapes))
        self.null_values, self.feature_dim = self.conditioning.null_values, 2 * width
        self.embed = nn.Linear(in_dim + 1, width)
        self.blocks = nn.ModuleList(EGNNLayer(config) for _ in range(config.depth))
        self.modulation = zero_init(nn.Linear(width, 2 * width))
        self.head = zero_init(nn.Linear(width, sum(self.out_dims.values())))
        self.skip = zero_init(nn.Linear(width, 1))

    def forward(self, x_t: State, t: State, cond: Cond) -> State:
        """Return the velocities of the positions, and the output for each other component of the state."""
        config, encoded = self.config, self._encode(x_t, t, cond)
        velocity = center(encoded.y - encoded.start, encoded.valid) + self.skip(encoded.vector)[:, None] * encoded.start
        outputs = (self.head(encoded.h) * encoded.valid[:, :, None]).split(list(self.out_dims.values()), 2)
        decoded = {
            n: leaf.decode(output, encoded.x[n])
            for (n, leaf), output in zip(config.leaves.items(), outputs, strict=True)
        }
        return {name: velocity if name == config.position_leaf else decoded[name] for name in x_t}

    def features(self, x_t: State, t: State, cond: Cond) -> Float[Tensor, "b seen"]:
        """Return a feature vector of each example, pooled over its points."""
        encoded = self._encode(x_t, t, cond)
        return pool_sites(encoded.h, encoded.valid)

    def output_layers(self) -> Iterator[nn.Module]:
        """Yield the output layers, which include the last update of the positions."""
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
    """Subtract each example's centroid from its points; padding is set to zero."""
    centroid = mask_out(x, valid).sum(1, keepdim=True) / valid.sum(1).clamp(min=1)[:, None, None]
    return mask_out(x - centroid, valid)


@dataclass(frozen=True, eq=False)
class EdgeList:
    """Edge list of the ordered pairs of distinct valid points in each example."""

    receivers: Int[Tensor, " pairs"]
    """Index of each edge's receiving point among all b n points."""
    senders: Int[Tensor, " pairs"]
    """Index of each edge's sending point among all b n points."""
    weight: Float[Tensor, "pairs 1"] | None
    """Mask of the valid pairs if invalid pairs cannot be removed, as in vmap or torch.compile; None otherwise."""

    @classmethod
    def from_mask(cls, valid: Bool[Tensor, "b n"]) -> "EdgeList":
        """Return the edges between valid points.

        In vmap or torch.compile, the values of `valid` cannot be read. The edges are then those between all points, and
        `weight` marks the edges between valid points.
        """
        b, n = valid.shape
        pair_mask = valid[:, :, None] & valid[:, None] & ~torch.eye(n, dtype=torch.bool, device=valid.device)
        is_readable = is_concrete(valid)
        example, i, j = pair_mask.nonzero(as_tuple=True) if is_readable else _all(b, n, valid.device)
        return cls(example * n + i, example * n + j, None if is_readable else pair_mask.flatten()[:, None].float())


def _all(b: int, n: int, device: torch.device) -> tuple[Tensor, ...]:
    ranges = (torch.arange(k, device=device) for k in (b, n, n))
    return tuple(index.flatten() for index in torch.meshgrid(*ranges, indexing="ij"))


class EGNNLayer(nn.Module):
    """Layer of an EGNN: message passing between points, then updates of features and positions."""

    def __init__(self, config: EGNN) -> None:
        super().__init__()
        width, pair_width = config.width, config.pair_width
        self.modulation = zero_init(nn.Linear(width, 3 * width))
        self.receiver, self.sender = nn.Linear(width, pair_width), nn.Linear(width, pair_width, bias=False)
        self.distance_embed = nn.Linear(2 * (2 * DISTANCE_OCTAVES + 1), pair_width, bias=False)
        self.message = nn.Linear(pair_width, pair_width)
        self.gate = nn.Linear(pair_width, 1)
        self.coord_head = zero_init(nn.Linear(pair_width, 1, bias=False))
        self.fc1 = nn.Linear(width + pair_width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(
        self,
        h: Float[Tensor, "b n width"],
        y: Float[Tensor, "b n 3"],
        start: Float[Tensor, "b n 3"],
        vector: Float[Tensor, "b width"],
        pairs: EdgeList,
    ) -> tuple[Float[Tensor, "b n width"], Float[Tensor, "b n 3"]]:
        """Return the updated features and positions of the points."""
        scale, shift, gate = self.modulation(vector)[:, None].chunk(3, 2)
        z = modulate(F.layer_norm(h, h.shape[2:]), scale, shift)
        displacement, distance = _displacement(y, pairs)
        _, start_distance = _displacement(start, pairs)
        distance_features = torch.cat([_waves(distance), _waves(start_distance)], 1)
        receiver_h, sender_h = self.receiver(z).flatten(0, 1), self.sender(z).flatten(0, 1)
        m = F.silu(
            self.message(
                F.silu(
                    receiver_h.index_select(0, pairs.receivers)
                    + sender_h.index_select(0, pairs.senders)
                    + self.distance_embed(distance_features)
                )
            )
        )
        m = m * torch.sigmoid(self.gate(m))
        if pairs.weight is not None:
            m = m * pairs.weight.to(m.dtype)
        aggregated = torch.zeros_like(receiver_h).index_add(0, pairs.receivers, m) / TYPICAL_NEIGHBORS
        # eq. 4 of arXiv 2102.09844: y_i + sum_j (y_i - y_j) / (1 + |y_i - y_j|) phi(m_ij)
        coord_update = (
            torch.zeros_like(y)
            .flatten(0, 1)
            .index_add(0, pairs.receivers, displacement / (1 + distance) * self.coord_head(m))
            / TYPICAL_NEIGHBORS
        )
        h_update = self.fc2(F.silu(self.fc1(torch.cat([z, aggregated.view(*z.shape[:2], -1)], 2))))
        return h + (1 + gate) * h_update, y + coord_update.view(y.shape)


def _displacement(
    y: Float[Tensor, "b n 3"], pairs: EdgeList
) -> tuple[Float[Tensor, "pairs 3"], Float[Tensor, "pairs 1"]]:
    """Return the displacement vectors of pairs and their norms."""
    y = y.flatten(0, 1)
    displacement = y.index_select(0, pairs.receivers) - y.index_select(0, pairs.senders)
    return displacement, safe_sqrt(displacement.square().sum(1, keepdim=True))


def _waves(distance: Float[Tensor, "pairs 1"]) -> Float[Tensor, "pairs features"]:
    return torch.cat([distance, fourier_features(distance, DISTANCE_OCTAVES).flatten(1)], 1)
