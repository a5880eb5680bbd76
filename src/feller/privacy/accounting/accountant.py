"""Computation of the epsilon of composed DP events, by privacy loss distributions (PLD) or Rényi DP.

Both use the dp-accounting package. The unit of privacy is one row, added or removed.
"""

import functools
import itertools
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from feller.core.errors import UsageError
from feller.core.optional_dependency import require_package
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp
from feller.privacy.accounting.zcdp import check_epsilon_delta, epsilon_from_rho

EventCounts = tuple[tuple[DpEvent, int], ...]
"""Distinct DP events of one use without labels, each with its number of uses."""
FINE_GRID = 1e-4
"""Discretisation step of privacy losses, in nats, for values of epsilon that are reported."""
GRIDS = (FINE_GRID, 1e-3, 1e-2)
"""Discretisation steps tried, in nats."""
COARSE_GRID_EPSILON = 50.0
"""Epsilon by Rényi DP above which the coarsest grid of privacy losses is used, to save time."""
MAX_GRID_POINTS = 20_000_000
"""Maximum number of grid points of a privacy loss distribution (PLD), which then takes a few hundred megabytes."""
MAX_COMPOSITIONS = 10**7
"""Maximum number of compositions of a PLD with itself, which then take half a minute."""
DISCRETE_WIDTH = 24.0
"""Number of integers that dp-accounting keeps of discrete Gaussian noise, in standard deviations."""
MAX_PURE_EPSILON = 700.0
"""Maximum epsilon of a pure-DP event in a PLD, beyond which e^epsilon overflows."""
TAIL_MASS = 1e-15
"""Probability mass truncated from a tail of the privacy loss distribution (PLD); this mass is charged to delta."""
DELTA_FRACTIONS = (0.5, 0.1, 0.01)
"""Fractions of delta tried as the part for zCDP events; the rest is for events composed by PLD."""


def compute_epsilon(events: Sequence[DpEvent], delta: float, *, grid: float = FINE_GRID) -> float:
    """Return an upper bound on epsilon for a given delta: the smaller of those by PLD and by Rényi DP.

    Source: Koskela et al. 2020, arXiv 1906.03049; Doroshenko et al. 2022, arXiv 2207.04380; Mironov 2017, arXiv
    1702.07476; Mironov, Talwar and Zhang 2019, arXiv 1908.10530.

    Args:
        events: DP events, in any order.
        delta: Failure probability of the guarantee.
        grid: Discretisation step of the privacy loss; a coarser one is faster and still an upper bound.

    Raises:
        UsageError: If delta is not between 0 and 1, or dp-accounting is not installed.
    """
    check_epsilon_delta(1.0, delta)
    if not events:
        return 0.0
    event_counts = count_events(events)
    epsilon = _rdp_epsilon(event_counts, delta)
    if epsilon > COARSE_GRID_EPSILON:
        grid = max(grid, GRIDS[-1])
    return min(epsilon, _pld_epsilon(event_counts, delta, grid))


def rdp_epsilon(events: Sequence[DpEvent], delta: float) -> float:
    """Return an upper bound on epsilon for a given delta by Rényi DP; pure-DP events are treated as zCDP.

    Raises:
        UsageError: If delta is not between 0 and 1, or dp-accounting is not installed.
    """
    check_epsilon_delta(1.0, delta)
    return _rdp_epsilon(count_events(events), delta) if events else 0.0


def compute_delta(events: Sequence[DpEvent], epsilon: float) -> float:
    """Return an upper bound on delta for a given epsilon; 1 if the PLD would need too many grid points.

    Raises:
        UsageError: If an event is `ZCdp`.
    """
    check_epsilon_delta(epsilon, 0.5)
    if not events:
        return 0.0
    if any(isinstance(event, ZCdp) for event in events):
        raise UsageError(
            "delta at a given epsilon is not available for zCDP events", remedy="Compute epsilon at a given delta"
        )
    event_counts = count_events(events)
    grid = choose_grid(event_counts, FINE_GRID)
    return 1.0 if grid is None else compose_pld(event_counts, grid).get_delta_for_epsilon(epsilon)


