"""Baselines of imputation and forecasts of time series: interpolation, seasonal naive, autoregression, and Gaussians.

Arrays are standardised series [n, steps, channels] in float64, NaN where an entry is missing.
"""

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
import torch
from jaxtyping import Bool, Float64

from feller.data.arrays.missing import fill_missing
from feller.evaluation.array_metrics import autocorrelation

LEVELS = tuple(i / 10 for i in range(1, 10))
"""Levels of the quantiles whose loss is averaged: 0.1, 0.2, ..., 0.9."""
MAX_ORDER = 48
"""Maximum order of the autoregression."""
EIGENVALUE_FLOOR = 1e-2
"""Smallest eigenvalue of a covariance that is estimated from pairs of entries, as a fraction of the mean eigenvalue."""
EM_STEPS, MAX_EM_COST = 3, 1e10
"""Number of steps of expectation maximisation, and their maximum cost: the sum of the cubes of the numbers of missing
entries over their patterns."""
CHUNK_ENTRIES = 2**20
"""Approximate number of entries of the series whose windows are held in memory at once."""
MAX_CHANGES = 100_000
"""Maximum number of changes over a lag whose quantiles are computed; more are thinned evenly."""
MIN_WINDOWS = 20
"""Minimum number of windows without missing entries, per step of a window, for least squares."""
MIN_SEASONALITY = 0.1
"""Minimum autocorrelation of the changes at a lag that counts as a season."""
GP_FITS = 16
"""Number of series to which the parameters of the Gaussian process are fitted."""
MAX_GP_STEPS = 512
"""Maximum number of steps for a Gaussian process per series, whose cost is cubic."""
MAX_GAUSSIAN_ENTRIES = 1_024
"""Maximum number of entries of a series for the joint Gaussian."""

