"""Baselines against closed forms; calibration tests hold for the true conditional density and reject wrong ones."""

import numpy as np
import pytest
import scipy.stats

from feller.core.rng import Rng
from feller.data.conditions.recognition import fit_condition
from feller.evaluation.conditional_metrics import (
    QUANTILES,
    BoostedQuantiles,
    LinearGaussian,
    calibration,
    condition_features,
    piecewise_log_density,
    tarp_ranks,
    uniform_ranks,
)

N, DRAWS = 400, 50


def linear_gaussian(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y = B x + 1 + noise with covariance [[1, 0.6], [0.6, 1]]."""
    generator = np.random.default_rng(n)
    x = generator.normal(size=(n, 3))
    noise = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], n)
    return x, x @ np.array([[1.0, 0], [0, 2], [-1, 1]]) + 1 + noise


def test_linear_gaussian_has_the_true_likelihood() -> None:
    model = LinearGaussian.fit(*linear_gaussian(20_000))
    x, y = linear_gaussian(5_000)
    truth = scipy.stats.multivariate_normal(cov=[[1, 0.6], [0.6, 1]]).entropy()
    assert -model.log_density(x, y).mean() == pytest.approx(truth, abs=0.05)  # standard error 0.014


def test_boosted_quantiles_see_what_a_line_cannot() -> None:
    generator = np.random.default_rng(1)
    x = generator.uniform(-2, 2, size=(3_000, 1))
    y = np.sin(3 * x) + 0.1 * generator.normal(size=x.shape)
    boosted = BoostedQuantiles.fit(x[:2_000], y[:2_000]).log_density(x[2_000:], y[2_000:]).mean()
    linear = LinearGaussian.fit(x[:2_000], y[:2_000]).log_density(x[2_000:], y[2_000:]).mean()
    truth = -scipy.stats.norm(scale=0.1).entropy()
    assert linear + 0.8 < boosted < truth + 0.05
    assert boosted > truth - 0.15


@pytest.mark.parametrize("rows", [100, 2_000])
def test_boosted_quantiles_of_few_rows_are_no_straw_man(rows: int) -> None:
    x, y = linear_gaussian(rows)
    truth = scipy.stats.multivariate_normal(cov=[[1, 0.6], [0.6, 1]]).entropy()
    nll = -BoostedQuantiles.fit(x, y).log_density(*linear_gaussian(3_000)).mean()
    assert nll < truth + (1.5 if rows == 100 else 0.3)


def test_piecewise_density_integrates_to_one_and_has_its_quantiles() -> None:
    knots = np.sort(np.random.default_rng(2).normal(size=(1, len(QUANTILES))), 1)
    grid = np.linspace(-60, 60, 2_000_001)
    density = np.exp(piecewise_log_density(knots.repeat(len(grid), 0), grid, min_width=0.0))
    cumulative = np.cumsum(density) * (grid[1] - grid[0])
    assert cumulative[-1] == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(np.interp(knots[0], grid, cumulative), QUANTILES, atol=1e-3)


def draws_of(values: np.ndarray, scale: float = 1.0, correlation: float = 0.8) -> np.ndarray:
    """Return draws of N(0, covariance), independent of the values."""
    covariance = scale**2 * np.array([[1, correlation], [correlation, 1]])
    return np.random.default_rng(3).multivariate_normal([0, 0], covariance, (len(values), DRAWS))


VALUES = np.random.default_rng(4).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], N)


def test_true_density_is_calibrated() -> None:
    """False alarms of 0.001 each."""
    numbers = calibration(VALUES, draws_of(VALUES), Rng(0))
    assert numbers["sbc_p"] > 1e-3
    assert numbers["tarp_p"] > 1e-3
    assert numbers["coverage_50"] == pytest.approx(0.5, abs=3.3 * np.sqrt(0.25 / N))  # entries are correlated
    assert numbers["coverage_90"] == pytest.approx(0.9, abs=3.3 * np.sqrt(0.09 / N))


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_wrong_width_is_rejected(scale: float) -> None:
    numbers = calibration(VALUES, draws_of(VALUES, scale), Rng(0))
    assert max(numbers["sbc_p"], numbers["tarp_p"]) < 1e-4
    assert (numbers["coverage_90"] < 0.9) == (scale < 1)


def test_only_tarp_sees_a_wrong_correlation() -> None:
    values = np.random.default_rng(6).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 2_000)
    numbers = calibration(values, draws_of(values, correlation=-0.8), Rng(0))
    assert numbers["sbc_p"] > 1e-3
    assert numbers["tarp_p"] < 1e-3


def test_ties_are_broken_at_random() -> None:
    """Discrete values and draws of one distribution have uniform ranks."""
    generator = np.random.default_rng(5)
    ranks = uniform_ranks(
        generator.integers(0, 3, N).astype(float), generator.integers(0, 3, (N, 20)).astype(float), Rng(0)
    )
    assert scipy.stats.kstest(ranks, "uniform").pvalue > 1e-3
    assert tarp_ranks(VALUES, draws_of(VALUES), Rng(0)).shape == (N,)


def test_features_of_all_types() -> None:
    conditions = {
        "x": fit_condition("x", ["1", "", "3"]),
        "c": fit_condition("c", ["a", "b", "c"]),
        "s": fit_condition("s", ["a|b", "b", ""]),
    }
    given = {
        name: condition.encode(name, column)
        for (name, condition), column in zip(
            conditions.items(), (["1", "", "3"], ["a", "b", "c"], ["a|b", "b", ""]), strict=True
        )
    }
    features = condition_features(conditions, given)
    assert features.tolist() == [
        [-1, 0, 0, 0, 0, 1, 1, 0],
        [0, 1, 1, 0, 0, 0, 1, 0],
        [1, 0, 0, 1, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("scale", [1.0, 1e5, 1e8])
def test_linear_gaussian_of_columns_of_unequal_scale(scale: float) -> None:
    """The density of scaled data is that of the data, less the logarithm of the scale."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_000, 1))
    y = np.concatenate([x + rng.normal(size=x.shape), x + rng.normal(size=x.shape)], 1)
    plain = LinearGaussian.fit(x, y).log_density(x, y).mean()
    scaled = LinearGaussian.fit(x, y * [1, scale]).log_density(x, y * [1, scale]).mean()
    assert scaled == pytest.approx(plain - np.log(scale), abs=1e-6)
