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
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import Conditioning, fourier, modulate, zero
from feller.networks.blocks.leaf_codecs import Leaf, blanked, see_all, sites_of
from feller.networks.blocks.relative_positions import number
from feller.networks.regressor import pooled
from feller.spaces.safe_math import safe_sqrt

OCTAVES = 5
"""Frequencies of each distance, from 1/4 cycle per unit up."""
NEIGHBOURS = 5.0
"""Typical number of neighbours that matter, by which sums over all others are divided."""


@dataclass(frozen=True)
class Equivariant(Architecture):
    """Messages between all pairs of points, by their distances; both features and places move from block to block.

    The state is a dict: the places [b, n, 3], and leaves with a row per point, [b, n, ...]. Velocities of the places
    are seen from their middle, and move it nowhere: whoever trains must pair data with a source of the same middle, as
    the coupling `Aligned` does. Padding, where `valid` is False, changes nothing.

    Source: Satorras et al. 2021, "E(n) equivariant graph neural networks", arXiv 2102.09844.
    """

    leaves: dict[str, Leaf]
    """Kind of each leaf but the places."""
    places: str = "place"
    """Leaf of the places."""
    count: str | None = None
    """Condition that says how many points there are, which the network reads off `valid` instead."""
    width: int = 128
    """Features of each point."""
    pair: int = 64
    """Features of each pair."""
    depth: int = 6
    """Blocks."""

    def __post_init__(self) -> None:
        if min(self.width, self.pair, self.depth) < 1:
            raise UsageError("width, pair and depth of 1 or more", self)
        if self.places in self.leaves:
            raise UsageError("the places have no other kind", remedy=f"Leave {self.places} out of the leaves")

    def build(self, shape: State, conditions: dict[str, int], draws: Rng) -> "EquivariantNetwork":
        """Make a network with new weights, for places (n, 3) and leaves with as many rows."""
        shapes = shape if isinstance(shape, dict) else {}
        wanted = {self.places, *self.leaves}
        if (
            shapes.keys() != wanted
            or shapes[self.places][1:] != (3,)
            or len({part[:1] for part in shapes.values()}) > 1
        ):
            raise UsageError(f"Equivariant expects {self.places} of shape (n, 3) and rows of {wanted}", found=shape)
        with weights_from(draws):
            return EquivariantNetwork(self, shapes, conditions)


class _Seen(NamedTuple):
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


class EquivariantNetwork(nn.Module):
    """The network of `Equivariant`."""

    def __init__(self, settings: Equivariant, shapes: dict[str, tuple[int, ...]], conditions: dict[str, int]) -> None:
        super().__init__()
        width, self.settings = settings.width, settings
        self.answers = {name: leaf.answers(shapes[name][1:]) for name, leaf in settings.leaves.items()}
        size = sum(leaf.features(shapes[name][1:]) + 1 for name, leaf in settings.leaves.items())
        conditions = {k: v for k, v in conditions.items() if k != settings.count}
        self.conditioning = Conditioning(conditions, width, len(shapes))
        self.nulls, self.seen = self.conditioning.nulls, 2 * width
        self.enter = nn.Linear(size + 1, width)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.depth))
        self.modulation = zero(nn.Linear(width, 2 * width))
        self.leave = zero(nn.Linear(width, sum(self.answers.values())))
        self.skip = zero(nn.Linear(width, 1))

    def forward(self, x_t: State, t: State, given: Cond) -> State:
        """Answer with velocities of the places, and what each leaf says."""
        settings, found = self.settings, self._look(x_t, t, given)
        velocity = centred(found.y - found.start, found.valid) + self.skip(found.vector)[:, None] * found.start
        answers = (self.leave(found.h) * found.valid[:, :, None]).split(list(self.answers.values()), 2)
        said = {n: leaf.say(part, found.x[n]) for (n, leaf), part in zip(settings.leaves.items(), answers, strict=True)}
        return {name: velocity if name == settings.places else said[name] for name in x_t}

    def features(self, x_t: State, t: State, given: Cond) -> Float[Tensor, "b seen"]:
        """Return what can be said of each example as a whole: the features of its points, pooled."""
        found = self._look(x_t, t, given)
        return pooled(found.h, found.valid)

    def heads(self) -> Iterator[nn.Module]:
        """Yield the layers that answer, and the last one that moves points."""
        yield self.leave
        yield self.skip
        for block in self.blocks[-1:]:
            yield block.get_submodule("move")

    def _look(self, x_t: State, t: State, given: Cond) -> "_Seen":
        settings, t = self.settings, broadcast_time(t, x_t)
        there = {name: sites_of(leaf, submask(given.get("valid"), name)) for name, leaf in x_t.items()}
        x = {name: blanked(x_t[name], there[name]) for name in settings.leaves}
        valid = there[settings.places]
        vector = self.conditioning(t, {k: v for k, v in given.items() if k != settings.count})
        seen = see_all(settings.leaves, x, t, there, self.enter.weight)
        h = self.enter(torch.cat([seen, number(valid, seen)], 2))
        pairs = Pairs.of_points(valid)
        y = start = centred(x_t[settings.places], valid).to(h.dtype)
        for block in self.blocks:
            h, y = block(h, y, start, vector, pairs)
        scale, shift = self.modulation(vector)[:, None].chunk(2, 2)
        return _Seen(x, valid, vector, modulate(F.layer_norm(h, h.shape[2:]), scale, shift), start, y)


