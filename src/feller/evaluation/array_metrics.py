"""Metrics of samples that are arrays: distances of autocorrelation and spectrum, and scores of trained models.

Source of the discriminative and the predictive score: Yoon, Jarrett and van der Schaar 2019, "Time-series generative
adversarial networks". Here both models are ensembles of trees, which are the same for every data set.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feller.core.pytree import append_dims
from feller.core.rng import Rng
from feller.data.arrays.missing import fill_missing
from feller.data.arrays.modality import Arrays, series_lengths
from feller.data.modality import Dataset
from feller.evaluation.comparison import compare_sets, reference_data, subsample, with_floors
from feller.evaluation.point_metrics import points_quality

MAX_LAGS = 32
"""Maximum lag of the autocorrelation along an axis."""
MAX_ARRAYS = 1_000
"""Maximum number of arrays per set for the scores of trained models."""
WINDOW = 8
"""Maximum number of steps from which the next step is predicted."""
MAX_WINDOWS = 2_000
"""Maximum number of windows in the training and in the test set of a predictor."""
TREES, MIN_LEAF = 50, 3
"""Number of trees of the classifier and the predictor, and minimum number of examples per leaf."""
FOLDS = 4
"""Number of folds of the cross-validation of the classifier."""
FEATURE_LAGS, BANDS, POINTS = 4, 6, 16
"""Features of an array and channel for the classifier: number of lags, of frequency bands, and of entries."""


def arrays_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Compute distances of samples from held-out arrays, each with its floor: that of training arrays.

    Floors are None if too few examples are held out; the samples are then compared with the training data. The metrics
    of steps need the modality to have channels, and the predictive score needs series. If entries of the real arrays
    are missing, samples get their missing entries, because interpolated arrays differ from complete ones.
    """
    samples, train, held_out = (_padded(data) for data in (samples, train, held_out))
    samples = _with_missing(samples, reference_data(train, held_out), rng.fold_in("missing"))
    metrics = points_quality(samples, train, held_out, rng)
    modality = train.modality.view(Arrays)
    if modality is None or not modality.has_channels:
        return metrics
    sets = compare_sets(samples, train, held_out, rng)
    real, drawn = (_states(data, modality) for data in (sets.real, sets.samples))
    floor = None if sets.floor is None else _states(sets.floor, modality)
    learned = rng.fold_in("learned")
    small_real, small_samples, training = (
        _states(subsample(data, MAX_ARRAYS, learned.fold_in(name)), modality)
        for name, data in (("real", sets.real), ("samples", sets.samples), ("train", train))
    )
    small_floor = None if floor is None else floor[:MAX_ARRAYS]

    def measured(states: Tensor, small: Tensor) -> dict[str, float | None]:
        predictive = None
        if modality.is_series:
            predictive = predictive_score(small[: len(training)], training, small_real)
        return {
            "autocorrelation_distance": autocorrelation_distance(states, real),
            "spectrum_distance": spectrum_distance(states, real),
            "discriminative_score": discriminative_score(small, small_real),
            "predictive_score": predictive,
        }

    return metrics | with_floors(
        measured(drawn, small_samples), None if floor is None or small_floor is None else measured(floor, small_floor)
    )


def _padded(data: Dataset) -> Dataset:
    """Return the data with NaN after the end of each series, where samples hold arbitrary numbers."""
    modality = data.modality.view(Arrays)
    return data if modality is None else replace(data, values=modality.padded(data.values, data.given))


def _with_missing(samples: Dataset, real: Dataset, rng: Rng) -> Dataset:
    """Return complete samples with the missing entries of random real arrays, of the same length where there are any.

    The last step of a sample stays, so that its length does not change.
    """
    modality = samples.modality.view(Arrays)
    if modality is None or not modality.has_channels or not len(real) or not len(samples):
        return samples
    missing, last = _missing_before_end(real.values)
    drawn_missing, drawn_last = _missing_before_end(samples.values)
    if not bool(missing.any()) or bool(drawn_missing.any()):
        return samples
    order = rng.stream("order").shared_generator()
    picked = torch.arange(len(samples)) % len(real)  # each real array about equally often
    picked = torch.randperm(len(real), generator=order)[picked]
    picked = picked[last[picked].argsort(stable=True)]
    shuffled = torch.randperm(len(samples), generator=order)
    pairs = torch.empty_like(picked)
    pairs[shuffled[drawn_last[shuffled].argsort(stable=True)]] = picked
    steps = torch.arange(samples.values.shape[1])
    hidden = missing[pairs] & append_dims(steps < drawn_last[:, None], missing)
    return replace(samples, values=torch.where(hidden, torch.nan, samples.values))


