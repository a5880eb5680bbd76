"""How a network over frames learns the time, and whether there is one."""

import abc
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.networks.blocks.conditioning import Conditioning, SummedConditioning
from feller.networks.image.dit import AttentionFn, DiTBlock

TimeEmbedding = tuple[Tensor, Tensor]
"""Tokens that stand before the frames, [b, tokens, width], and what modulates the blocks, [b, inner]."""


class TimeConditioning(abc.ABC):
    """A way to tell the time. Implement two methods to add one."""

    uses_time: ClassVar[bool] = True
    """True if the network is conditioned on a time, and sees a state at that time."""

    @abc.abstractmethod
    def make_embedding(self, width: int) -> nn.Module:
        """Make what turns times [b] into `TimeEmbedding`."""

    @abc.abstractmethod
    def make_block(self, width: int, heads: int) -> nn.Module:
        """Make a block (h, vector, attend) -> h."""


@dataclass(frozen=True)
class TimeToken(TimeConditioning):
    """The time is one more token before the frames, whose answer nobody reads.

    Source: Le et al. 2023, "Voicebox", arXiv 2306.15687.
    """

    def make_embedding(self, width: int) -> nn.Module:
        return TimeTokenEmbedding(width)

    def make_block(self, width: int, heads: int) -> nn.Module:
        return TransformerBlock(width, heads)


@dataclass(frozen=True)
class AdaLNZero(TimeConditioning):
    """The time scales and shifts the features of every block (adaLN-zero)."""

    def make_embedding(self, width: int) -> nn.Module:
        return TimeVectorEmbedding(width)

    def make_block(self, width: int, heads: int) -> nn.Module:
        return DiTBlock(width, heads)


@dataclass(frozen=True)
class NoTimeConditioning(TimeConditioning):
    """There is none: the network sees no state and answers at once."""

    uses_time = False

    def make_embedding(self, width: int) -> nn.Module:
        return NoTimeEmbedding(width)

    def make_block(self, width: int, heads: int) -> nn.Module:
        return TransformerBlock(width, heads)


class TimeTokenEmbedding(nn.Module):
    """The time as a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time = SummedConditioning({}, width)

    def forward(self, t: Float[Tensor, " b"]) -> TimeEmbedding:
        """Return one token, and nothing that modulates."""
        token = self.time(t, {})
        return token[:, None], token[:, :0]


class TimeVectorEmbedding(nn.Module):
    """The time as a vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time = Conditioning({}, width)

    def forward(self, t: Float[Tensor, " b"]) -> TimeEmbedding:
        """Return no token, and what modulates."""
        vector = self.time(t, {})
        return vector[:, None][:, :0], vector


class NoTimeEmbedding(nn.Module):
    """No time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, t: Float[Tensor, " b"]) -> TimeEmbedding:
        """Return no token, and nothing that modulates."""
        return t.new_zeros(len(t), 0, self.width), t.new_zeros(len(t), 0)


class TransformerBlock(nn.Module):
    """Attention, then two layers for each place by itself, each behind a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(
        self, h: Float[Tensor, "*b n width"], vector: Float[Tensor, "b inner"] | None, attention: AttentionFn
    ) -> Float[Tensor, "*b n width"]:
        """Add what the block has to say; `attention` decides who sees whom."""
        parts = self.qkv(self.norm1(h)).unflatten(-1, (3, self.heads, -1)).movedim((-3, -2), (0, -3))
        h = h + self.proj(attention(*parts).transpose(-3, -2).flatten(-2))
        return h + self.fc2(F.gelu(self.fc1(self.norm2(h)), approximate="tanh"))
