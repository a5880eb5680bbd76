"""Time conditioning of transformers over frames: a time token, adaLN-zero, or none."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.networks.blocks.conditioning import Conditioning, SummedConditioning
from feller.networks.image.dit import AttentionFn, DiTBlock

TimeEmbedding = tuple[Tensor, Tensor]
"""Prefix tokens, [b, tokens, width], and vector that modulates the blocks, [b, inner]; either may be empty."""


class TimeConditioning(abc.ABC):
    """Base class of time conditioning of frame transformers. Subclasses implement `make_embedding` and `make_block`."""

    uses_time: ClassVar[bool] = True
    """True if the network sees a state and its time."""

    @property
    @abc.abstractmethod
    def make_embedding(self) -> Callable[[int], nn.Module]:
        """Function from a width to a module that maps times [b] to their `TimeEmbedding`, for blocks of this width."""

    @property
    @abc.abstractmethod
    def make_block(self) -> Callable[[int, int], nn.Module]:
        """Function from width and heads to a block: a module that maps (h, vector, attention) to features of `width`.

        `h` are the features of the positions, [b, n, width]. `vector` is the modulation vector of the time embedding,
        [b, inner]. `attention` is the attention function, which applies the mask.
        """


class TimeTokenEmbedding(nn.Module):
    """Embedding of time as a prefix token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time = SummedConditioning({}, width)

    def forward(self, t: Float[Tensor, " b"]) -> TimeEmbedding:
        token = self.time(t, {})
        return token[:, None], token[:, :0]


class TimeVectorEmbedding(nn.Module):
    """Embedding of time as a modulation vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time = Conditioning({}, width)

    def forward(self, t: Float[Tensor, " b"]) -> TimeEmbedding:
        vector = self.time(t, {})
        return vector[:, None][:, :0], vector


class NoTimeEmbedding(nn.Module):
    """Empty time embedding, for a network that does not see the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, t: Float[Tensor, " b"]) -> TimeEmbedding:
        return t.new_zeros(len(t), 0, self.width), t.new_zeros(len(t), 0)


class TransformerBlock(nn.Module):
    """Pre-norm transformer block: attention, then an MLP at each position."""

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
        """Apply attention and an MLP to the features h, with residual connections.

        `attention` is the attention function, which applies the mask. `vector` is ignored; it is a parameter because
        other blocks are modulated by it.
        """
        qkv = self.qkv(self.norm1(h)).unflatten(-1, (3, self.heads, -1)).movedim((-3, -2), (0, -3))
        h = h + self.proj(attention(*qkv).transpose(-3, -2).flatten(-2))
        return h + self.fc2(F.gelu(self.fc1(self.norm2(h)), approximate="tanh"))


@dataclass(frozen=True)
class TimeToken(TimeConditioning):
    """Time conditioning by a prefix token. Source: Le et al. 2023, "Voicebox", arXiv 2306.15687."""

    make_embedding, make_block = TimeTokenEmbedding, TransformerBlock


@dataclass(frozen=True)
class AdaLNZero(TimeConditioning):
    """Time conditioning by an adaptive scale, shift and gate in every block (adaLN-zero)."""

    make_embedding, make_block = TimeVectorEmbedding, DiTBlock


@dataclass(frozen=True)
class NoTimeConditioning(TimeConditioning):
    """No time conditioning, for a network that predicts in one step without seeing the state."""

    uses_time = False
    make_embedding, make_block = NoTimeEmbedding, TransformerBlock
