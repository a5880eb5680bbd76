"""Metrics of conditional densities: likelihood baselines, coverage, simulation-based calibration and TARP."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.pytree import Cond, tree_map
from feller.core.rng import Rng
from feller.data.conditions.categories import CategoryCondition, SetCondition
from feller.data.conditions.condition import Condition
from feller.data.conditions.numbers import NumberCondition, VectorCondition
from feller.data.modality import Dataset
from feller.evaluation.comparison import has_enough_held_out, subsample
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.models.model import Model

MAX_ROWS = 5_000
"""Maximum number of training rows of the gradient-boosted baseline."""
MAX_DIMENSION = 16
"""Maximum dimension of the data for the gradient-boosted baseline, which fits one model per dimension and quantile."""
QUANTILES = tuple((i + 0.5) / 10 for i in range(10))
"""Levels of the quantiles that the gradient-boosted baseline predicts: 0.05, 0.15, ..., 0.95."""
MIN_WIDTHS, WEIGHTS = (0.001, 0.01, 0.04, 0.16), (0.05, 0.3, 0.6, 0.9)
"""Values of `Smoothing` to choose from; minimum distances of quantiles are in units of the standard deviation."""
CALIBRATED, DRAWS = 256, 64
"""Number of held-out examples for calibration, and number of samples per example."""
USUAL_SECONDS = 60.0
"""Approximate time for the boosted baseline and the calibration of a small network on one core, in seconds."""
FEATURES = (CategoryCondition, NumberCondition, SetCondition, VectorCondition)
"""Types of conditions that the baselines can use."""
LEVELS = (0.5, 0.9)
"""Levels of the central credible intervals whose coverage is measured."""

Rows = Float64[np.ndarray, "n _"]
"""One row per example."""
TrainingRows = Float64[np.ndarray, "m _"]
"""One row per training example."""


def condition_features(conditions: Mapping[str, Condition], given: Cond) -> Rows:
    """Return conditions as features: standardised numbers, and 0/1 for each category and for each element of a set.

    Missing numbers and sets are 0, with an indicator.
    """
    columns: list[Tensor] = []
    for name, kind in conditions.items():
        value = given[name]
        if isinstance(kind, CategoryCondition):
            columns.append(torch.nn.functional.one_hot(value, len(kind.categories) + 1)[:, 1:].double())
            continue
        value = value.reshape(len(value), -1)
        if isinstance(kind, NumberCondition | VectorCondition):
            value = (value - value.new_tensor(kind.mean)) / value.new_tensor(kind.scale)
        columns += [value.nan_to_num(), value.isnan().any(1, keepdim=True).double()]
    return torch.cat(columns, 1).numpy()


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """Linear regression with normal noise of one covariance: y | x ~ N(B^T [x, 1], covariance)."""

    coefficients: Float64[np.ndarray, "k d"]
    covariance: Float64[np.ndarray, "d d"]

    @classmethod
    def fit(cls, x: Rows, y: Rows) -> "LinearGaussian":
        """Fit by least squares; the covariance is that of the residuals."""
        design = np.concatenate([x, np.ones((len(x), 1))], 1)
        coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
        residuals = y - design @ coefficients
        covariance = residuals.T @ residuals / len(y)
        return cls(coefficients, covariance + 1e-12 * np.diag(np.maximum(y.var(0), 1e-300)))

    def log_density(self, x: Rows, y: Rows) -> Float64[np.ndarray, " n"]:
        """Return log p(y | x) of each row, in nats."""
        residuals = y - np.concatenate([x, np.ones((len(x), 1))], 1) @ self.coefficients
        scale = np.sqrt(np.diag(self.covariance))  # in these units, no direction is lost for its small variance
        correlation = self.covariance / np.outer(scale, scale)
        normal = scipy.stats.multivariate_normal(cov=correlation, allow_singular=True)
        return normal.logpdf(residuals / scale) - np.log(scale).sum()


@dataclass(frozen=True, eq=False)
class Smoothing:
    """Mixture of a density that is constant between predicted quantiles and a normal density around their mean.

    Predicted quantiles may be close or out of order by chance, which alone would give densities of almost 0 nearby.
    """

    min_width: float
    """Minimum distance of neighbouring quantiles."""
    weight: float
    """Weight of the normal density."""
    scale: float
    """Standard deviation of the normal density."""

    @classmethod
    def fit(cls, knots: Float64[np.ndarray, "n k"], y: Float64[np.ndarray, " n"], unit: float) -> "Smoothing":
        """Choose the smoothing of the highest likelihood for predicted quantiles and values not used to predict them.

        Args:
            knots: Predicted quantiles of each row, in increasing order.
            y: Value of each row.
            unit: Standard deviation of the training values.
        """
        scale = max(float(np.sqrt(((y - knots.mean(1)) ** 2).mean())), 1e-3 * unit)
        choices = [cls(width * unit, weight, scale) for width in MIN_WIDTHS for weight in WEIGHTS]
        return max(choices, key=lambda choice: choice.log_density(knots, y).mean())

    def log_density(self, knots: Float64[np.ndarray, "n k"], y: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Return the log density of each row, in nats."""
        pieces = np.log1p(-self.weight) + piecewise_log_density(knots, y, self.min_width)
        return np.logaddexp(pieces, np.log(self.weight) + scipy.stats.norm.logpdf(y, knots.mean(1), self.scale))


