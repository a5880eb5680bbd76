"""Epsilon against reference vectors, closed forms and quadrature."""

import math
import time

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.optimize import brentq

from feller.core.errors import UsageError
from feller.privacy.accounting.accountant import compute_delta, compute_epsilon, count_events, rdp_epsilon
from feller.privacy.accounting.calibration import calibrate, max_steps
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp
from feller.privacy.accounting.renyi import renyi, subsampled_gaussian_rdp
from feller.privacy.accounting.zcdp import epsilon_from_rho, rho_from_epsilon
from tests.errors import numbers, refuses

N = 32_561
VECTORS = [  # q, sigma, T, delta, RDP, PLD, order 2
    (0.01, 1.1, 1000, 1e-5, 1.711770, 1.515370, 0.128510082),
    (0.01, 0.7, 1000, 1e-5, 5.423257, 4.618291, 0.669464839),
    (0.004, 1.0, 5000, 1e-5, 1.699072, 1.510867, 0.137460657),
    (256 / 60000, 1.1, 14062, 1e-5, 2.596556, 2.381686, 0.328991402),
    (0.02, 2.0, 2000, 1e-6, 2.365787, 2.195750, 0.227207427),
    (1.0, 10.0, 100, 1e-5, 4.728507, 4.377178, 1.0),
    (1024 / N, 1.0, 1000, 1e-5, 7.103620, 6.460658, 1.697970264),
    pytest.param(0.001, 0.5, 10000, 1e-6, 7.569660, 6.346137, 0.535967137, marks=pytest.mark.slow),
]


def steps(q: float, sigma: float, count: int) -> tuple[DpEvent, ...]:
    return (PoissonSubsampledGaussian("training", sigma, q, count),)


@pytest.mark.parametrize(("q", "sigma", "count", "at", "rdp", "pld", "two"), VECTORS)
def test_epsilon_of_subsampled_gaussian_vectors(
    q: float, sigma: float, count: int, at: float, rdp: float, pld: float, two: float
) -> None:
    """At least the reference PLD up to its last printed digit, at most 1e-3 above."""
    spent = compute_epsilon(steps(q, sigma, count), at)
    assert pld - 6e-7 <= spent <= pld + 1e-3
    assert rdp_epsilon(steps(q, sigma, count), at) == pytest.approx(rdp, rel=1e-6)
    assert renyi(steps(q, sigma, count), 2.0) == pytest.approx(two, rel=1e-8)


def test_epsilon_matches_dp_accounting() -> None:
    import dp_accounting as library

    accountant = library.pld.PLDAccountant(value_discretization_interval=1e-4)
    accountant.compose(library.GaussianDpEvent(47.863 / math.sqrt(14)))
    one = library.PoissonSampledDpEvent(1024 / N, library.GaussianDpEvent(2.6282))
    accountant.compose(library.SelfComposedDpEvent(one, 400))
    theirs = accountant.get_epsilon(1e-5)
    ours = compute_epsilon((GaussianMechanism("counts", 47.863 / math.sqrt(14)), *steps(1024 / N, 2.6282, 400)), 1e-5)
    assert theirs - 1e-9 <= ours <= theirs + 1e-3
    assert ours == pytest.approx(0.99951, abs=1e-5)


ONE_STEP = {
    (1.1, 0.01): {
        1.25: 7.928006e-5,
        1.5: 9.554528572e-5,
        2.0: 1.285100816e-4,
        2.5: 1.620774094e-4,
        3.0: 1.962778899e-4,
        4.0: 2.667183e-4,
        8.0: 5.840703e-4,
        9.6: 7.460544322e-4,
        16.0: 1.699826728,
        32.0: 8.469416434,
    },
    (0.7, 0.01): {1.5: 4.692257769e-4, 2.5: 9.098691963e-4, 9.6: 4.655265913},
    (1.0, 0.1): {1.5: 0.01173459220, 2.5: 0.02350372726},
}


@pytest.mark.parametrize(("sigma", "q"), ONE_STEP)
def test_rdp_of_one_subsampled_step(sigma: float, q: float) -> None:
    for order, expected in ONE_STEP[sigma, q].items():
        assert subsampled_gaussian_rdp(sigma, q, order) == pytest.approx(
            expected, rel=1e-6 if expected < 1e-4 else 2e-7
        )

        def moment(x: float, order: float = order) -> float:
            ratio = 1 - q + q * math.exp((2 * x - 1) / (2 * sigma**2))
            return stats.norm.pdf(x, scale=sigma) * ratio**order

        if order < 10:
            total = integrate.quad(moment, -12, 25, epsabs=0, epsrel=1e-12, limit=500, points=[0.0, order])[0]
            assert subsampled_gaussian_rdp(sigma, q, order) == pytest.approx(
                math.log(total) / (order - 1), rel=1e-8, abs=1e-12
            )


