"""Networks for arrays of tokens of a fixed shape: any other architecture between an embedding and a head."""

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import Summed, zero
from feller.networks.mlp import Block


@dataclass(frozen=True)
class Embedded(Architecture):
    """A network for real states that sees features of each token, and whose answer a layer turns into logits.

    The features of pictures (channels, height, width) are more channels, those of other arrays an axis in front.
    """

    inner: Architecture
    symbols: int
    """Symbols of the answer."""
    masked: bool = False
    """A state may hold one more symbol, the mask."""
    features: int = 16
    """Of each token; the logits of a token are a linear function of twice as many numbers."""

    def __post_init__(self) -> None:
        if min(self.symbols, self.features) < 1:
            raise UsageError("symbols and features of 1 or more", f"{self.symbols} and {self.features}")

    def build(self, shape: State, conditions: dict[str, int], draws: Rng) -> "EmbeddedNetwork":
        """Make a network with new weights."""
        if not isinstance(shape, tuple):
            raise UsageError("Embedded expects one array of tokens", found=shape)
        picture = len(shape) == 3
        inside = (self.features * shape[0], *shape[1:]) if picture else (self.features, *shape)
        inner = self.inner.build(inside, conditions, draws.fold_in("inner"))
        with weights_from(draws):
            return EmbeddedNetwork(self, inner, inside)


class EmbeddedNetwork(nn.Module):
    """The network of `Embedded`."""

    def __init__(self, settings: Embedded, inner: nn.Module, inside: tuple[int, ...]) -> None:
        super().__init__()
        self.inside = inside
        self.enter = nn.Embedding(settings.symbols + settings.masked, settings.features)
        self.inner = inner
        self.nulls = inner.nulls
        self.near = zero(nn.Linear(settings.features, settings.symbols))
        self.leave = nn.Linear(settings.features, settings.symbols, bias=False)

    def forward(self, x_t: Int[Tensor, " b *d"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, "b *d symbols"]:
        """Predict logits of each token of the data."""
        tokens = self.enter(x_t)
        parts = tokens.movedim(-1, 1)  # b features *d
        answer = self.inner(parts.reshape(x_t.shape[0], *self.inside), t, given)
        return self.leave(answer.reshape(parts.shape).movedim(1, -1)) + self.near(tokens)


@dataclass(frozen=True)
class TokenMLP(Architecture):
    """Residual blocks of two layers for short arrays of tokens, whose features and logits are flattened.

    Source: Shaul et al. 2024, arXiv 2412.03487, on pictures of some dozens of pixels.
    """

    symbols: int
    """Symbols of the answer."""
    masked: bool = False
    """A state may hold one more symbol, the mask."""
    features: int = 8
    """Of each token."""
    width: int = 384
    """Features of each layer."""
    depth: int = 3
    """Residual blocks."""

    def __post_init__(self) -> None:
        if min(self.symbols, self.features, self.width, self.depth) < 1:
            raise UsageError("numbers of 1 or more", self)

    def build(self, shape: State, conditions: dict[str, int], draws: Rng) -> "ResidualTokenMLP":
        """Make a network with new weights."""
        if not isinstance(shape, tuple):
            raise UsageError("TokenMLP expects one array of tokens", found=shape)
        with weights_from(draws):
            return ResidualTokenMLP(self, shape, conditions)


class ResidualTokenMLP(nn.Module):
    """The network of `TokenMLP`."""

    def __init__(self, settings: TokenMLP, shape: tuple[int, ...], conditions: dict[str, int]) -> None:
        super().__init__()
        width, size = settings.width, math.prod(shape)
        self.symbols = settings.symbols
        self.conditioning = Summed(conditions, width)
        self.nulls = self.conditioning.nulls
        self.tokens = nn.Embedding(settings.symbols + settings.masked, settings.features)
        self.enter = nn.Linear(size * settings.features, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(settings.depth))
        self.leave = zero(nn.Linear(width, size * settings.symbols))

    def forward(self, x_t: Int[Tensor, " b *d"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, "b *d symbols"]:
        """Predict logits of each token of the data."""
        h = self.enter(self.tokens(x_t).flatten(1)) + self.conditioning(t, given)
        for block in self.blocks:
            h = block(h)
        return self.leave(F.silu(F.layer_norm(h, h.shape[1:]))).reshape(*x_t.shape, self.symbols)