def centred(x: Float[Tensor, "b n 3"], valid: Bool[Tensor, "b n"]) -> Float[Tensor, "b n 3"]:
    """Move the middle of each example's points to the origin; padding stays there."""
    middle = blanked(x, valid).sum(1, keepdim=True) / valid.sum(1).clamp(min=1)[:, None, None]
    return blanked(x - middle, valid)


@dataclass(frozen=True, eq=False)
class Pairs:
    """All ordered pairs of different points of an example, as a list: padding has none, so that it costs nothing."""

    to: Int[Tensor, " pairs"]
    """Number of the point that hears, among all b n."""
    of: Int[Tensor, " pairs"]
    """Number of the point that speaks."""
    weight: Float[Tensor, "pairs 1"] | None
    """Zero for pairs that are none, where they cannot be left out; None otherwise."""

    @classmethod
    def of_points(cls, valid: Bool[Tensor, "b n"]) -> "Pairs":
        """List the pairs, or where values cannot be looked at all pairs there might be."""
        b, n = valid.shape
        real = valid[:, :, None] & valid[:, None] & ~torch.eye(n, dtype=torch.bool, device=valid.device)
        known = is_concrete(valid)
        which, i, j = real.nonzero(as_tuple=True) if known else _all(b, n, valid.device)
        return cls(which * n + i, which * n + j, None if known else real.flatten()[:, None].float())


def _all(b: int, n: int, device: torch.device) -> tuple[Tensor, ...]:
    counts = (torch.arange(k, device=device) for k in (b, n, n))
    return tuple(part.flatten() for part in torch.meshgrid(*counts, indexing="ij"))


class Block(nn.Module):
    """Messages between points, then new features and new places of each."""

    def __init__(self, settings: Equivariant) -> None:
        super().__init__()
        width, pair = settings.width, settings.pair
        self.modulation = zero(nn.Linear(width, 3 * width))
        self.hear, self.speak = nn.Linear(width, pair), nn.Linear(width, pair, bias=False)
        self.apart = nn.Linear(2 * (2 * OCTAVES + 1), pair, bias=False)
        self.message = nn.Linear(pair, pair)
        self.gate = nn.Linear(pair, 1)
        self.move = zero(nn.Linear(pair, 1, bias=False))
        self.first = nn.Linear(width + pair, 2 * width)
        self.second = nn.Linear(2 * width, width)

    def forward(
        self,
        h: Float[Tensor, "b n width"],
        y: Float[Tensor, "b n 3"],
        start: Float[Tensor, "b n 3"],
        vector: Float[Tensor, "b width"],
        pairs: Pairs,
    ) -> tuple[Float[Tensor, "b n width"], Float[Tensor, "b n 3"]]:
        """Return the next features and places; `start` is where the points are."""
        scale, shift, gate = self.modulation(vector)[:, None].chunk(3, 2)
        z = modulate(F.layer_norm(h, h.shape[2:]), scale, shift)
        way, distance = _way(y, pairs)
        _, before = _way(start, pairs)
        seen = torch.cat([_waves(distance), _waves(before)], 1)
        hear, speak = self.hear(z).flatten(0, 1), self.speak(z).flatten(0, 1)
        m = F.silu(
            self.message(F.silu(hear.index_select(0, pairs.to) + speak.index_select(0, pairs.of) + self.apart(seen)))
        )
        m = m * torch.sigmoid(self.gate(m))
        if pairs.weight is not None:
            m = m * pairs.weight.to(m.dtype)
        heard = torch.zeros_like(hear).index_add(0, pairs.to, m) / NEIGHBOURS
        moved = (
            torch.zeros_like(y).flatten(0, 1).index_add(0, pairs.to, way / (1 + distance) * self.move(m)) / NEIGHBOURS
        )
        new = self.second(F.silu(self.first(torch.cat([z, heard.view(*z.shape[:2], -1)], 2))))
        return h + (1 + gate) * new, y + moved.view(y.shape)


def _way(y: Float[Tensor, "b n 3"], pairs: Pairs) -> tuple[Float[Tensor, "pairs 3"], Float[Tensor, "pairs 1"]]:
    """Return the ways between points and their lengths."""
    y = y.flatten(0, 1)
    way = y.index_select(0, pairs.to) - y.index_select(0, pairs.of)
    return way, safe_sqrt(way.square().sum(1, keepdim=True))


def _waves(distance: Float[Tensor, "pairs 1"]) -> Float[Tensor, "pairs features"]:
    return torch.cat([distance, fourier(distance, OCTAVES).flatten(1)], 1)