@pytest.mark.parametrize(("mu", "expected"), [(0.5, 1.993091), (1.0, 4.377178), (2.0, 9.997256)])
def test_epsilon_of_gaussian_mechanism(mu: float, expected: float) -> None:
    """Balle and Wang 2018, arXiv 1805.06530; many looks are one with less noise."""
    spent = compute_epsilon((GaussianMechanism("sum", 1 / mu),), 1e-5)
    assert expected - 6e-7 <= spent <= expected + 1e-5
    assert compute_epsilon((GaussianMechanism("sum", 2 / mu, times=4),), 1e-5) == pytest.approx(spent, abs=1e-9)
    assert compute_epsilon((*steps(1.0, 3 / mu, 8), GaussianMechanism("sum", 3 / mu)), 1e-5) == pytest.approx(
        spent, abs=1e-9
    )
    there = stats.norm.cdf(mu / 2 - spent / mu) - math.exp(spent) * stats.norm.cdf(-mu / 2 - spent / mu)
    assert there == pytest.approx(1e-5, rel=1e-3)
    assert compute_delta((GaussianMechanism("sum", 1 / mu),), spent) == pytest.approx(1e-5, rel=1e-3)


def test_delta_of_one_subsampled_step() -> None:
    """The larger hockey-stick divergence of both directions."""
    q, sigma, at = 0.2, 0.8, 0.5
    x = np.linspace(-12, 14, 2_000_001)
    without = stats.norm.pdf(x, scale=sigma)
    beside = (1 - q) * without + q * stats.norm.pdf(x, 1, sigma)
    sides = [np.trapezoid(np.clip(a - math.exp(at) * b, 0, None), x) for a, b in ((beside, without), (without, beside))]
    found = compute_delta(steps(q, sigma, 1), at)
    assert max(sides) - 1e-9 <= found <= max(sides) + 1e-5


RHO = [
    (1.0, 1e-5, 0.030557),
    (3.0, 1e-5, 0.224249),
    (10.0, 1e-5, 1.782696),
    (1.0, 1e-9, 0.014973),
    (10.0, 1e-9, 1.090786),
]


@pytest.mark.parametrize(("e", "d", "rho"), RHO)
def test_zcdp_conversion_both_ways(e: float, d: float, rho: float) -> None:
    assert rho_from_epsilon(e, d) == pytest.approx(rho, abs=6e-7)
    assert epsilon_from_rho(rho_from_epsilon(e, d), d) == pytest.approx(e, rel=1e-9)
    assert compute_epsilon((ZCdp("choice", rho_from_epsilon(e, d)),), d) == pytest.approx(e, rel=1e-6)


def test_pure_dp_composes_at_most_linearly() -> None:
    some = [PureDp("choice", 0.1)] * 3
    assert compute_epsilon(some[:1], 1e-9) <= 0.1
    assert compute_epsilon(some[:1], 1e-9) > 0.099
    assert compute_epsilon(some, 1e-9) <= 0.3 + 1e-9
    assert compute_epsilon(some * 40, 1e-5) < 6
    assert compute_epsilon([], 1e-5) == 0


def test_epsilon_of_mixed_events_is_bounded() -> None:
    """Above the steps alone; at most both at half of delta, added."""
    train, choice = steps(1024 / N, 2.6, 400), ZCdp("choice", 0.01)
    whole = compute_epsilon((*train, choice), 1e-5)
    assert (
        compute_epsilon(train, 1e-5) < whole <= compute_epsilon(train, 0.5e-5) + epsilon_from_rho(0.01, 0.5e-5) + 1e-9
    )
    assert whole <= rdp_epsilon((*train, choice), 1e-5)


