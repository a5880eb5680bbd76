"""Transformer along a chain, for states of rotations and numbers at each of its places."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.draws import Draws
from feller.errors import UsageError
from feller.networks.architecture import Architecture, weights_from
from feller.networks.conditioning import Conditioning, fourier, modulate, zero
from feller.spaces.rotations import hat
from feller.tree import State, leaves, pad_right

LENGTH = "length"
"""A condition that the network reads off `valid` instead: a table of lengths would know few of them well."""
OCTAVES = 3
"""Frequencies of each entry of the state, from 1/4 cycle per unit up."""
SOONEST = 0.03
"""Where data are thin, velocities are distances from them over 1 - t; the network sees entries over 1 - t + this."""
ENDS = 5
"""Features that say where a place is."""
ROTATION = (3, 3)


@dataclass(frozen=True)
class Chain(Architecture):
    """Attention that knows how far places are apart, and layers that see the neighbours.

    The state is a dict of leaves [b, n, 3, 3], rotations, whose velocities are answered as 3 numbers in the rotation's
    own frame, and [b, n, k], numbers; all share one time. What stands behind the end of a chain, where `given["valid"]`
    is False, changes nothing. Attention with a bias by distance: Shaw et al. 2018, arXiv 1803.02155.
    """

    width: int = 128
    """Features of each place."""
    depth: int = 6
    """Blocks."""
    heads: int = 4
    """Heads of the attention."""
    reach: int = 32
    """Places beyond which all distances count as the same."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.reach) < 1:
            raise UsageError(f"expected numbers of 1 or more, got {self}")
        if self.width % self.heads:
            raise UsageError(f"expected a width that {self.heads} heads divide, got {self.width}")

    def build(self, shape: State, conditions: dict[str, int], draws: Draws) -> "ChainTransformer":
        """Make a network with new weights, for leaves (n, 3, 3) and (n, k)."""
        parts = shape if isinstance(shape, dict) else {}
        if not parts or any(len(part) != 2 and part[1:] != ROTATION for part in parts.values()):
            raise UsageError(f"Chain expects a dict of leaves of shape (n, 3, 3) or (n, k), got {shape}; use MLP")
        with weights_from(draws):
            return ChainTransformer(self, {name: tuple(part[1:]) for name, part in parts.items()}, conditions)


class ChainTransformer(nn.Module):
    """The network of `Chain`."""

    def __init__(self, settings: Chain, parts: dict[str, tuple[int, ...]], conditions: dict[str, int]) -> None:
        super().__init__()
        width, self.parts, self.reach = settings.width, parts, settings.reach
        self.answers = [3 if part == ROTATION else part[0] for part in parts.values()]
        size = sum(9 if part == ROTATION else part[0] for part in parts.values())
        self.conditioning = Conditioning({k: v for k, v in conditions.items() if k != LENGTH}, width)
        self.nulls = self.conditioning.nulls
        self.enter = nn.Linear(size * (1 + 2 * OCTAVES) + ENDS, width)
        self.late = nn.Linear(size, width)
        self.near = nn.Parameter(_slopes(settings.heads, settings.reach))
        self.blocks = nn.ModuleList(Block(width, settings.heads) for _ in range(settings.depth))
        self.modulation = zero(nn.Linear(width, 2 * width))
        self.leave = zero(nn.Linear(width, sum(self.answers)))
        self.numbers = [part[0] for part in parts.values() if part != ROTATION]
        self.skip = zero(nn.Linear(width, sum(self.numbers)))

    def forward(self, x_t: State, t: State, given: dict[str, Tensor]) -> State:
        """Predict a velocity per place of each leaf."""
        t, first = next(leaves(t)), next(leaves(x_t))
        valid = given.get("valid")
        valid = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device) if valid is None else valid
        vector = self.conditioning(t, {k: v for k, v in given.items() if k != LENGTH})
        x = torch.cat([_blank(x_t[name].flatten(2), valid) for name in self.parts], 2)
        h = self.enter(torch.cat([x, fourier(x, OCTAVES).flatten(2), _ends(valid, x)], 2))
        h = h + self.late(x) / (1 - t + SOONEST)[:, None, None]
        bias = self._bias(valid, h)
        for block in self.blocks:
            h = block(h, vector, bias, valid)
        scale, shift = self.modulation(vector)[:, None].chunk(2, 2)
        answers = self.leave(modulate(F.layer_norm(h, h.shape[2:]), scale, shift)) * valid[:, :, None]
        skips = iter(self.skip(vector)[:, None].split(self.numbers, 2))
        return {
            name: x_t[name] @ hat(answer) if part == ROTATION else answer + next(skips) * _blank(x_t[name], valid)
            for (name, part), answer in zip(self.parts.items(), answers.split(self.answers, 2), strict=True)
        }

    def _bias(self, valid: Bool[Tensor, "b n"], like: Tensor) -> Float[Tensor, "b heads n n"]:
        """Return what is added to the attention: by distance, and minus infinity for what is no place."""
        place = torch.arange(valid.shape[1], device=valid.device)
        apart = (place - place[:, None]).clamp(-self.reach, self.reach) + self.reach
        bias = self.near[:, apart].to(like.dtype)
        return torch.where(valid[:, None, None, :], bias, -torch.inf)


