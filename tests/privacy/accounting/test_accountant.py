"""Epsilon against the reference's vectors, closed forms and quadrature."""

import math
import time

import numpy as np
import pytest
from scipy import integrate, stats

from feller.core.errors import UsageError
from feller.privacy.accounting.accountant import compute_delta, compute_epsilon, gathered
from feller.privacy.accounting.calibration import calibrate, max_steps
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp
from feller.privacy.accounting.renyi import renyi, subsampled_gaussian_rdp
from feller.privacy.accounting.zcdp import epsilon_from_rho, rho_from_epsilon

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
def test_vectors(q: float, sigma: float, count: int, at: float, rdp: float, pld: float, two: float) -> None:
    """Never below the reference's loss distribution, but for its last printed digit, and at most 1e-3 above."""
    spent = compute_epsilon(steps(q, sigma, count), at)
    assert pld - 6e-7 <= spent <= pld + 1e-3
    assert compute_epsilon(steps(q, sigma, count), at, method="rdp") == pytest.approx(rdp, rel=1e-6)
    assert renyi(steps(q, sigma, count), 2.0) == pytest.approx(two, rel=1e-8)


def test_the_library_says_the_same() -> None:
    """Its own accountant, on events of its own."""
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
def test_divergence_of_one_step(sigma: float, q: float) -> None:
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
def test_normal_noise_has_a_closed_form(mu: float, expected: float) -> None:
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


def test_one_sampled_step_against_quadrature() -> None:
    """Delta is the larger hockey-stick divergence of both directions."""
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
def test_concentrated_privacy_both_ways(e: float, d: float, rho: float) -> None:
    assert rho_from_epsilon(e, d) == pytest.approx(rho, abs=6e-7)
    assert epsilon_from_rho(rho_from_epsilon(e, d), d) == pytest.approx(e, rel=1e-9)
    assert compute_epsilon((ZCdp("choice", rho_from_epsilon(e, d)),), d) == pytest.approx(e, rel=1e-6)


def test_pure_privacy_adds_up_at_worst() -> None:
    some = [PureDp("choice", 0.1)] * 3
    assert compute_epsilon(some[:1], 1e-9) <= 0.1
    assert compute_epsilon(some[:1], 1e-9) > 0.099
    assert compute_epsilon(some, 1e-9) <= 0.3 + 1e-9
    assert compute_epsilon(some * 40, 1e-5) < 6
    assert compute_epsilon([], 1e-5) == 0


def test_mixtures_are_bounded_from_both_sides() -> None:
    """More than the steps alone; at most what both cost at half of delta, added."""
    train, choice = steps(1024 / N, 2.6, 400), ZCdp("choice", 0.01)
    whole = compute_epsilon((*train, choice), 1e-5)
    assert (
        compute_epsilon(train, 1e-5) < whole <= compute_epsilon(train, 0.5e-5) + epsilon_from_rho(0.01, 0.5e-5) + 1e-9
    )
    assert whole <= compute_epsilon((*train, choice), 1e-5, method="rdp")


