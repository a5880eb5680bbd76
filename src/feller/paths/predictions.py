"""What a network may answer on an affine path, and how one answer gives the others.

Each kind is one row (a, b): prediction = a E[x_1 | x_t] + b E[x_0 | x_t]. With x_t = alpha x_1 + sigma x_0 that is one
2 x 2 linear system; solving it gives both ends, and another row gives another kind.
Source: Lipman et al. 2024, arXiv 2412.06264, section 4.8.1.
"""

import abc
import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.core.pytree import append_dims
from feller.paths.schedules import AlphaSigma, Number

_LARGE = 1e12
"""Stands for the infinite slope that some schedules have at an end."""


class Prediction(abc.ABC):
    """A quantity that is linear in the expected ends."""

    @abc.abstractmethod
    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        """Return its coefficients on x_1 and x_0."""

    def unit_scale(self, scales: AlphaSigma) -> Number:
        """Return what the prediction is divided by before it meets its row."""
        return 1.0


@dataclass(frozen=True)
class VelocityPrediction(Prediction):
    """E[alpha' x_1 + sigma' x_0 | x_t], in state per time."""

    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        return scales.d_alpha, scales.d_sigma


@dataclass(frozen=True)
class DataPrediction(Prediction):
    """E[x_1 | x_t], the denoiser."""

    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        """Return (1, 0)."""
        return 1.0, 0.0


@dataclass(frozen=True)
class NoisePrediction(Prediction):
    """E[x_0 | x_t], known as epsilon."""

    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        """Return (0, 1)."""
        return 0.0, 1.0


@dataclass(frozen=True)
class VPrediction(Prediction):
    """E[alpha x_0 - sigma x_1 | x_t] / sqrt(alpha^2 + sigma^2): what x_t, turned by a right angle, would be.

    Where data and source are independent, of mean 0 and variance 1, it is not correlated with x_t: what is linear in
    the state is added outside of the network.

    Source: Salimans and Ho 2022, arXiv 2202.00512, where it is v; Karras et al. 2022, arXiv 2206.00364, where it is F.
    """

    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        """Return (-sigma, alpha) / sqrt(alpha^2 + sigma^2)."""
        length = (scales.alpha**2 + scales.sigma**2) ** 0.5
        return -scales.sigma / length, scales.alpha / length


@dataclass(frozen=True)
class ScorePrediction(Prediction):
    """Gradient of log p_t, -x_0 / sigma; holds for a standard normal source, independent of the data."""

    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        """Return (0, -1)."""
        return 0.0, -1.0

    def unit_scale(self, scales: AlphaSigma) -> Number:
        """Return 1 / sigma, kept finite where sigma is 0."""
        return 1 / (scales.sigma.clamp(min=1e-12) if isinstance(scales.sigma, Tensor) else max(scales.sigma, 1e-12))


def _finite(number: Number) -> Number:
    """Replace what is infinite by what is large, and what is undefined by zero."""
    if isinstance(number, Tensor):
        return torch.nan_to_num(number, nan=0.0, posinf=_LARGE, neginf=-_LARGE)
    return 0.0 if number != number else max(-_LARGE, min(_LARGE, number))


def _choose(condition: Tensor | bool, yes: Number, no: Number) -> Number:
    """Choose between numbers, or elementwise."""
    if isinstance(condition, Tensor):
        return torch.where(condition, yes, no)
    return yes if condition else no


def conversion_coefficients(kind: Prediction, to: Prediction, scales: AlphaSigma) -> tuple[Number, Number]:
    """Return (c, d) of the conversion c x_t + d prediction; finite at both ends of time.

    Where the system is singular, as for a data prediction at t = 1, what it leaves open is taken as zero, the mean of
    a centred source or data: the solution of least norm.
    """
    if kind == to:
        return 0.0, 1.0
    numbers = (
        *scales[:2],
        *kind.endpoint_coefficients(scales),
        *to.endpoint_coefficients(scales),
        kind.unit_scale(scales),
        to.unit_scale(scales),
    )
    alpha, sigma, a, b, to_1, to_0, unit, to_unit = map(_finite, numbers)
    size = 1 + abs(a) + abs(b)  # rows of like size, also where a schedule is steep
    a, b = a / size, b / size
    determinant, norm = alpha * b - sigma * a, alpha**2 + sigma**2 + a**2 + b**2
    precision = torch.finfo(norm.dtype).eps if isinstance(norm, Tensor) else sys.float_info.epsilon
    singular = abs(determinant) <= 8 * precision * norm
    safe = _choose(singular, 1.0, determinant)
    # The inverse of [[alpha, sigma], [a, b]], or its pseudo-inverse, which for a matrix of rank 1 is A^T / |A|^2,
    # seen through the row (to_1, to_0).
    on_state = _choose(singular, (to_1 * alpha + to_0 * sigma) / norm, (to_1 * b - to_0 * a) / safe)
    on_prediction = _choose(singular, (to_1 * a + to_0 * b) / norm, (to_0 * alpha - to_1 * sigma) / safe)
    return on_state * to_unit, on_prediction * to_unit / (unit * size)


def linear_combination(c: Number, x: Tensor, d: Number, y: Tensor) -> Tensor:
    """Return c x + d y for coefficients that are one for all, or one per example."""
    x = (append_dims(c.to(x.dtype), x) if isinstance(c, Tensor) else c) * x
    if isinstance(d, Tensor):
        return torch.addcmul(x, append_dims(d.to(y.dtype), y), y)
    return torch.add(x, y, alpha=d)


def convert(prediction: Tensor, kind: Prediction, to: Prediction, x_t: Tensor, scales: AlphaSigma) -> Tensor:
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
    c, d = conversion_coefficients(kind, to, scales)
    return linear_combination(c, x_t, d, prediction)


def predicted_endpoints(prediction: Tensor, kind: Prediction, x_t: Tensor, scales: AlphaSigma) -> tuple[Tensor, Tensor]:
    """Return E[x_1 | x_t] and E[x_0 | x_t], both [b, ...]."""
    return convert(prediction, kind, DataPrediction(), x_t, scales), convert(
        prediction, kind, NoisePrediction(), x_t, scales
    )