def count_events(events: Iterable[DpEvent]) -> EventCounts:
    """Group equal events and count their uses; labels and order do not affect the composition.

    Raises:
        UsageError: If an object is not a known DP event.
    """
    counts: Counter[DpEvent] = Counter()
    for event in events:
        match event:
            case GaussianMechanism(times=times):
                single = replace(event, label="", times=1)
            case PoissonSubsampledGaussian(per_row=per_row):
                single, times = replace(per_row, label="", steps=1), per_row.steps
            case PureDp() | ZCdp():
                single, times = replace(event, label=""), 1
            case _:
                expected = "a GaussianMechanism, PoissonSubsampledGaussian, PureDp or ZCdp"
                raise UsageError(expected=expected, found=type(event).__name__)
        counts[single] += times
    return tuple(counts.items())


@functools.lru_cache(maxsize=1024)
def _rdp_epsilon(event_counts: EventCounts, delta: float) -> float:
    dp_accounting = _dp_accounting()
    accountant = dp_accounting.rdp.RdpAccountant()
    with _silence_absl():
        for event, times in event_counts:
            if isinstance(event, PoissonSubsampledGaussian):
                step = dp_accounting.PoissonSampledDpEvent(event.rate, dp_accounting.GaussianDpEvent(event.sigma))
                accountant.compose(dp_accounting.SelfComposedDpEvent(step, times))
            else:
                accountant.compose(dp_accounting.ZCDpEvent(times * event.zcdp_rho))
        epsilon = float(accountant.get_epsilon(delta))
    # Closed forms are tighter: the sum of epsilons if all events are pure DP, and zCDP at the best order.
    pure_epsilons = [times * event.epsilon for event, times in event_counts if isinstance(event, PureDp)]
    if pure_epsilons and len(pure_epsilons) == len(event_counts):
        return min(epsilon, sum(pure_epsilons))
    if not any(isinstance(event, PoissonSubsampledGaussian) for event, _ in event_counts):
        rho = sum(times * event.zcdp_rho for event, times in event_counts)
        return min(epsilon, epsilon_from_rho(rho, delta))
    return epsilon


@functools.lru_cache(maxsize=1024)
def _pld_epsilon(event_counts: EventCounts, delta: float, grid: float) -> float:
    """Return an upper bound on epsilon by PLD; infinity if the PLD would need too many grid points.

    zCDP events have no PLD: they take a fraction of delta, and their epsilon at it is added.
    """
    pld_events = tuple((event, times) for event, times in event_counts if not isinstance(event, ZCdp))
    rho = sum(times * event.rho for event, times in event_counts if isinstance(event, ZCdp))
    step = choose_grid(pld_events, grid) if pld_events else None
    if step is None:
        return math.inf
    pld = compose_pld(pld_events, step)
    if not rho:
        return float(pld.get_epsilon_for_delta(delta))
    return min(
        epsilon_from_rho(rho, fraction * delta) + float(pld.get_epsilon_for_delta((1 - fraction) * delta))
        for fraction in DELTA_FRACTIONS
    )


def choose_grid(event_counts: EventCounts, grid: float) -> float | None:
    """Return the smallest grid step, `grid` or more, with at most `MAX_GRID_POINTS` points; None if there is none.

    Also None for a mechanism whose PLD cannot be computed.
    """
    if not all(itertools.starmap(_has_pld, event_counts)):
        return None
    max_loss = 2 * _rdp_epsilon(event_counts, TAIL_MASS)  # losses from -epsilon to epsilon, but for the truncated tails
    for event, _ in event_counts:
        if isinstance(event, GaussianMechanism | PoissonSubsampledGaussian):
            # the loss of one use is N(mu, 2 mu) with mu = 1 / (2 sigma^2); up to 10 standard deviations
            max_loss = max(max_loss, 1 / (2 * event.sigma**2) + 10 / event.sigma)
    return next((step for step in (grid, *GRIDS) if step >= grid and max_loss / step <= MAX_GRID_POINTS), None)


