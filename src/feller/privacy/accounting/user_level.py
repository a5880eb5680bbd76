"""Privacy accounting of users with several rows: epsilon with respect to all rows of one user.

Sources: Charles et al. 2024, "Fine-tuning large language models with user-level differential privacy", arXiv
2407.07737; Choquette-Choo et al. 2024, "Privacy amplification for matrix mechanisms", arXiv 2310.15526.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from feller.core.errors import UsageError, check_number
from feller.core.optional_dependency import require_package
from feller.privacy.accounting.accountant import (
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
    samples = [event for event in events if isinstance(event, PoissonSubsampledGaussian)]
    max_loss = 2 * _renyi_epsilon(events, rows, TAIL_MASS)
    grids = GRIDS[1:] if samples else GRIDS  # the finest takes minutes for samples
    grid = next((step for step in grids if max_loss / step <= MAX_GRID_POINTS), None)
    if grid is None:
        return None
    plain = count_events(event for event in events if not isinstance(event, PoissonSubsampledGaussian))
    total = compose_pld(plain, grid) if plain else None
    for event in samples:
        pld = _mixture_pld(event, rows, grid).self_compose(event.steps, TAIL_MASS)
        total = pld if total is None else total.compose(pld, tail_mass_truncation=TAIL_MASS)
    return total


def _mixture_pld(event: PoissonSubsampledGaussian, rows: int, grid: float) -> Any:
    """Return the PLD of a step in which the number of rows of the user is binomial."""
    pld = require_package("dp_accounting", "accounting of privacy", "tables").pld
    counts = np.arange(rows + 1)
    probs = scipy.stats.binom.pmf(counts, rows, event.rate)
    possible = probs > 0  # others underflow
    return pld.privacy_loss_distribution.from_mixture_gaussian_mechanism(
        event.sigma,
        counts[possible].tolist(),
        probs[possible].tolist(),
        value_discretization_interval=grid,
    )


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
