"""Small pictures that claims are tested on, and who judges samples of them."""

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
    """Pictures to learn from, and who judges samples."""

    data: Dataset
    judge: Judge
    steps: int
    """Of training."""
    count: int
    """Pictures in a set of samples: distances of sets of other sizes cannot be compared."""


@functools.cache
def digits(steps: int) -> Pictures:
    """Return the digits of the package, their judge, and for how long networks train."""
    data = read("example:digits")
    return Pictures(data, train_judge(data), steps, len(data))


def small_mnist(file: str, steps: int, count: int) -> Pictures:
    """Return MNIST in 8 x 8 pixels of 17 levels, its judge, and for how long networks train."""
    whole = read(file)
    modality = Images(8, 8, 1, levels=16, classes=whole.modality.conditions["label"])
    data = Dataset(shrink(whole.values), whole.given, modality)
    return Pictures(data, train_judge(data), steps, count)


def shrink(values: UInt8[Tensor, "n 1 28 28"]) -> UInt8[Tensor, "n 1 8 8"]:
    """Pad to 32 x 32, average 4 x 4 pixels, and round to 17 levels."""
    padded = torch.nn.functional.pad(values.float(), (2, 2, 2, 2))
    return torch.nn.functional.avg_pool2d(padded, 4).mul(16 / 255).round().to(torch.uint8)
