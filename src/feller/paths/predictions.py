"""Prediction types on affine paths (velocity, data, noise, v, score), and conversions between them.

Each type is given by coefficients (a, b): prediction = a E[x_1 | x_t] + b E[x_0 | x_t]. Together with
x_t = alpha x_1 + sigma x_0 this is a 2 x 2 linear system, whose solution gives both endpoints and thus any other type.
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
"""Finite value for the infinite derivative of some schedules at an endpoint."""


class Prediction(abc.ABC):
    """Base class of prediction types: quantities that are linear in the expected endpoints."""

    @abc.abstractmethod
    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        """Return the coefficients a of E[x_1 | x_t] and b of E[x_0 | x_t] in the prediction."""

    def unit_scale(self, scales: AlphaSigma) -> Number:
        """Return the factor c in prediction = c (a E[x_1 | x_t] + b E[x_0 | x_t]); 1 except for the score."""
        return 1.0


@dataclass(frozen=True)
class VelocityPrediction(Prediction):
    """Velocity prediction E[alpha' x_1 + sigma' x_0 | x_t], in state units per unit of time."""

    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        return scales.d_alpha, scales.d_sigma


@dataclass(frozen=True)
class DataPrediction(Prediction):
    """Data prediction E[x_1 | x_t] (denoiser)."""

    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        return 1.0, 0.0


@dataclass(frozen=True)
class NoisePrediction(Prediction):
    """Noise prediction E[x_0 | x_t] (epsilon)."""

    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        return 0.0, 1.0


@dataclass(frozen=True)
class VPrediction(Prediction):
    """V-prediction E[alpha x_0 - sigma x_1 | x_t] / sqrt(alpha^2 + sigma^2).

    For independent data and source of mean 0 and variance 1, v is uncorrelated with x_t, so the network need not learn
    the part that is linear in the state.

    Source: Salimans and Ho 2022, arXiv 2202.00512, where it is v; Karras et al. 2022, arXiv 2206.00364, where it is F.
    """

    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        norm = (scales.alpha**2 + scales.sigma**2) ** 0.5
        return -scales.sigma / norm, scales.alpha / norm


@dataclass(frozen=True)
class ScorePrediction(Prediction):
    """Score prediction grad log p_t = -E[x_0 | x_t] / sigma, for a standard normal source independent of the data."""

    def endpoint_coefficients(self, scales: AlphaSigma) -> tuple[Number, Number]:
        return 0.0, -1.0

    def unit_scale(self, scales: AlphaSigma) -> Number:
        """Return 1 / sigma, replaced by a finite value where sigma is 0."""
        return 1 / (scales.sigma.clamp(min=1e-12) if isinstance(scales.sigma, Tensor) else max(scales.sigma, 1e-12))


def _finite(value: Number) -> Number:
    """Replace infinity with a large value and NaN with zero."""
    if isinstance(value, Tensor):
        return torch.nan_to_num(value, nan=0.0, posinf=_LARGE, neginf=-_LARGE)
    return 0.0 if value != value else max(-_LARGE, min(_LARGE, value))


def _choose(condition: Tensor | bool, if_true: Number, if_false: Number) -> Number:
    if isinstance(condition, Tensor):
        return torch.where(condition, if_true, if_false)
    return if_true if condition else if_false


def conversion_coefficients(kind: Prediction, to: Prediction, scales: AlphaSigma) -> tuple[Number, Number]:
    """Return (c, d) of the conversion c x_t + d prediction from type `kind` to type `to`, finite at t = 0 and t = 1.

    Where the system is singular, as for a data prediction at t = 1, the solution of least norm is used. The free
    component of this solution is zero, the mean of a centred source or data.
    """
    if kind == to:
        return 0.0, 1.0
    coefficients = (
        *scales[:2],
        *kind.endpoint_coefficients(scales),
        *to.endpoint_coefficients(scales),
        kind.unit_scale(scales),
        to.unit_scale(scales),
    )
    alpha, sigma, a, b, to_1, to_0, scale, to_scale = map(_finite, coefficients)
    row_norm = 1 + abs(a) + abs(b)  # balance the rows, also where a schedule is steep
    a, b = a / row_norm, b / row_norm
    determinant, norm = alpha * b - sigma * a, alpha**2 + sigma**2 + a**2 + b**2
    eps = torch.finfo(norm.dtype).eps if isinstance(norm, Tensor) else sys.float_info.epsilon
    is_singular = abs(determinant) <= 8 * eps * norm
    divisor = _choose(is_singular, 1.0, determinant)
    # Row (to_1, to_0) times the inverse of A = [[alpha, sigma], [a, b]], or its pseudo-inverse A^T / |A|^2 at rank 1.
    on_state = _choose(is_singular, (to_1 * alpha + to_0 * sigma) / norm, (to_1 * b - to_0 * a) / divisor)
    on_prediction = _choose(is_singular, (to_1 * a + to_0 * b) / norm, (to_0 * alpha - to_1 * sigma) / divisor)
    return on_state * to_scale, on_prediction * to_scale / (scale * row_norm)


def linear_combination(c: Number, x: Tensor, d: Number, y: Tensor) -> Tensor:
    """Return c x + d y for scalar or per-example coefficients."""
    x = (append_dims(c.to(x.dtype), x) if isinstance(c, Tensor) else c) * x
    if isinstance(d, Tensor):
        return torch.addcmul(x, append_dims(d.to(y.dtype), y), y)
    return torch.add(x, y, alpha=d)


def convert(prediction: Tensor, kind: Prediction, to: Prediction, x_t: Tensor, scales: AlphaSigma) -> Tensor:
    """Convert a prediction to another type; the result is finite at t = 0 and t = 1.

    Args:
        prediction: Network output, [b, ...].
        kind: Type of the prediction.
        to: Type to convert to.
        x_t: State, [b, ...].
        scales: Schedule values at the times of the batch, [b].
    """
    if kind == to:
        return prediction
    c, d = conversion_coefficients(kind, to, scales)
    return linear_combination(c, x_t, d, prediction)


def predicted_endpoints(prediction: Tensor, kind: Prediction, x_t: Tensor, scales: AlphaSigma) -> tuple[Tensor, Tensor]:
    """Return E[x_1 | x_t] and E[x_0 | x_t], both [b, ...], from a prediction of type `kind`.

    `scales` holds the schedule values at the times of the batch.
    """
    return convert(prediction, kind, DataPrediction(), x_t, scales), convert(
        prediction, kind, NoisePrediction(), x_t, scales
    )
