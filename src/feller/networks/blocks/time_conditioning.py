"""How a network over frames learns the time, and whether there is one."""

import abc
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.networks.blocks.conditioning import Conditioning, Summed
from feller.networks.image.dit import Attend, Block

Times = tuple[Tensor, Tensor]
"""Tokens that stand before the frames, [b, tokens, width], and what modulates the blocks, [b, inner]."""


class Clock(abc.ABC):
    """A way to tell the time. Implement two methods to add one."""

    ticks: ClassVar[bool] = True
    """True if the network is conditioned on a time, and sees a state at that time."""

    @abc.abstractmethod
    def enter(self, width: int) -> nn.Module:
        """Make what turns times [b] into `Times`."""

    @abc.abstractmethod
    def block(self, width: int, heads: int) -> nn.Module:
        """Make a block (h, vector, attend) -> h."""


@dataclass(frozen=True)
class TimeToken(Clock):
    """The time is one more token before the frames, whose answer nobody reads.

    Source: Le et al. 2023, "Voicebox", arXiv 2306.15687.
    """

    def enter(self, width: int) -> nn.Module:
        """Make an embedding of the time."""
        return Token(width)

    def block(self, width: int, heads: int) -> nn.Module:
        """Make a block that nothing modulates."""
        return PlainBlock(width, heads)


@dataclass(frozen=True)
class AdaNorm(Clock):
    """The time scales and shifts the features of every block (adaLN-zero)."""

    def enter(self, width: int) -> nn.Module:
        """Make the vector of the time."""
        return Vector(width)

    def block(self, width: int, heads: int) -> nn.Module:
        """Make a block that starts as the identity."""
        return Block(width, heads)


@dataclass(frozen=True)
class NoTime(Clock):
    """There is none: the network sees no state and answers at once."""

    ticks = False

    def enter(self, width: int) -> nn.Module:
        """Make nothing."""
        return Nothing(width)

    def block(self, width: int, heads: int) -> nn.Module:
        """Make a block that nothing modulates."""
        return PlainBlock(width, heads)


class Token(nn.Module):
    """The time as a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time = Summed({}, width)

    def forward(self, t: Float[Tensor, " b"]) -> Times:
        """Return one token, and nothing that modulates."""
        token = self.time(t, {})
        return token[:, None], token[:, :0]


class Vector(nn.Module):
    """The time as a vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time = Conditioning({}, width)

    def forward(self, t: Float[Tensor, " b"]) -> Times:
        """Return no token, and what modulates."""
        vector = self.time(t, {})
        return vector[:, None][:, :0], vector


class Nothing(nn.Module):
    """No time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, t: Float[Tensor, " b"]) -> Times:
        """Return no token, and nothing that modulates."""
        return t.new_zeros(len(t), 0, self.width), t.new_zeros(len(t), 0)


class PlainBlock(nn.Module):
    """Attention, then two layers for each place by itself, each behind a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)
        self.first = nn.Linear(width, 4 * width)
        self.second = nn.Linear(4 * width, width)

    def forward(
        self, h: Float[Tensor, "*b n width"], vector: Float[Tensor, "b inner"] | None, attend: Attend
    ) -> Float[Tensor, "*b n width"]:
        """Add what the block has to say; `attend` decides who sees whom."""
        parts = self.ask(self.before(h)).unflatten(-1, (3, self.heads, -1)).movedim((-3, -2), (0, -3))
        h = h + self.answer(attend(*parts).transpose(-3, -2).flatten(-2))
        return h + self.second(F.gelu(self.first(self.between(h)), approximate="tanh"))
