"""Privacy accounting of users with several rows: epsilon with respect to all rows of one user.

Sources: Charles et al. 2024, "Fine-tuning large language models with user-level differential privacy", arXiv
2407.07737; Choquette-Choo et al. 2024, "Privacy amplification for matrix mechanisms", arXiv 2310.15526.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Float64

from feller.core.errors import UsageError, check_number
from feller.core.optional_dependency import require_package
from feller.privacy.accounting.accountant import (
    FINE_GRID,
    GRIDS,
    MAX_GRID_POINTS,
    MAX_PURE_EPSILON,
    TAIL_MASS,
    compose_pld,
    compute_epsilon,
    count_events,
)
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp
from feller.privacy.accounting.zcdp import check_epsilon_delta, epsilon_from_rho

MAX_ROWS = 1000
"""Maximum number of rows of a user."""
ORDERS = np.concatenate([1 + np.logspace(-3, 0, 30), np.arange(3, 64), np.logspace(np.log10(64), 4, 40)])
"""Rényi orders that bound the range of privacy losses."""
TAIL_WIDTH = 10.0
"""Range of the noise of one step, in standard deviations; the rest is charged to delta."""
SOLVER_NODES, NEWTON_STEPS = 4001, 4
"""Number of nodes and Newton steps by which log ratios are inverted."""
ZCDP_DELTA_FRACTION = 0.1
"""Part of delta for zCDP events, which have no privacy loss distribution."""


def user_epsilon(events: Sequence[DpEvent], rows: int, delta: float) -> float:
    """Return an upper bound on epsilon for adding or removing all rows of a user with at most `rows` rows.

    The rows of the user are sampled independently of each other. The number of them in a batch is binomial, and the
    privacy loss of a step that of a mixture of Gaussians. Correlated noise is accounted without amplification by
    sampling, because the rows of a user are in several groups.

    Args:
        events: DP events that protect single rows.
        rows: Maximum number of rows of a user.
        delta: Failure probability of the guarantee.

    Raises:
        UsageError: If a value is out of range.
    """
    check_number("rows", rows, ge=1, le=MAX_ROWS)
    if rows == 1 or not events:
        return compute_epsilon(events, delta)
    check_epsilon_delta(1.0, delta)
    scaled = tuple(user_event(event, rows) for event in events)
    rho = sum(event.rho for event in scaled if isinstance(event, ZCdp))
    others = [event for event in scaled if not isinstance(event, ZCdp)]
    spent = epsilon_from_rho(sum(event.zcdp_rho for event in scaled), delta) if _has_rho(scaled) else math.inf
    if not others:
        return spent
    share = (1 - ZCDP_DELTA_FRACTION) * delta if rho else delta
    pld = _compose(others, rows, share)
    if pld is None:
        return spent
    fixed = epsilon_from_rho(rho, ZCDP_DELTA_FRACTION * delta) if rho else 0.0
    return min(spent, fixed + float(pld.get_epsilon_for_delta(share)))


def user_event(event: DpEvent, rows: int) -> DpEvent:
    """Return the event with respect to all rows of a user; steps on Poisson samples of rows stay what they are."""
    match event:
        case PoissonSubsampledGaussian(bands=1):
            return event
        case PoissonSubsampledGaussian():
            # each of the rows contributes at most once per band: k times the norm of one row, in every block
            return ZCdp(event.label, rows**2 * event.zcdp_rho)
        case GaussianMechanism(integer_moves=0):
            return GaussianMechanism(event.label, event.sigma / rows, event.times)
        case GaussianMechanism():
            return ZCdp(event.label, rows**2 * event.zcdp_rho)
        case PureDp():
            return PureDp(event.label, rows * event.epsilon)
        case ZCdp():
            return ZCdp(event.label, rows**2 * event.rho)
        case _:
            raise UsageError("a known DP event", type(event).__name__)


def _has_rho(events: Sequence[DpEvent]) -> bool:
    """Return True if the zCDP costs of the events hold for users: not for samples of rows, whose cost is of one row."""
    return not any(isinstance(event, PoissonSubsampledGaussian) for event in events)


def _compose(events: Sequence[DpEvent], rows: int, delta: float) -> Any | None:
    """Return the privacy loss distribution of the events of a user; None if it needs too many grid points."""
    if any(isinstance(event, PureDp) and event.epsilon > MAX_PURE_EPSILON for event in events):
        return None
    max_loss = 2 * _renyi_epsilon(events, rows, TAIL_MASS)
    grid = next((step for step in GRIDS if step >= FINE_GRID and max_loss / step <= MAX_GRID_POINTS), None)
    if grid is None:
        return None
    samples = [event for event in events if isinstance(event, PoissonSubsampledGaussian)]
    plain = count_events(event for event in events if not isinstance(event, PoissonSubsampledGaussian))
    total = compose_pld(plain, grid) if plain else None
    for event in samples:
        pld = _mixture_pld(event, rows, grid).self_compose(event.steps, TAIL_MASS)
        total = pld if total is None else total.compose(pld, tail_mass_truncation=TAIL_MASS)
    return total


def _mixture_pld(event: PoissonSubsampledGaussian, rows: int, grid: float) -> Any:
    """Return the PLD of a step in which the number of rows of the user is binomial, rounded up (connect the dots)."""
    pld = require_package("dp_accounting", "accounting of privacy", "tables").pld
    mixture = BinomialMixture(event.sigma, event.rate, rows)
    low, high = mixture.log_ratio(np.array([-TAIL_WIDTH * event.sigma, rows + TAIL_WIDTH * event.sigma]))
    removed = np.arange(math.floor(low / grid), math.ceil(high / grid) + 1)
    added = -removed[::-1]
    distributions = [
        pld.pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(
            grid, int(steps[0]), int(steps[-1]), np.minimum.accumulate(delta(steps * grid))
        )
        for steps, delta in ((removed, mixture.delta_removed), (added, mixture.delta_added))
    ]
    return pld.privacy_loss_distribution.PrivacyLossDistribution(*distributions)


@dataclass(frozen=True)
class BinomialMixture:
    """Mixture P of N(j, sigma^2) with j ~ Binomial(rows, rate), compared with Q = N(0, sigma^2)."""

    sigma: float
    rate: float
    rows: int

    @property
    def log_probs(self) -> Float64[np.ndarray, " k"]:
        """Log probabilities of the numbers of rows from 0."""
        return scipy.stats.binom.logpmf(np.arange(self.rows + 1), self.rows, self.rate)

    def log_ratio(self, x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Return log P(x) / Q(x), which increases and is convex in x."""
        return scipy.special.logsumexp(self._terms(x), axis=1)

    def delta_removed(self, epsilon: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Return the hockey-stick divergence of P from Q, in which a user is removed."""
        is_certain = epsilon <= self.log_probs[0]  # P > e^epsilon Q everywhere
        x = self._solve(np.where(is_certain, self.log_probs[0] + 1, epsilon))
        tail = np.exp(epsilon + scipy.special.log_ndtr(-x / self.sigma))
        delta = self._mass(-1, x) - tail
        return np.clip(np.where(is_certain, -np.expm1(epsilon), delta), 0.0, 1.0)

    def delta_added(self, epsilon: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Return the hockey-stick divergence of Q from P, in which a user is added."""
        is_zero = -epsilon <= self.log_probs[0]  # Q < e^epsilon P everywhere
        x = self._solve(np.where(is_zero, self.log_probs[0] + 1, -epsilon))
        delta = scipy.special.ndtr(x / self.sigma) - np.exp(np.minimum(epsilon, 700.0)) * self._mass(1, x)
        return np.clip(np.where(is_zero, 0.0, delta), 0.0, 1.0)

    def _terms(self, x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n k"]:
        j = np.arange(self.rows + 1)
        return self.log_probs + (np.multiply.outer(x, j) - j**2 / 2) / self.sigma**2

    def _mass(self, sign: int, x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Return the probability under P of values below x (sign 1) or above x (sign -1)."""
        distances = sign * np.subtract.outer(x, np.arange(self.rows + 1)) / self.sigma
        return scipy.special.ndtr(distances) @ np.exp(self.log_probs)

    def _solve(self, values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Return x at which the log ratio has the given values: interpolation, then Newton steps."""
        nodes = np.linspace(-2 * TAIL_WIDTH * self.sigma, self.rows + 2 * TAIL_WIDTH * self.sigma, SOLVER_NODES)
        x = np.interp(values, self.log_ratio(nodes), nodes)
        for _ in range(NEWTON_STEPS):
            terms = self._terms(x)
            total = scipy.special.logsumexp(terms, axis=1)
            slope = np.exp(terms - total[:, None]) @ np.arange(self.rows + 1) / self.sigma**2
            step = (total - values) / np.maximum(slope, 1e-300)
            x = x - np.clip(step, -self.sigma, self.sigma)
        return x


def _renyi_epsilon(events: Sequence[DpEvent], rows: int, delta: float) -> float:
    """Return a bound on epsilon by Rényi DP, from the joint convexity of e^((a - 1) D_a) in the number of rows."""
    counts = np.arange(rows + 1)
    total = np.zeros_like(ORDERS)
    for event in events:
        if isinstance(event, PoissonSubsampledGaussian):
            log_probs = scipy.stats.binom.logpmf(counts, rows, event.rate)
            exponents = np.multiply.outer(ORDERS * (ORDERS - 1) / (2 * event.sigma**2), counts**2) + log_probs
            total += event.steps * np.logaddexp.reduce(exponents, axis=1) / (ORDERS - 1)
        else:
            total += ORDERS * event.zcdp_rho
    return float((total - math.log(delta) / (ORDERS - 1)).min())
