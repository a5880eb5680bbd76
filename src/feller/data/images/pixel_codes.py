"""How whole levels, as files hold them, become states: as numbers, or as symbols."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.core.errors import InputError
from feller.core.rng import RandomStream
from feller.data.modality import check_finite_state
from feller.spaces import Euclidean, Space, Tokens


class PixelEncoding(abc.ABC):
    """Levels from 0 to `levels`, in arrays of a shape."""

    @abc.abstractmethod
    def space(self, shape: tuple[int, ...], levels: int) -> Space:
        """Return where the states live."""

    @abc.abstractmethod
    def encode(self, values: Tensor, levels: int) -> Tensor:
        """Turn levels, uint8, into states."""

    @abc.abstractmethod
    def dequantize(self, values: Tensor, levels: int, rng: RandomStream) -> Tensor:
        """Turn levels into states that have a density."""

    @abc.abstractmethod
    def decode(self, state: Tensor, levels: int) -> Tensor:
        """Turn states into levels, uint8."""

    @abc.abstractmethod
    def decode_soft(self, state: Tensor, levels: int) -> Tensor:
        """Turn states into levels that are not rounded, where that is possible."""

    @abc.abstractmethod
    def log_scale(self, shape: tuple[int, ...], levels: int) -> float | None:
        """Return the log volume of levels per volume of states; None without a density."""


@dataclass(frozen=True)
class AsNumbers(PixelEncoding):
    """Levels lie on [-1, 1], at equal distances."""

    def space(self, shape: tuple[int, ...], levels: int) -> Space:
        return Euclidean(shape)

    def encode(self, values: Tensor, levels: int) -> Tensor:
        """Scale 0..levels to [-1, 1]."""
        return values.float() * (2 / levels) - 1

    def dequantize(self, values: Tensor, levels: int, rng: RandomStream) -> Tensor:
        """Add noise from -1/2 to 1/2 level, then scale."""
        return (values + rng.uniform(values.shape) - 0.5) * (2 / levels) - 1

    def decode(self, state: Tensor, levels: int) -> Tensor:
        """Scale [-1, 1] to 0..levels, cut off what lies outside, round."""
        check_finite_state(state)
        return ((state + 1) * (levels / 2)).clamp(0, levels).round().to(torch.uint8)

    def decode_soft(self, state: Tensor, levels: int) -> Tensor:
        """Scale [-1, 1] to 0..levels, and cut nothing off: what lies outside keeps its slope."""
        return (state + 1) * (levels / 2)

    def log_scale(self, shape: tuple[int, ...], levels: int) -> float:
        return math.prod(shape) * math.log(levels / 2)


@dataclass(frozen=True)
class AsTokens(PixelEncoding):
    """Each level is a symbol of its own."""

    def space(self, shape: tuple[int, ...], levels: int) -> Space:
        return Tokens(levels + 1, shape)

    def encode(self, values: Tensor, levels: int) -> Tensor:
        """Return them as int64."""
        return values.long()

    def dequantize(self, values: Tensor, levels: int, rng: RandomStream) -> Tensor:
        return values.long()

    def decode(self, state: Tensor, levels: int) -> Tensor:
        """Return symbols as levels; InputError if a symbol is no level, such as a mask that is left."""
        odd = (state < 0) | (state > levels)
        if odd.any():
            raise InputError(
                f"{int(odd.sum())} symbols are no levels from 0 to {levels}", remedy="Let the simulation reach t = 1"
            )
        return state.to(torch.uint8)

    def decode_soft(self, state: Tensor, levels: int) -> Tensor:
        return self.decode(state, levels).float()

    def log_scale(self, shape: tuple[int, ...], levels: int) -> None:
        """Return None."""
