"""Networks for arrays of tokens with a fixed shape."""

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import SummedConditioning, zero_init
from feller.networks.mlp import ResidualMLPBlock
from feller.networks.network_config import NetworkConfig, seeded_init


@dataclass(frozen=True)
class TokenAdapter(NetworkConfig):
    """Adapter that runs a real-valued network on token embeddings, with a head for logits.

    For images (channels, height, width), the embedding features become extra channels. For other states, they become
    a leading axis.
    """

    inner: NetworkConfig
    vocab_size: int
    """Vocabulary size."""
    has_mask: bool = False
    """True if the state may contain a mask token."""
    embed_dim: int = 16
    """Number of features per token embedding; logits are linear in the network's output and in the embedding."""

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.embed_dim) < 1:
            raise UsageError("vocab_size and embed_dim of at least 1", f"{self.vocab_size} and {self.embed_dim}")

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "TokenAdapterNetwork":
        if not isinstance(shape, tuple):
            raise UsageError("TokenAdapter expects one array of tokens", found=shape)
        is_image = len(shape) == 3
        inner_shape = (self.embed_dim * shape[0], *shape[1:]) if is_image else (self.embed_dim, *shape)
        inner = self.inner.build(inner_shape, conditions, rng.fold_in("inner"))
        with seeded_init(rng):
            return TokenAdapterNetwork(self, inner, inner_shape)


class TokenAdapterNetwork(nn.Module):
    """Real-valued network on token embeddings, with a head for logits; configured by `TokenAdapter`."""

    def __init__(self, config: TokenAdapter, inner: nn.Module, inner_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.inner_shape = inner_shape
        self.embed = nn.Embedding(config.vocab_size + config.has_mask, config.embed_dim)
        self.inner = inner
        self.null_values = inner.null_values
        self.skip_head = zero_init(nn.Linear(config.embed_dim, config.vocab_size))
        self.head = nn.Linear(config.embed_dim, config.vocab_size, bias=False)

    def forward(self, x_t: Int[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b *d symbols"]:
        """Return the logits of the data token at each entry of the state."""
        embeddings = self.embed(x_t)
        inputs = embeddings.movedim(-1, 1)  # b features *d
        output = self.inner(inputs.reshape(x_t.shape[0], *self.inner_shape), t, cond)
        return self.head(output.reshape(inputs.shape).movedim(1, -1)) + self.skip_head(embeddings)


@dataclass(frozen=True)
class TokenMLP(NetworkConfig):
    """Residual MLP for short token arrays, whose embeddings are flattened.

    Source: Shaul et al. 2024, arXiv 2412.03487, on images of a few dozen pixels.
    """

    vocab_size: int
    """Vocabulary size."""
    has_mask: bool = False
    """True if the state may contain a mask token."""
    embed_dim: int = 8
    """Number of features per token."""
    width: int = 384
    """Number of features per layer."""
    depth: int = 3
    """Number of residual blocks."""

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.embed_dim, self.width, self.depth) < 1:
            raise UsageError("vocab_size, embed_dim, width and depth of at least 1", self)

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "ResidualTokenMLP":
        if not isinstance(shape, tuple):
            raise UsageError("TokenMLP expects one array of tokens", found=shape)
        with seeded_init(rng):
            return ResidualTokenMLP(self, shape, conditions)


class ResidualTokenMLP(nn.Module):
    """Residual MLP for short token arrays, configured by `TokenMLP`."""

    def __init__(self, config: TokenMLP, shape: tuple[int, ...], conditions: ConditionTypes) -> None:
        super().__init__()
        width, size = config.width, math.prod(shape)
        self.vocab_size = config.vocab_size
        self.conditioning = SummedConditioning(conditions, width)
        self.null_values = self.conditioning.null_values
        self.token_embed = nn.Embedding(config.vocab_size + config.has_mask, config.embed_dim)
        self.embed = nn.Linear(size * config.embed_dim, width)
        self.blocks = nn.ModuleList(ResidualMLPBlock(width) for _ in range(config.depth))
        self.head = zero_init(nn.Linear(width, size * config.vocab_size))

    def forward(self, x_t: Int[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b *d symbols"]:
        """Return the logits of the data token at each entry of the state."""
        h = self.embed(self.token_embed(x_t).flatten(1)) + self.conditioning(t, cond)
        for block in self.blocks:
            h = block(h)
        return self.head(F.silu(F.layer_norm(h, h.shape[1:]))).reshape(*x_t.shape, self.vocab_size)
