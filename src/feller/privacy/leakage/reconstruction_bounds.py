"""Lower bounds on an attacker's reconstruction error, from Rényi DP of order 2.

The attacker knows all other rows, the algorithm and all releases. The bounds need *replace-one* adjacency, which is
composed separately from add/remove.
Source: Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383, theorem 1; Hammersley, Chapman and Robbins.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.dp_events import DpEvent, PoissonSubsampledGaussian, PureDp

INTEGRATION_RANGE = 12.0
"""Margin of the integration range on both sides of the integrand's mass, in standard deviations."""
MIN_SIGMA = 0.01
"""Noise multiplier below which amplification by sampling is ignored: the error bound is zero there in any case."""


def eps2_added(events: Sequence[DpEvent]) -> float:
    """Return the order-2 Rényi divergence in nats of all releases `events` together, for one row added or removed."""
    return math.fsum(map(_added, events))


def eps2_replaced(events: Sequence[DpEvent]) -> float:
    """Return the order-2 Rényi divergence in nats of all releases `events` together, for one row replaced by another.

    Events are stored for add/remove adjacency; an event without subsampling is charged at twice its sensitivity.
    """
    return math.fsum(map(_replaced, events))


def _added(event: DpEvent) -> float:
    match event:
        case PoissonSubsampledGaussian(per_row=steps):
            return steps.steps * one_step_added(steps.sigma, steps.rate)
        case PureDp():
            return _flip(event.epsilon)
        case _:
            return 2 * event.zcdp_rho


def _replaced(event: DpEvent) -> float:
    match event:
        case PoissonSubsampledGaussian(per_row=steps):
            return steps.steps * one_step_replaced(steps.sigma, steps.rate)
        case PureDp():
            return _flip(2 * event.epsilon)
        case _:
            return 4 * _added(event)


def _flip(epsilon: float) -> float:
    """Return log(2 cosh(epsilon) - 1), the order-2 divergence of randomised response, the worst pure-DP mechanism."""
    if epsilon > 20:
        return epsilon
    return math.log1p(4 * math.sinh(epsilon / 2) ** 2)


def one_step_added(sigma: float, rate: float) -> float:
    """Return log(1 + q^2 (e^(1 / sigma^2) - 1)), the order-2 divergence of a Poisson-subsampled step for add/remove."""
    if sigma**-2 > 500:
        return max(0.0, sigma**-2 + 2 * math.log(rate))
    return math.log1p(rate**2 * math.expm1(sigma**-2))


@lru_cache(maxsize=256)
def one_step_replaced(sigma: float, rate: float) -> float:
    """Return log E_Q[(P / Q)^2], the order-2 divergence of one Poisson-subsampled step for replace-one.

    P = (1 - q) N(0, sigma^2) + q N(1, sigma^2) and Q = (1 - q) N(0, sigma^2) + q N(-1, sigma^2), with sampling rate q.
    The two rows have opposite gradients at the clipping norm. Numerical checks, but no proof, show that this pair is
    the worst. The integrand is (P - Q)^2 / Q, which stays accurate at small rates.
    """
    shift = 1 / sigma
    if rate == 1 or sigma < MIN_SIGMA:
        return 4 * shift**2
    step = min(0.05, 0.5 / shift)  # trapezoidal rule; poles lie pi / shift from the real axis
    z = np.arange(-shift - INTEGRATION_RANGE, 3 * shift + INTEGRATION_RANGE, step)
    abs_sz, abs_2sz = np.abs(shift * z), 2 * shift * np.abs(z)
    log_sinh = abs_sz + np.log(-np.expm1(-np.maximum(abs_2sz, 1e-300)))  # log |2 sinh(shift z)|
    log_mixture = np.logaddexp(math.log1p(-rate), math.log(rate) - shift * z - shift**2 / 2)
    log_integrand = 2 * math.log(rate) + 2 * log_sinh - shift**2 - z**2 / 2 - log_mixture
    max_log = log_integrand.max()
    log_excess = max_log + math.log(np.exp(log_integrand - max_log).sum() * step / math.sqrt(2 * math.pi))
    return math.log1p(math.exp(log_excess)) if log_excess < 500 else log_excess


