"""Reconstruction robustness (ReRo): bounds on an attacker's probability of guessing a value of a row.

An attacker knows everything else and guesses right with probability kappa without the model. With the model, the
probability is at most gamma = sup{P(E): Q(E) <= kappa} over events E. P is the distribution of the releases with the
row, Q without it; the releases were made with the row, so only this direction counts. The bounds apply to discrete
data.
Source: Balle, Cherubin and Hayes 2022, arXiv 2201.04845; Hayes, Mahloujifar and Balle 2023, arXiv 2302.07225; Kaissis,
Hayes, Ziller and Rueckert 2023, arXiv 2307.03928.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import scipy
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.accountant import FINE_GRID, choose_grid, compose_pld, count_events
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian, ZCdp
from feller.privacy.accounting.renyi import renyi
from feller.privacy.accounting.zcdp import epsilon_from_rho

ORDERS = (1.25, 1.5, *map(float, range(2, 33)), 40.0, 48.0, 64.0, 96.0, 128.0, 256.0)
"""Rényi orders tried for subsampled events."""
MIN_LOSS = -40.0
"""Lower end of the search for the optimal privacy loss x in `rero_pld`."""
AdjacencyDirection = Literal["present", "absent"]
"""Direction of adjacency: "present" if P is with the row and Q without it, "absent" for the reverse."""


@dataclass(frozen=True)
class GuessProbability:
    """Probability of guessing one value of a row, for an attacker who knows all its other values."""

    prior: float
    """Probability without the model: the fraction of the most frequent value in the column."""
    posterior_bound: float
    """Upper bound on the probability with the model."""


def guess_probability(shares: Float[Tensor, " k"], events: Sequence[DpEvent]) -> GuessProbability:
    """Return the probabilities of guessing a row's value in one column, without the releases and with them.

    Args:
        shares: Fraction of the rows that have each value of the column (public, or measured with noise).
        events: Privacy costs of all releases that the attacker sees.

    Raises:
        UsageError: If a fraction is negative or the sum is not 1.
    """
    if not (shares.min() >= 0 and abs(shares.double().sum().item() - 1) < 1e-4):
        raise UsageError("nonnegative fractions with sum 1", f"a sum of {shares.sum().item():g}")
    prior = min(1.0, shares.max().item())
    return GuessProbability(prior, rero(prior, events))


def rero(kappa: float, events: Sequence[DpEvent]) -> float:
    """Return the smallest valid bound gamma on the guessing probability after the releases `events`.

    `kappa` is the guessing probability without the releases.

    The bound has a closed form for Gaussian mechanisms; else it is the smaller of the PLD and the Rényi DP bound.

    Raises:
        UsageError: If kappa is not above 0 and at most 1.
    """
    _check_prior(kappa)
    if kappa == 1 or not events:
        return kappa
    if all(
        isinstance(event, GaussianMechanism)
        or (isinstance(event, PoissonSubsampledGaussian) and event.per_row.rate == 1)
        for event in events
    ):
        return rero_normal(kappa, math.sqrt(2 * sum(event.zcdp_rho for event in events)))
    return min(rero_rdp(kappa, events), rero_pld(kappa, events))


def rero_normal(kappa: float, mu: float) -> float:
    """Return the bound gamma = Phi(Phi^-1(kappa) + mu) on the guessing probability, for prior probability kappa.

    It holds for a release with Gaussian noise of standard deviation (sensitivity / mu). Phi is the standard normal
    distribution function.
    """
    _check_prior(kappa)
    return float(scipy.special.ndtr(scipy.special.ndtri(kappa) + mu))


def rero_rdp(kappa: float, events: Sequence[DpEvent]) -> float:
    """Return the bound gamma on the guessing probability that follows from the Rényi DP of the releases `events`.

    `kappa` is the guessing probability without the releases.

    gamma is the minimum of (kappa e^eps_a)^((a - 1) / a) over Rényi orders a, and at most 1; eps_a is the Rényi
    epsilon.

    If all events are zCDP, the best order gives exp(-(sqrt(-log kappa) - sqrt(rho))^2).
    """
    _check_prior(kappa)
    log_kappa = math.log(kappa)
    if all(not isinstance(event, PoissonSubsampledGaussian) or event.per_row.rate == 1 for event in events):
        rho = sum(event.zcdp_rho for event in events)
        return math.exp(-((math.sqrt(-log_kappa) - math.sqrt(rho)) ** 2)) if rho < -log_kappa else 1.0
    return math.exp(min(0.0, *((1 - 1 / order) * (log_kappa + renyi(events, order)) for order in ORDERS)))


def rero_pld(kappa: float, events: Sequence[DpEvent], direction: AdjacencyDirection = "present") -> float:
    """Return the bound gamma on the guessing probability that follows from the privacy loss distribution (PLD).

    `kappa` is the guessing probability without the releases `events`. The bound is 1 if the PLD would need too many
    grid points.

    gamma is the infimum of e^x kappa + delta(x) over all real x, and at most 1; delta(x) is the delta at epsilon x.
    zCDP events are (x, d)-DP for each d; they raise gamma to at most d + gamma(kappa e^x) of the other events.
    """
    _check_prior(kappa)
    pld_events = count_events(event for event in events if not isinstance(event, ZCdp))
    rho = sum(event.rho for event in events if isinstance(event, ZCdp))
    grid = choose_grid(pld_events, FINE_GRID) if pld_events else None
    if grid is None:
        return 1.0
    pld = compose_pld(pld_events, grid)
    pmf = (pld._pmf_remove if direction == "present" else pld._pmf_add).to_dense_pmf()
    if not rho:
        return _least(kappa, pmf)

    def bound(log_fraction: float) -> float:
        d = kappa * math.exp(log_fraction)
        raised_kappa = kappa * math.exp(epsilon_from_rho(rho, d))
        return 1.0 if raised_kappa >= 1 else min(1.0, d + _least(raised_kappa, pmf))

    minimum = scipy.optimize.minimize_scalar(bound, bounds=(-12.0, 0.0), method="bounded", options={"maxiter": 20})
    return float(minimum.fun)


def _least(kappa: float, pmf: Any) -> float:
    """Return the minimum over x of kappa e^x + delta(x): a bound on the probability of a correct guess.

    kappa is the probability without the release, and delta(x) is that of the privacy loss distribution `pmf` at epsilon
    x. The minimum lies below x = -log kappa.
    """

    def objective(loss: float) -> float:
        return kappa * math.exp(loss) + float(pmf.get_delta_for_epsilon(loss))

    minimum = scipy.optimize.minimize_scalar(
        objective, bounds=(MIN_LOSS, -math.log(kappa)), method="bounded", options={"xatol": 1e-7}
    )
    return min(1.0, float(minimum.fun))


def _check_prior(kappa: float) -> None:
    check_number("kappa", kappa, gt=0, le=1, remedy="For m equally likely values it is 1 / m")
