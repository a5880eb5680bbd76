"""A small network, trained on real pictures, that looks at those of a model."""

import abc
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Float64, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from feller.data import Dataset, Images, batches
from feller.draws import Draws
from feller.errors import InputError
from feller.networks.architecture import weights_from
from feller.objective import Batch, Example, Objective
from feller.train.engine import Engine
from feller.train.loop import check_finite, make_learner, train
from feller.train.optimiser import Training

FEATURES = 32
"""Numbers that stand for a picture."""
SHIFT = 8
"""Pictures are moved by up to this part of their sides while training: an eighth."""
CHUNK = 512
"""Pictures that go through the network at once."""
TRAINING = Training(batch=128, steps=600, lr=3e-3, warmup=30, decay=0.7, weight_decay=1e-2, average=0.0)


class Looks(nn.Module):
    """Convolutions that halve the sides, then features of the whole picture, then one logit per class."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        widths, layers = [16, 32, 32], []
        while side > 4 * 2 ** (len(widths) - 1):
            widths.append(32)
        for i, width in enumerate(widths):
            ...