def _missing_before_end(values: Float[Tensor, " n *d"]) -> tuple[Bool[Tensor, " n *d"], Int[Tensor, " n"]]:
    """Return the mask of the missing entries up to the last step of each array, and the index of the last step."""
    missing = values.isnan()
    last = series_lengths(~missing) - 1
    return missing & append_dims(torch.arange(values.shape[1]) <= last[:, None], values), last


def _states(data: Dataset, modality: Arrays) -> Float[Tensor, " n *d"]:
    """Return standardised values, float64, with NaN where entries are missing."""
    values = data.values.double()
    return (values - values.new_tensor(modality.channel_means)) / values.new_tensor(modality.channel_scales)


def autocorrelation(x: Float[Tensor, " n *sides c"], axis: int = 1, max_lag: int = MAX_LAGS) -> Float[Tensor, "lags c"]:
    """Return the autocorrelation of each channel along an axis, for lags from 1 to `max_lag` or half the axis.

    Mean and variance are those of all arrays; missing entries (NaN) are left out.
    """
    present, count = ~x.isnan(), x.shape[axis]
    reduced = tuple(range(x.ndim - 1))
    mean = torch.where(present, x, 0).sum(reduced) / present.sum(reduced).clamp(min=1)
    centred = torch.where(present, x - mean, 0)
    variance = centred.square().sum(reduced) / present.sum(reduced).clamp(min=1)
    lags = []
    for lag in range(1, min(max_lag, count // 2) + 1):
        first, second = (part.narrow(axis, start, count - lag) for part, start in ((centred, 0), (centred, lag)))
        pairs = present.narrow(axis, 0, count - lag) & present.narrow(axis, lag, count - lag)
        lags.append((first * second * pairs).sum(reduced) / pairs.sum(reduced).clamp(min=1))
    return torch.stack(lags) / variance.clamp(min=1e-12) if lags else x.new_zeros(0, x.shape[-1])


def autocorrelation_distance(a: Float[Tensor, " n *d"], b: Float[Tensor, " m *d"]) -> float | None:
    """Return the mean absolute difference of the autocorrelations of two sets over lags, channels and axes.

    None if no axis has two entries.
    """
    axes = [axis for axis in range(1, a.ndim - 1) if a.shape[axis] > 1]
    differences = [(autocorrelation(a, axis) - autocorrelation(b, axis)).abs().mean().item() for axis in axes]
    return sum(differences) / len(differences) if differences else None


def power_spectrum(x: Float[Tensor, " n *sides c"], axis: int = 1) -> Float[Tensor, "frequencies c"]:
    """Return the mean periodogram of each channel along an axis, |FFT|^2 / entries, at non-negative frequencies.

    Missing entries are interpolated, and entries after the end of a series are zero.
    """
    power = torch.fft.rfft(_filled(x), dim=axis).abs().square() / x.shape[axis]
    return power.movedim(axis, -2).flatten(0, -3).mean(0)


def spectrum_distance(a: Float[Tensor, " n *d"], b: Float[Tensor, " m *d"]) -> float | None:
    """Return the total absolute difference of the power spectra of two sets over the total power of `b`.

    It is averaged over channels and axes; None if no axis has two entries.
    """
    distances = []
    for axis in range(1, a.ndim - 1):
        if a.shape[axis] > 1:
            first, second = power_spectrum(a, axis), power_spectrum(b, axis)
            distances.append(((first - second).abs().sum(0) / second.sum(0).clamp(min=1e-12)).mean().item())
    return sum(distances) / len(distances) if distances else None


def _filled(x: Tensor) -> Tensor:
    """Return arrays with interpolated missing entries, and zeros after the end of each series."""
    if not bool(x.isnan().any()):
        return x
    lengths = series_lengths(~x.isnan())
    before_end = torch.arange(x.shape[1]) < lengths[:, None]
    return torch.where(before_end.reshape(*before_end.shape, *(1,) * (x.ndim - 2)), fill_missing(x), 0)


def array_features(x: Float[Tensor, " n *sides c"]) -> np.ndarray:
    """Return features of each array for a classifier, [n, features].

    For each channel: moments, quantiles, changes and products at short lags along each axis, log power in frequency
    bands along the first axis, and some of its entries; also products of channels, and the length.
    """
    lengths, filled = series_lengths(~x.isnan()), _filled(x)
    n, channels = len(x), x.shape[-1]
    flat = filled.reshape(n, -1, channels)
    quantiles = torch.quantile(flat, flat.new_tensor([0.0, 0.1, 0.5, 0.9, 1.0]), 1)
    parts = [flat.mean(1), flat.std(1, correction=0), *quantiles]
    for axis in range(1, x.ndim - 1):
        count = x.shape[axis]
        for lag in range(1, min(FEATURE_LAGS, count - 1) + 1):
            first, second = filled.narrow(axis, 0, count - lag), filled.narrow(axis, lag, count - lag)
            parts.append((first * second).reshape(n, -1, channels).mean(1))
            parts.append((second - first).abs().reshape(n, -1, channels).mean(1))
    power = torch.fft.rfft(filled, dim=1).abs().square().reshape(n, x.shape[1] // 2 + 1, -1, channels).mean(2)
    edges = np.unique(np.geomspace(1, power.shape[1], BANDS + 1).round().astype(int)).tolist()
    bands = zip([0, *edges[:-1]], edges, strict=True)
    parts += [power[:, start:stop].mean(1).clamp(min=1e-12).log() for start, stop in bands]
    points = np.unique(np.linspace(0, flat.shape[1] - 1, POINTS).round().astype(int))
    parts += [flat[:, points].flatten(1), lengths[:, None].double()]
    if channels > 1:
        parts.append(torch.einsum("nsi,nsj->nij", flat, flat).flatten(1) / flat.shape[1])
    return torch.cat(parts, 1).numpy()


def discriminative_score(a: Float[Tensor, " n *d"], b: Float[Tensor, " m *d"]) -> float | None:
    """Return |accuracy - 0.5| of a classifier that distinguishes two sets of equal size, by cross-validation.

    0 means that the classifier only guesses, 0.5 that it always decides correctly. None if there are too few arrays.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    size = min(len(a), len(b))
    if size < 2 * FOLDS:
        return None
    features = np.concatenate([array_features(part[:size]) for part in (a, b)])
    model = ExtraTreesClassifier(TREES, min_samples_leaf=MIN_LEAF, max_features=0.3, random_state=0)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    accuracy = cross_val_score(model, features, np.repeat([0, 1], size), cv=folds).mean()
    return abs(float(accuracy) - 0.5)


def predictive_score(samples: Tensor, training: Tensor, real: Float[Tensor, "n steps c"]) -> float | None:
    """Return the error of predicting real series after training on samples, over that after training on real series.

    The error is the mean absolute error of the next step on `real`; both training sets have the same number of windows.
    1 means that samples are as useful as the training data. None if there are too few windows.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    window = min(WINDOW, real.shape[1] // 2)
    if window < 1:
        return None
    pairs = [_windows(part, window) for part in (samples, training, real)]
    size = min(len(pairs[0][0]), len(pairs[1][0]))
    inputs, targets = pairs[2]
    if size < 2 * MIN_LEAF or not len(inputs):
        return None
    errors = []
    for past, following in pairs[:2]:
        model = ExtraTreesRegressor(TREES, min_samples_leaf=MIN_LEAF, random_state=0)
        model.fit(past[:size], following[:size])
        errors.append(float(np.abs(model.predict(inputs).reshape(targets.shape) - targets).mean()))
    return errors[0] / errors[1] if errors[1] > 0 and math.isfinite(errors[0]) else None


def _windows(x: Float[Tensor, "n steps c"], window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most MAX_WINDOWS random complete windows, [m, window x c], and the steps that follow, [m, c] or [m]."""
    is_complete = ~x.isnan().any(2).unfold(1, window + 1, 1).any(2)
    series, start = is_complete.nonzero().unbind(1)
    order = Rng(0).stream("windows").shared_generator()
    picked = torch.randperm(len(series), generator=order)[:MAX_WINDOWS]
    steps = start[picked, None] + torch.arange(window + 1)
    pieces = x[series[picked, None], steps]  # [m, window + 1, c]
    return pieces[:, :-1].flatten(1).numpy(), pieces[:, -1].squeeze(1).numpy()
