"""What a network may answer on an affine path, and how one answer gives the others.

Each kind is one row (a, b): prediction = a E[x_1 | x_t] + b E[x_0 | x_t]. With x_t = alpha x_1 + sigma x_0 that is one
2 x 2 linear system; solving it gives both ends, and another row gives another kind.
Source: Lipman et al. 2024, arXiv 2412.06264, section 4.8.1.
"""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.schedules import Scales
from feller.tree import pad_right

_LARGE = 1e12
"""Stands for the infinite slope that some schedules have at an end."""


class Prediction(abc.ABC):
    """A quantity that is linear in the expected ends."""

    @abc.abstractmethod
    def row(self, scales: Scales) -> tuple[Tensor | float, Tensor | float]:
        """Return its coefficients on x_1 and x_0."""

    def unit(self, scales: Scales) -> Tensor | float:
        """Return what the prediction is divided by before it meets its row."""
        return 1.0


@dataclass(frozen=True)
class Velocity(Prediction):
    """E[alpha' x_1 + sigma' x_0 | x_t], in state per time."""

    def row(self, scales: Scales) -> tuple[Tensor | float, Tensor | float]:
        """Return (alpha', sigma')."""
        return scales.d_alpha, scales.d_sigma


@dataclass(frozen=True)
class Data(Prediction):
    """E[x_1 | x_t], the denoiser."""

    def row(self, scales: Scales) -> tuple[Tensor | float, Tensor | float]:
        """Return (1, 0)."""
        return 1.0, 0.0


@dataclass(frozen=True)
class Source(Prediction):
    """E[x_0 | x_t], known as epsilon."""

    def row(self, scales: Scales) -> tuple[Tensor | float, Tensor | float]:
        """Return (0, 1)."""
        return 0.0, 1.0


@dataclass(frozen=True)
class Score(Prediction):
    """Gradient of log p_t, -x_0 / sigma; holds for a standard normal source, independent of the data."""

    def row(self, scales: Scales) -> tuple[Tensor | float, Tensor | float]:
        """Return (0, -1)."""
        return 0.0, -1.0

    def unit(self, scales: Scales) -> Tensor | float:
        """Return 1 / sigma, kept finite where sigma is 0."""
        return 1 / torch.as_tensor(scales.sigma).clamp(min=1e-6)


def _column(number: Tensor | float, x: Tensor) -> Tensor:
    """Make a coefficient ready for a state, an infinite one finite."""
    column = torch.as_tensor(number, dtype=x.dtype, device=x.device)
    return pad_right(torch.nan_to_num(column, nan=0.0, posinf=_LARGE, neginf=-_LARGE), x)


def ends(prediction: Tensor, kind: Prediction, x_t: Tensor, scales: Scales) -> tuple[Tensor, Tensor]:
    """Return E[x_1 | x_t] and E[x_0 | x_t], both [b, ...].

    Where the system is singular, as for a data prediction at t = 1, what it leaves open is taken as zero, the mean of
    a centred source or data: the solution of least norm.
    """
    a, b = (_column(number, x_t) for number in kind.row(scales))
    alpha, sigma = _column(scales.alpha, x_t), _column(scales.sigma, x_t)
    p = prediction / _column(kind.unit(scales), x_t)
    size = torch.maximum(torch.maximum(a.abs(), b.abs()), torch.ones_like(a))  # rows of like size: steep schedules
    a, b, p = a / size, b / size, p / size
    determinant, norm = alpha * b - sigma * a, alpha**2 + sigma**2 + a**2 + b**2
    singular = determinant.abs() <= 8 * torch.finfo(x_t.dtype).eps * norm
    safe = torch.where(singular, torch.ones_like(determinant), determinant)
    # The inverse of [[alpha, sigma], [a, b]], or its pseudo-inverse, which for a matrix of rank 1 is A^T / |A|^2.
    x_1 = torch.where(singular, (alpha * x_t + a * p) / norm, (b * x_t - sigma * p) / safe)
    x_0 = torch.where(singular, (sigma * x_t + b * p) / norm, (alpha * p - a * x_t) / safe)
    return x_1, x_0


def convert(prediction: Tensor, kind: Prediction, to: Prediction, x_t: Tensor, scales: Scales) -> Tensor:
    """Turn one kind of prediction into another, finite at both ends of time.

    Args:
        prediction: What the network answered, [b, ...].
        kind: What that is.
        to: What it should be.
        x_t: The state, [b, ...].
        scales: The schedule at the times of the batch, [b]; they are padded to the state's axes here.
    """
    if kind == to:
        return prediction
    x_1, x_0 = ends(prediction, kind, x_t, scales)
    a, b = (_column(number, x_t) for number in to.row(scales))
    return (a * x_1 + b * x_0) * _column(to.unit(scales), x_t)