def mse_bound(
    eps2: float,
    diameters: Float[Tensor, " d"] | float = 1.0,
    *,
    bias_slopes: Float[Tensor, " d"] | float = 1.0,
    squared_bias: float = 0.0,
) -> float:
    """Return a lower bound on an attack's MSE, averaged over the d coordinates of a row.

    The bound is sum (slope diameter)^2 / (4 d (e^eps2 - 1)) + `squared_bias`, with the sum over coordinates.

    If e^eps2 overflows, the first term is 0, which is no guarantee. A bound above the variance of the rows is no
    guarantee either, because a biased attacker can return the mean.

    Args:
        eps2: Order-2 Rényi divergence for replace-one adjacency.
        diameters: Range of a coordinate while all others are fixed; one value or one per coordinate.
        bias_slopes: Smallest derivative of the attack's expected output with respect to each coordinate; 1 if unbiased.
        squared_bias: Squared bias of the attack, averaged over coordinates.

    Raises:
        UsageError: If the divergence is below 0.
    """
    check_number("eps2", eps2, ge=0)
    ranges = torch.as_tensor(diameters, dtype=torch.float64) * torch.as_tensor(bias_slopes, dtype=torch.float64)
    numerator = ranges.square().mean().item() / 4
    if eps2 == 0:
        return math.inf if numerator else squared_bias
    return (numerator / math.expm1(eps2) if eps2 < 709 else 0.0) + squared_bias


@overload
def van_trees(eta2: float, spread: float) -> float: ...
@overload
def van_trees(eta2: Float[Tensor, " *n"], spread: float) -> Float[Tensor, " *n"]: ...
def van_trees(eta2: Tensor | float, spread: float) -> Tensor | float:
    """Return the lower bound 1 / (eta2 + spread^-2) on the MSE of any attacker, biased or not, with a Gaussian prior.

    Source: van Trees' inequality, as used by Maeng, Guo, Kariyappa and Suh 2023, "Bounding the invertibility of privacy
    preserving instance encoding using Fisher information". The inequality bounds the mean of the MSE over the prior,
    and needs the mean of eta2 over the prior.

    Args:
        eta2: Fisher information per coordinate of all releases.
        spread: Standard deviation of the Gaussian prior of each coordinate.

    Raises:
        UsageError: If the spread is not above 0.
    """
    check_number("spread", spread, gt=0, remedy="A coordinate without variance is already known")
    return 1 / (eta2 + spread**-2)


def van_trees_waterfilling(eta2: float, variances: Float[Tensor, " d"]) -> float:
    """Return the lower bound on the MSE for a Gaussian prior with unequal variances and any information matrix.

    The worst case distributes the total information by water-filling: it reduces the largest errors to one level. With
    equal variances, the bound equals that of `van_trees`.

    Args:
        eta2: Fisher information per coordinate of all releases.
        variances: Eigenvalues of the prior covariance, one per coordinate; some may be 0.

    Raises:
        UsageError: If no variance is above 0.
    """
    positive = variances[variances > 0].double().sort(descending=True).values
    if not len(positive):
        raise UsageError("a prior variance above 0", "0 for all coordinates")
    ranks = torch.arange(1, len(positive) + 1, dtype=torch.float64, device=positive.device)
    levels = ranks / (
        eta2 * len(variances) + (1 / positive).cumsum(0)
    )  # water level if the k largest variances receive information
    level = levels[(levels <= positive * (1 + 1e-12)).nonzero()[-1, 0]]
    return positive.clamp(max=level).sum().item() / len(variances)


def van_trees_of(information: Float[Tensor, "*n d d"], score: Float[Tensor, "d d"]) -> Float[Tensor, " *n"]:
    """Return the lower bound Tr((I + S)^-1) / d on the MSE of any attacker, averaged over the d coordinates of a row.

    This is the matrix form of van Trees' inequality, with `information` I and `score` S; it is sharper than the bound
    of `van_trees`.

    Args:
        information: Fisher information matrix of all releases, averaged over the prior.
        score: S = E[grad log prior grad log prior^T]; the inverse covariance for a Gaussian prior.
    """
    cholesky = torch.linalg.cholesky(information + score)
    return torch.cholesky_inverse(cholesky).diagonal(dim1=-2, dim2=-1).mean(-1)
