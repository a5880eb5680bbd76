"""Handwritten digits, 8 x 8 pixels from 0 to 16."""

import torch

from feller.core.rng import Draws
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.split import split

DIGITS_TEST = 360


def digits(part: str) -> Dataset:
    """Return the 1,437 digits of `train` or the 360 of `test`, alike in their classes."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    values = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 8, 8)
    modality = Images(8, 8, 1, levels=16, classes=tuple(str(digit) for digit in range(10)))
    dataset = Dataset(values, {"label": torch.from_numpy(labels).long()}, modality)
    train, test = split(dataset, DIGITS_TEST / len(dataset), Draws(0).named("example:digits"))
    return train if part == "train" else test