@functools.lru_cache(maxsize=4)
def compose_pld(event_counts: EventCounts, grid: float) -> Any:
    """Return the privacy loss distribution (of dp-accounting) of events used together.

    Privacy losses are discretised with the step `grid`, and rounded such that the results are upper bounds.

    Continuous Gaussian mechanisms without subsampling are merged into one mechanism: their rho values add up.
    """
    gaussian_rho, total = 0.0, None
    unmerged: list[tuple[DpEvent, int]] = []
    for event, times in event_counts:
        is_continuous = isinstance(event, GaussianMechanism) and not event.integer_moves
        if is_continuous or (isinstance(event, PoissonSubsampledGaussian) and event.rate == 1):
            gaussian_rho += times * event.zcdp_rho
        else:
            unmerged.append((event, times))
    merged = [(GaussianMechanism("", 1 / math.sqrt(2 * gaussian_rho)), 1)] if gaussian_rho else []
    for event, times in (*merged, *unmerged):
        pld = _event_pld(event, times, grid)
        total = pld if total is None else total.compose(pld, tail_mass_truncation=TAIL_MASS)
    return total


def _event_pld(event: DpEvent, times: int, grid: float) -> Any:
    match event:
        case GaussianMechanism(integer_moves=0):  # `compose_pld` has merged all uses
            return _gaussian_pld(event.sigma, 1.0, grid)
        case GaussianMechanism(sigma=sigma, integer_moves=moves):
            return _discrete_gaussian_pld(sigma * math.sqrt(moves), moves * times, grid)
        case PoissonSubsampledGaussian():
            return _gaussian_pld(event.sigma, event.rate, grid).self_compose(times, TAIL_MASS)
        case PureDp():
            parameters = _dp_accounting().pld.common.DifferentialPrivacyParameters(event.epsilon, 0)
            pld = _distributions().from_privacy_parameters(parameters, value_discretization_interval=grid)
            return pld if times == 1 else pld.self_compose(times, TAIL_MASS)
        case _:
            raise UsageError("an event with a privacy loss distribution", type(event).__name__)


@functools.lru_cache(maxsize=4)  # searches for the number of steps compose the same step again and again
def _gaussian_pld(sigma: float, rate: float, grid: float) -> Any:
    """Return the PLD of one use of continuous Gaussian noise on a Poisson sample."""
    return _distributions().from_gaussian_mechanism(sigma, sampling_prob=rate, value_discretization_interval=grid)


@functools.lru_cache(maxsize=4)
def _discrete_gaussian_pld(sigma: float, times: int, grid: float) -> Any:
    """Return the PLD of `times` counts with discrete Gaussian noise; `sigma` is that of one count."""
    pld = _distributions().from_discrete_gaussian_mechanism(
        sigma, sensitivity=1, value_discretization_interval=grid, use_connect_dots=True
    )
    return pld.self_compose(times, TAIL_MASS)


def _dp_accounting() -> Any:
    return require_package("dp_accounting", "accounting of privacy", "tables")


def _distributions() -> Any:
    return _dp_accounting().pld.privacy_loss_distribution


def _has_pld(event: DpEvent, times: int) -> bool:
    """Return False if the PLD of an event used several times would take too long, or overflow memory or floats."""
    match event:
        case GaussianMechanism(integer_moves=0):
            return True
        case GaussianMechanism():
            width = DISCRETE_WIDTH * event.sigma * math.sqrt(event.integer_moves)
            return event.integer_moves * times <= MAX_COMPOSITIONS and width <= MAX_GRID_POINTS
        case PoissonSubsampledGaussian():
            return event.rate == 1 or times <= MAX_COMPOSITIONS
        case PureDp():
            return event.epsilon <= MAX_PURE_EPSILON and times <= MAX_COMPOSITIONS
        case _:
            return True


@contextmanager
def _silence_absl() -> Iterator[None]:
    """Silence absl's warnings about skipped Rényi orders: the accountant uses the best of the remaining orders."""
    logger = logging.getLogger("absl")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = was_disabled
