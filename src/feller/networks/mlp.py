"""Residual MLPs for vectors, and for states of several leaves."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Given, State, branch, pad_right, spread
from feller.core.rng import Draws
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import Conditioning, fourier, modulate, zero
from feller.networks.blocks.leaf_codecs import Leaf, see_all, sites_of


@dataclass(frozen=True)
class MLP(Architecture):
    """Residual blocks of two layers, for states of any shape, which are flattened."""

    width: int = 256
    """Features of each layer."""
    depth: int = 4
    """Residual blocks."""
    frequencies: int = 0
    """Octaves of Fourier features of the state, from 1/4 cycle per unit up: 3 or 4 for sharp densities in the plane."""
    period: float | None = None
    """Period of the entries of the state, where they are angles: then it is seen through the sines and cosines of its
    1, 2, 4, ...-fold alone."""
    ends: int = 0
    """Candidates for the end of each entry, whose logits are the answers, [..., ends]; 0 for one number per entry."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 1 or min(self.frequencies, self.ends) < 0:
            raise UsageError("width and depth of 1 or more, frequencies and ends of 0 or more", self)
        if self.period is not None and (self.period <= 0 or not self.frequencies):
            raise UsageError("a positive period, with one frequency or more to see it", self)

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], draws: Draws) -> "ResidualMLP":
        """Make a network with new weights."""
        with weights_from(draws):
            return ResidualMLP(self, shape, conditions)


class ResidualMLP(nn.Module):
    """The network of `MLP`."""

    def __init__(self, settings: MLP, shape: tuple[int, ...], conditions: dict[str, int]) -> None:
        super().__init__()
        width, self.size, self.ends = settings.width, math.prod(shape), settings.ends
        self.frequencies, self.period = settings.frequencies, settings.period
        inner = -(-width // 4)  # the vector's own layers cost as much as a block's at full width
        self.conditioning = Conditioning(conditions, inner)
        self.nulls, self.seen = self.conditioning.nulls, width
        self.enter = nn.Linear(self.size * ((self.period is None) + 2 * self.frequencies), width)
        self.blocks = nn.ModuleList(Block(width, inner) for _ in range(settings.depth))
        self.leave = zero(nn.Linear(width, self.size * max(self.ends, 1)))

    def forward(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], given: Given) -> Float[Tensor, " b *d_out"]:
        """Predict one number, or logits, per entry of the state."""
        answer = self.leave(self.features(x_t, t, given))
        return answer.reshape(*x_t.shape, self.ends) if self.ends else answer.reshape(x_t.shape)

    def features(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], given: Given) -> Float[Tensor, "b width"]:
        """Return what the answer is read from."""
        vector = self.conditioning(t, given)
        h = self.enter(self._see(x_t.reshape(x_t.shape[0], self.size)))
        for block in self.blocks:
            h = block(h, vector)
        return F.silu(F.layer_norm(h, h.shape[1:]))

    def heads(self) -> Iterator[nn.Module]:
        """Yield the layer that answers."""
        yield self.leave

    def _see(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b features"]:
        """Return the features of a state: itself and its waves, or of angles the waves that fit into a turn."""
        if not self.frequencies:
            return x
        if self.period is None:
            return torch.cat([x, fourier(x, self.frequencies).flatten(1)], 1)
        return fourier(x * (4 / self.period), self.frequencies).flatten(1)  # whose slowest wave takes 4


class Block(nn.Module):
    """Two layers with a residual connection; a vector of `inner` numbers modulates after the norm (none if 0)."""

    def __init__(self, width: int, inner: int = 0) -> None:
        super().__init__()
        self.modulation = nn.Linear(inner, 2 * width) if inner else None
        self.first = nn.Linear(width, width)
        self.second = zero(nn.Linear(width, width))

    def forward(
        self, h: Float[Tensor, "b width"], vector: Float[Tensor, "b inner"] | None = None
    ) -> Float[Tensor, "b width"]:
        """Add what the block has to say."""
        y = F.layer_norm(h, h.shape[1:])
        if self.modulation is not None:
            y = modulate(y, *self.modulation(vector).chunk(2, 1))
        return h + self.second(F.silu(self.first(y)))


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
            raise UsageError("width and depth of 1 or more", self)

    def build(self, shape: State, conditions: dict[str, int], draws: Draws) -> "TogetherNetwork":
        """Make a network with new weights, for a dict of leaves."""
        if not isinstance(shape, dict) or shape.keys() != self.leaves.keys():
            raise UsageError(f"Together expects the leaves {', '.join(self.leaves)}", found=shape)
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
