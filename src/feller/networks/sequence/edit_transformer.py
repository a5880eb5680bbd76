"""Transformer that predicts edits of sequences of variable length."""

import abc
from dataclasses import dataclass, field

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.pytree import Cond, is_concrete
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning
from feller.networks.blocks.relative_positions import rotary_cos_sin
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.sequence.text_dit import (
    ConvAttentionBlock,
    LogitHead,
    centered_padding,
    check_sizes,
    check_text,
    key_mask,
    rotary_attention,
    token_embedding,
)

NUM_EXTRA_TOKENS = 3
"""Padding, mask and start, whose ids follow those of the data."""


class EditOutputs(abc.ABC):
    """Outputs of a network at each position: log rates of edits, and logits of the tokens that they write."""

    @property
    @abc.abstractmethod
    def rates(self) -> tuple[str, ...]:
        """Names of the log rates."""

    @property
    @abc.abstractmethod
    def tokens(self) -> tuple[str, ...]:
        """Names of the logits."""

    def split(self, output: Float[Tensor, "b places size"], vocab_size: int) -> dict[str, Tensor]:
        """Return the outputs by name: log rates [b, places] and logits [b, places, vocab_size]."""
        sizes = [1] * len(self.rates) + [vocab_size] * len(self.tokens)
        parts = dict(zip((*self.rates, *self.tokens), output.split(sizes, 2), strict=True))
        return {name: part[..., 0] if name in self.rates else part for name, part in parts.items()}


@dataclass(frozen=True)
class Insertions(EditOutputs):
    """Number of missing tokens in each gap, and the logits of inserted tokens, or of masks."""

    @property
    def rates(self) -> tuple[str, ...]:
        return ("insert",)

    @property
    def tokens(self) -> tuple[str, ...]:
        return ("insert_token",)


@dataclass(frozen=True)
class AllEdits(EditOutputs):
    """Rates of insertions, substitutions and deletions, and the logits of inserted and substituted tokens."""

    @property
    def rates(self) -> tuple[str, ...]:
        return ("insert", "substitute", "delete")

    @property
    def tokens(self) -> tuple[str, ...]:
        return ("insert_token", "substitute_token")


@dataclass(frozen=True)
class EditTransformer(NetworkConfig):
    """Diffusion transformer over a start token and the tokens of a padded sequence; its outputs are edits.

    The blocks are those of `TextDiT`. Padding, with the id `vocab_size`, does not affect the output at other positions;
    the mask token has the id `vocab_size` + 1.
    """

    vocab_size: int
    """Number of tokens that occur in data."""
    outputs: EditOutputs = field(default_factory=Insertions)
    """Edits that the network predicts."""
    width: int = 160
    """Number of features per token."""
    depth: int = 4
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads."""

    def __post_init__(self) -> None:
        check_sizes(self, self.vocab_size, self.width, self.depth, self.heads)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "EditTransformerNetwork":
        check_text(self, shape)
        with seeded_init(rng):
            return EditTransformerNetwork(self, conditions)


class EditTransformerNetwork(nn.Module):
    """Transformer that predicts edits, configured by `EditTransformer`."""

    def __init__(self, config: EditTransformer, conditions: ConditionTypes) -> None:
        super().__init__()
        width, inner = config.width, -(-config.width // 4)
        self.outputs, self.vocab_size = config.outputs, config.vocab_size
        self.head_dim = width // config.heads
        self.conditioning = Conditioning(conditions, inner)
        self.null_values = self.conditioning.null_values
        self.embed = token_embedding(config.vocab_size + NUM_EXTRA_TOKENS, width)
        self.blocks = nn.ModuleList(ConvAttentionBlock(width, config.heads, inner) for _ in range(config.depth))
        num_outputs = len(config.outputs.rates) + len(config.outputs.tokens) * config.vocab_size
        self.head = LogitHead(width, num_outputs, inner)

    def forward(self, x_t: Int64[Tensor, "b l"], t: Float[Tensor, " b"], cond: Cond) -> dict[str, Tensor]:
        """Return the outputs at the start and at each token, [b, l + 1, ...]; outputs at padding are 0."""
        length = x_t.shape[1]
        is_token = x_t != self.vocab_size
        if is_concrete(x_t):  # positions that are padding in all sequences are left out
            longest = int(is_token.sum(1).amax()) if len(x_t) else 0
            x_t, is_token = x_t[:, :longest], is_token[:, :longest]
        vector, valid = self.conditioning(t, cond), F.pad(is_token, (1, 0), value=True)
        h = self.embed(F.pad(x_t, (1, 0), value=self.vocab_size + NUM_EXTRA_TOKENS - 1))
        attend = rotary_attention(rotary_cos_sin(0, h.shape[1], self.head_dim, h), key_mask(valid))
        pad = centered_padding(valid)
        for block in self.blocks:
            h = block(h, vector, attend, pad)
        output = self.head(h, vector) * valid[:, :, None]
        output = F.pad(output, (0, 0, 0, length + 1 - output.shape[1]))
        return self.outputs.split(output, self.vocab_size)
