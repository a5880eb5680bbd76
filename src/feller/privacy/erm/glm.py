"""Generalised linear models: logistic and least-squares losses of a linear score."""

import abc
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from feller.core.errors import check_number


class GLM(abc.ABC):
    """Loss of a linear score and a label, whose derivative with respect to the score is mean(score) - label."""

    @abc.abstractmethod
    def mean(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return the expected label (inverse link function)."""

    @abc.abstractmethod
    def curvature(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return the derivative of the mean: the second derivative of the loss."""

    @abc.abstractmethod
    def loss(self, score: Float[Tensor, " *n"], label: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return the loss; its derivative with respect to the score is mean(score) - label."""

    @property
    @abc.abstractmethod
    def label_range(self) -> tuple[float, float]:
        """Smallest and largest allowed label, which are public."""

    @abc.abstractmethod
    def max_slope(self, length: float, decay: float) -> float:
        """Return an upper bound on |mean - label| at any minimum of the regularised objective.

        Args:
            length: Maximum row norm.
            decay: L2 coefficient per row.
        """


@dataclass(frozen=True)
class Logistic(GLM):
    """Logistic regression; the label is 0, 1 or a probability."""

    label_range = 0.0, 1.0

    def mean(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return 1 / (1 + e^-score)."""
        return score.sigmoid()

    def curvature(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return p (1 - p), where p is the mean."""
        return score.sigmoid() * (-score).sigmoid()

    def loss(self, score: Float[Tensor, " *n"], label: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        return softplus(score) - label * score

    def max_slope(self, length: float, decay: float) -> float:
        """Return 1, because mean and label are between 0 and 1."""
        return 1.0


@dataclass(frozen=True)
class LeastSquares(GLM):
    """Least squares: half the squared distance between score and label."""

    max_label: float
    """Maximum absolute label, which is public."""

    def __post_init__(self) -> None:
        check_number("max_label", self.max_label, gt=0, lt=math.inf)

    def mean(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        return score

    def curvature(self, score: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """Return 1, the second derivative of half the squared distance."""
        return torch.ones_like(score)

    def loss(self, score: Float[Tensor, " *n"], label: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        return (score - label).square() / 2

    @property
    def label_range(self) -> tuple[float, float]:
        return -self.max_label, self.max_label

    def max_slope(self, length: float, decay: float) -> float:
        """Return max_label (1 + length / sqrt(decay)); the objective at zero weights bounds the norm of a minimum."""
        return self.max_label * (1 + length / math.sqrt(decay))
