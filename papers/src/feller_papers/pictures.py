"""Small image data sets of the claims, with their judges."""

import functools
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller_papers.judge import Judge, train_judge


@dataclass(frozen=True, eq=False)
class Pictures:
    """Training images, a judge, and sizes."""

    data: Dataset
    judge: Judge
    steps: int
    """Training steps."""
    count: int
    """Images per set of samples; distances depend on this size."""


@functools.cache
def digits(steps: int) -> Pictures:
    """Return the digits of the package."""
    data = read("example:digits")
    return Pictures(data, train_judge(data), steps, len(data))


def small_mnist(file: str, steps: int, count: int) -> Pictures:
    """Return MNIST in 8 x 8 pixels with 17 levels."""
    full = read(file)
    modality = Images(8, 8, 1, levels=16, classes=full.modality.conditions["label"])
    data = Dataset(shrink(full.values), full.given, modality)
    return Pictures(data, train_judge(data), steps, count)


def shrink(values: UInt8[Tensor, "n 1 28 28"]) -> UInt8[Tensor, "n 1 8 8"]:
    """Return images padded to 32 x 32, pooled by 4 x 4 and rounded to 17 levels."""
    padded = torch.nn.functional.pad(values.float(), (2, 2, 2, 2))
    return torch.nn.functional.avg_pool2d(padded, 4).mul(16 / 255).round().to(torch.uint8)
