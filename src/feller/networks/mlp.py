"""Residual network for small states of several leaves: all that they hold goes into one vector."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Given, State, branch, pad_right, spread
from feller.core.rng import Draws
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import Conditioning, zero
from feller.networks.blocks.leaf_codecs import Leaf, see_all, sites_of
from feller.networks.networks_mlp import Block


@dataclass(frozen=True)
class Together(Architecture):
    """Residual blocks of two layers that see all leaves of a state, each with a time of its own, and answer for each.

    A leaf that is not valid, or an entry of it, is not seen. For leaves whose order means something, such as the pixels
    of small pictures; sites that could be exchanged are for `Sites`.
    """

    leaves: dict[str, Leaf]
    """Kind of each leaf of the state."""
    width: int = 256
    """Features of each layer."""
    depth: int = 4
    """Residual blocks."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth) < 1:
            raise UsageError(f"expected width and depth of 1 or more, got {self}")

    def build(self, shape: State, conditions: dict[str, int], draws: Draws) -> "TogetherNetwork":
        """Make a network with new weights, for a dict of leaves."""
        if not isinstance(shape, dict) or shape.keys() != self.leaves.keys():
            raise UsageError(f"Together expects the leaves {', '.join(self.leaves)}, got {shape}")
        with weights_from(draws):
            return TogetherNetwork(self, shape, conditions)


class TogetherNetwork(nn.Module):
    """The network of `Together`."""

    def __init__(self, settings: Together, shapes: dict[str, tuple[int, ...]], conditions: dict[str, int]) -> None:
        super().__init__()
        self.leaves, width, inner = settings.leaves, settings.width, -(-settings.width // 4)
        self.answers = {name: leaf.answers(shapes[name]) for name, leaf in self.leaves.items()}
        self.skipping = {name: math.prod(shapes[name]) for name, leaf in self.leaves.items() if leaf.skips}
        self.conditioning = Conditioning(conditions, inner, len(shapes))
        self.nulls = self.conditioning.nulls
        self.enter = nn.Linear(sum(leaf.features(shapes[name]) + 1 for name, leaf in self.leaves.items()), width)
        self.blocks = nn.ModuleList(Block(width, inner) for _ in range(settings.depth))
        self.leave = zero(nn.Linear(width, sum(self.answers.values())))
        self.skip = zero(nn.Linear(inner, len(self.skipping))) if self.skipping else None

    def forward(self, x_t: State, t: State, given: Given) -> State:
        """Answer for each leaf."""
        t = spread(t, x_t)
        vector = self.conditioning(t, given)
        marks = {name: branch(given.get("valid"), name) for name in self.leaves}
        x = {name: _real(x_t[name], mark)[:, None] for name, mark in marks.items()}  # one site, which is the example
        there = {
            name: sites_of(x[name], None if m is None else m.reshape(m.shape[0], -1).any(1))
            for name, m in marks.items()
        }
        h = self.enter(see_all(self.leaves, x, t, there, self.enter.weight)[:, 0])
        for block in self.blocks:
            h = block(h, vector)
        answers = self.leave(F.silu(F.layer_norm(h, h.shape[1:])))[:, None].split(list(self.answers.values()), 2)
        scales = () if self.skip is None else self.skip(vector).split(1, 1)
        skips = dict(zip(self.skipping, scales, strict=True))
        said = {}
        for (name, leaf), answer in zip(self.leaves.items(), answers, strict=True):
            said[name] = leaf.say(answer, x[name])[:, 0]
            if name in skips:
                said[name] = said[name] + pad_right(skips[name][:, 0], said[name]) * x[name][:, 0]
        return said


def _real(x: Tensor, valid: Tensor | None) -> Tensor:
    """Put zeros where a leaf, or an entry of it, is not real."""
    return x if valid is None else torch.where(pad_right(valid, x), x, 0)
