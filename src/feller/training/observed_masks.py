"""Distributions of the masks of observed entries, for training of inpainting, imputation and continuation."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.core.rng import RandomStream


class ObservedMasks(abc.ABC):
    """Distribution of the mask of observed entries of a training example."""

    @abc.abstractmethod
    def sample(self, x_1: Float[Tensor, " b *d"], rng: RandomStream) -> Bool[Tensor, " b *d"]:
        """Sample a mask for each example, True for observed entries."""


@dataclass(frozen=True)
class RandomEntries(ObservedMasks):
    """Masks in which a random fraction of the entries, uniform on [0, 1], is observed."""

    def sample(self, x_1: Tensor, rng: RandomStream) -> Bool[Tensor, " b *d"]:
        fraction = rng.uniform((len(x_1), *(1,) * (x_1.ndim - 1)), device=x_1.device)
        return rng.uniform(x_1.shape, device=x_1.device) < fraction


@dataclass(frozen=True)
class EntriesGapsAndEnds(ObservedMasks):
    """Masks for arrays [*sides, channels]: scattered entries, long gaps, or the steps up to a cut-off.

    Each example has one of three masks with equal probability. Scattered: a random fraction of the entries is observed.
    Gap: an interval of random ends along a random side is missing, in half of the examples at the same place in all
    channels. Cut-off: the steps before a random one along the first side are observed, for continuation. In a quarter
    of the gaps and cut-offs a random fraction of the other entries is missing as well.
    """

    def sample(self, x_1: Tensor, rng: RandomStream) -> Bool[Tensor, " b *d"]:
        n, sides, channels, device = len(x_1), x_1.shape[1:-1], x_1.shape[-1], x_1.device
        one = (n, *(1,) * (x_1.ndim - 1))
        choice, fraction, side, is_shared, is_thinned = (rng.uniform(one, device=device) for _ in range(5))
        scattered = rng.uniform(x_1.shape, device=device) < fraction
        ends = rng.uniform((*one[:-1], 2 * channels), device=device).unflatten(-1, (2, channels))
        ends = torch.where(is_shared[..., None] < 0.5, ends[..., :1], ends).sort(-2).values
        gap = torch.ones_like(scattered)
        for axis, count in enumerate(sides):
            position = torch.arange(count, device=device).reshape(count, *(1,) * (len(sides) - axis))
            start, stop = (ends * (count + 1)).floor().unbind(-2)
            is_axis = (side * len(sides)).floor() == axis
            gap &= ~(is_axis & (position >= start) & (position < stop))
        step = torch.arange(x_1.shape[1], device=device).reshape(-1, *(1,) * (x_1.ndim - 2))
        before_end = step < ends[..., 0, :1] * x_1.shape[1]
        block = torch.where(choice < 2 / 3, gap, before_end) & (scattered | (is_thinned >= 0.25))
        return torch.where(choice < 1 / 3, scattered, block)
