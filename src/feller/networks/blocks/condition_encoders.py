"""Encoders of conditions such as numbers and texts: one vector per example, and a learned vector for null."""

import abc
import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.data.conditions.categories import CategoryCondition, SetCondition
from feller.data.conditions.condition import Condition
from feller.data.conditions.encoded_texts import EncodedTextCondition
from feller.data.conditions.numbers import NumberCondition, VectorCondition
from feller.data.conditions.texts import SubwordCondition, TextCondition, TokenizedText

ConditionType = int | Condition
"""Type of a condition: a number of classes, whose null value is that number, or a `Condition`."""
ConditionTypes = Mapping[str, ConditionType]
"""Type of each condition, by name."""
NUMBER_OCTAVES = 5
"""Number of octaves of the Fourier features of a standardised number: the periods are 16, 8, 4, 2 and 1 standard
deviations."""
TEXT_DEPTH, TEXT_HEADS, MAX_TEXT_WIDTH = 2, 4, 128
"""Number of transformer blocks of the encoder of texts, number of attention heads, and maximum number of features."""


def fourier_features(x: Float[Tensor, " *d"], octaves: int) -> Float[Tensor, " *d features"]:
    """Return the sine and the cosine of each entry at 1/4, 1/2, 1, ... cycles per unit: two features per octave."""
    frequencies = torch.arange(octaves, dtype=x.dtype, device=x.device).exp2() * (math.pi / 2)
    angles = x[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)


def num_classes(name: str, kind: ConditionType) -> int:
    """Return the number of classes of a condition.

    Raises:
        UsageError: If the condition has no classes.
    """
    if not isinstance(kind, int):
        raise UsageError(argument=name, expected="a condition with classes", found=type(kind).__name__)
    return kind


def null_of(kind: ConditionType) -> int | float:
    """Return the null value of a condition: the number of classes, or that of its type."""
    return kind if isinstance(kind, int) else kind.null


