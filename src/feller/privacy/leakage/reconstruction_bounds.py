"""The least error of whoever tries to reconstruct a row, from Rényi privacy of order 2.

The attacker knows all other rows, the algorithm and all that is told. Bounds of the error need that one row is
*replaced*, so each has its own composition beside the one of a row that is added or removed.
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
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp

INTEGRATION_RANGE = 12.0
"""Standard deviations of the noise that an integral goes over beyond all that counts."""
MIN_SIGMA = 0.01
"""Noise, in sensitivities, below which a sample is charged as all rows: a bound of the error is zero long before."""


def eps2_added(events: Sequence[DpEvent]) -> float:
    """Return the Rényi divergence of order 2 of a composition, where a row is added or removed; in nats."""
    return math.fsum(map(_added, events))


def eps2_replaced(events: Sequence[DpEvent]) -> float:
    """Return the Rényi divergence of order 2 of a composition, where a row is replaced by another; in nats.

    Expenses are kept for a row that is added or removed, so anything without a sample is charged for both.
    """
    return math.fsum(map(_replaced, events))


def _added(event: DpEvent) -> float:
    match event:
        case GaussianMechanism():
            return 2 * event.rho
        case PoissonSubsampledGaussian():
            return event.steps * one_step_added(event.sigma, event.rate)
        case PureDp():
            return _flip(event.epsilon)
        case ZCdp():
            return 2 * event.rho
        case _:
            raise UsageError(f"no bound of reconstruction knows expenses of the kind {type(event).__name__}")


def _replaced(event: DpEvent) -> float:
    match event:
        case PoissonSubsampledGaussian():
            return event.steps * one_step_replaced(event.sigma, event.rate)
        case PureDp():
            return _flip(2 * event.epsilon)
        case _:
            return 4 * _added(event)


def _flip(epsilon: float) -> float:
    """Return log(2 cosh(epsilon) - 1), the divergence of an answer that is flipped by a coin: no pure one is larger."""
    if epsilon > 20:
        return epsilon
    return math.log1p(4 * math.sinh(epsilon / 2) ** 2)


def one_step_added(sigma: float, rate: float) -> float:
    """Return log(1 + q^2 (e^(1 / sigma^2) - 1)), the divergence of one step on a Poisson sample.

    Args:
        sigma: Standard deviation of the noise, in units of the longest contribution of a row.
        rate: Chance q of a row to be in the sample.
    """
    if sigma**-2 > 500:
        return max(0.0, sigma**-2 + 2 * math.log(rate))
    return math.log1p(rate**2 * math.expm1(sigma**-2))


@lru_cache(maxsize=256)
def one_step_replaced(sigma: float, rate: float) -> float:
    """Return log E_Q[(P / Q)^2] for P, Q = (1 - q) N(0, sigma^2) + q N(+1, sigma^2), + q N(-1, sigma^2).

    The two rows pull in opposite directions with all that a row may; that no other pair is worse was checked by
    quadrature, and is not proved. The integral is that of (P - Q)^2 / Q, which small rates do not drown.
    """
    shift = 1 / sigma
    if rate == 1 or sigma < MIN_SIGMA:
        return 4 * shift**2
    step = min(0.05, 0.5 / shift)  # poles lie pi / shift from the line
    z = np.arange(-shift - INTEGRATION_RANGE, 3 * shift + INTEGRATION_RANGE, step)
    away, apart = np.abs(shift * z), 2 * shift * np.abs(z)
    sinh = away + np.log(-np.expm1(-np.maximum(apart, 1e-300)))  # of 2 sinh
    other = np.logaddexp(math.log1p(-rate), math.log(rate) - shift * z - shift**2 / 2)
    logs = 2 * math.log(rate) + 2 * sinh - shift**2 - z**2 / 2 - other
    top = logs.max()
    beyond = top + math.log(np.exp(logs - top).sum() * step / math.sqrt(2 * math.pi))
    return math.log1p(math.exp(beyond)) if beyond < 500 else beyond


def mse_bound(
    eps2: float,
    diameters: Float[Tensor, " d"] | float = 1.0,
    *,
    bias_slopes: Float[Tensor, " d"] | float = 1.0,
    squared_bias: float = 0.0,
) -> float:
    """Return the least mean squared error, per coordinate, of an attack: sum (slope diameter)^2 / (4 d (e^eps2 - 1)).

    Zero where e^eps2 overflows: then nothing is promised. A bound above the spread of the rows is no promise either,
    as an attacker may answer the mean, with a bias.

    Args:
        eps2: Rényi divergence of order 2 if a row is replaced.
        diameters: How far a row's coordinate can move while the others stay; one for all, or for each.
        bias_slopes: Least change of the attack's mean answer with a coordinate; 1 without bias.
        squared_bias: Of the attack, per coordinate.

    Raises:
        UsageError: If the divergence is below 0.
    """
    check_number("eps2", eps2, ge=0)
    moves = torch.as_tensor(diameters, dtype=torch.float64) * torch.as_tensor(bias_slopes, dtype=torch.float64)
    reach = moves.square().mean().item() / 4
    if eps2 == 0:
        return math.inf if reach else squared_bias
    return (reach / math.expm1(eps2) if eps2 < 709 else 0.0) + squared_bias


@overload
def van_trees(eta2: float, spread: float) -> float: ...
@overload
def van_trees(eta2: Float[Tensor, " *n"], spread: float) -> Float[Tensor, " *n"]: ...
def van_trees(eta2: Tensor | float, spread: float) -> Tensor | float:
    """Return the least mean squared error of whoever knows what rows look like, biased or not: 1 / (eta2 + spread^-2).

    Source: van Trees' inequality, as used by Maeng, Guo, Kariyappa and Suh 2023, "Bounding the invertibility of privacy
    preserving instance encoding using Fisher information". It is about the mean over the prior, also of eta2.

    Args:
        eta2: Fisher information per coordinate of all that is told.
        spread: Standard deviation of a normal prior of each coordinate.

    Raises:
        UsageError: If the spread is not above 0.
    """
    check_number("spread", spread, gt=0, remedy="What is known needs no guess")
    return 1 / (eta2 + spread**-2)


def van_trees_waterfilling(eta2: float, variances: Float[Tensor, " d"]) -> float:
    """Return the least mean squared error of whoever knows in which directions rows vary, wherever information lies.

    Of all ways to lay a given sum of information over directions, that which serves the attacker best brings the
    largest errors down to one level. Rows that vary alike in all directions have that of `van_trees`.

    Args:
        eta2: Fisher information per coordinate of all that is told.
        variances: Of a normal prior in its own directions, one for each coordinate; some may be 0.

    Raises:
        UsageError: If none is above 0.
    """
    widths = variances[variances > 0].double().sort(descending=True).values
    if not len(widths):
        raise UsageError("some variance of a prior must be above 0; what is known needs no guess")
    count = torch.arange(1, len(widths) + 1, dtype=torch.float64, device=widths.device)
    levels = count / (eta2 * len(variances) + (1 / widths).cumsum(0))  # if so many directions are told of
    level = levels[(levels <= widths * (1 + 1e-12)).nonzero()[-1, 0]]
    return widths.clamp(max=level).sum().item() / len(variances)


def van_trees_of(information: Float[Tensor, "*n d d"], score: Float[Tensor, "d d"]) -> Float[Tensor, " *n"]:
    """Return the sharper form Tr((I + S)^-1) / d, which knows directions.

    Args:
        information: What all releases tell, mean over the prior.
        score: E[grad log prior grad log prior^T]; of a normal prior the inverse of its covariance.
    """
    whole = torch.linalg.cholesky(information + score)
    return torch.cholesky_inverse(whole).diagonal(dim1=-2, dim2=-1).mean(-1)
