"""Encodings of integer pixel values as states: real numbers or tokens."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.core.rng import RandomStream
from feller.data.modality import check_finite_state
from feller.spaces import Euclidean, Space, Tokens


class PixelEncoding(abc.ABC):
    """Base class of encodings of integer pixel values 0..`levels` as states."""

    @property
    def module(self) -> nn.Module | None:
        """Autoencoder whose latents are the states, and whose weights a run stores; None if states are pixels."""
        return None

    @abc.abstractmethod
    def space(self, shape: tuple[int, ...], levels: int) -> Space:
        """Return the state space of images with this shape and pixel values 0..`levels`."""

    @abc.abstractmethod
    def encode(self, values: Tensor, levels: int) -> Tensor:
        """Encode pixel values, uint8, as states."""

    @abc.abstractmethod
    def dequantize(self, values: Tensor, levels: int, rng: RandomStream) -> Tensor:
        """Encode pixel values as states that have a density: real states get uniform dequantization noise."""

    @abc.abstractmethod
    def decode(self, state: Tensor, levels: int) -> Tensor:
        """Decode states to pixel values, uint8."""

    @abc.abstractmethod
    def decode_soft(self, state: Tensor, levels: int) -> Tensor:
        """Decode states to pixel values without rounding, if the encoding permits it."""

    @abc.abstractmethod
    def log_scale(self, shape: tuple[int, ...], levels: int) -> float | None:
        """Return s = log |d values / d state|, so that nll(values) = nll(states) + s; None if there is no density."""


@dataclass(frozen=True)
class AsNumbers(PixelEncoding):
    """Encoding of pixel values as real numbers, scaled linearly to [-1, 1]."""

    def space(self, shape: tuple[int, ...], levels: int) -> Space:
        return Euclidean(shape)

    def encode(self, values: Tensor, levels: int) -> Tensor:
        """Scale pixel values 0..levels to [-1, 1]."""
        return values.float() * (2 / levels) - 1

    def dequantize(self, values: Tensor, levels: int, rng: RandomStream) -> Tensor:
        """Add uniform noise of +-1/2 level to pixel values, then scale them linearly like `encode`."""
        return (values + rng.uniform(values.shape) - 0.5) * (2 / levels) - 1

    def decode(self, state: Tensor, levels: int) -> Tensor:
        """Scale states from [-1, 1] to 0..levels, clip and round."""
        check_finite_state(state)
        return ((state + 1) * (levels / 2)).clamp(0, levels).round().to(torch.uint8)

    def decode_soft(self, state: Tensor, levels: int) -> Tensor:
        """Scale states from [-1, 1] to 0..levels without clipping, so that gradients are not zero out of range."""
        return (state + 1) * (levels / 2)

    def log_scale(self, shape: tuple[int, ...], levels: int) -> float:
        return math.prod(shape) * math.log(levels / 2)


@dataclass(frozen=True)
class AsTokens(PixelEncoding):
    """Encoding of pixel values as tokens: one token per level."""

    def space(self, shape: tuple[int, ...], levels: int) -> Space:
        return Tokens(levels + 1, shape)

    def encode(self, values: Tensor, levels: int) -> Tensor:
        return values.long()

    def dequantize(self, values: Tensor, levels: int, rng: RandomStream) -> Tensor:
        return values.long()

    def decode(self, state: Tensor, levels: int) -> Tensor:
        """Return tokens as pixel values; InputError if a token is not a pixel value, such as a remaining mask."""
        invalid = (state < 0) | (state > levels)
        if invalid.any():
            raise InputError(
                f"{int(invalid.sum())} tokens are not pixel levels from 0 to {levels}",
                remedy="Run the simulation until t = 1",
            )
        return state.to(torch.uint8)

    def decode_soft(self, state: Tensor, levels: int) -> Tensor:
        return self.decode(state, levels).float()

    def log_scale(self, shape: tuple[int, ...], levels: int) -> None:
        """Return None: tokens have no density."""
