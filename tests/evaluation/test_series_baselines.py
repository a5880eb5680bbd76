"""Baselines of imputation and forecasts, against closed forms of processes whose covariance is known."""

import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss

from feller.evaluation.series_baselines import (
    LEVELS,
    Autoregression,
    JointGaussian,
    Prediction,
    SeasonalNaive,
    filled,
    find_season,
    gaussian_process,
    interpolated,
)

PHI = 0.8


def autoregressive(n: int, steps: int, coefficients: tuple[float, ...] = (PHI,), seed: int = 0) -> np.ndarray:
    """AR series with unit noise, [n, steps, 1], after a burn-in."""
    noise = np.random.default_rng(seed).normal(size=(n, steps + 100))
    x = np.zeros_like(noise)
    for t in range(len(coefficients), x.shape[1]):
        x[:, t] = noise[:, t] + sum(c * x[:, t - 1 - k] for k, c in enumerate(coefficients))
    return x[:, 100:, None]


def waves(n: int, steps: int, period: int, noise: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(1)
    phase, level = generator.uniform(0, 2 * np.pi, (n, 1)), generator.normal(0, 3, (n, 1))
    x = np.sin(2 * np.pi * np.arange(steps) / period + phase) + level
    return (x + noise * generator.normal(size=x.shape))[..., None]


def test_quantile_loss_equals_that_of_scikit_learn() -> None:
    x = autoregressive(20, 9)
    prediction = Prediction.gaussian(0.3 * x, np.full(x.shape, 0.7))
    hidden = np.random.default_rng(2).random(x.shape) < 0.4
    assert prediction.quantiles is not None
    expected = [
        2 * mean_pinball_loss(x[hidden], quantiles[hidden], alpha=level)
        for level, quantiles in zip(LEVELS, prediction.quantiles, strict=True)
    ]
    assert prediction.quantile_loss(x, hidden) == pytest.approx(np.mean(expected))
    assert prediction.rmse(x, hidden) == pytest.approx(0.7 * np.sqrt(np.square(x[hidden]).mean()))
    draws = np.random.default_rng(3).normal(size=(4_000, 2, 3, 1))
    np.testing.assert_allclose(Prediction.of_draws(draws).quantiles[8], 1.2816, atol=0.12)  # type: ignore[index]


def test_autoregression_recovers_coefficients() -> None:
    """Standard errors are below 0.006 (300 series of 100 steps), so that 0.04 is at six of them."""
    model = Autoregression.fit(autoregressive(300, 100, (0.5, -0.3, 0.2)) + 5)
    np.testing.assert_allclose(model.coefficients[0][:3], [0.5, -0.3, 0.2], atol=0.04)
    assert abs(model.coefficients[0][3:]).max(initial=0) < 0.04
    assert model.scales[0] == pytest.approx(1, abs=0.02)
    assert model.intercepts[0] == pytest.approx(5 * (1 - model.coefficients[0].sum()), abs=0.2)


def incomplete(x: np.ndarray, kind: str) -> np.ndarray:
    """Series of 16 to 64 steps, or with 40 % of the entries missing."""
    generator = np.random.default_rng(5)
    if kind == "ragged":
        return np.where(np.arange(64)[:, None] < generator.integers(16, 65, (len(x), 1, 1)), x, np.nan)
    return np.where(generator.random(x.shape) < 0.4, np.nan, x)


@pytest.mark.parametrize("kind", ["ragged", "missing"])
def test_baselines_are_fitted_to_present_entries(kind: str) -> None:
    """Padded by the last value, the noise scale of the ragged series was 0.75; interpolated, the series are smoother.

    The bounds are five standard errors or more.
    """
    model = Autoregression.fit(incomplete(autoregressive(500, 64), kind) + 5)
    coefficients = np.pad(model.coefficients[0], (0, 2))
    assert coefficients[0] == pytest.approx(PHI, abs=0.04)
    assert abs(coefficients[1:]).max() < 0.08
    assert model.scales[0] == pytest.approx(1, abs=0.03)
    assert model.intercepts[0] == pytest.approx(5 * (1 - coefficients.sum()), abs=0.2)
    joint = JointGaussian.fit(incomplete(autoregressive(500, 64), kind))
    assert joint is not None
    lags = abs(np.subtract.outer(np.arange(64), np.arange(64)))
    assert abs(joint.covariance - PHI**lags / (1 - PHI**2)).mean() < 0.13  # 0.09 of complete series
    assert 0.02 < np.linalg.eigvalsh(joint.covariance).min() < 0.5  # 1 / (1 + phi)^2 = 0.31


def test_covariance_of_channels_of_incomplete_series() -> None:
    """The second channel is the first one of the step before."""
    x = autoregressive(2_000, 8)
    train = np.concatenate([x[:, 1:], x[:, :-1]], 2)
    train[np.random.default_rng(6).random(train.shape) < 0.2] = np.nan
    joint = JointGaussian.fit(train)
    assert joint is not None
    covariance = joint.covariance.reshape(7, 2, 7, 2)
    for i, j, lag in ((3, 3, 1), (3, 4, 0), (4, 3, 2)):  # steps of the first and the second channel
        assert covariance[i, 0, j, 1] == pytest.approx(PHI**lag / (1 - PHI**2), abs=0.3)


def test_forecast_of_an_autoregression_in_closed_form() -> None:
    model = Autoregression(np.zeros(1), (np.array([PHI]),), np.ones(1))
    x, starts = autoregressive(3, 12), np.array([5, 1, 11])
    found = model.forecast(x, starts)
    for i, start in enumerate(starts):
        ahead = np.arange(1, 13 - start)
        np.testing.assert_allclose(found.mean[i, start:, 0], x[i, start - 1, 0] * PHI**ahead)
        std = np.sqrt((1 - PHI ** (2 * ahead)) / (1 - PHI**2))
        np.testing.assert_allclose(found.quantiles[8, i, start:, 0] - found.mean[i, start:, 0], 1.2815516 * std)


def test_conditional_distribution_of_the_joint_gaussian() -> None:
    """For an AR(1) process a hidden step depends on its neighbours only, with mean phi (a + b) / (1 + phi^2)."""
    lags = abs(np.subtract.outer(np.arange(7), np.arange(7)))
    model = JointGaussian(np.zeros(7), PHI**lags / (1 - PHI**2))
    x = autoregressive(4, 7)
    known = np.ones(x.shape, dtype=bool)
    known[:, 3] = False
    found = model.predict(np.where(known, x, 0.0), known)
    np.testing.assert_allclose(found.mean[:, 3], PHI * (x[:, 2] + x[:, 4]) / (1 + PHI**2))
    np.testing.assert_allclose(found.quantiles[8, :, 3] - found.mean[:, 3], 1.2815516 / np.sqrt(1 + PHI**2))
    fitted = JointGaussian.fit(autoregressive(4_000, 7))
    assert fitted is not None
    np.testing.assert_allclose(fitted.covariance, model.covariance, atol=0.35)
    assert JointGaussian.fit(autoregressive(3, 1_025)) is None


def test_season_and_seasonal_naive() -> None:
    train, x = waves(40, 48, 12), waves(6, 48, 12)
    assert find_season(train) == find_season(waves(40, 48, 12, 0.3)) == 12
    assert find_season(autoregressive(200, 48)) == 1
    starts = np.array([36, 30, 13, 5, 1, 47])
    hidden = np.arange(48)[:, None] >= starts[:, None, None]
    found = SeasonalNaive(train, 12).forecast(np.where(hidden, np.nan, x), starts)
    for i in (0, 1, 2, 5):  # with a whole season of history
        np.testing.assert_allclose(found.mean[i][hidden[i]], x[i][hidden[i]], atol=1e-9)
        np.testing.assert_allclose(found.quantiles[:, i][:, hidden[i]], found.mean[i][hidden[i]][None].repeat(9, 0))
    np.testing.assert_allclose(found.mean[3, 5:10, 0], x[3, 4, 0])  # persistence
    missing = np.where(np.random.default_rng(7).random(train.shape) < 0.3, np.nan, train)
    changes = missing[:, 12:] - missing[:, :-12]
    found = SeasonalNaive(missing, 12).forecast(x[:1], starts[:1])
    np.testing.assert_allclose(
        found.quantiles[:, 0, 40, 0] - found.mean[0, 40, 0], np.nanquantile(changes, LEVELS), atol=1e-9
    )


def test_season_of_series_with_missing_entries() -> None:
    """The autocorrelation of the changes is 0.2 at the season and -0.4 to 0 at its neighbours (standard error 0.01)."""
    assert find_season(incomplete(waves(4_000, 14, 4, 2**0.5), "missing")) == 4


def test_errors_of_the_seasonal_naive_are_computed_once_per_lag() -> None:
    computed = []

    class Counted(np.ndarray):
        def __sub__(self, other: np.ndarray) -> np.ndarray:
            computed.append(len(self))
            return np.asarray(self) - np.asarray(other)

    train = autoregressive(100, 24).view(Counted)
    SeasonalNaive(train, 1).forecast(autoregressive(30, 24), np.full(30, 16))
    assert len(computed) == 8


def test_interpolation_and_gaussian_process() -> None:
    x = waves(3, 60, 20)
    known = np.random.default_rng(4).random(x.shape) > 0.3
    linear, process = interpolated(x, known), gaussian_process(x, known)
    assert process is not None
    assert linear.quantile_loss(x, ~known) is None
    np.testing.assert_allclose(linear.mean[0, :, 0], np.interp(range(60), np.flatnonzero(known[0]), x[0][known[0]]))
    assert process.rmse(x, ~known) < 0.2 * linear.rmse(x, ~known)
    constant = gaussian_process(np.ones((1, 9, 1)), np.arange(9)[None, :, None] < 5)
    assert constant is not None
    np.testing.assert_allclose(constant.mean, 1)
    assert gaussian_process(waves(1, 600, 20), np.ones((1, 600, 1), dtype=bool)) is None
    assert not np.isnan(filled(np.where(known, x, np.nan))).any()
