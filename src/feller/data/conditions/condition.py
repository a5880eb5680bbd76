"""Base class of the types of conditions: their encoding as tensors, and null values."""

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.data.conditions.cells import ConditionColumn


@dataclass(frozen=True)
class Condition(abc.ABC):
    """Type of a condition. Its values are a tensor with one entry per example; the null value means "unconditional"."""

    @property
    def null(self) -> int | float:
        """Value with which the entry of an example is filled if it has no condition: NaN, unless overridden."""
        return math.nan

    @property
    @abc.abstractmethod
    def example(self) -> str:
        """Valid value, for messages."""

    @property
    def placeholder(self) -> str:
        """Text that shows in an empty field of a form which values are expected."""
        return self.example

    @property
    def choices(self) -> tuple[str, ...]:
        """All valid values, for a dropdown; empty if they cannot be listed."""
        return ()

    is_file: ClassVar[bool] = False
    """True if a text given by a user names a file, which the web page does not accept."""

    @abc.abstractmethod
    def encode(self, name: str, column: ConditionColumn) -> Tensor:
        """Convert the values of examples, as in files or Python, to a tensor [n, ...].

        Raises:
            InputError: If a value has the wrong type or is unknown; `name` is the name of the condition.
        """

    @abc.abstractmethod
    def decode(self, values: Tensor) -> np.ndarray:
        """Convert a tensor [n, ...] to the values in files: numbers [n] or [n, d], NaN for null, or texts [n]."""

    def parse(self, name: str, value: object, n: int) -> Tensor:
        """Convert a value given by a user, or one value for each of n samples, to a tensor [n, ...].

        Raises:
            UsageError: If a value has the wrong type or is unknown.
        """
        if isinstance(value, Tensor | np.ndarray) and not value.ndim:
            value = value.item()
        entries = self._entries(value)
        if entries is None:
            entries = [value] * n
        if len(entries) != n:
            raise UsageError(argument=name, expected=f"one value, or {n} values, one per sample", found=len(entries))
        try:
            return self._encode_given(name, entries)
        except InputError as error:
            raise UsageError(argument=name, expected=error.expected, found=error.found, remedy=error.remedy) from error

    def _encode_given(self, name: str, entries: ConditionColumn) -> Tensor:
        """Convert one value per sample given by a user; arguments and errors of `encode`."""
        return self.encode(name, entries)

    def rows(self, value: object, rows: slice) -> object:
        """Return the values of some samples if `value` has one value per sample; otherwise `value`."""
        entries = self._entries(value)
        return value if entries is None else entries[rows]

    def _entries(self, value: Any) -> Any:
        """Return the values of several samples; None for a single value."""
        return value if isinstance(value, list | tuple | Tensor | np.ndarray) else None

    def outside(self, values: Tensor) -> str | None:
        """Describe the training range if some values are outside of it; None otherwise."""
        return None

    def is_null(self, values: Tensor) -> Bool[Tensor, " n"]:
        """Return True for each example whose value is null."""
        entries = values.reshape(len(values), -1)
        return (entries.isnan() if math.isnan(self.null) else entries == self.null).any(1)

    def null_values(self, n: int) -> Tensor:
        """Return the null value of n examples, [n, ...]."""
        return torch.full((n, *self._shape), self.null, dtype=self._dtype)

    @property
    def _shape(self) -> tuple[int, ...]:
        return ()

    _dtype: ClassVar[torch.dtype] = torch.float64