class Block(nn.Module):
    """Attention, then two layers of which the first sees the neighbours, both behind gates that start closed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = zero(nn.Linear(width, 6 * width))
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)
        self.first = nn.Linear(3 * width, 2 * width)
        self.second = nn.Linear(2 * width, width)

    def forward(
        self,
        h: Float[Tensor, "b n width"],
        vector: Float[Tensor, "b width"],
        bias: Float[Tensor, "b heads n n"],
        valid: Bool[Tensor, "b n"],
    ) -> Float[Tensor, "b n width"]:
        """Add what the block has to say."""
        scale, shift, gate, scale_2, shift_2, gate_2 = self.modulation(vector)[:, None].chunk(6, 2)
        y = self.ask(modulate(F.layer_norm(h, h.shape[2:]), scale, shift))
        parts = y.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*parts, attn_mask=bias).transpose(1, 2).flatten(2)
        h = h + gate * self.answer(y)
        y = modulate(F.layer_norm(h, h.shape[2:]), scale_2, shift_2) * valid[:, :, None]
        before, after = F.pad(y[:, :-1], (0, 0, 1, 0)), F.pad(y[:, 1:], (0, 0, 0, 1))
        y = self.first(torch.cat([before, y, after], 2))
        return h + gate_2 * self.second(F.gelu(y, approximate="tanh"))


def _blank(x: Tensor, valid: Bool[Tensor, "b n"]) -> Tensor:
    """Put zeros where there is no place, whatever stands there."""
    return torch.where(pad_right(valid, x), x, 0)


def _ends(valid: Bool[Tensor, "b n"], like: Tensor) -> Float[Tensor, "b n 5"]:
    """Return how near both ends of the chain are, at two scales each, and how long it is."""
    length = valid.sum(1, keepdim=True).to(like.dtype)
    place = torch.arange(valid.shape[1], dtype=like.dtype, device=like.device).expand(valid.shape)
    left = (length - 1 - place).clamp(min=0)
    parts = [(-place).exp(), (-place / 8).exp(), (-left).exp(), (-left / 8).exp(), (length.log() / 5).expand_as(place)]
    return torch.stack(parts, 2) * valid[:, :, None]


def _slopes(heads: int, reach: int) -> Float[Tensor, "heads distances"]:
    """Return a start for the bias by distance: each head falls off at its own rate, the last hardly.

    Source: Press et al. 2022, "Train short, test long", arXiv 2108.12409.
    """
    slopes = 2.0 ** -torch.arange(0, 2 * heads, 2)
    return -slopes[:, None] * torch.arange(-reach, reach + 1).abs()
