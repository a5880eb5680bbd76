"""Transformer over sites: the atoms of a crystal, the residues of a chain, any rows that several leaves share."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Given, State, branch, spread
from feller.core.rng import Draws
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import Conditioning, modulate, zero
from feller.networks.blocks.leaf_codecs import TURN, Angles, Leaf, blanked, rows, see_all, sites_of
from feller.networks.blocks.relative_positions import ENDS, Along, Apart, ends, number
from feller.networks.image.dit import Block
from feller.networks.regressor import pooled


@dataclass(frozen=True)
class Sites(Architecture):
    """Attention among sites, for a state that is a dict of leaves, each of a kind and with a time of its own.

    Most leaves have one row per site, [b, n, ...]; those of `whole` have one per example, [b, ...]. What is not valid
    changes nothing: neither padding, nor a leaf that a site lacks. With `reach` the sites are in order, along a chain.
    """

    leaves: dict[str, Leaf]
    """Kind of each leaf of the state."""
    whole: tuple[str, ...] = ()
    """Leaves that say something of the whole example, such as a lattice."""
    apart: str | None = None
    """Leaf of angles or numbers by whose differences attention knows how far sites are apart."""
    reach: int = 0
    """Places along a chain beyond which all distances count as the same; 0 where order means nothing."""
    count: str | None = None
    """Condition that says how many sites there are, which the network reads off `valid` instead: a table would know few
    numbers well."""
    width: int = 128
    """Features of each site."""
    depth: int = 6
    """Blocks."""
    heads: int = 4
    """Heads of the attention."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads) < 1 or self.reach < 0:
            raise UsageError("width, depth and heads of 1 or more and no negative reach", self)
        if self.width % self.heads:
            raise UsageError(f"a width that {self.heads} heads divide", self.width)
        named = {*self.whole, *([self.apart] if self.apart else [])}
        if not named <= self.leaves.keys() or len(self.whole) >= len(self.leaves) or self.apart in self.whole:
            raise UsageError(
                expected=f"`whole` and `apart` to name some of the leaves {', '.join(self.leaves)}, and one left"
                f" that has sites; found whole={self.whole} and apart={self.apart}"
            )

    def build(self, shape: State, conditions: dict[str, int], draws: Draws) -> "SitesTransformer":
        """Make a network with new weights, for a dict of leaves with the same number of sites."""
        shapes = shape if isinstance(shape, dict) else {}
        sites = {shapes[name][:1] for name in shapes.keys() - {*self.whole}}
        if shapes.keys() != self.leaves.keys() or len(sites) != 1 or () in sites:
            raise UsageError(f"Sites expects leaves {', '.join(self.leaves)} with one number of sites", found=shape)
        with weights_from(draws):
            return SitesTransformer(self, shapes, conditions)


