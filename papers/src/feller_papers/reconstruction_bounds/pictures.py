"""Images of the claims: MNIST if its folder is given, else the digits of the package."""

import functools
import pathlib
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller_papers.reconstruction_bounds.setting import Setting
from feller_papers.setting import file_of

TRAIN, TESTS = "train-images-idx3-ubyte.gz", ("t10k-images-idx3-ubyte.gz", "t10k-even5000-images-idx3-ubyte.gz")


@dataclass(frozen=True, eq=False)
class Part:
    """Images and their labels."""

    x: Float64[Tensor, "n d"]
    """Pixels in [0, 1]."""
    labels: Int64[Tensor, " n"]

    def of(self, *classes: int) -> "Part":
        """Return the images of given classes."""
        which = torch.isin(self.labels, torch.tensor(classes))
        return Part(self.x[which], self.labels[which])


@dataclass(frozen=True, eq=False)
class Pictures:
    """Training and test images."""

    name: str
    side: int
    train: Part
    test: Part


def pictures(setting: Setting) -> Pictures:
    """Return the largest available data set."""
    folder = setting.data
    train = file_of(folder, "images", "mnist", TRAIN)
    tests = [file for file in (file_of(folder, "images", "mnist", name) for name in TESTS) if file is not None]
    return digits() if train is None or not tests else _mnist(train, tests[0])


@functools.cache
def digits() -> Pictures:
    """Return the digits of the package."""
    return _pictures("digits", read("example:digits"), read("example:digits/test"))


@functools.cache
def _mnist(train: pathlib.Path, test: pathlib.Path) -> Pictures:
    return _pictures("MNIST", read(str(train)), read(str(test)))


def _pictures(name: str, train: Dataset, test: Dataset) -> Pictures:
    parts = [
        Part((part.modality.encode(part.values).flatten(1).double() + 1) / 2, part.given["label"])
        for part in (train, test)
    ]
    return Pictures(name, train.values.shape[-1], *parts)
