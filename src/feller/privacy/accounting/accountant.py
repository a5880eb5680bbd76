"""Epsilon of composed DP events, by privacy loss distributions (PLD) or Rényi DP of the dp-accounting package.

The unit is one row, added or removed. Sources: Koskela et al. 2020, arXiv 1906.03049; Doroshenko et al. 2022, "Connect
the dots", arXiv 2207.04380; Mironov 2017, arXiv 1702.07476; Mironov, Talwar and Zhang 2019, arXiv 1908.10530.
"""

import functools
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from feller.core.errors import UsageError
from feller.core.optional_dependency import require_package
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp
from feller.privacy.accounting.zcdp import check_epsilon_delta, epsilon_from_rho

Kinds = tuple[tuple[DpEvent, int], ...]
"""Distinct mechanisms, each with its number of uses."""
FINE_GRID = 1e-4
"""Discretisation step of privacy losses, for values of epsilon that are reported."""
GRIDS = (1e-4, 1e-3, 1e-2)
COARSE_GRID_EPSILON = 50.0
"""Rényi epsilon above which the coarsest grid is used, to save time."""
MAX_GRID_POINTS = 20_000_000
"""Maximum number of grid points of a PLD; this many take a few hundred megabytes."""
TAIL_MASS = 1e-15
"""Probability mass truncated from a tail of the PLD; it is charged to delta."""
WANTED = "accounting of privacy", "tables"
"""Feature that needs dp-accounting, and the extra that installs it."""
DELTA_FRACTIONS = (0.5, 0.1, 0.01)
"""Fractions of delta tried for zCDP events that are composed with PLD events."""


def compute_epsilon(events: Sequence[DpEvent], delta: float, *, method: str = "pld", grid: float = FINE_GRID) -> float:
    """Return an upper bound of epsilon at a delta.

    Source: Koskela et al. 2020, arXiv 1906.03049; Doroshenko et al. 2022, arXiv 2207.04380; Mironov 2017, arXiv
    1702.07476; Mironov, Talwar and Zhang 2019, arXiv 1908.10530.

    Args:
        events: DP events, in any order.
        delta: Failure probability of the guarantee.
        method: "pld" for the smallest valid bound; "rdp" for Rényi DP only.
        grid: Discretisation step of the privacy loss; a coarser one is faster and still an upper bound.

    Raises:
        UsageError: If delta is not between 0 and 1, or dp-accounting is not installed.
    """
    check_epsilon_delta(1.0, delta)
    if method not in ("pld", "rdp"):
        raise UsageError("the method pld or rdp", repr(method))
    if not events:
        return 0.0
    return _compute_epsilon(gathered(events), delta, method, grid)


@functools.lru_cache(maxsize=1024)
def _compute_epsilon(kinds: Kinds, delta: float, method: str, grid: float) -> float:
    by_renyi = _by_renyi(kinds, delta)
    if method == "rdp":
        return by_renyi
    grid = max(grid, GRIDS[-1]) if by_renyi > COARSE_GRID_EPSILON else grid
    return min(by_renyi, *_pld_epsilons(kinds, delta, grid), math.inf)


def compute_delta(events: Sequence[DpEvent], epsilon: float) -> float:
    """Return an upper bound of delta at an epsilon; 1 if the PLD would need too many grid points.

    Raises:
        UsageError: If an event is `ZCdp`.
    """
    check_epsilon_delta(epsilon, 0.5)
    if not events:
        return 0.0
    if any(isinstance(expense, ZCdp) for expense in events):
        raise UsageError(
            "delta at a given epsilon is not available for zCDP events", remedy="Compute epsilon at a given delta"
        )
    kinds = gathered(events)
    grid = choose_grid(kinds, FINE_GRID)
    return 1.0 if grid is None else compose_pld(kinds, grid).get_delta_for_epsilon(epsilon)


def _unknown(event: object) -> UsageError:
    return UsageError(
        expected="a GaussianMechanism, PoissonSubsampledGaussian, PureDp or ZCdp", found=type(event).__name__
    )


def gathered(events: Iterable[DpEvent]) -> Kinds:
    """Group equal mechanisms and count their uses; labels and order do not affect the composition."""
    counts: dict[DpEvent, int] = {}
    for event in events:
        match event:
            case GaussianMechanism():
                one, times = replace(event, label="", times=1), event.times
            case PoissonSubsampledGaussian():
                one, times = replace(event, label="", steps=1), event.steps
            case PureDp() | ZCdp():
                one, times = replace(event, label=""), 1
            case _:
                raise _unknown(event)
        counts[one] = counts.get(one, 0) + times
    return tuple(counts.items())


def rdp_epsilon(events: Sequence[DpEvent], delta: float) -> float:
    """Return an upper bound of epsilon by Rényi DP, which treats pure-DP events as zCDP."""
    return _by_renyi(gathered(events), delta)


