"""Epsilon of a composition, by dp-accounting: privacy loss distributions, and Rényi divergences where those do not fit.

All is about one row, added or removed. Sources: Koskela et al. 2020, arXiv 1906.03049; Doroshenko et al. 2022,
"Connect the dots", arXiv 2207.04380; Mironov 2017, arXiv 1702.07476; Mironov, Talwar and Zhang 2019, arXiv 1908.10530.
"""

import functools
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from feller.core.errors import UsageError
from feller.core.optional_dependency import need
from feller.privacy.accounting.dp_events import Concentrated, Expense, Gaussian, Pure, Subsampled
from feller.privacy.accounting.zcdp import check_target, epsilon_of

Kinds = tuple[tuple[Expense, int], ...]
"""Mechanisms that are used once, each with how often it is."""
FINEST = 1e-4
"""Grid of privacy losses of what is reported."""
GRIDS = (1e-4, 1e-3, 1e-2)
BEYOND = 50.0
"""Epsilon by Rényi divergences from which on the coarsest grid serves: finer ones would take long, to little use."""
MOST = 20_000_000
"""Points of a grid, at most: they take some hundred megabytes."""
LONGEST = 1e-15
"""Mass of a tail that a grid leaves out, which is charged to delta."""
WANTED = "accounting of privacy", "tables"
"""What dp-accounting is for, and which extra installs it."""
SHARES = (0.5, 0.1, 0.01)
"""Of delta, that concentrated expenses may take where the others are composed as loss distributions."""


def epsilon(expenses: Sequence[Expense], delta: float, *, method: str = "pld", grid: float = FINEST) -> float:
    """Return an upper bound of epsilon at a delta.

    Source: Koskela et al. 2020, arXiv 1906.03049; Doroshenko et al. 2022, arXiv 2207.04380; Mironov 2017, arXiv
    1702.07476; Mironov, Talwar and Zhang 2019, arXiv 1908.10530.

    Args:
        expenses: What was spent, in any order.
        delta: Chance that the guarantee does not cover.
        method: "pld": the least of what is valid; "rdp": by Rényi divergences alone.
        grid: Of privacy losses; a coarser one is quicker, and bounds from above too.

    Raises:
        UsageError: If delta is not between 0 and 1, or dp-accounting is not installed.
    """
    check_target(1.0, delta)
    if method not in ("pld", "rdp"):
        raise UsageError("the method pld or rdp", repr(method))
    if not expenses:
        return 0.0
    kinds = gathered(expenses)
    by_renyi = _by_renyi(kinds, delta)
    if method == "rdp":
        return by_renyi
    grid = max(grid, GRIDS[-1]) if by_renyi > BEYOND else grid
    return min(by_renyi, *_by_losses(kinds, delta, grid), math.inf)


def delta(expenses: Sequence[Expense], epsilon: float) -> float:
    """Return an upper bound of delta at an epsilon, for expenses that are not concentrated; 1 if no grid fits."""
    check_target(epsilon, 0.5)
    if not expenses:
        return 0.0
    if any(isinstance(expense, Concentrated) for expense in expenses):
        raise UsageError(
            "delta at an epsilon is told of normal noise and pure privacy only", remedy="Ask for epsilon instead"
        )
    kinds = gathered(expenses)
    grid = fitting_grid(kinds, FINEST)
    return 1.0 if grid is None else loss_distribution(kinds, grid).get_delta_for_epsilon(epsilon)


def _unknown(expense: object) -> UsageError:
    return UsageError(f"no accountant knows expenses of the kind {type(expense).__name__}")


def gathered(expenses: Iterable[Expense]) -> Kinds:
    """Put equal mechanisms together, which compose by their number alone, whatever they paid for, and in any order."""
    counts: dict[Expense, int] = {}
    for expense in expenses:
        match expense:
            case Gaussian():
                one, times = replace(expense, what="", times=1), expense.times
            case Subsampled():
                one, times = replace(expense, what="", steps=1), expense.steps
            case Pure() | Concentrated():
                one, times = replace(expense, what=""), 1
            case _:
                raise _unknown(expense)
        counts[one] = counts.get(one, 0) + times
    return tuple(counts.items())


def epsilon_by_renyi(expenses: Sequence[Expense], delta: float) -> float:
    """Return the bound by Rényi divergences; mechanisms that are pure count as concentrated."""
    return _by_renyi(gathered(expenses), delta)


