"""Computation of the Rényi divergence of DP events at any order, in closed form or as a series."""

import math
from collections.abc import Sequence

import numpy as np
import scipy

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.dp_events import DpEvent, PoissonSubsampledGaussian

_TINY = 1e-16


def renyi(events: Sequence[DpEvent], order: float) -> float:
    """Return the Rényi divergence of a composition at an order above 1, in nats; exact for Gaussian noise.

    Raises:
        UsageError: If the order is not above 1.
    """
    check_number("order", order, gt=1)
    return sum(
        event.per_row.steps * subsampled_gaussian_rdp(event.sigma, event.per_row.rate, order)
        if isinstance(event, PoissonSubsampledGaussian) and event.per_row.rate < 1
        else order * event.zcdp_rho
        for event in events
    )


def subsampled_gaussian_rdp(sigma: float, rate: float, order: float) -> float:
    """Return the Rényi divergence of (1 - q) N(0, sigma^2) + q N(1, sigma^2) from N(0, sigma^2).

    The divergence in this direction is the larger of the two: Mironov, Talwar and Zhang 2019, arXiv 1908.10530, section
    3.3. At a fractional order, the integral is split where both mixture components have the same density, which gives
    two series.

    Args:
        sigma: Standard deviation of the noise, in units of the sensitivity.
        rate: Sampling rate q, above 0 and below 1.
        order: Rényi order, above 1.
    """
    log_q, log_p = math.log(rate), math.log1p(-rate)
    if float(order).is_integer():
        k = np.arange(order + 1)
        terms = _binomials(order, k)[0] + (order - k) * log_p + k * log_q + (k * k - k) / (2 * sigma**2)
        return _log_sum(terms, np.ones_like(terms)) / (order - 1)
    split = sigma**2 * (log_p - log_q) + 0.5
    log_terms, signs, start, block_size = [], [], 0, 256
    while True:
        k = np.arange(start, start + block_size, dtype=np.float64)
        j, (log_binomial, sign) = order - k, _binomials(order, k)
        below = j * log_p + k * log_q + (k * k - k) / (2 * sigma**2) + scipy.special.log_ndtr((split - k) / sigma)
        above = j * log_q + k * log_p + (j * j - j) / (2 * sigma**2) + scipy.special.log_ndtr((j - split) / sigma)
        block = log_binomial + np.logaddexp(below, above)
        log_terms.append(block)
        signs.append(sign)
        total = _log_sum(np.concatenate(log_terms), np.concatenate(signs))
        if block[-1] < total + math.log(_TINY) and start + block_size > order + 5:
            return total / (order - 1)
        start += block_size
        if start > 2**20:
            raise UsageError(
                f"the series of the Rényi divergence of order {order:g} does not converge at noise sigma {sigma:g}",
                remedy="Use another order",
            )


def _binomials(order: float, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log-magnitudes and signs of the generalised binomial coefficients (order over k)."""
    argument = order - k + 1
    is_integer = float(order).is_integer()
    sign = np.ones_like(argument) if is_integer else np.where((argument > 0) | (np.floor(argument) % 2 == 0), 1.0, -1.0)
    return scipy.special.gammaln(order + 1) - scipy.special.gammaln(k + 1) - scipy.special.gammaln(argument), sign


def _log_sum(logs: np.ndarray, signs: np.ndarray) -> float:
    max_log = logs.max()
    return float(max_log + math.log(math.fsum(signs * np.exp(logs - max_log))))