@functools.lru_cache(maxsize=256)
def _by_renyi(kinds: Kinds, delta: float) -> float:
    events = require_package("dp_accounting", *WANTED)
    accountant = events.rdp.RdpAccountant()
    with _silence_absl():
        for expense, times in kinds:
            if isinstance(expense, PoissonSubsampledGaussian):
                one = events.PoissonSampledDpEvent(expense.rate, events.GaussianDpEvent(expense.sigma))
                accountant.compose(events.SelfComposedDpEvent(one, times))
            else:
                accountant.compose(events.ZCDpEvent(times * zcdp_rho(expense)))
        found = float(accountant.get_epsilon(delta))
    pure = [times * expense.epsilon for expense, times in kinds if isinstance(expense, PureDp)]
    if pure and len(pure) == len(kinds):
        return min(found, sum(pure))
    if all(not isinstance(expense, PoissonSubsampledGaussian) for expense, _ in kinds):
        return min(found, epsilon_from_rho(sum(times * zcdp_rho(expense) for expense, times in kinds), delta))
    return found


def zcdp_rho(event: DpEvent) -> float:
    """Return the zCDP cost rho of an event, without amplification by sampling."""
    match event:
        case GaussianMechanism():
            return event.rho
        case PoissonSubsampledGaussian():
            return event.steps / (2 * event.sigma**2)
        case PureDp():
            return event.epsilon**2 / 2
        case ZCdp():
            return event.rho
        case _:
            raise _unknown(event)


def _pld_epsilons(kinds: Kinds, delta: float, grid: float) -> Iterator[float]:
    """Yield upper bounds of epsilon by PLD; the zCDP events take a fraction of delta, and their epsilon is added."""
    exact = tuple((expense, times) for expense, times in kinds if not isinstance(expense, ZCdp))
    rho = sum(times * expense.rho for expense, times in kinds if isinstance(expense, ZCdp))
    step = choose_grid(exact, grid) if exact else None
    if step is None:
        return
    losses = compose_pld(exact, step)
    if not rho:
        yield float(losses.get_epsilon_for_delta(delta))
    for fraction in DELTA_FRACTIONS if rho else ():
        yield epsilon_from_rho(rho, fraction * delta) + float(losses.get_epsilon_for_delta((1 - fraction) * delta))


@functools.lru_cache(maxsize=4)
def compose_pld(kinds: Kinds, grid: float) -> Any:
    """Return the privacy loss distribution of a composition, rounded to an upper bound.

    Continuous Gaussian mechanisms without sampling are merged into one: their rho values add up.
    """
    plain, total = 0.0, None
    rest: list[tuple[DpEvent, int]] = []
    for expense, times in kinds:
        continuous = isinstance(expense, GaussianMechanism) and not expense.integer_moves
        if continuous or (isinstance(expense, PoissonSubsampledGaussian) and expense.rate == 1):
            plain += times * zcdp_rho(expense)
        else:
            rest.append((expense, times))
    for expense, times in (*(((GaussianMechanism("", 1 / math.sqrt(2 * plain)), 1),) if plain else ()), *rest):
        part = _event_pld(expense, times, grid)
        total = part if total is None else total.compose(part, tail_mass_truncation=TAIL_MASS)
    return total


def _event_pld(event: DpEvent, times: int, grid: float) -> Any:
    match event:
        case GaussianMechanism(integer_moves=0):
            return _pld().from_gaussian_mechanism(event.sigma, value_discretization_interval=grid)
        case GaussianMechanism():
            return _discrete_gaussian_pld(
                event.sigma * math.sqrt(event.integer_moves), event.integer_moves * times, grid
            )
        case PoissonSubsampledGaussian():
            return _step(event.sigma, event.rate, grid).self_compose(times, TAIL_MASS)
        case PureDp():
            parameters = _pld().common.DifferentialPrivacyParameters(event.epsilon, 0)
            one = _pld().from_privacy_parameters(parameters, value_discretization_interval=grid)
            return one if times == 1 else one.self_compose(times, TAIL_MASS)
        case _:
            raise _unknown(event)


@functools.lru_cache(maxsize=4)
def _step(sigma: float, rate: float, grid: float) -> Any:
    return _pld().from_gaussian_mechanism(sigma, sampling_prob=rate, value_discretization_interval=grid)


@functools.lru_cache(maxsize=4)
def _discrete_gaussian_pld(sigma: float, times: int, grid: float) -> Any:
    one = _pld().from_discrete_gaussian_mechanism(
        sigma, sensitivity=1, value_discretization_interval=grid, use_connect_dots=True
    )
    return one.self_compose(times, TAIL_MASS)


def choose_grid(kinds: Kinds, grid: float) -> float | None:
    """Return the finest grid step, `grid` or coarser, that needs at most `MAX_GRID_POINTS`; None if none does."""
    longest = 2 * _by_renyi(kinds, TAIL_MASS)
    for expense, _ in kinds:
        if isinstance(expense, GaussianMechanism | PoissonSubsampledGaussian):
            longest = max(longest, 1 / (2 * expense.sigma**2) + 10 / expense.sigma)
    return next((step for step in (grid, *GRIDS) if step >= grid and longest / step <= MAX_GRID_POINTS), None)


@contextmanager
def _silence_absl() -> Iterator[None]:
    """Silence absl's warnings about skipped Rényi orders: the accountant uses the best of the remaining orders."""
    logger = logging.getLogger("absl")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _pld() -> Any:
    return require_package("dp_accounting.pld.privacy_loss_distribution", *WANTED)
