"""Metrics of completed time series: imputation of scattered entries and of gaps, and forecasts, next to baselines."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64

from feller.core.rng import Rng
from feller.data.arrays.modality import Arrays, series_lengths
from feller.data.modality import Dataset
from feller.evaluation.comparison import has_enough_held_out, subsample
from feller.evaluation.evaluation_budget import MAX_OVERRUN, MIN_EXAMPLES, EvaluationBudget
from feller.evaluation.series_baselines import (
    Autoregression,
    JointGaussian,
    Prediction,
    SeasonalNaive,
    find_season,
    gaussian_process,
    interpolated,
)
from feller.models.families.model_family import PartialObservation
from feller.models.model import Model
from feller.sampling.sampler_config import SamplerConfig

MISSING_FRACTION = 0.3
"""Fraction of the entries that are hidden for imputation."""
FORECAST_FRACTION = 0.25
"""Fraction of the steps of a series that are forecast."""
MIN_STEPS = 8
"""Minimum number of steps of series for these metrics."""
MAX_SERIES, DRAWS = 64, 16
"""Maximum number of held-out series, and number of completions of each."""
MAX_TRAIN = 2_000
"""Maximum number of training series to which baselines are fitted."""
MIN_DRAWS, MIN_NFE = 8, 8
"""Minimum number of completions of each series, and of network evaluations per completion, under a time limit."""
TRIAL_COMPLETIONS = 16
"""Number of completions from which their speed is measured."""
TIME_FRACTION = 0.25
"""Fraction of the evaluation time for completions."""
TASKS = 3
"""Number of tasks: imputation, gap and forecast."""

Mask = Bool[np.ndarray, "n steps c"]
Numbers = dict[str, float | str | None]


@dataclass(frozen=True)
class CompletionQuality:
    """Metrics of completions, and what was reduced for the time limit."""

    numbers: Numbers = field(default_factory=dict)
    reductions: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompletionEffort:
    """Number of series, of completions of each, and the sampler settings of the completions."""

    series: int
    draws: int
    sampling: SamplerConfig

    @property
    def cost(self) -> int:
        """Network evaluations of examples."""
        return TASKS * self.series * self.draws * self.sampling.nfe

    def reduced(self) -> "CompletionEffort | None":
        """Return half of the effort: of the series, then of the completions, then of the NFE; None if it is minimal."""
        if self.series >= 2 * MIN_EXAMPLES:
            return replace(self, series=self.series // 2)
        if self.draws >= 2 * MIN_DRAWS:
            return replace(self, draws=self.draws // 2)
        if self.sampling.nfe >= 2 * MIN_NFE and self.sampling.solver != "dopri5":
            return replace(self, sampling=replace(self.sampling, nfe=self.sampling.nfe // 2))
        return None


def affordable_effort(
    effort: CompletionEffort, budget: EvaluationBudget, complete: Callable[[int], object]
) -> CompletionEffort | None:
    """Return the effort, reduced until it takes at most TIME_FRACTION of the time limit.

    None if even the smallest effort takes more than MAX_OVERRUN times that. The speed is measured by calls of
    `complete(n)`, which must sample n completions with the sampler settings of `effort`.
    """
    if budget.seconds is None:
        return effort
    available, seconds = TIME_FRACTION * budget.seconds, 0.0
    for n in (1, 1, TRIAL_COMPLETIONS):  # the first call may include initialisation
        if 2 * n * seconds > available:
            break
        start = time.monotonic()
        complete(n)
        seconds = (time.monotonic() - start) / n
    per_cost = seconds / effort.sampling.nfe
    while effort.cost * per_cost > available:
        smaller = effort.reduced()
        if smaller is None:
            return effort if effort.cost * per_cost <= MAX_OVERRUN * available else None
        effort = smaller
    return effort


def completion_quality(
    model: Model,
    train: Dataset,
    held_out: Dataset,
    rng: Rng,
    budget: EvaluationBudget,
    *,
    season: int | None = None,
    draws: int = DRAWS,
) -> CompletionQuality:
    """Return errors of completions of held-out series, in standard deviations of each channel, next to baselines.

    Hidden are 30 % of the entries at random (`imputation`), an interval of 30 % of the steps at a random place in each
    channel (`gap`), or the last quarter of the steps (`forecast`). `rmse` is the error of the mean of the samples, and
    `quantile_loss` that of their distribution. Empty if the model does not complete series.

    Args:
        model: Model of series whose network reads observed entries.
        train: Training data, to which the baselines are fitted.
        held_out: Held-out data.
        rng: Random streams.
        budget: Time limit, to which the number of series, of completions and of network evaluations is reduced.
        season: Steps of a season for the naive forecast; None to find it by the autocorrelation.
        draws: Number of completions of each series.
    """
    modality = model.spec.modality.view(Arrays)
    if modality is None or not modality.is_series or not model.spec.architecture.reads_observed:
        return CompletionQuality()
    if modality.shape[0] < MIN_STEPS or not has_enough_held_out(held_out):
        return CompletionQuality()
    n_series = min(MAX_SERIES, len(held_out), MAX_SERIES if budget.n is None else budget.n)
    full = CompletionEffort(n_series, draws, model.spec.sampling)

    def complete(n: int) -> None:
        trial = held_out.subset(torch.zeros(n, dtype=torch.long))
        known = np.isfinite(trial.values.numpy())
        _completions(model, modality, trial, known, replace(full, draws=1), rng.fold_in("pace"))

    effort = affordable_effort(full, budget, complete)
    if effort is None:
        return CompletionQuality(reductions=("no completions",))
    subset = subsample(held_out, effort.series, rng.fold_in("series"))
    x, training = (_standardised(data, modality) for data in (subset, subsample(train, MAX_TRAIN, rng)))
    present, lengths = ~np.isnan(x), series_lengths(torch.from_numpy(~np.isnan(x))).numpy()
    season = season or find_season(training)
    joint, numbers = JointGaussian.fit(training), Numbers({"season": float(season)})
    starts = lengths - np.maximum(1, np.round(FORECAST_FRACTION * lengths)).astype(np.int64)
    hidden = {
        "imputation": _scattered(x.shape, rng),
        "gap": _gaps(x.shape, lengths, rng),
        "forecast": np.broadcast_to(np.arange(x.shape[1])[:, None] >= starts[:, None, None], x.shape),
    }
    for task, mask in hidden.items():
        known, asked = present & ~mask, present & mask
        predictions: dict[str, Prediction | None] = {
            "": _completions(model, modality, subset, known, effort, rng.fold_in(task)),
            "_gaussian": None if joint is None else joint.predict(np.where(known, x, 0.0), known),
        }
        if task == "forecast":
            predictions |= {
                "_seasonal": SeasonalNaive(training, season).forecast(x, starts),
                "_ar": Autoregression.fit(training).forecast(x, starts),
            }
        else:
            predictions |= {"_linear": interpolated(x, known), "_gp": gaussian_process(x, known)}
        for name, found in predictions.items():
            numbers[f"{task}_rmse{name}"] = None if found is None else found.rmse(x, asked)
            loss = None if found is None else found.quantile_loss(x, asked)
            if name != "_linear":
                numbers[f"{task}_quantile_loss{name}"] = loss
    return CompletionQuality(numbers, tuple(_reductions(full, effort)))


def _reductions(full: CompletionEffort, effort: CompletionEffort) -> Iterator[str]:
    """Yield a phrase for each part of the effort that is reduced."""
    if effort.series < full.series:
        yield f"completions of {effort.series} of {full.series} series"
    if effort.draws < full.draws:
        yield f"{effort.draws} of {full.draws} completions of each series"
    if effort.sampling.nfe < full.sampling.nfe:
        yield f"{effort.sampling.nfe} of {full.sampling.nfe} network evaluations per completion"


def _standardised(data: Dataset, modality: Arrays) -> Float64[np.ndarray, "n steps c"]:
    """Return series in standard deviations of each channel, NaN where an entry is missing."""
    values = data.values.double()
    return ((values - values.new_tensor(modality.channel_means)) / values.new_tensor(modality.channel_scales)).numpy()


def _scattered(shape: tuple[int, ...], rng: Rng) -> Mask:
    return (rng.stream("scattered").uniform(shape, torch.float64) < MISSING_FRACTION).numpy()


def _gaps(shape: tuple[int, ...], lengths: np.ndarray, rng: Rng) -> Mask:
    """Return masks with one gap of MISSING_FRACTION of the steps in each channel, which leaves the first step."""
    size = np.maximum(1, np.round(MISSING_FRACTION * lengths))[:, None, None]
    u = rng.stream("gaps").uniform((shape[0], 1, shape[2]), torch.float64).numpy()
    first = 1 + np.floor(u * np.maximum(lengths[:, None, None] - size, 1))
    step = np.arange(shape[1])[:, None]
    return (step >= first) & (step < first + size)


def _completions(
    model: Model, modality: Arrays, data: Dataset, known: Mask, effort: CompletionEffort, rng: Rng
) -> Prediction:
    """Return mean and quantiles of samples of the model given the known entries of each series."""
    draws = effort.draws
    mask = torch.from_numpy(known).repeat_interleave(draws, 0)
    states = modality.encode(torch.where(torch.from_numpy(known), data.values, torch.nan))
    given = {name: value.repeat_interleave(draws, 0) for name, value in data.given.items() if name != "valid"}
    samples = model.sample_dataset(
        len(mask),
        given=given,
        observed=PartialObservation(states.repeat_interleave(draws, 0), mask, are_numbers=True),
        sampling=effort.sampling,
        rng=rng,
    )
    drawn = _standardised(samples, modality)
    return Prediction.of_draws(drawn.reshape(len(data), draws, *drawn.shape[1:]).swapaxes(0, 1))
