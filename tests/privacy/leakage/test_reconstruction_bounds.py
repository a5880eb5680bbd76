"""Lower bounds of reconstruction errors from Rényi DP of order 2."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from feller.core.errors import UsageError
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.accounting.renyi import renyi
from feller.privacy.leakage.reconstruction_bounds import (
    eps2_added,
    eps2_replaced,
    mse_bound,
    one_step_added,
    one_step_replaced,
    van_trees,
    van_trees_of,
    van_trees_waterfilling,
)
from tests.errors import refuses
from tests.oracle import F64, f64

TABLE = [  # q, sigma, T, added, bound, replaced, bound
    (0.01, 1.1, 1000, 0.128510, 1.82305, 0.362630, 0.571947),
    (0.01, 0.7, 1000, 0.669465, 0.262277, 1.337513, 0.088982),
    (0.004, 1.0, 5000, 0.137461, 1.69657, 0.371641, 0.555418),
    (256 / 60000, 1.1, 14062, 0.328991, 0.641740, 0.937886, 0.160816),
    (1.0, 10.0, 100, 1.0, 0.145494, 4.0, 0.00466434),
    (0.01, 0.5, 5000, 26.7275, 6.2e-13, 35.6270, 8.4e-17),
    (0.004, 0.5, 37500, 32.1451, 2.7e-15, 46.8949, 1.1e-21),
    (0.01, 0.5 / 1.115, 5000, 71.2, 0.0, 0.0, 0.0),
    (0.004, 0.5 / 1.115, 37500, 86.0, 0.0, 0.0, 0.0),
]
TWO = {0.01: 24.8752, 0.1: 2.37708, 0.25: 0.880202, 0.5: 0.385374, math.log(2): 0.25, 1.0: 0.145494, 2.0: 0.0391294}
TWO |= {3.0: 0.0130989, 5.0: 0.00169591, 8.0: 8.38938e-5}


@pytest.mark.parametrize(("q", "sigma", "steps", "plain", "plain_mse", "both", "both_mse"), TABLE)
def test_eps2_and_mse_bound_table(
    q: float, sigma: float, steps: int, plain: float, plain_mse: float, both: float, both_mse: float
) -> None:
    """As printed, to the last digit; a bound printed with two digits to within half of the last."""
    spent = (PoissonSubsampledGaussian("training", sigma, q, steps),)
    assert eps2_added(spent) == pytest.approx(plain, abs=1e-6 if plain < 2 else 5e-5 if plain < 40 else 0.05)
    if both:
        assert eps2_replaced(spent) == pytest.approx(both, abs=1e-6 if both < 2 else 5e-5)
        assert mse_bound(eps2_added(spent)) == pytest.approx(plain_mse, rel=1e-5 if plain_mse > 1e-6 else 0.02)
        assert mse_bound(eps2_replaced(spent)) == pytest.approx(both_mse, rel=1e-5 if both_mse > 1e-6 else 0.05)


@pytest.mark.parametrize("spent", TWO)
def test_mse_bound_of_the_unit_cube(spent: float) -> None:
    assert mse_bound(spent) == pytest.approx(TWO[spent], rel=5e-6)
    assert mse_bound(spent, torch.ones(784, dtype=F64)) == pytest.approx(mse_bound(spent), rel=1e-12)


@pytest.mark.parametrize(
    ("q", "sigma"), [(0.01, 1.1), (0.3, 0.4), (1e-4, 2.0), (0.9, 1.0), (1.0, 0.7), (0.05, 0.15), (0.5, 30.0)]
)
def test_one_step_replaced_by_quadrature(q: float, sigma: float) -> None:
    """Of P^2 / Q itself, by an adaptive rule."""

    def integrand(x: float) -> float:
        p = np.log1p(-q) + stats.norm.logpdf(x, 0, sigma) if q < 1 else -np.inf
        there = np.logaddexp(p, math.log(q) + stats.norm.logpdf(x, 1, sigma))
        other = np.logaddexp(p, math.log(q) + stats.norm.logpdf(x, -1, sigma))
        return float(np.exp(2 * there - other))

    ends = (-1 - 12 * sigma, 3 + 12 * sigma)
    whole, _ = integrate.quad(integrand, *ends, points=(-1, 0, 1, 2, 3), limit=2000, epsabs=0, epsrel=1e-12)
    assert one_step_replaced(sigma, q) == pytest.approx(math.log(whole), rel=1e-6, abs=2e-11)


def test_one_step_limits() -> None:
    """The asymptote, where an integral of P^2 / Q would be lost beside 1; at q = 1 four times the plain value."""
    for sigma in (0.5, 1.0, 3.0):
        gap = math.exp(1 / sigma**2) - math.exp(-1 / sigma**2)
        assert one_step_replaced(sigma, 1e-9) == pytest.approx(2e-18 * gap, rel=1e-6)
        assert one_step_added(sigma, 1e-9) == pytest.approx(1e-18 * math.expm1(1 / sigma**2), rel=1e-12)
    assert one_step_replaced(1e4, 1.0) == pytest.approx(4e-8, rel=1e-9)
    assert one_step_replaced(0.011, 0.3) <= 4 / 0.011**2
    assert one_step_replaced(0.009, 0.3) == pytest.approx(4 / 0.009**2, rel=1e-12), (
        "beyond the grid the value of a full batch, from above"
    )
    assert one_step_added(0.01, 0.3) == pytest.approx(1e4 + 2 * math.log(0.3))


@pytest.mark.parametrize(("q", "sigma"), [(0.01, 1.0), (0.2, 0.6), (0.7, 2.0)])
def test_opposite_gradients_are_the_worst_case(q: float, sigma: float) -> None:
    """Two rows at other angles, or shorter, by quadrature over the plane that they span: checked, not proved."""
    line = torch.arange(-3 - 9 * sigma, 4 + 9 * sigma, min(0.25, sigma / 4), dtype=F64)
    x, y = torch.meshgrid(line, line, indexing="ij")

    def law(a: float, b: float) -> torch.Tensor:
        return (-((x - a) ** 2 + (y - b) ** 2) / (2 * sigma**2)).exp() / (2 * math.pi * sigma**2)

    def spent(r: float, s: float, angle: float) -> float:
        p = (1 - q) * law(0.0, 0.0) + q * law(r, 0.0)
        other = (1 - q) * law(0.0, 0.0) + q * law(s * math.cos(angle), s * math.sin(angle))
        cell = (line[1] - line[0]) ** 2
        return math.log1p(((p - other) ** 2 / other.clamp(min=1e-300)).sum().item() * cell.item())

    worst = spent(1.0, 1.0, math.pi)
    assert worst == pytest.approx(one_step_replaced(sigma, q), rel=1e-6)
    for r in (0.0, 0.5, 1.0):
        for s in (0.0, 0.5, 1.0):
            for angle in (0.0, 1.0, 2.0, 2.8, math.pi):
                assert spent(r, s, angle) <= worst * (1 + 1e-9)


def test_eps2_of_each_event() -> None:
    """Adding is half of replacing: twice as far, four times the cost of normal noise, and of concentrated privacy."""
    assert eps2_added((GaussianMechanism("counts", 2.0, 3),)) == pytest.approx(3 / 4)
    assert eps2_replaced((GaussianMechanism("counts", 2.0, 3),)) == pytest.approx(3.0)
    assert eps2_added((ZCdp("choice", 0.1),)) == pytest.approx(0.2)
    assert eps2_replaced((ZCdp("choice", 0.1),)) == pytest.approx(0.8)
    p = 1 / (1 + math.exp(-0.7))  # an answer that is flipped by a coin spends all that a pure mechanism may
    flipped = math.log(p**2 / (1 - p) + (1 - p) ** 2 / p)
    assert eps2_added((PureDp("flip", 0.7),)) == pytest.approx(flipped)
    assert eps2_replaced((PureDp("flip", 0.35),)) == pytest.approx(flipped)
    assert eps2_replaced((PureDp("flip", 1e-5),)) == pytest.approx(4e-10, rel=1e-5)
    assert eps2_replaced((PureDp("flip", 400.0),)) == pytest.approx(800.0)


def test_eps2_adds_up() -> None:
    parts: tuple[DpEvent, ...] = (
        GaussianMechanism("counts", 12.8),
        ZCdp("choice", 0.001),
        PureDp("rows", 0.01),
        PoissonSubsampledGaussian("training", 1.1, 0.01, 1000),
    )
    ledger = Ledger(parts, 1e-5, 30_000)
    assert eps2_replaced(ledger.events) == pytest.approx(sum(eps2_replaced((part,)) for part in parts))
    assert eps2_added(ledger.events) == pytest.approx(sum(eps2_added((part,)) for part in parts))
    assert eps2_replaced(()) == 0
    assert eps2_added(parts[-1:]) == pytest.approx(renyi(parts[-1:], 2.0), rel=1e-9)


def test_mse_bound_with_diameters_and_bias() -> None:
    diameters, slopes = f64(1.0, 2.0, 0.5), f64(1.0, 0.5, 0.0)
    expected = (1 + 4 * 0.25) / (4 * 3 * math.expm1(0.3))
    assert mse_bound(0.3, diameters, bias_slopes=slopes) == pytest.approx(expected)
    assert mse_bound(0.3, diameters, bias_slopes=slopes, squared_bias=0.2) == pytest.approx(expected + 0.2)
    assert mse_bound(0.3, 2.0) == pytest.approx(4 * mse_bound(0.3))


def test_mse_bound_limits() -> None:
    assert mse_bound(0.0) == math.inf
    assert mse_bound(1e6) == mse_bound(math.inf) == 0
    assert mse_bound(1e6, squared_bias=0.1) == 0.1
    assert 0 < mse_bound(700.0) < 1e-300
    for wrong in (-0.1, math.nan):
        with refuses(UsageError, argument="eps2"):
            mse_bound(wrong)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_mse_bound_is_below_the_unbiased_estimator(sigma: float) -> None:
    """A number of [0, 1] with normal noise: the noise itself is the error; loud noise is a factor 4 above."""
    bound = mse_bound(1 / sigma**2)
    assert bound <= sigma**2
    assert sigma < 4 or bound == pytest.approx(sigma**2 / 4, rel=0.04)


def test_van_trees_of_gaussians() -> None:
    """A normal row and a normal look at it: the bound is the posterior variance, exactly, also with directions."""
    assert van_trees(4.0, 0.5) == pytest.approx(1 / (4 + 1 / 0.25))
    assert van_trees(0.0, 0.5) == pytest.approx(0.25)
    assert van_trees(f64(0.0, 1e300), 2.0).tolist() == pytest.approx([4.0, 0.0])
    look, covariance = torch.diag(f64(4.0, 0.0, 0.1)), torch.diag(f64(0.25, 1.0, 9.0))
    exact = (1 / (4 + 4) + 1 / (0 + 1) + 1 / (0.1 + 1 / 9)) / 3
    assert van_trees_of(look, torch.linalg.inv(covariance)).item() == pytest.approx(exact)
    tau = 0.8
    score = torch.eye(3, dtype=F64) / tau**2
    assert van_trees(look.trace().item() / 3, tau) <= van_trees_of(look, score).item()
    with refuses(UsageError, argument="spread", found="0"):
        van_trees(1.0, 0.0)


def test_van_trees_waterfilling() -> None:
    """Variances 4 and 1: a trace of 0.5 brings 4 to 4 / 3, one of 7.75 both to 2 / 9."""
    assert van_trees_waterfilling(0.25, f64(1.0, 4.0)) == pytest.approx((4 / 3 + 1) / 2)
    assert van_trees_waterfilling(7.75 / 2, f64(4.0, 1.0)) == pytest.approx(2 / 9)
    assert van_trees_waterfilling(0.0, f64(4.0, 1.0, 0.0)) == pytest.approx(5 / 3)
    assert van_trees_waterfilling(3.0, f64(0.7, 0.7, 0.7)) == pytest.approx(van_trees(3.0, 0.7**0.5))
    with pytest.raises(UsageError):
        van_trees_waterfilling(1.0, f64(0.0))


def test_waterfilling_is_the_minimum() -> None:
    generator = torch.Generator().manual_seed(0)
    for trial in range(300):
        variances = torch.rand(4, generator=generator, dtype=F64) ** 3 + 0.01
        a = torch.randn(4, 4, generator=generator, dtype=F64) * torch.rand(4, generator=generator, dtype=F64) ** 4
        look = a.T @ a * 10.0 ** (trial % 5 - 2)
        least = van_trees_waterfilling(look.trace().item() / 4, variances)
        assert least <= van_trees_of(look, torch.diag(1 / variances)).item() * (1 + 1e-9)
        assert least <= van_trees(look.trace().item() / 4, variances.mean().item() ** 0.5) * (1 + 1e-9)
