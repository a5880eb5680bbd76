"""Banded Toeplitz matrices that correlate the noise of training steps (matrix factorisation)."""

import functools
import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.optimize
from jaxtyping import Float64

from feller.core.errors import UsageError, check_number

MAX_BANDS = 1024
"""Maximum number of bands; the noise of as many steps is held in memory."""
MAX_ITERATIONS = 200
"""Maximum number of iterations of the search for the best coefficients."""


@dataclass(frozen=True)
class BandedToeplitz:
    """Lower-triangular banded Toeplitz matrix C: training adds C^-1 z with z ~ N(0, sigma^2) to the gradient sums.

    The noise of a step then partly cancels that of the steps before, so that sums over steps have less noise. A row
    that takes part in every b-th step at most, with b bands, has sensitivity 1: columns b apart do not overlap, and the
    coefficients are scaled to norm 1. One band is independent noise.

    Source: Choquette-Choo et al. 2023, "(Amplified) Banded Matrix Factorization: A unified approach to private
    training", arXiv 2306.08153.
    """

    column: tuple[float, ...] = (1.0,)
    """First column of C without its zeros: positive, never increasing; its scale does not matter."""

    def __post_init__(self) -> None:
        check_number("bands", len(self.column), ge=1, le=MAX_BANDS)
        # positive, non-increasing coefficients: no root in the unit disc, so that C^-1 is bounded (Enestroem-Kakeya)
        is_valid = all(0 < value < math.inf for value in self.column) and all(a >= b for a, b in pairwise(self.column))
        if not is_valid:
            raise UsageError(
                "positive coefficients that never increase",
                ", ".join(f"{value:g}" for value in self.column),
                argument="column",
            )

    @property
    def bands(self) -> int:
        """Number of nonzero diagonals."""
        return len(self.column)

    @property
    def coefficients(self) -> Float64[np.ndarray, " bands"]:
        """First column, scaled to norm 1."""
        column = np.array(self.column, dtype=np.float64)
        return column / np.linalg.norm(column)

    def matrix(self, steps: int) -> Float64[np.ndarray, "steps steps"]:
        """Return C for a number of steps."""
        column = np.zeros(steps)
        column[: self.bands] = self.coefficients[:steps]
        return np.tril(column[np.subtract.outer(np.arange(steps), np.arange(steps))])

    def inverse_column(self, steps: int) -> Float64[np.ndarray, " steps"]:
        """Return the first column of C^-1, which is Toeplitz as well."""
        return _solve(self.coefficients, np.eye(1, steps)[0])

    def step_noise(self, steps: int) -> float:
        """Return the standard deviation of the noise of a late step, in units of sigma."""
        return float(np.linalg.norm(self.inverse_column(steps)))

    def rms_sum_noise(self, steps: int) -> float:
        """Return the standard deviation of the noise of the sum of the first k gradients, in units of sigma.

        It is the root mean square over k from 1 to `steps`.
        """
        return math.sqrt(_loss(self.coefficients, _mean_weights(steps))[0])

    def max_sum_noise(self, steps: int) -> float:
        """Return the standard deviation of the noise of the sum of all gradients, in units of sigma.

        It is the largest among the sums of the first k gradients.
        """
        return math.sqrt(_loss(self.coefficients, np.ones(steps))[0])


def square_root_bands(bands: int) -> BandedToeplitz:
    """Return the first coefficients of the series of (1 - x)^(-1/2), the square root of the matrix of prefix sums.

    Source: Fichtenberger, Henzinger and Upadhyay 2022, "Constant matters", arXiv 2202.11205.
    """
    check_number("bands", bands, ge=1, le=MAX_BANDS)
    k = np.arange(1, bands)
    return BandedToeplitz(tuple(np.cumprod(np.concatenate([[1.0], (2 * k - 1) / (2 * k)])).tolist()))


@functools.lru_cache(maxsize=64)
def optimal_bands(bands: int, steps: int, *, final: bool = False) -> BandedToeplitz:
    """Return the banded matrix with the least noise of the gradient sums; never worse than independent noise.

    Args:
        bands: Number of bands; at most the number of steps.
        steps: Number of training steps.
        final: True to minimise the noise of the sum of all gradients, instead of the mean over all prefix sums.
    """
    check_number("steps", steps, ge=1)
    check_number("bands", bands, ge=1, le=steps)
    start = square_root_bands(bands)
    if bands == 1:
        return start
    weights = np.ones(steps) if final else _mean_weights(steps)

    def objective(logits: Float64[np.ndarray, " k"]) -> tuple[float, Float64[np.ndarray, " k"]]:
        ratios = 1 / (1 + np.exp(-logits))
        column = np.cumprod(np.concatenate([[1.0], ratios]))
        loss, slope = _loss(column, weights)
        # column[j] is a product of the ratios up to j: d column[j] / d logit[k] = column[j] (1 - ratio[k]) for j > k
        tails = np.cumsum((slope * column)[:0:-1])[::-1]
        return math.log(loss), tails * (1 - ratios) / loss

    ratios = np.array([b / a for a, b in pairwise(start.column)])
    found = scipy.optimize.minimize(
        objective,
        np.log(ratios / (1 - ratios)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-20.0, 20.0)] * (bands - 1),
        options={"maxiter": MAX_ITERATIONS},
    )
    column = np.cumprod(np.concatenate([[1.0], 1 / (1 + np.exp(-found.x))]))
    candidates = (start, BandedToeplitz(tuple(column.tolist())))
    best = min(candidates, key=lambda matrix: _loss(matrix.coefficients, weights)[0])
    return BandedToeplitz(tuple(best.coefficients.tolist()))


def _mean_weights(steps: int) -> Float64[np.ndarray, " steps"]:
    return np.arange(steps, 0, -1) / steps


def _solve(column: Float64[np.ndarray, " bands"], values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Return C^-1 values."""
    from scipy.signal import lfilter  # imports much of scipy

    return np.asarray(lfilter([1.0], column, values))


def _loss(
    column: Float64[np.ndarray, " bands"], weights: Float64[np.ndarray, " steps"]
) -> tuple[float, Float64[np.ndarray, " bands"]]:
    """Return ||c||^2 sum_s w_s p_s^2 and its gradient in c, where p is the cumulative sum of the column of C^-1.

    With weights 1 this is the variance of the sum of all steps; with (n - s) / n, its mean over the first k steps.
    """
    n = len(weights)
    prefix = _solve(column, np.ones(n))
    twice = _solve(column, prefix)  # d p / d c_k = -(C^-1 p), shifted by k
    error, norm = float(weights @ prefix**2), float(column @ column)
    slope = np.array([-2 * (weights * prefix)[k:] @ twice[: max(n - k, 0)] for k in range(len(column))])
    return error * norm, slope * norm + 2 * error * column
