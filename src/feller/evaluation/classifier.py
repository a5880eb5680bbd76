"""What a classifier of pictures is trained on: their labels, or how they were turned."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from feller.core.rng import Draws
from feller.training.objective import Batch, Example, Objective

SHIFT = 12
"""Pictures are moved by up to their side divided by this, and by a pixel at least, while training."""


def window(
    x: Shaped[Tensor, "b c H W"], top: Int[Tensor, " b"], left: Int[Tensor, " b"], height: int, width: int
) -> Shaped[Tensor, "b c h w"]:
    """Cut from each picture the part that begins at (top, left); beyond its edges the last pixel goes on."""
    rows = (top[:, None] + torch.arange(height, device=x.device)).clamp(0, x.shape[2] - 1)
    columns = (left[:, None] + torch.arange(width, device=x.device)).clamp(0, x.shape[3] - 1)
    x = x.gather(2, rows[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
    return x.gather(3, columns[:, None, None, :].expand(-1, x.shape[1], height, -1))


def _moved(x: Float[Tensor, "b c H W"], height: int, width: int, draws: Draws) -> Float[Tensor, "b c h w"]:
    """Cut a part of this size from each picture at a random place, which may lie a little outside."""
    draw = draws.at("place")

    def start(side: int, wanted: int) -> Tensor:
        reach = max(1, wanted // SHIFT)
        return draw.integers(side - wanted + 2 * reach + 1, (len(x),), x.device) - reach

    return window(x, start(x.shape[2], height), start(x.shape[3], width), height, width)


def turn(x: Shaped[Tensor, "b c s s"], quarters: Int[Tensor, " b"]) -> Shaped[Tensor, "b c s s"]:
    """Turn each square picture by its number of quarters."""
    turned = torch.stack([x.rot90(quarter, (2, 3)) for quarter in range(4)], 1)
    return turned[torch.arange(len(x), device=x.device), quarters]


class Classify(Objective):
    """Tell which class a picture is of; kinds differ in where the classes come from."""

    smooth: ClassVar[float] = 0.1
    """Share of an answer that is spread over all classes, so that pictures it was trained on stand out less."""

    @abc.abstractmethod
    def draw(self, network: Any, batch: Batch, draws: Draws) -> Example:
        """Return pictures `x` and the number of the class of each, `answer`."""

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return -log of the probability of the right class, or of any class with a chance of `smooth`."""
        logits = network(example["x"])
        return F.cross_entropy(logits, example["answer"], reduction="none", label_smoothing=self.smooth)


@dataclass(frozen=True)
class ClassifyLabel(Classify):
    """The classes are those of the data; pictures are moved a little."""

    def draw(self, network: Any, batch: Batch, draws: Draws) -> Example:
        """Draw where each picture is moved to."""
        x = batch["x_1"]
        return {"x": _moved(x, x.shape[2], x.shape[3], draws), "answer": batch["given"]["label"]}


@dataclass(frozen=True)
class ClassifyRotation(Classify):
    """The classes are four rotations, for data without labels; squares are cut from the pictures.

    Source: Gidaris, Singh and Komodakis 2018, "Unsupervised representation learning by predicting image rotations",
    arXiv 1803.07728.
    """

    def draw(self, network: Any, batch: Batch, draws: Draws) -> Example:
        """Draw a square of each picture and its rotation."""
        x = batch["x_1"]
        quarters = draws.at("rotation").integers(4, (len(x),), x.device)
        side = min(x.shape[2:])
        return {"x": turn(_moved(x, side, side, draws), quarters), "answer": quarters}
