"""A small convolutional network that tells classes of pictures apart, and what it is trained on."""

import abc
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.draws import Draws
from feller.networks.architecture import weights_from
from feller.objective import Batch, Example, Objective

FEATURES = 32
"""Numbers that stand for a picture."""
SHIFT = 12
"""Pictures are moved by up to their side divided by this, and by a pixel at least, while training."""


class Classifier(nn.Module):
    """Convolutions down to 4 x 4, the features of a picture, one logit per class.

    The first layer steps so widely that 16 pixels a side are left at most, so larger pictures cost little more. A
    picture larger than the one it was made for is seen whole.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, draws: Draws) -> None:
        super().__init__()
        channels, *sides = shape
        with weights_from(draws):
            strides = [-(-side // 16) for side in sides]
            self.enter = nn.Conv2d(channels, 16, [stride + 2 for stride in strides], strides, padding=1)
            self.layers = nn.ModuleList([nn.Conv2d(16, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, 2, 1)])
            self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in (16, 32, 32))
            self.see = nn.Linear(32 * 4 * 4, FEATURES)
            self.answer = nn.Linear(FEATURES, classes)

    def features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """Return what the answer is read from."""
        for layer, norm in zip((self.enter, *self.layers), self.norms, strict=True):
            x = F.silu(norm(layer(x)))
        return F.silu(self.see(F.adaptive_avg_pool2d(x, 4).flatten(1)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Return logits."""
        return self.answer(self.features(x))