class SitesTransformer(nn.Module):
    """The network of `Sites`."""

    def __init__(self, settings: Sites, shapes: dict[str, tuple[int, ...]], conditions: dict[str, int]) -> None:
        super().__init__()
        width, self.settings = settings.width, settings
        self.own = tuple(name for name in settings.leaves if name not in settings.whole)
        each = {name: shape[name in self.own :] for name, shape in shapes.items()}
        self.answers = {name: leaf.answers(each[name]) for name, leaf in settings.leaves.items()}
        self.skipping = {name: math.prod(each[name]) for name, leaf in settings.leaves.items() if leaf.skips}

        def features(names: tuple[str, ...]) -> int:
            return sum(settings.leaves[name].features(each[name]) + 1 for name in names)

        self.conditioning = Conditioning(
            {k: v for k, v in conditions.items() if k != settings.count}, width, len(settings.leaves)
        )
        self.nulls, self.seen = self.conditioning.nulls, 2 * width
        self.enter = nn.Linear(features(self.own) + (ENDS if settings.reach else 1), width)
        if settings.whole:
            self.enter_whole = nn.Sequential(
                nn.Linear(features(settings.whole), width), nn.SiLU(), nn.Linear(width, width)
            )
            self.leave_whole = zero(nn.Linear(width, sum(self.answers[name] for name in settings.whole)))
        if settings.reach:
            self.along = Along(settings.heads, settings.reach)
        if settings.apart:
            turn = TURN if isinstance(settings.leaves[settings.apart], Angles) else None
            self.apart = Apart(settings.heads, math.prod(each[settings.apart]), turn)
        seen = 3 if settings.reach else 1
        self.blocks = nn.ModuleList(Block(width, settings.heads, seen=seen, hidden=2) for _ in range(settings.depth))
        self.modulation = zero(nn.Linear(width, 2 * width))
        self.leave = zero(nn.Linear(width, sum(self.answers[name] for name in self.own)))
        self.skip = zero(nn.Linear(width, sum(self.skipping.values()))) if self.skipping else None

    def forward(self, x_t: State, t: State, given: Given) -> State:
        """Answer for each leaf."""
        settings, (x, valid, vector, h) = self.settings, self._look(x_t, t, given)
        answers = self._split(self.own, self.leave(h) * valid[:, :, None])
        if settings.whole:
            mean = h.sum(1) / valid.sum(1, keepdim=True).clamp(min=1)
            answers |= self._split(settings.whole, self.leave_whole(F.silu(mean + vector))[:, None])
        return self._said(answers, x, vector)

    def features(self, x_t: State, t: State, given: Given) -> Float[Tensor, "b seen"]:
        """Return what can be said of each example as a whole: the features of its sites, pooled."""
        _, valid, _, h = self._look(x_t, t, given)
        return pooled(h, valid)

    def heads(self) -> Iterator[nn.Module]:
        """Yield the layers that answer."""
        yield self.leave
        if self.skip is not None:
            yield self.skip
        if self.settings.whole:
            yield self.leave_whole

    def _look(self, x_t: State, t: State, given: Given) -> tuple[State, Tensor, Tensor, Tensor]:
        """Return leaves, marks of real sites, [b, n], times and conditions, [b, width], and features, [b, n, width]."""
        settings, t = self.settings, spread(t, x_t)
        x = {name: x_t[name] if name in self.own else x_t[name][:, None] for name in settings.leaves}
        marks = given.get("valid")
        there = {
            name: sites_of(x[name], branch(marks, name) if name in self.own or isinstance(marks, dict) else None)
            for name in x
        }
        x = {name: blanked(leaf, there[name]) for name, leaf in x.items()}
        valid = functools.reduce(torch.logical_or, (there[name] for name in self.own))
        given = {name: value for name, value in given.items() if name != settings.count}
        vector, like = self.conditioning(t, given), self.enter.weight
        if settings.whole:
            vector = vector + self.enter_whole(see_all(self._kinds(settings.whole), x, t, there, like))[:, 0]
        seen = see_all(self._kinds(self.own), x, t, there, like)
        h = self.enter(torch.cat([seen, ends(valid, seen) if settings.reach else number(valid, seen)], 2))
        attend = functools.partial(F.scaled_dot_product_attention, attn_mask=self._bias(x, valid, h))

        def see(y: Tensor) -> Tensor:
            y = y * valid[:, :, None]
            return _with_neighbours(y) if settings.reach else y

        for block in self.blocks:
            h = block(h, vector, attend, see)
        scale, shift = self.modulation(vector)[:, None].chunk(2, 2)
        return x, valid, vector, modulate(F.layer_norm(h, h.shape[2:]), scale, shift) * valid[:, :, None]

    def _kinds(self, names: tuple[str, ...]) -> dict[str, Leaf]:
        return {name: self.settings.leaves[name] for name in names}

    def _bias(self, x: State, valid: Bool[Tensor, "b n"], like: Tensor) -> Float[Tensor, " b #heads #n n"]:
        """Return what is added to the attention: by nearness, and minus infinity for what is no site."""
        bias = like.new_zeros(())
        if self.settings.reach:
            bias = bias + self.along(valid.shape[1]).to(like.dtype)
        if self.settings.apart:
            bias = bias + self.apart(rows(x[self.settings.apart]).to(like.dtype))
        some = valid | ~valid.any(1, keepdim=True)  # who attends to nothing gets no number
        return torch.where(some[:, None, None, :], bias, -torch.inf)

    def _split(self, names: tuple[str, ...], answers: Float[Tensor, "b n k"]) -> dict[str, Tensor]:
        return dict(zip(names, answers.split([self.answers[name] for name in names], 2), strict=True))

    def _said(self, answers: dict[str, Tensor], x: State, vector: Float[Tensor, "b width"]) -> State:
        """Return the answers in the shapes of their leaves."""
        scales = {}
        if self.skip is not None:
            parts = self.skip(vector)[:, None].split(list(self.skipping.values()), 2)
            scales = dict(zip(self.skipping, parts, strict=True))
        said = {}
        for name, leaf in self.settings.leaves.items():
            answer = leaf.say(answers[name], x[name])
            if name in scales:
                answer = answer + scales[name].unflatten(2, x[name].shape[2:]) * x[name]
            said[name] = answer if name in self.own else answer[:, 0]
        return said


def _with_neighbours(y: Float[Tensor, "b n width"]) -> Float[Tensor, "b n 3*width"]:
    """Concatenate the features of each site with those of both neighbours along a chain."""
    return torch.cat([F.pad(y[:, :-1], (0, 0, 1, 0)), y, F.pad(y[:, 1:], (0, 0, 0, 1))], 2)