Series = Float64[np.ndarray, "n steps c"]
TrainingSeries = Float64[np.ndarray, "m steps c"]
Known = Bool[np.ndarray, "n steps c"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted entries of series: mean, and quantiles at LEVELS (None for a prediction without uncertainty)."""

    mean: Series
    quantiles: Float64[np.ndarray, "levels n steps c"] | None = None

    @classmethod
    def gaussian(cls, mean: Series, std: Series) -> "Prediction":
        """Return the prediction of a normal distribution for each entry."""
        return cls(mean, np.stack([mean + scipy.stats.norm.ppf(level) * std for level in LEVELS]))

    @classmethod
    def of_draws(cls, draws: Float64[np.ndarray, "draws n steps c"]) -> "Prediction":
        """Return mean and quantiles of samples."""
        return cls(draws.mean(0), np.quantile(draws, LEVELS, axis=0))

    def rmse(self, x: Series, hidden: Known) -> float:
        """Return the root mean squared error of the mean over the hidden entries."""
        return float(np.sqrt(np.square(self.mean - x)[hidden].mean()))

    def quantile_loss(self, x: Series, hidden: Known) -> float | None:
        """Return twice the pinball loss, averaged over LEVELS and the hidden entries; None without quantiles.

        It approximates the continuous ranked probability score, the integral of twice the pinball loss over all levels.
        Source: Gneiting and Ranjan 2011, "Comparing density forecasts using threshold- and quantile-weighted scoring
        rules", equation 14.
        """
        if self.quantiles is None:
            return None
        levels, error = np.array(LEVELS)[:, None], x[hidden] - self.quantiles[:, hidden]
        return float(2 * np.maximum(levels * error, (levels - 1) * error).mean())


def filled(x: Series) -> Series:
    """Return series in which missing entries are interpolated linearly, and continued by the nearest value."""
    return fill_missing(torch.from_numpy(x)).numpy()


def interpolated(x: Series, known: Known) -> Prediction:
    """Predict hidden entries by linear interpolation between known ones, and by the nearest one at the ends."""
    return Prediction(filled(np.where(known, x, np.nan)))


def find_season(train: TrainingSeries) -> int:
    """Return the lag of the highest peak of the autocorrelation of the changes of series, or 1 if there is none.

    Changes from step to step are used since the level of the series can differ. A peak is a lag of 2 or more whose
    autocorrelation, averaged over the channels, is above MIN_SEASONALITY and that of its neighbours. Only pairs of
    changes that are both present count.
    """
    changes = torch.from_numpy(np.diff(train, axis=1))
    curve = autocorrelation(changes, max_lag=changes.shape[1]).mean(1).numpy()
    peaks = [
        i
        for i in range(1, len(curve) - 1)
        if curve[i] > max(curve[i - 1], curve[i + 1], MIN_SEASONALITY)  # lag i + 1
    ]
    return max(peaks, key=lambda i: curve[i]) + 1 if peaks else 1


@dataclass(frozen=True, eq=False)
class SeasonalNaive:
    """Forecast by the value one or several whole seasons before, with the quantiles of its errors in training series.

    Without a whole season of history it is the last value.
    """

    train: TrainingSeries
    season: int

    def forecast(self, x: Series, starts: np.ndarray) -> Prediction:
        """Forecast the steps from `starts` [n] on, given the steps before."""
        mean, quantiles = np.zeros(x.shape), np.zeros((len(LEVELS), *x.shape))
        errors = functools.cache(self._errors)
        for i, start in enumerate(starts.tolist()):
            past = filled(np.where(np.arange(x.shape[1])[:, None] < start, x[i], np.nan)[None])[0]
            for step in range(start, x.shape[1]):
                lag = self.season * math.ceil((step - start + 1) / self.season)
                lag = lag if lag <= step else step - start + 1
                mean[i, step] = past[step - lag]
                quantiles[:, i, step] = past[step - lag] + errors(lag)
        return Prediction(mean, quantiles)

    def _errors(self, lag: int) -> Float64[np.ndarray, "levels c"]:
        """Return the quantiles of at most MAX_CHANGES of the changes over a lag in the training series."""
        changes = self.train[:, lag:] - self.train[:, :-lag]
        changes = changes.reshape(-1, changes.shape[2])
        present = [channel[~np.isnan(channel)] for channel in changes.T]
        every = [-(-len(channel) // MAX_CHANGES) or 1 for channel in present]
        quantiles = [
            np.quantile(channel[::k], LEVELS) if len(channel) else np.zeros(len(LEVELS))
            for channel, k in zip(present, every, strict=True)
        ]
        return np.stack(quantiles, 1)


@dataclass(frozen=True, eq=False)
class Autoregression:
    """Linear autoregression of each channel with normal noise, whose order minimises Akaike's criterion."""

    intercepts: Float64[np.ndarray, " c"]
    coefficients: tuple[Float64[np.ndarray, " _"], ...]
    """Coefficients of the last, the second last, ... step, for each channel."""
    scales: Float64[np.ndarray, " c"]
    """Standard deviation of the noise."""

    @classmethod
    def fit(cls, train: TrainingSeries) -> "Autoregression":
        """Fit by least squares on all training series, for orders up to MAX_ORDER and a third of the median length.

        Only windows without missing entries count. If these are few, the moments of pairs of present entries are used.
        """
        present = ~np.isnan(train).all(2)
        lengths = (present * np.arange(1, train.shape[1] + 1)).max(1)
        largest = min(MAX_ORDER, max(1, int(np.median(lengths)) // 3))
        intercepts, coefficients, scales = [], [], []
        for channel in range(train.shape[2]):
            series = train[..., channel]
            windows = np.lib.stride_tricks.sliding_window_view(series, largest + 1, axis=1).reshape(-1, largest + 1)
            if np.isnan(series).any():
                windows = windows[~np.isnan(windows).any(1)]
            is_fitted = len(windows) >= MIN_WINDOWS * (largest + 1) or not np.isnan(series).any()
            intercept, weights, variance = _fit_to_windows(windows) if is_fitted else _fit_to_pairs(series, largest)
            intercepts.append(intercept)
            coefficients.append(weights)
            scales.append(math.sqrt(variance))
        return cls(np.array(intercepts), tuple(coefficients), np.array(scales))

    def forecast(self, x: Series, starts: np.ndarray) -> Prediction:
        """Forecast the steps from `starts` [n] on, given the steps before; missing ones are interpolated.

        The variance k steps ahead is the sum of the squares of the first k coefficients of the moving-average form.
        """
        mean, std = np.zeros(x.shape), np.zeros(x.shape)
        for channel, weights in enumerate(self.coefficients):
            order, impulse = len(weights), [1.0]
            for k in range(1, x.shape[1]):
                impulse.append(float(weights[: min(k, order)] @ np.array(impulse[::-1][:order])))
            spread = self.scales[channel] * np.sqrt(np.cumsum(np.square(impulse)))
            for i, start in enumerate(starts.tolist()):
                past = filled(x[i : i + 1, :start, channel : channel + 1])[0, :, 0]
                values = [*np.pad(past, (max(0, order - start), 0), mode="edge")]
                for step in range(start, x.shape[1]):
                    values.append(float(self.intercepts[channel] + weights @ np.array(values[: -order - 1 : -1])))
                    mean[i, step, channel], std[i, step, channel] = values[-1], spread[step - start]
        return Prediction.gaussian(mean, std)


Fit = tuple[float, Float64[np.ndarray, " order"], float]
"""Intercept, coefficients and noise variance of an autoregression."""


def _fit_to_windows(windows: Float64[np.ndarray, "m size"]) -> Fit:
    """Fit an autoregression of the last of `size` steps, of an order below `size`, by least squares."""
    design = np.concatenate([np.ones((len(windows), 1)), windows[:, -2::-1]], 1)
    gram, moment, total = design.T @ design, design.T @ windows[:, -1], float(np.square(windows[:, -1]).sum())
    fits = []
    for size in range(2, windows.shape[1] + 1):
        weights = np.linalg.lstsq(gram[:size, :size], moment[:size], rcond=None)[0]
        variance = max((total - float(weights @ moment[:size])) / len(windows), 1e-12)
        fits.append((len(windows) * math.log(variance) + 2 * size, weights, variance))
    _, weights, variance = min(fits, key=lambda fit: fit[0])
    return float(weights[0]), weights[1:], variance


def _fit_to_pairs(series: Float64[np.ndarray, "m steps"], largest: int) -> Fit:
    """Fit an autoregression of an order up to `largest` to series with NaN by the moments of pairs of entries."""
    mean = float(np.nanmean(series))
    padded = np.pad(series - mean, ((0, 0), (largest, 0)), constant_values=np.nan)  # lags before the start are missing
    size = largest + 1
    pairs = Pairs.none(size)
    rows = max(1, CHUNK_ENTRIES // (size * series.shape[1]))
    for start in range(0, len(padded), rows):
        windows = np.lib.stride_tricks.sliding_window_view(padded[start : start + rows], size, axis=1)
        pairs = pairs + Pairs.of(windows.reshape(-1, size)[:, ::-1])
    covariance, count = positive_definite(pairs.covariance()), max(1, int(pairs.count[0].min()))
    fits = []
    for order in range(1, size):
        weights = np.linalg.solve(covariance[1 : order + 1, 1 : order + 1], covariance[0, 1 : order + 1])
        variance = max(float(covariance[0, 0] - weights @ covariance[0, 1 : order + 1]), 1e-12)
        # Schwarz's criterion. Errors of moments from different pairs do not cancel: they scale with the series and not
        # with its noise.
        penalty = math.log(count + 1) * order * covariance[0, 0] / variance
        fits.append((count * math.log(variance) + penalty, weights, variance))
    _, weights, variance = min(fits, key=lambda fit: fit[0])
    return mean * (1 - float(weights.sum())), weights, variance


@dataclass(frozen=True, eq=False)
class Pairs:
    """Sums over rows, with NaN, of products of two columns, over the rows in which both are present."""

    count: Float64[np.ndarray, "d d"]
    products: Float64[np.ndarray, "d d"]
    squares: Float64[np.ndarray, "d d"]
    """Sums of the squared products."""

    @classmethod
    def none(cls, size: int) -> "Pairs":
        """Return the sums over no rows."""
        return cls(*(np.zeros((size, size)) for _ in range(3)))

    @classmethod
    def of(cls, rows: Float64[np.ndarray, "m d"]) -> "Pairs":
        """Return the sums over centred rows."""
        present, values = (~np.isnan(rows)).astype(np.float64), np.nan_to_num(rows)
        return cls(present.T @ present, values.T @ values, np.square(values).T @ np.square(values))

    def __add__(self, other: "Pairs") -> "Pairs":
        return Pairs(self.count + other.count, self.products + other.products, self.squares + other.squares)

    def covariance(self) -> Float64[np.ndarray, "d d"]:
        """Return the mean product of each pair, 0 for columns that are never present together."""
        return self.products / np.maximum(self.count, 1)

    def shrunk_covariance(self, channels: int) -> Float64[np.ndarray, "d d"]:
        """Return the covariance of steps and channels, shrunk to one that depends on the difference of steps only.

        The shrinkage has the form of Ledoit and Wolf: the sum of the variances of the entries, each from its own number
        of rows, over the squared distance from the target.
        """
        covariance, count = self.covariance(), np.maximum(self.count, 1)
        variance = (self.squares / count - np.square(covariance)) / count
        target = self._stationary(channels)
        distance = np.square(covariance - target).sum()
        shrinkage = min(1.0, variance.sum() / distance) if distance > 0 else 0.0
        return positive_definite((1 - shrinkage) * covariance + shrinkage * target)

    def _stationary(self, channels: int) -> Float64[np.ndarray, "d d"]:
        """Return the covariance averaged over all pairs of steps with the same difference."""
        steps = len(self.count) // channels
        lags = np.subtract.outer(np.arange(steps), np.arange(steps)) + steps - 1
        count, products = (
            part.reshape(steps, channels, steps, channels).swapaxes(1, 2) for part in (self.count, self.products)
        )
        sums = np.zeros((2, 2 * steps - 1, channels, channels))
        np.add.at(sums[0], lags, count)
        np.add.at(sums[1], lags, products)
        by_lag = sums[1] / np.maximum(sums[0], 1)
        return by_lag[lags].swapaxes(1, 2).reshape(self.count.shape)


def positive_definite(
    matrix: Float64[np.ndarray, "d d"], floor: float = EIGENVALUE_FLOOR
) -> Float64[np.ndarray, "d d"]:
    """Raise the eigenvalues of a symmetric matrix to at least a fraction `floor` of their mean."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, floor * max(values.mean(), 1e-12))) @ vectors.T


def gaussian_process(x: Series, known: Known) -> Prediction | None:
    """Predict hidden entries by a Gaussian process over the steps of each series and channel.

    Its covariance is a scaled squared exponential plus white noise. In each channel the parameters are the geometric
    means of those that maximise the marginal likelihood of the known entries of each of the first GP_FITS series. None
    if series are longer than MAX_GP_STEPS.
    """
    if x.shape[1] > MAX_GP_STEPS:
        return None
    from sklearn.gaussian_process import GaussianProcessRegressor

    steps = np.arange(x.shape[1], dtype=np.float64)[:, None]
    mean, std = np.zeros(x.shape), np.ones(x.shape)
    for channel in range(x.shape[2]):
        here, values = known[..., channel], x[..., channel]
        varies = [i for i in range(len(x)) if here[i].sum() > 1 and np.ptp(values[i, here[i]]) > 0]
        kernel = _fitted_kernel([(steps[here[i]], values[i, here[i]]) for i in varies[:GP_FITS]])
        for i in range(len(x)):
            if i not in varies:  # nothing to standardise by
                mean[i, :, channel] = values[i, here[i]].mean() if here[i].any() else 0.0
                continue
            model = GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True)
            model.fit(steps[here[i]], values[i, here[i]])
            found: Any = model.predict(steps, return_std=True)
            mean[i, :, channel], std[i, :, channel] = found
    return Prediction.gaussian(mean, std)


def _fitted_kernel(examples: Sequence[tuple[np.ndarray, np.ndarray]]) -> Any:
    """Return the kernel with the mean of the log parameters that fit each example (steps, values) best."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(5.0, (0.3, 1e3)) + WhiteKernel(0.1, (1e-6, 1e1))
    parameters = []
    for steps, values in examples:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound
            parameters.append(GaussianProcessRegressor(kernel, normalize_y=True).fit(steps, values).kernel_.theta)
    return kernel.clone_with_theta(np.mean(parameters, 0)) if parameters else kernel


@dataclass(frozen=True, eq=False)
class JointGaussian:
    """Normal distribution of all entries of a series, with the mean and the shrunk covariance of training series.

    It is the Gaussian process whose covariance is learned from other series, over steps and channels.
    Source of the shrinkage: Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance
    matrices".
    """

    mean: Float64[np.ndarray, " d"]
    covariance: Float64[np.ndarray, "d d"]

    @classmethod
    def fit(cls, train: TrainingSeries) -> "JointGaussian | None":
        """Fit to training series; None for more than MAX_GAUSSIAN_ENTRIES.

        With missing entries, or series of different lengths, the first estimate of each moment is that of the entries
        that are present. EM_STEPS steps of expectation maximisation follow unless they cost more than MAX_EM_COST.
        """
        from sklearn.covariance import LedoitWolf

        rows = train.reshape(len(train), -1)
        if rows.shape[1] > MAX_GAUSSIAN_ENTRIES:
            return None
        if np.isnan(rows).any():
            mean = np.nan_to_num(rows).sum(0) / np.maximum((~np.isnan(rows)).sum(0), 1)
            joint = cls(mean, Pairs.of(rows - mean).shrunk_covariance(train.shape[2]))
            patterns = np.unique(np.isnan(rows), axis=0).sum(1, dtype=np.float64)
            steps = EM_STEPS if (patterns**3).sum() + rows.shape[1] ** 3 <= MAX_EM_COST else 0
            for _ in range(steps):
                completed, spread = joint._expected(rows)
                estimate = LedoitWolf().fit(completed)
                joint = cls(estimate.location_, estimate.covariance_ + spread)
            return joint
        estimate = LedoitWolf().fit(rows)
        return cls(estimate.location_, estimate.covariance_)

    def _expected(
        self, rows: Float64[np.ndarray, "m d"]
    ) -> tuple[Float64[np.ndarray, "m d"], Float64[np.ndarray, "d d"]]:
        """Replace NaN by its mean given the other entries of the row; also return the mean of its covariance."""
        precision, completed = np.linalg.inv(self.covariance), rows - self.mean
        spread = np.zeros_like(self.covariance)
        patterns, pattern_of = np.unique(np.isnan(rows), axis=0, return_inverse=True)
        for i, missing in enumerate(patterns):
            if missing.any():
                here = np.flatnonzero(pattern_of.ravel() == i)
                covariance = np.linalg.inv(precision[np.ix_(missing, missing)])
                gain = precision[np.ix_(~missing, missing)] @ covariance
                completed[np.ix_(here, missing)] = -completed[np.ix_(here, ~missing)] @ gain
                spread[np.ix_(missing, missing)] += len(here) * covariance
        return completed + self.mean, spread / len(rows)

    def predict(self, x: Series, known: Known) -> Prediction:
        """Predict hidden entries by their distribution given the known entries of the same series."""
        mean, variance = np.tile(self.mean, (len(x), 1)), np.tile(np.diag(self.covariance), (len(x), 1))
        for i, (row, here) in enumerate(zip(x.reshape(len(x), -1), known.reshape(len(x), -1), strict=True)):
            cross = self.covariance[np.ix_(~here, here)]
            gain = np.linalg.solve(self.covariance[np.ix_(here, here)], cross.T).T
            mean[i, ~here] += gain @ (row[here] - self.mean[here])
            variance[i, ~here] -= (gain * cross).sum(1)
        return Prediction.gaussian(mean.reshape(x.shape), np.sqrt(np.maximum(variance, 0)).reshape(x.shape))