CALIBRATED = [  # rows, steps, epsilon, delta, sigma found on a grid of 1e-3
    (1024, 400, 1.0, 1e-5, 2.5288),
    (1024, 400, 1.0, 1e-9, 3.6553),
    (4096, 300, 1.0, 1e-5, 8.2447),
    (1024, 400, 0.01, 1e-5, 156.52),
    (1024, 400, 0.1, 1e-5, 19.44),
    pytest.param(1024, 500, 5.0, 1e-6, 1.0163, marks=pytest.mark.slow),
    pytest.param(1024, 400, 10.0, 1e-5, 0.6803, marks=pytest.mark.slow),
    pytest.param(1024, 400, 10.0, 1e-9, 0.8151, marks=pytest.mark.slow),
    pytest.param(4096, 300, 1.0, 1e-9, 12.134, marks=pytest.mark.slow),
    pytest.param(4096, 300, 10.0, 1e-5, 1.3183, marks=pytest.mark.slow),
    pytest.param(4096, 300, 10.0, 1e-9, 1.6663, marks=pytest.mark.slow),
    pytest.param(1024, 500, 3.0, 1e-5, 1.25103, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("rows", "count", "wanted", "at", "sigma"), CALIBRATED)
def test_calibrated_sigma_spends_epsilon(rows: int, count: int, wanted: float, at: float, sigma: float) -> None:
    """In [epsilon - 2e-3, epsilon], in at most 5 s of CPU; the reference's grid of 1e-4 at epsilon 0.1."""
    begun = time.process_time()
    found = calibrate(wanted, at, rows / N, count)
    assert time.process_time() - begun < 5
    assert wanted - 2e-3 <= compute_epsilon(steps(rows / N, found, count), at) <= wanted
    assert 0.999 * sigma <= found <= 1.001 * sigma


def test_calibration_accounts_for_other_events() -> None:
    counts = GaussianMechanism("counts", 47.863 / math.sqrt(14))
    found = calibrate(1.0, 1e-5, 1024 / N, 400, (counts,))
    assert found == pytest.approx(2.6282, rel=1e-3)
    assert 0.998 <= compute_epsilon((counts, *steps(1024 / N, found, 400)), 1e-5) <= 1
    with refuses(UsageError) as caught:
        calibrate(1.0, 1e-5, 0.01, 10, (GaussianMechanism("counts", 0.5),))
    assert numbers(caught.value.message) == ["9.997", "1"]


@pytest.mark.parametrize("wanted", [1.0, 0.3])
def test_max_steps_spends_the_budget(wanted: float) -> None:
    sigma = 2.528
    count = max_steps(wanted, 1e-5, sigma, 1024 / N)
    assert (
        compute_epsilon(steps(1024 / N, sigma, count), 1e-5)
        <= wanted
        < compute_epsilon(steps(1024 / N, sigma, count + 1), 1e-5)
    )
    assert max_steps(0.01, 1e-5, 0.5, 1024 / N) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: calibrate(0.0, 1e-5, 0.01, 10),
        lambda: calibrate(1.0, 0.0, 0.01, 10),
        lambda: calibrate(1.0, 1e-5, 1.5, 10),
        lambda: calibrate(1.0, 1e-5, 0.01, 0),
        lambda: PoissonSubsampledGaussian("training", 0.0, 0.1, 1),
        lambda: GaussianMechanism("counts", math.inf),
        lambda: PureDp("choice", -1.0),
        lambda: compute_epsilon((), 1.0),
        lambda: compute_delta((ZCdp("choice", 1.0),), 1.0),
        lambda: renyi((PureDp("choice", 1.0),), 1.0),
    ],
)
def test_invalid_arguments(wrong) -> None:
    with pytest.raises(UsageError):
        wrong()


def test_epsilon_at_tiny_sigma_is_fast() -> None:
    """Sigma 1e-3: no grid holds the losses; bounded without gigabytes."""
    begun = time.process_time()
    spent = compute_epsilon(steps(0.01, 1e-3, 100), 1e-5)
    assert time.process_time() - begun < 5
    assert spent > 1e6


KINDS = (
    GaussianMechanism("a", 30.0, integer_moves=2),
    PoissonSubsampledGaussian("b", 1.1, 0.01, 100),
    PureDp("c", 0.001),
    PoissonSubsampledGaussian("d", 2.1, 0.02, 9),
)


def test_composition_is_order_independent() -> None:
    together = (
        GaussianMechanism("one", 30.0, times=6, integer_moves=2),
        PoissonSubsampledGaussian("two", 1.1, 0.01, 600),
        *(PureDp(f"three {i}", 0.001) for i in range(6)),
        PoissonSubsampledGaussian("four", 2.1, 0.02, 54),
    )
    assert compute_epsilon(KINDS * 6, 1e-5) == pytest.approx(compute_epsilon(together, 1e-5), rel=1e-9)
    assert compute_epsilon(KINDS[::-1] * 6, 1e-5) == pytest.approx(compute_epsilon(together, 1e-5), rel=1e-6)
    assert rdp_epsilon(KINDS * 6, 1e-5) == pytest.approx(rdp_epsilon(together, 1e-5), rel=1e-9)
    assert compute_delta(KINDS * 6, 1.0) == pytest.approx(compute_delta(together, 1.0), rel=1e-6)
    assert count_events(KINDS * 6) == count_events(together)