@functools.lru_cache(maxsize=256)
def _by_renyi(kinds: Kinds, delta: float) -> float:
    events = need("dp_accounting", *WANTED)
    accountant = events.rdp.RdpAccountant()
    with _quiet():
        for expense, times in kinds:
            if isinstance(expense, Subsampled):
                one = events.PoissonSampledDpEvent(expense.rate, events.GaussianDpEvent(expense.sigma))
                accountant.compose(events.SelfComposedDpEvent(one, times))
            else:
                accountant.compose(events.ZCDpEvent(times * rho(expense)))
        found = float(accountant.get_epsilon(delta))
    pure = [times * expense.epsilon for expense, times in kinds if isinstance(expense, Pure)]
    if pure and len(pure) == len(kinds):
        return min(found, sum(pure))
    if all(not isinstance(expense, Subsampled) for expense, _ in kinds):
        return min(found, epsilon_of(sum(times * rho(expense) for expense, times in kinds), delta))
    return found


def rho(expense: Expense) -> float:
    """Return the cost in zero-concentrated privacy of anything without a sample."""
    match expense:
        case Gaussian():
            return expense.rho
        case Subsampled():
            return expense.steps / (2 * expense.sigma**2)
        case Pure():
            return expense.epsilon**2 / 2
        case Concentrated():
            return expense.rho
        case _:
            raise _unknown(expense)


def _by_losses(kinds: Kinds, delta: float, grid: float) -> Iterator[float]:
    """Yield bounds by loss distributions: of concentrated expenses, at shares of delta, the epsilon is added."""
    exact = tuple((expense, times) for expense, times in kinds if not isinstance(expense, Concentrated))
    rho = sum(times * expense.rho for expense, times in kinds if isinstance(expense, Concentrated))
    step = fitting_grid(exact, grid) if exact else None
    if step is None:
        return
    losses = loss_distribution(exact, step)
    if not rho:
        yield float(losses.get_epsilon_for_delta(delta))
    for share in SHARES if rho else ():
        yield epsilon_of(rho, share * delta) + float(losses.get_epsilon_for_delta((1 - share) * delta))


@functools.lru_cache(maxsize=4)
def loss_distribution(kinds: Kinds, grid: float) -> Any:
    """Return the privacy loss distribution of a composition, rounded so that it bounds from above.

    All continuous normal noise that looks at every row has a closed form together.
    """
    plain, total = 0.0, None
    rest: list[tuple[Expense, int]] = []
    for expense, times in kinds:
        continuous = isinstance(expense, Gaussian) and not expense.whole
        if continuous or (isinstance(expense, Subsampled) and expense.rate == 1):
            plain += times * rho(expense)
        else:
            rest.append((expense, times))
    for expense, times in (*(((Gaussian("", 1 / math.sqrt(2 * plain)), 1),) if plain else ()), *rest):
        part = _part(expense, times, grid)
        total = part if total is None else total.compose(part, tail_mass_truncation=LONGEST)
    return total


def _part(expense: Expense, times: int, grid: float) -> Any:
    match expense:
        case Gaussian(whole=0):
            return _pld().from_gaussian_mechanism(expense.sigma, value_discretization_interval=grid)
        case Gaussian():
            return _counts(expense.sigma * math.sqrt(expense.whole), expense.whole * times, grid)
        case Subsampled():
            return _step(expense.sigma, expense.rate, grid).self_compose(times, LONGEST)
        case Pure():
            parameters = _pld().common.DifferentialPrivacyParameters(expense.epsilon, 0)
            one = _pld().from_privacy_parameters(parameters, value_discretization_interval=grid)
            return one if times == 1 else one.self_compose(times, LONGEST)
        case _:
            raise _unknown(expense)


@functools.lru_cache(maxsize=4)
def _step(sigma: float, rate: float, grid: float) -> Any:
    return _pld().from_gaussian_mechanism(sigma, sampling_prob=rate, value_discretization_interval=grid)


@functools.lru_cache(maxsize=4)
def _counts(sigma: float, times: int, grid: float) -> Any:
    """Return the losses of counts with the discrete Gaussian, each moved by one: Canonne and others 2020."""
    one = _pld().from_discrete_gaussian_mechanism(
        sigma, sensitivity=1, value_discretization_interval=grid, use_connect_dots=True
    )
    return one.self_compose(times, LONGEST)


def fitting_grid(kinds: Kinds, grid: float) -> float | None:
    """Return the finest grid, from one asked for up, that has not too many points; None if there is none."""
    longest = 2 * _by_renyi(kinds, LONGEST)
    for expense, _ in kinds:
        if isinstance(expense, Gaussian | Subsampled):
            longest = max(longest, 1 / (2 * expense.sigma**2) + 10 / expense.sigma)
    return next((step for step in (grid, *GRIDS) if step >= grid and longest / step <= MOST), None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from telling which orders its series leaves out: it takes the best of the others."""
    logger = logging.getLogger("absl")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _pld() -> Any:
    return need("dp_accounting.pld.privacy_loss_distribution", *WANTED)
