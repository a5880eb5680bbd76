"""Conditions that are numbers or vectors of numbers."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.errors import InputError
from feller.data.conditions.cells import ConditionColumn, numbers_of, refuse_constant
from feller.data.conditions.condition import Condition


@dataclass(frozen=True)
class NumberCondition(Condition):
    """Real number, float64 [n]; missing numbers are NaN, which is also the null value."""

    mean: float
    scale: float
    """Standard deviation in the training data."""
    low: float
    """Minimum in the training data."""
    high: float
    """Maximum in the training data."""

    def __post_init__(self) -> None:
        if not (0 < self.scale < math.inf and self.low <= self.high and math.isfinite(self.mean)):
            raise InputError("a finite mean, a positive scale, and a range", self)

    @property
    def example(self) -> str:
        return f"{self.mean:.3g}"

    @property
    def placeholder(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def encode(self, name: str, column: ConditionColumn) -> Float64[Tensor, " n"]:
        return torch.from_numpy(numbers_of(name, column, 1))

    def decode(self, values: Float64[Tensor, " n"]) -> Float64[np.ndarray, " n"]:
        return values.detach().cpu().double().numpy()

    def outside(self, values: Float64[Tensor, " n"]) -> str | None:
        is_outside = (values < self.low) | (values > self.high)
        return f"{self.low:g} to {self.high:g}" if bool(is_outside.any()) else None


FAR = 8.0
"""Number of standard deviations from the mean beyond which the entries of a vector are outside of the training range,
whose limits are not recorded."""


@dataclass(frozen=True)
class VectorCondition(Condition):
    """Vector of real numbers, such as an embedding, float64 [n, d]; the null value is a vector of NaN."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    """Standard deviation of each entry in the training data; 1 for a constant entry."""

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.scale) or not all(0 < s < math.inf for s in self.scale):
            raise InputError("a mean and a positive scale for each entry of the vector", self)

    @property
    def example(self) -> str:
        return f"a list of {len(self.mean)} numbers"

    @property
    def _shape(self) -> tuple[int, ...]:
        return (len(self.mean),)

    def encode(self, name: str, column: ConditionColumn) -> Float64[Tensor, "n d"]:
        values = numbers_of(name, column, 2, default_width=len(self.mean))
        if values.shape[1] != len(self.mean):
            raise InputError(f"vectors of {len(self.mean)} numbers", f"vectors of {values.shape[1]}", argument=name)
        return torch.from_numpy(values)

    def _encode_given(self, name: str, entries: ConditionColumn) -> Float64[Tensor, "n d"]:
        values = self.encode(name, entries)
        if bool((values.isnan().any(1) & ~values.isnan().all(1)).any()):
            raise InputError("vectors without missing entries, or missing vectors", "NaN in a vector", argument=name)
        return values

    def _entries(self, value: Any) -> Any:
        if isinstance(value, Tensor | np.ndarray):
            return value if value.ndim == 2 else None
        is_several = isinstance(value, list | tuple) and len(value) > 0 and not all(map(_is_entry, value))
        return value if is_several else None

    def outside(self, values: Float64[Tensor, "n d"]) -> str | None:
        distance = (values - values.new_tensor(self.mean)).abs() / values.new_tensor(self.scale)
        is_outside = bool((distance > FAR).any())
        return f"{FAR:g} standard deviations around the mean of each entry" if is_outside else None

    def decode(self, values: Float64[Tensor, "n d"]) -> Float64[np.ndarray, "n d"]:
        return values.detach().cpu().double().numpy()


def _is_entry(value: Any) -> bool:
    return isinstance(value, Real) or (isinstance(value, str) and len(value.split()) == 1)


def fit_number(name: str, values: np.ndarray) -> NumberCondition:
    """Return the type of a number, with its mean, scale and range in the training data."""
    present = values[np.isfinite(values)]
    refuse_constant(name, bool(present.min() == present.max()))
    scale = float(present.std())
    if not 0 < scale < math.inf:
        raise InputError("the range of values is too small or too large", remedy="Change the unit", argument=name)
    return NumberCondition(float(present.mean()), scale, float(present.min()), float(present.max()))


def fit_vector(name: str, values: np.ndarray) -> VectorCondition:
    """Return the type of a vector, with the mean and scale of its entries in the training data."""
    present = values[np.isfinite(values).all(1)]
    if not len(present):
        raise InputError("at least one value of the condition", "only missing values", argument=name)
    refuse_constant(name, bool((present == present[0]).all()))
    scale = present.std(0)
    return VectorCondition(tuple(present.mean(0).tolist()), tuple(np.where(scale > 0, scale, 1.0).tolist()))


def vector_cells(vectors: Float64[np.ndarray, "n d"]) -> np.ndarray:
    """Return vectors as texts [n], numbers separated by blanks; empty for NaN."""
    return np.array(["" if any(x != x for x in row) else " ".join(map(repr, row)) for row in vectors.tolist()])
