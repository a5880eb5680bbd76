"""Transformer over sites with several quantities each, such as the atoms of a crystal or the residues of a chain."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, broadcast_time, submask
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning, modulate, zero_init
from feller.networks.blocks.leaf_codecs import (
    TWO_PI,
    AngleCodec,
    LeafCodec,
    encode_all,
    flatten_entries,
    mask_out,
    site_mask,
)
from feller.networks.blocks.relative_positions import (
    CHAIN_END_FEATURES,
    PairBias,
    RelativeBias,
    chain_end_features,
    size_feature,
)
from feller.networks.image.dit import DiTBlock
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.prediction_head import pool_sites


@dataclass(frozen=True)
class SetTransformer(NetworkConfig):
    """Transformer over the sites of a state with several components (leaves), each with its own codec and time.

    Most leaves have one row per site, [b, n, ...]; leaves in `global_leaves` have one row per example, [b, ...].
    Padding and missing leaves are masked. The network is permutation equivariant unless `max_distance` is set for sites
    in a chain.
    """

    leaves: dict[str, LeafCodec]
    """Codec of each component (leaf) of the state, which encodes inputs and decodes outputs."""
    global_leaves: tuple[str, ...] = ()
    """Names of the state components (leaves) that have one value per example instead of per site, such as a lattice."""
    pair_leaf: str | None = None
    """Name of the state component (leaf) whose differences between sites give an attention bias."""
    max_distance: int = 0
    """Maximum relative position in a chain, to which larger relative positions are clipped; 0 for an unordered set."""
    count_condition: str | None = None
    """Name of the condition that gives the number of sites. The network does not embed this condition, but counts the
    True entries of the mask `valid`, which generalises better than an embedding of each number."""
    width: int = 128
    """Number of features per site."""
    depth: int = 6
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads) < 1 or self.max_distance < 0:
            raise UsageError("width, depth and heads of at least 1, and max_distance of at least 0", self)
        if self.width % self.heads:
            raise UsageError(f"a width divisible by the number of heads, {self.heads}", self.width)
        referenced = {*self.global_leaves, *([self.pair_leaf] if self.pair_leaf else [])}
        if (
            not referenced <= self.leaves.keys()
            or len(self.global_leaves) >= len(self.leaves)
            or self.pair_leaf in self.global_leaves
        ):
            raise UsageError(
                expected="different components of the state in `global_leaves` and `pair_leaf`, out of"
                f" {', '.join(self.leaves)}",
                found=f"global_leaves={self.global_leaves} and pair_leaf={self.pair_leaf}",
                remedy="Leave at least one component, with one entry per element of the set, out of `global_leaves`",
            )

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "SetTransformerNetwork":
        """Return a new network for a dict of state components with the same number of sites."""
        shapes = shape if isinstance(shape, dict) else {}
        site_counts = {shapes[name][:1] for name in shapes.keys() - {*self.global_leaves}}
        if shapes.keys() != self.leaves.keys() or len(site_counts) != 1 or () in site_counts:
            raise UsageError(
                f"SetTransformer expects leaves {', '.join(self.leaves)} with the same number of sites", found=shape
            )
        with seeded_init(rng):
            return SetTransformerNetwork(self, shapes, conditions)


class SetTransformerNetwork(nn.Module):
    """Transformer over the sites of a state with several components, configured by `SetTransformer`."""

    def __init__(self, config: SetTransformer, shapes: dict[str, tuple[int, ...]], conditions: ConditionTypes) -> None:
        super().__init__()
        width, self.config = config.width, config
        self.site_leaves = tuple(name for name in config.leaves if name not in config.global_leaves)
        site_shapes = {name: shape[name in self.site_leaves :] for name, shape in shapes.items()}
        self.out_dims = {name: leaf.out_dim(site_shapes[name]) for name, leaf in config.leaves.items()}
        self.skip_dims = {name: math.prod(site_shapes[name]) for name, leaf in config.leaves.items() if leaf.has_skip}

        def features(names: tuple[str, ...]) -> int:
            return sum(config.leaves[name].feature_dim(site_shapes[name]) + 1 for name in names)

        self.conditioning = Conditioning(
            {k: v for k, v in conditions.items() if k != config.count_condition}, width, len(config.leaves)
        )
        self.null_values, self.feature_dim = self.conditioning.null_values, 2 * width
        self.embed = nn.Linear(features(self.site_leaves) + (CHAIN_END_FEATURES if config.max_distance else 1), width)
        if config.global_leaves:
            self.embed_global = nn.Sequential(
                nn.Linear(features(config.global_leaves), width), nn.SiLU(), nn.Linear(width, width)
            )
            self.head_global = zero_init(nn.Linear(width, sum(self.out_dims[name] for name in config.global_leaves)))
        if config.max_distance:
            self.relative_bias = RelativeBias(config.heads, config.max_distance)
        if config.pair_leaf:
            period = TWO_PI if isinstance(config.leaves[config.pair_leaf], AngleCodec) else None
            self.pair_bias = PairBias(config.heads, math.prod(site_shapes[config.pair_leaf]), period)
        seen = 3 if config.max_distance else 1
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads, seen=seen, hidden=2) for _ in range(config.depth))
        self.modulation = zero_init(nn.Linear(width, 2 * width))
        self.head = zero_init(nn.Linear(width, sum(self.out_dims[name] for name in self.site_leaves)))
        self.skip = zero_init(nn.Linear(width, sum(self.skip_dims.values()))) if self.skip_dims else None

    def forward(self, x_t: State, t: State, cond: Cond) -> State:
        """Predict the output for each component of the state."""
        config, (x, valid, vector, h) = self.config, self._encode(x_t, t, cond)
        outputs = self._split(self.site_leaves, self.head(h) * valid[:, :, None])
        if config.global_leaves:
            mean = h.sum(1) / valid.sum(1, keepdim=True).clamp(min=1)
            outputs |= self._split(config.global_leaves, self.head_global(F.silu(mean + vector))[:, None])
        return self._decode(outputs, x, vector)

    def features(self, x_t: State, t: State, cond: Cond) -> Float[Tensor, "b seen"]:
        """Return a feature vector of each example, pooled over its sites."""
        _, valid, _, h = self._encode(x_t, t, cond)
        return pool_sites(h, valid)

    def output_layers(self) -> Iterator[nn.Module]:
        """Yield the output layers."""
        yield self.head
        if self.skip is not None:
            yield self.skip
        if self.config.global_leaves:
            yield self.head_global

    def _encode(self, x_t: State, t: State, cond: Cond) -> tuple[State, Tensor, Tensor, Tensor]:
        """Return leaves, mask of valid sites [b, n], conditioning vector [b, width] and site features [b, n, width]."""
        config, t = self.config, broadcast_time(t, x_t)
        x = {name: x_t[name] if name in self.site_leaves else x_t[name][:, None] for name in config.leaves}
        valid_masks = cond.get("valid")
        masks = {
            name: site_mask(
                x[name],
                submask(valid_masks, name) if name in self.site_leaves or isinstance(valid_masks, dict) else None,
            )
            for name in x
        }
        x = {name: mask_out(leaf, masks[name]) for name, leaf in x.items()}
        valid = functools.reduce(torch.logical_or, (masks[name] for name in self.site_leaves))
        cond = {name: value for name, value in cond.items() if name != config.count_condition}
        vector, like = self.conditioning(t, cond), self.embed.weight
        if config.global_leaves:
            vector = vector + self.embed_global(encode_all(self._kinds(config.global_leaves), x, t, masks, like))[:, 0]
        encoded = encode_all(self._kinds(self.site_leaves), x, t, masks, like)
        h = self.embed(
            torch.cat(
                [encoded, chain_end_features(valid, encoded) if config.max_distance else size_feature(valid, encoded)],
                2,
            )
        )
        attend = functools.partial(F.scaled_dot_product_attention, attn_mask=self._bias(x, valid, h))

        def see(y: Tensor) -> Tensor:
            y = y * valid[:, :, None]
            return _with_neighbours(y) if config.max_distance else y

        for block in self.blocks:
            h = block(h, vector, attend, see)
        scale, shift = self.modulation(vector)[:, None].chunk(2, 2)
        return x, valid, vector, modulate(F.layer_norm(h, h.shape[2:]), scale, shift) * valid[:, :, None]

    def _kinds(self, names: tuple[str, ...]) -> dict[str, LeafCodec]:
        return {name: self.config.leaves[name] for name in names}

    def _bias(self, x: State, valid: Bool[Tensor, "b n"], like: Tensor) -> Float[Tensor, " b #heads #n n"]:
        """Return the attention bias: the sum of relative position bias and pair bias, and -inf at padding."""
        bias = like.new_zeros(())
        if self.config.max_distance:
            bias = bias + self.relative_bias(valid.shape[1]).to(like.dtype)
        if self.config.pair_leaf:
            bias = bias + self.pair_bias(flatten_entries(x[self.config.pair_leaf]).to(like.dtype))
        key_mask = valid | ~valid.any(1, keepdim=True)  # a softmax over no keys would be NaN
        return torch.where(key_mask[:, None, None, :], bias, -torch.inf)

    def _split(self, names: tuple[str, ...], outputs: Float[Tensor, "b n k"]) -> dict[str, Tensor]:
        return dict(zip(names, outputs.split([self.out_dims[name] for name in names], 2), strict=True))

    def _decode(self, outputs: dict[str, Tensor], x: State, vector: Float[Tensor, "b width"]) -> State:
        """Decode the outputs to the shapes of their leaves and add the skip connection."""
        scales = {}
        if self.skip is not None:
            splits = self.skip(vector)[:, None].split(list(self.skip_dims.values()), 2)
            scales = dict(zip(self.skip_dims, splits, strict=True))
        decoded = {}
        for name, leaf in self.config.leaves.items():
            output = leaf.decode(outputs[name], x[name])
            if name in scales:
                output = output + scales[name].unflatten(2, x[name].shape[2:]) * x[name]
            decoded[name] = output if name in self.site_leaves else output[:, 0]
        return decoded


def _with_neighbours(y: Float[Tensor, "b n width"]) -> Float[Tensor, "b n 3*width"]:
    """Concatenate the features of each site with the features of its two neighbours in the chain."""
    return torch.cat([F.pad(y[:, :-1], (0, 0, 1, 0)), y, F.pad(y[:, 1:], (0, 0, 0, 1))], 2)
