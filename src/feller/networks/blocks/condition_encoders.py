"""Encoders of conditions: one vector per example for a class, number, vector or set, with a learned null vector."""

import abc
import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.data.conditions import CategoryCondition, Condition, NumberCondition, SetCondition, VectorCondition

ConditionType = int | Condition
"""Type of a condition: a number of classes, whose null value is that number, or a `Condition`."""
ConditionTypes = Mapping[str, ConditionType]
"""Type of each condition, by name."""
NUMBER_OCTAVES = 5
"""Number of octaves of the Fourier features of a standardised number: the periods are 16, 8, 4, 2 and 1 standard
deviations."""


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

    def forward(self, value: Float[Tensor, " b *d"]) -> Float[Tensor, "b width"]:
        """Return the embedding of each value; a value with NaN entries is null."""
        is_null = value.reshape(len(value), -1).isnan().any(1)
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
    """Encoder of a vector: an MLP on the standardised entries."""

    def __init__(self, condition: VectorCondition, width: int) -> None:
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


def _category_encoder(condition: CategoryCondition, width: int) -> nn.Embedding:
    return nn.Embedding(len(condition.categories) + 1, width)


ENCODERS: dict[type[Condition], Callable[..., nn.Module]] = {
    CategoryCondition: _category_encoder,
    NumberCondition: NumberEncoder,
    SetCondition: SetEncoder,
    VectorCondition: VectorEncoder,
}
"""Function (condition, width) -> encoder, for each type of condition."""


def build_encoder(kind: ConditionType, width: int) -> nn.Module:
    """Return the encoder of a condition, which maps its values [b, ...] to vectors [b, width]."""
    return nn.Embedding(kind + 1, width) if isinstance(kind, int) else ENCODERS[type(kind)](kind, width)