def test_zcdp_events_add_up() -> None:
    assert compute_epsilon([ZCdp("x", 1e-4)] * 500, 1e-5) == pytest.approx(epsilon_from_rho(0.05, 1e-5), rel=1e-9)


def test_many_repeated_events_are_fast() -> None:
    kinds = (
        ZCdp("a", 1e-9),
        PureDp("b", 1e-5),
        PoissonSubsampledGaussian("c", 5.0, 1e-4, 1),
        GaussianMechanism("d", 1e4),
    )
    many = kinds * 20_000
    assert [times for _, times in count_events(many)] == [20_000] * 4
    begun = time.process_time()
    assert compute_epsilon(many, 1e-5) > compute_epsilon(kinds * 2, 1e-5)
    assert time.process_time() - begun < 20  # of a processor, which would take minutes one by one


DELTA = 1e-5


def true_epsilon(sigma: float, counts: int) -> float:
    """Return epsilon of counts that are each moved by one, from the chances of the sum of their noises."""
    k = np.arange(-math.ceil(12 * sigma + 20), math.ceil(12 * sigma + 20) + 1)
    one = np.exp(-(k**2) / (2 * sigma**2))
    one, total = one / one.sum(), np.ones(1)
    for _ in range(counts):
        total = np.convolve(total, one)
    sums = np.arange(len(total)) - len(total) // 2
    losses = (counts - 2 * sums) / (2 * sigma**2)

    def over(wanted: float) -> float:
        return float((total * -np.expm1(np.minimum(wanted - losses, 0.0))).sum()) - DELTA

    return float(brentq(over, 0.0, 500.0, xtol=1e-10))  # pyrefly: ignore


@pytest.mark.parametrize(("sigma", "counts"), [(1.5, 1), (5.0, 1), (1.0, 2), (2.0, 6)])
def test_epsilon_of_discrete_gaussian_counts(sigma: float, counts: int) -> None:
    told = compute_epsilon((GaussianMechanism("counts", sigma / math.sqrt(counts), integer_moves=counts),), DELTA)
    truth = true_epsilon(sigma, counts)
    assert truth - 1e-6 <= told <= truth + 2e-3


def test_discrete_gaussian_costs_more_than_gaussian() -> None:
    assert true_epsilon(1.5, 1) > 1.01 * compute_epsilon((GaussianMechanism("counts", 1.5),), DELTA)


def test_integer_moves_default_to_continuous_noise() -> None:
    assert GaussianMechanism("counts", 2.0).integer_moves == 0
    with refuses(UsageError, found="-1"):
        GaussianMechanism("counts", 2.0, integer_moves=-1)


def test_discrete_counts_cost_as_continuous_ones_at_large_sigma() -> None:
    steps = PoissonSubsampledGaussian("training", 1.2, 0.05, 100)
    both = [compute_epsilon((GaussianMechanism("counts", 4.0, integer_moves=whole), steps), DELTA) for whole in (0, 14)]
    assert both[1] == pytest.approx(both[0], abs=2e-3)


@pytest.mark.parametrize("wanted", [60.0, 300.0, 1000.0])
def test_calibration_at_large_epsilon_is_fast(wanted: float) -> None:
    begun = time.process_time()
    others = (GaussianMechanism("counts", 0.9, integer_moves=14),)
    sigma = calibrate(wanted, DELTA, 0.03, 400, others)
    spent = (*others, PoissonSubsampledGaussian("training", sigma, 0.03, 400))
    assert 0.99 * wanted < compute_epsilon(spent, DELTA) <= min(wanted, rdp_epsilon(spent, DELTA))
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    "event",
    [
        GaussianMechanism("a", 1e-9, times=10**9),
        GaussianMechanism("a", 1e12, integer_moves=10**6),
        PoissonSubsampledGaussian("a", 4.0, 0.01, 10**9),
        PureDp("a", 1000.0),
        ZCdp("a", 1e12),
    ],
    ids=str,
)
def test_events_at_their_bounds_have_an_epsilon_at_once(event: DpEvent) -> None:
    begun = time.process_time()
    assert 0 <= compute_epsilon((event,), 1e-5) < math.inf
    assert time.process_time() - begun < 5


def test_epsilon_of_a_huge_rho_is_the_closed_bound() -> None:
    rho = 1e20  # rho + 2 sqrt(rho log(1 / delta)), Bun and Steinke 2016
    assert epsilon_from_rho(rho, 1e-5) == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1e5)), rel=1e-9)
