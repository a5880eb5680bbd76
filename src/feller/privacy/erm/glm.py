"""How labels depend on a weighted sum of a row's numbers."""

import abc
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from feller.core.errors import check_number


class GLM(abc.ABC):
    """A loss of score and label whose slope is mean(score) - label. Implement four methods to add one."""

    @abc.abstractmethod
    def mean(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return the label that is expected."""

    @abc.abstractmethod
    def curvature(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return the slope of the mean."""

    @abc.abstractmethod
    def loss(self, score: Float[Tensor, " *n"], label: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return the loss, of which the mean less the label is the slope."""

    @property
    @abc.abstractmethod
    def label_range(self) -> tuple[float, float]:
        """Return the least label that is allowed, and the largest; public."""

    @abc.abstractmethod
    def max_slope(self, length: float, decay: float) -> float:
        """Return a bound of |mean - label| at any minimum, for rows of a length and a decay per row."""


@dataclass(frozen=True)
class Logistic(GLM):
    """A label of 0 or 1, or a chance between, by the logistic law of the score."""

    label_range = 0.0, 1.0

    def mean(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return 1 / (1 + e^-score)."""
        return score.sigmoid()

    def curvature(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return p (1 - p)."""
        return score.sigmoid() * (-score).sigmoid()

    def loss(self, score: Float[Tensor, " *n"], label: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        return softplus(score) - label * score

    def max_slope(self, length: float, decay: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class LeastSquares(GLM):
    """A number by its distance from the score, squared and halved."""

    max_label: float
    """Size of a label, at most; public."""

    def __post_init__(self) -> None:
        check_number("max_label", self.max_label, gt=0, lt=math.inf)

    def mean(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        return score

    def curvature(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return 1."""
        return torch.ones_like(score)

    def loss(self, score: Float[Tensor, " *n"], label: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        return (score - label).square() / 2

    @property
    def label_range(self) -> tuple[float, float]:
        return -self.max_label, self.max_label

    def max_slope(self, length: float, decay: float) -> float:
        """Return Y (1 + R / sqrt(decay)): no minimum is worse than weights of zero, so none is longer than that."""
        return self.max_label * (1 + length / math.sqrt(decay))