@dataclass(frozen=True, eq=False)
class BoostedQuantiles:
    """Gradient-boosted regression of the quantiles of each dimension given x and the dimensions before it."""

    models: tuple[tuple[Any, ...], ...]
    """Regressor of each quantile level, for each dimension."""
    smoothing: tuple[Smoothing, ...]
    """Smoothing of the density of each dimension."""

    @classmethod
    def fit(cls, x: Rows, y: Rows, seed: int = 0) -> "BoostedQuantiles":
        """Fit one regressor for each dimension and quantile level; a fifth of the rows chooses the smoothing."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        order = np.random.default_rng(seed).permutation(len(y))
        chosen, rest = np.split(order, [max(1, len(y) // 5)])
        models, smoothing = [], []
        for j in range(y.shape[1]):
            features = _features(x, y, j)
            regressors = tuple(
                HistGradientBoostingRegressor(loss="quantile", quantile=level, max_iter=60, random_state=seed).fit(
                    features[rest], y[rest, j]
                )
                for level in QUANTILES
            )
            models.append(regressors)
            knots = _predicted_quantiles(regressors, features[chosen])
            smoothing.append(Smoothing.fit(knots, y[chosen, j], float(y[:, j].std()) or 1.0))
        return cls(tuple(models), tuple(smoothing))

    def log_density(self, x: Rows, y: Rows) -> Float64[np.ndarray, " n"]:
        """Return log p(y | x) of each row, in nats."""
        return np.sum(
            [
                smoothing.log_density(_predicted_quantiles(regressors, _features(x, y, j)), y[:, j])
                for j, (regressors, smoothing) in enumerate(zip(self.models, self.smoothing, strict=True))
            ],
            0,
        )


def _features(x: Rows, y: Rows, j: int) -> Rows:
    """Return the features from which dimension j is predicted: x and the dimensions before it."""
    return np.concatenate([x, y[:, :j]], 1) if x.size or j else np.zeros((len(y), 1))


def _predicted_quantiles(regressors: tuple[Any, ...], features: Rows) -> Float64[np.ndarray, "n k"]:
    """Return the predicted quantiles of each row, in increasing order."""
    return np.sort(np.stack([regressor.predict(features) for regressor in regressors], 1), 1)


def piecewise_log_density(
    knots: Float64[np.ndarray, "n k"], y: Float64[np.ndarray, " n"], min_width: float
) -> Float64[np.ndarray, " n"]:
    """Return the log density whose quantiles at the levels QUANTILES are `knots`, with exponential tails.

    Args:
        knots: Quantiles of each row, in increasing order.
        y: Value of each row.
        min_width: Minimum distance of neighbouring quantiles; closer ones are moved apart.
    """
    knots = np.maximum.accumulate(knots + min_width * np.arange(knots.shape[1]), 1)
    step, tail = QUANTILES[1] - QUANTILES[0], QUANTILES[0]
    densities = step / np.diff(knots, axis=1)
    index = (y[:, None] >= knots).sum(1) - 1  # -1 below the first quantile
    rows = np.arange(len(y))
    inside = np.log(densities[rows, index.clip(0, densities.shape[1] - 1)])
    first, last = densities[:, 0] / tail, densities[:, -1] / tail  # rates that make the density continuous
    below = np.log(tail * first) - first * (knots[:, 0] - y)
    above = np.log(tail * last) - last * (y - knots[:, -1])
    return np.where(index < 0, below, np.where(index >= densities.shape[1], above, inside))


def baseline_log_densities(
    x_train: TrainingRows, y_train: TrainingRows, x: Rows, y: Rows, rows: int = MAX_ROWS
) -> dict[str, Float64[np.ndarray, " n"]]:
    """Return log p(y | x) of each row under the baselines `linear` and `boosted`, fitted to training rows.

    The boosted baseline is fitted to the first `rows` rows, and left out above MAX_DIMENSION dimensions.
    """
    result = {"linear": LinearGaussian.fit(x_train, y_train).log_density(x, y)}
    if y.shape[1] <= MAX_DIMENSION:
        result["boosted"] = BoostedQuantiles.fit(x_train[:rows], y_train[:rows]).log_density(x, y)
    return result


def uniform_ranks(
    values: Float64[np.ndarray, " n *d"], draws: Float64[np.ndarray, " n draws *d"], rng: Rng
) -> Float64[np.ndarray, " n *d"]:
    """Return the rank of each value among its draws, scaled to (0, 1) and smoothed by a uniform variable.

    If value and draws have the same distribution, the result is uniform. Source: Talts et al. 2018, "Validating
    Bayesian inference algorithms with simulation-based calibration", arXiv 1804.06788, theorem 1.
    """
    jitter = rng.stream("ranks").uniform(values.shape, torch.float64).numpy()
    below, equal = (draws < values[:, None]).sum(1), (draws == values[:, None]).sum(1)
    return (below + jitter * (equal + 1)) / (draws.shape[1] + 1)


def tarp_ranks(values: Rows, draws: Float64[np.ndarray, "n draws d"], rng: Rng) -> Float64[np.ndarray, " n"]:
    """Return the fraction of draws closer to a random reference point than the value, uniform if the draws are right.

    References are uniform in the bounding box of the values, and distances Euclidean in units of its sides. Unlike the
    ranks of each dimension, these depend on the joint distribution. Source: Lemos et al. 2023, "Sampling-based accuracy
    testing of posterior estimators for general inference", arXiv 2302.03026, algorithm 2.
    """
    low, side = values.min(0), np.ptp(values, axis=0)
    side = np.where(side > 0, side, 1.0)
    references = rng.stream("references").uniform(values.shape, torch.float64).numpy()
    distance = np.linalg.norm((values - low) / side - references, axis=1)
    distances = np.linalg.norm((draws - low) / side - references[:, None], axis=2)
    return uniform_ranks(distance, distances, rng.fold_in("tarp"))


def calibration(values: Rows, draws: Float64[np.ndarray, "n draws d"], rng: Rng) -> dict[str, float]:
    """Return the coverage of central credible intervals, and p-values of two calibration tests.

    Args:
        values: Values of n examples.
        draws: Samples of the model given the conditions of each example.
        rng: Random streams for ties and reference points.

    Returns:
        `coverage_50` and `coverage_90`: fraction of all entries inside the central intervals. `sbc_p`: p-value that the
        ranks of all dimensions are uniform, by the Kolmogorov-Smirnov test with Bonferroni's correction. `tarp_p`:
        p-value of the test with random points, which is sensitive to the joint distribution.
    """
    ranks = uniform_ranks(values, draws, rng)
    coverage = {f"coverage_{100 * level:.0f}": float((abs(ranks - 0.5) <= level / 2).mean()) for level in LEVELS}
    sbc = min(scipy.stats.kstest(ranks[:, j], "uniform").pvalue for j in range(ranks.shape[1]))
    tarp = scipy.stats.kstest(tarp_ranks(values, draws, rng), "uniform").pvalue
    return {**coverage, "sbc_p": min(1.0, float(sbc) * ranks.shape[1]), "tarp_p": float(tarp)}


def conditional_quality(
    model: Model, train: Dataset, held_out: Dataset, rng: Rng, budget: EvaluationBudget, draws: int = DRAWS
) -> dict[str, float | str | None]:
    """Return likelihood baselines and calibration of a conditional density; empty if there are none.

    Args:
        model: Model of points whose conditions were selected at the fit.
        train: Training data, to which the baselines are fitted.
        held_out: Held-out data, on which baselines and calibration are measured.
        rng: Random streams.
        budget: Time limit, to which the numbers of training rows of a baseline and of examples are reduced.
        draws: Number of samples per example.
    """
    conditions = model.spec.modality.selected_conditions
    is_points = isinstance(held_out.values, Tensor) and held_out.values.ndim == 2
    has_features = all(isinstance(kind, FEATURES) for kind in conditions.values())
    if not conditions or not has_features or not is_points or not has_enough_held_out(held_out):
        return {}
    x_train, x = (condition_features(conditions, data.given) for data in (train, held_out))
    y_train, y = (data.values.double().numpy() for data in (train, held_out))
    numbers: dict[str, float | str | None] = {
        f"nll_{name}": -float(log_density.mean())
        for name, log_density in baseline_log_densities(
            x_train, y_train, x, y, budget.limit(MAX_ROWS, USUAL_SECONDS)
        ).items()
    }
    subset = subsample(held_out, budget.limit(CALIBRATED, USUAL_SECONDS), rng.fold_in("calibration"))
    given = tree_map(lambda leaf: leaf.repeat_interleave(draws, 0), subset.given)
    samples = model.sample_dataset(len(subset) * draws, given=given, rng=rng.fold_in("draws")).values.double()
    numbers |= calibration(
        subset.values.double().numpy(), samples.reshape(len(subset), draws, -1).numpy(), rng.fold_in("ranks")
    )
    return numbers
