"""Reconstruction robustness: closed forms, reference vectors, exact Neyman-Pearson tests."""

import math

import pytest
import torch

from feller.core.errors import UsageError
from feller.privacy.accounting.dp_events import GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp
from feller.privacy.leakage.rero import guess_probability, rero, rero_normal, rero_pld, rero_rdp
from tests.errors import refuses
from tests.oracle import f64

N = 32_561
NORMAL = {
    1 / 256: {0.5: 0.015384, 1.0: 0.048450, 2.0: 0.254605, 4.0: 0.909866},
    0.1: {0.5: 0.217239, 1.0: 0.389144, 2.0: 0.763760, 4.0: 0.996721},
    0.001: {0.5: 0.004796, 1.0: 0.018298, 2.0: 0.137805, 4.0: 0.818527},
}
KAPPAS = (1 / 256, 0.02, 0.1, 0.5)
STEPS = {  # q, sigma, T -> least value, reference's value
    (0.01, 1.1, 1000): ((0.011172, 0.046096, 0.179118, 0.637595), (0.011178, 0.046117, 0.179176, 0.640413)),
    (1024 / N, 1.25103, 500): ((0.024168, 0.084080, 0.268178, 0.740084), (0.024172, 0.084090, 0.268202, 0.754328)),
    (1024 / N, 2.78795, 500): ((0.008313, 0.036736, 0.154013, 0.602339), (0.008317, 0.036752, 0.154050, 0.603375)),
}


@pytest.mark.parametrize(("kappa", "mu"), [(kappa, mu) for kappa in NORMAL for mu in NORMAL[kappa]])
def test_rero_of_gaussian_mechanism(kappa: float, mu: float) -> None:
    assert rero_normal(kappa, mu) == pytest.approx(NORMAL[kappa][mu], abs=6e-7)
    spent = (GaussianMechanism("a", 2 / mu, 2), PoissonSubsampledGaussian("b", 2 / mu, 1.0, 2))
    assert rero(kappa, spent) == pytest.approx(rero_normal(kappa, mu), rel=1e-12)


def test_rero_pld_bounds_the_closed_form() -> None:
    found = rero_pld(1 / 256, (GaussianMechanism("a", 1.0),))
    exact = rero_normal(1 / 256, 1.0)
    assert exact - 1e-12 <= found <= exact + 1e-9
    assert found == pytest.approx(0.0484504404, abs=2e-10)


@pytest.mark.parametrize(("mu", "printed"), [(0.5, 0.018223), (1.0, 0.066208), (2.0, 0.412833), (4.0, 1.0)])
def test_rero_rdp(mu: float, printed: float) -> None:
    """At the best order, so not above the reference, which took the best of a grid."""
    found = rero_rdp(1 / 256, (GaussianMechanism("a", 1 / mu),))
    assert printed - 2e-5 <= found <= printed + 6e-7
    orders = torch.linspace(1.001, 20, 100_000).double()
    logs = (1 - 1 / orders) * (math.log(1 / 256) + orders * mu**2 / 2)
    assert math.log(found) == pytest.approx(min(0.0, logs.min().item()), abs=1e-6)


@pytest.mark.parametrize("run", STEPS)
def test_rero_of_dp_sgd(run: tuple[float, float, int]) -> None:
    q, sigma, steps = run
    spent = (PoissonSubsampledGaussian("training", sigma, q, steps),)
    for kappa, tight, printed in zip(KAPPAS, *STEPS[run], strict=True):
        found = rero(kappa, spent)
        assert tight - 1e-5 <= found <= printed + 1e-5
        assert found == pytest.approx(tight, abs=2e-6)
        assert found <= rero_rdp(kappa, spent)


@pytest.mark.parametrize("kappa", [0.01, 0.3, 0.5, 0.9])
def test_rero_of_randomised_response(kappa: float) -> None:
    """The best test against a coin that is flipped with chance 1 / (1 + e^epsilon), on each side of its corner."""
    epsilon, p = 1.2, 1 / (1 + math.exp(-1.2))
    exact = kappa * p / (1 - p) if kappa <= 1 - p else p + (kappa - (1 - p)) / p * (1 - p)
    assert rero(kappa, (PureDp("flip", epsilon),)) == pytest.approx(exact, abs=5e-5)
    assert rero(kappa, (PureDp("flip", epsilon),)) >= exact - 1e-12


def test_rero_of_both_neighbour_relations() -> None:
    """The row is there while an attacker looks; the other way round tells less of rare values, more of common ones."""
    spent = (PoissonSubsampledGaussian("training", 1.1, 0.01, 1000),)
    present, absent = (tuple(rero_pld(k, spent, way) for k in KAPPAS) for way in ("present", "absent"))
    assert all(a < p for a, p in zip(absent[:3], present[:3], strict=True))
    assert absent[3] == pytest.approx(0.638681, abs=2e-6)
    assert rero(0.5, spent) == pytest.approx(present[3], abs=1e-12)


def test_rero_of_zcdp() -> None:
    """Alone by divergences; beside others what each allows is put together, below what divergences give."""
    choice = ZCdp("choice", 0.02)
    assert rero(0.02, (choice,)) == pytest.approx(math.exp(-((math.sqrt(-math.log(0.02)) - math.sqrt(0.02)) ** 2)))
    assert rero(0.02, (choice,)) >= rero_normal(0.02, math.sqrt(2 * 0.02))
    training = PoissonSubsampledGaussian("training", 1.1, 0.01, 1000)
    found = rero(0.02, (choice, training))
    assert rero(0.02, (training, GaussianMechanism("the same", 5.0))) < found <= rero_rdp(0.02, (choice, training))
    assert found > max(rero(0.02, (choice,)), rero(0.02, (training,)))


def test_rero_is_monotone() -> None:
    before = 0.0
    for kappa in (1e-6, 1e-3, 0.1, 0.5, 0.99):
        found = rero(kappa, (PoissonSubsampledGaussian("training", 1.0, 0.05, 50),))
        assert max(before, kappa) < found < 1
        assert found < rero(kappa, (PoissonSubsampledGaussian("training", 1.0, 0.05, 100),))
        before = found
    assert rero(0.3, ()) == 0.3
    assert rero(1.0, (GaussianMechanism("a", 1.0),)) == 1.0
    assert rero(0.5, (GaussianMechanism("a", 1e-3),)) == 1.0
    assert rero(0.01, (PoissonSubsampledGaussian("training", 0.02, 0.5, 10_000),)) == 1.0, "no grid fits"
    for wrong in (0.0, 1.1, math.nan):
        with refuses(UsageError, argument="kappa"):
            rero(wrong, ())


def test_guess_probability() -> None:
    spent = (GaussianMechanism("a", 1.0),)
    sex, age = (guess_probability(shares, spent) for shares in (f64(0.7, 0.3), torch.full((256,), 1 / 256).double()))
    assert sex.prior == pytest.approx(0.7)
    assert sex.posterior_bound == pytest.approx(rero_normal(0.7, 1.0))
    assert age.posterior_bound == pytest.approx(0.048450, abs=6e-7)
    with refuses(UsageError, found="a sum of 1.1"):
        guess_probability(f64(0.7, 0.4), spent)
