"""Smooth functions whose usual formulas divide zero by zero.

The argument is a square `s = |v|^2`, because a norm has no derivative at 0. Near 0 a Taylor polynomial replaces the
formula, so that values and derivatives of any order stay finite.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

SERIES_THRESHOLD = 0.01
"""Value of s below which the Taylor polynomials are used; the remainder of the series is then below 1e-17."""
FLOAT32_TERMS = 4
"""Number of Taylor coefficients in float32; the remainder is below 1e-9."""
SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(8)]
SINH = [abs(c) for c in SINE]
ARCSINE = [math.comb(2 * k, k) / (4**k * (2 * k + 1)) for k in range(8)]
ARSINH = [(-1) ** k * c for k, c in enumerate(ARCSINE)]
SINE_REST = [(-1) ** k / math.factorial(2 * k + 3) for k in range(8)]
SINH_REST = [abs(c) for c in SINE_REST]
TANH = [1.0, -1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155925, 21844 / 6081075, -929569 / 638512875]


def polynomial(coefficients: list[float], s: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Evaluate a polynomial at s; the constant coefficient comes first."""
    if s.dtype.itemsize <= 4:
        coefficients = coefficients[:FLOAT32_TERMS]
    total = coefficients[-2] + coefficients[-1] * s
    for c in reversed(coefficients[:-2]):
        total = total * s + c
    return total


def _ratio(
    s: Float[Tensor, "*d"], coefficients: list[float], formula: Callable[[Tensor], Tensor]
) -> Float[Tensor, "*d"]:
    """Return formula(r) / r with r = sqrt(s); for small s, by the power series in s with these coefficients."""
    is_small = s < SERIES_THRESHOLD
    r = s.masked_fill(is_small, 1.0).sqrt()
    return torch.where(is_small, polynomial(coefficients, s.masked_fill(~is_small, 0.0)), formula(r) / r)


def sinc(s: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return sin(r) / r with r = sqrt(s)."""
    return _ratio(s, SINE, torch.sin)


def cosc(s: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return (1 - cos(r)) / r^2 with r = sqrt(s)."""
    return sinc(s / 4).square() / 2


def sinc_remainder(s: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return (1 - sinc(s)) / s, which is (r - sin(r)) / r^3 with r = sqrt(s)."""
    return _rest(s, SINE_REST, 1 - sinc(s))


def sinhc(s: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return sinh(r) / r with r = sqrt(s)."""
    return _ratio(s, SINH, torch.sinh)


def sinhc_remainder(s: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return (sinhc(s) - 1) / s, which is (sinh(r) - r) / r^3 with r = sqrt(s)."""
    return _rest(s, SINH_REST, sinhc(s) - 1)


def _rest(s: Float[Tensor, "*d"], coefficients: list[float], remainder: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    is_small = s < SERIES_THRESHOLD
    return torch.where(
        is_small, polynomial(coefficients, s.masked_fill(~is_small, 0.0)), remainder / s.masked_fill(is_small, 1.0)
    )


def tanhc(s: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return tanh(r) / r with r = sqrt(s)."""
    return _ratio(s, TANH, torch.tanh)


def asinhc(s: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return asinh(r) / r with r = sqrt(s)."""
    return _ratio(s, ARSINH, torch.asinh)


def angle_over_sine(s: Float[Tensor, "*d"], cosine: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return angle / sin(angle), given s = sin(angle)^2 and the cosine of the angle, positive where s = 0."""
    is_small = (s < SERIES_THRESHOLD) & (cosine > 0)
    r = s.masked_fill(is_small, 1.0).sqrt()
    return torch.where(is_small, polynomial(ARCSINE, s.masked_fill(~is_small, 0.0)), torch.atan2(r, cosine) / r)


def safe_sqrt(s: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Return the square root, with derivative 0 at 0."""
    is_zero = s <= 0
    return s.masked_fill(is_zero, 1.0).sqrt().masked_fill(is_zero, 0.0)


def safe_norm(v: Float[Tensor, " b *d"]) -> Float[Tensor, " b"]:
    """Return the Euclidean norm of each example, with derivative 0 at 0."""
    return safe_sqrt(v.square().reshape(len(v), -1).sum(1))