class ConditionEncoder(nn.Module, abc.ABC):
    """Encoder of the values of a condition that are not null; a learned vector stands for the null value, NaN."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(features, width), nn.Linear(width, width)
        self.null = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.null)

    @abc.abstractmethod
    def features(self, value: Float[Tensor, " b *d"]) -> Float[Tensor, "b features"]:
        """Return the input features of values without NaN."""

    def is_null(self, value: Tensor) -> Bool[Tensor, " b"]:
        """Return True for each value that is null: one with NaN entries."""
        return value.reshape(value.shape[0], -1).isnan().any(1)  # len() would fix the batch size of exports

    def forward(self, value: Shaped[Tensor, " b *d"]) -> Float[Tensor, "b width"]:
        """Return the embedding of each value; null values get the learned vector."""
        is_null = self.is_null(value)
        features = self.features(value.nan_to_num()).to(self.fc1.weight.dtype)
        return torch.where(is_null[:, None], self.null, self.fc2(F.silu(self.fc1(features))))


class NumberEncoder(ConditionEncoder):
    """Encoder of a number: an MLP on the standardised number and its Fourier features."""

    def __init__(self, condition: NumberCondition, width: int) -> None:
        super().__init__(1 + 2 * NUMBER_OCTAVES, width)
        self.mean, self.scale = condition.mean, condition.scale

    def features(self, value: Float64[Tensor, " b"]) -> Float[Tensor, "b features"]:
        standardized = (value - self.mean) / self.scale  # in float64: energies differ in their last digits
        return torch.cat([standardized[:, None], fourier_features(standardized / 4, NUMBER_OCTAVES)], 1)


class VectorEncoder(ConditionEncoder):
    """Encoder of a vector, or of the features of a text: an MLP on the standardised entries."""

    def __init__(self, condition: VectorCondition | EncodedTextCondition, width: int) -> None:
        super().__init__(len(condition.mean), width)
        self.mean, self.scale = condition.mean, condition.scale

    def features(self, value: Float64[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return (value - value.new_tensor(self.mean)) / value.new_tensor(self.scale)


class SetEncoder(ConditionEncoder):
    """Encoder of a set: an MLP on its multi-hot vector."""

    def __init__(self, condition: SetCondition, width: int) -> None:
        super().__init__(len(condition.elements), width)

    def features(self, value: Float64[Tensor, "b elements"]) -> Float[Tensor, "b elements"]:
        return value


class TextEncoder(ConditionEncoder):
    """Encoder of a text: a transformer on its tokens, and an MLP on the mean of their features."""

    def __init__(self, condition: TokenizedText, width: int) -> None:
        inner = TEXT_HEADS * max(1, min(width, MAX_TEXT_WIDTH) // TEXT_HEADS)
        super().__init__(inner, width)
        self.padding = int(condition.null)
        self.tokens = nn.Embedding(self.padding + 1, inner)
        self.blocks = nn.ModuleList(TextBlock(inner) for _ in range(TEXT_DEPTH))

    def is_null(self, value: Int64[Tensor, "b length"]) -> Bool[Tensor, " b"]:
        return (value == self.padding).all(1)

    def features(self, value: Int64[Tensor, "b length"]) -> Float[Tensor, "b features"]:
        is_token = value != self.padding
        is_token = torch.cat([torch.ones_like(is_token[:, :1]), is_token[:, 1:]], 1)  # no mask hides all of a text
        h = self.tokens(value)
        h = h + sincos(value.shape[1], h)
        for block in self.blocks:
            h = block(h, is_token)
        weights = is_token[:, :, None].to(h.dtype)
        return (F.layer_norm(h, h.shape[2:]) * weights).sum(1) / weights.sum(1)


def sincos(length: int, like: Float[Tensor, "b l width"]) -> Float[Tensor, "length width"]:
    """Return sine-cosine embeddings of the positions of a text, with wavelengths from 2 pi to 2,000 pi tokens."""
    count = like.shape[2] // 2
    frequencies = 1000 ** -(torch.arange(count, dtype=like.dtype, device=like.device) / count)
    angles = torch.arange(length, dtype=like.dtype, device=like.device)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


class TextBlock(nn.Module):
    """Transformer block of attention among the tokens of a text, and an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Float[Tensor, "b length width"], mask: Bool[Tensor, "b length"]) -> Float[Tensor, "b l width"]:
        """Return the features of each token; tokens attend to those that `mask` marks."""
        qkv = self.qkv(F.layer_norm(h, h.shape[2:])).unflatten(2, (3, TEXT_HEADS, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv, attn_mask=mask[:, None, None])
        h = h + self.proj(attended.transpose(1, 2).flatten(2))
        return h + self.fc2(F.gelu(self.fc1(F.layer_norm(h, h.shape[2:])), approximate="tanh"))


def _category_encoder(condition: CategoryCondition, width: int) -> nn.Embedding:
    return nn.Embedding(len(condition.categories) + 1, width)


ENCODERS: dict[type[Condition], Callable[..., nn.Module]] = {
    CategoryCondition: _category_encoder,
    EncodedTextCondition: VectorEncoder,
    NumberCondition: NumberEncoder,
    SetCondition: SetEncoder,
    SubwordCondition: TextEncoder,
    TextCondition: TextEncoder,
    VectorCondition: VectorEncoder,
}
"""Function (condition, width) -> encoder, for each type of condition."""


def build_encoder(kind: ConditionType, width: int) -> nn.Module:
    """Return the encoder of a condition, which maps its values [b, ...] to vectors [b, width].

    Raises:
        UsageError: If conditions of this type have no vector.
    """
    if isinstance(kind, int):
        return nn.Embedding(kind + 1, width)
    if type(kind) not in ENCODERS:
        raise UsageError(
            argument="condition",
            expected=f"no {type(kind).__name__}, which only networks of images take, such as UNet and DiT",
        )
    return ENCODERS[type(kind)](kind, width)