CALIBRATED = [  # rows, steps, epsilon, delta, sigma found on a grid of 1e-3
    (1024, 400, 1.0, 1e-5, 2.5288),
    (1024, 400, 1.0, 1e-9, 3.6553),
    (4096, 300, 1.0, 1e-5, 8.2447),
    (1024, 400, 0.01, 1e-5, 156.52),
    pytest.param(1024, 500, 5.0, 1e-6, 1.0163, marks=pytest.mark.slow),
    pytest.param(1024, 400, 10.0, 1e-5, 0.6803, marks=pytest.mark.slow),
    pytest.param(1024, 400, 10.0, 1e-9, 0.8151, marks=pytest.mark.slow),
    pytest.param(4096, 300, 1.0, 1e-9, 12.134, marks=pytest.mark.slow),
    pytest.param(4096, 300, 10.0, 1e-5, 1.3183, marks=pytest.mark.slow),
    pytest.param(4096, 300, 10.0, 1e-9, 1.6663, marks=pytest.mark.slow),
    pytest.param(1024, 500, 3.0, 1e-5, 1.25103, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("rows", "count", "wanted", "at", "sigma"), CALIBRATED)
def test_calibrated_noise_spends_what_was_asked(rows: int, count: int, wanted: float, at: float, sigma: float) -> None:
    """In [epsilon - 2e-3, epsilon], in at most 5 seconds of a processor; on a finer grid than the reference's."""
    begun = time.process_time()
    found = calibrate(wanted, at, rows / N, count)
    assert time.process_time() - begun < 5
    assert wanted - 2e-3 <= compute_epsilon(steps(rows / N, found, count), at) <= wanted
    assert 0.999 * sigma <= found <= 1.001 * sigma


def test_small_budgets_end() -> None:
    """At epsilon 0.1 the reference's grid of 1e-3 was coarse: 20.062 there, 19.44 on 1e-4."""
    found = calibrate(0.1, 1e-5, 1024 / N, 400)
    assert 19.3 < found < 20.062
    assert 0.098 <= compute_epsilon(steps(1024 / N, found, 400), 1e-5) <= 0.1
    assert 0 < compute_epsilon(steps(1024 / N, calibrate(1e-3, 1e-5, 1024 / N, 400), 400), 1e-5) <= 1e-3


def test_calibration_leaves_room_for_the_others() -> None:
    counts = GaussianMechanism("counts", 47.863 / math.sqrt(14))
    found = calibrate(1.0, 1e-5, 1024 / N, 400, (counts,))
    assert found == pytest.approx(2.6282, rel=1e-3)
    assert 0.998 <= compute_epsilon((counts, *steps(1024 / N, found, 400)), 1e-5) <= 1
    with pytest.raises(UsageError, match="already spend epsilon 9"):
        calibrate(1.0, 1e-5, 0.01, 10, (GaussianMechanism("counts", 0.5),))


@pytest.mark.parametrize(("wanted", "sigma"), [(1.0, 2.528), (0.3, 2.528)])
def test_training_stops_before_the_step_that_is_too_much(wanted: float, sigma: float) -> None:
    count = max_steps(wanted, 1e-5, sigma, 1024 / N)
    assert (
        compute_epsilon(steps(1024 / N, sigma, count), 1e-5)
        <= wanted
        < compute_epsilon(steps(1024 / N, sigma, count + 1), 1e-5)
    )


def test_no_step_may_be_all_that_fits() -> None:
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
        lambda: compute_epsilon((PureDp("choice", 1.0),), 1e-5, method="prv"),
        lambda: compute_delta((ZCdp("choice", 1.0),), 1.0),
        lambda: renyi((PureDp("choice", 1.0),), 1.0),
    ],
)
def test_wishes_that_nobody_can_have(wrong) -> None:
    with pytest.raises(UsageError):
        wrong()


def test_a_loss_that_no_grid_holds_is_bounded_at_once() -> None:
    """Noise of a thousandth: half of 1 / sigma^2 per step, without gigabytes."""
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


def test_equal_expenses_compose_by_their_number_in_any_order() -> None:
    together = (
        GaussianMechanism("one", 30.0, times=6, integer_moves=2),
        PoissonSubsampledGaussian("two", 1.1, 0.01, 600),
        *(PureDp(f"three {i}", 0.001) for i in range(6)),
        PoissonSubsampledGaussian("four", 2.1, 0.02, 54),
    )
    assert compute_epsilon(KINDS * 6, 1e-5) == pytest.approx(compute_epsilon(together, 1e-5), rel=1e-9)
    assert compute_epsilon(KINDS[::-1] * 6, 1e-5) == pytest.approx(compute_epsilon(together, 1e-5), rel=1e-6)
    assert compute_epsilon(KINDS * 6, 1e-5, method="rdp") == pytest.approx(
        compute_epsilon(together, 1e-5, method="rdp"), rel=1e-9
    )
    assert compute_delta(KINDS * 6, 1.0) == pytest.approx(compute_delta(together, 1.0), rel=1e-6)
    assert gathered(KINDS * 6) == gathered(together)


def test_many_equal_concentrated_expenses_are_one_of_their_sum() -> None:
    assert compute_epsilon([ZCdp("x", 1e-4)] * 500, 1e-5) == pytest.approx(epsilon_from_rho(0.05, 1e-5), rel=1e-9)


def test_eighty_thousand_expenses_of_four_kinds_take_little() -> None:
    kinds = (
        ZCdp("a", 1e-9),
        PureDp("b", 1e-5),
        PoissonSubsampledGaussian("c", 5.0, 1e-4, 1),
        GaussianMechanism("d", 1e4),
    )
    many = kinds * 20_000
    assert [times for _, times in gathered(many)] == [20_000] * 4
    begun = time.process_time()
    assert compute_epsilon(many, 1e-5) > compute_epsilon(kinds * 2, 1e-5)
    assert time.process_time() - begun < 20  # of a processor, which would take minutes one by one


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
