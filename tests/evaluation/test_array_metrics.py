"""Metrics of arrays, on processes whose autocorrelation and spectrum are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.data.arrays.modality import array_dataset
from feller.data.loading.raw import RawArrays
from feller.data.modality import Dataset
from feller.evaluation import completion_metrics
from feller.evaluation.array_metrics import (
    MAX_LAGS,
    MAX_WINDOWS,
    _windows,
    array_features,
    arrays_quality,
    autocorrelation,
    autocorrelation_distance,
    discriminative_score,
    power_spectrum,
    predictive_score,
    spectrum_distance,
)
from feller.evaluation.completion_metrics import CompletionEffort, affordable_effort, completion_quality
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.evaluation.metrics import METRICS
from feller.models.model import Model
from feller.models.recipes.arrays import arrays
from feller.sampling.sampler_config import SamplerConfig
from tests.evaluation.clock import Clock

PHI = 0.7


def autoregressive(n: int, steps: int, seed: int, phi: float = PHI) -> Tensor:
    """Stationary AR(1) series of unit variance, [n, steps, 1]."""
    noise = Rng(seed).stream("noise").normal((n, steps), torch.float64)
    series = [noise[:, 0]]
    for k in range(1, steps):
        series.append(phi * series[-1] + (1 - phi**2) ** 0.5 * noise[:, k])
    return torch.stack(series, 1)[..., None]


def shuffled(x: Tensor, seed: int = 0) -> Tensor:
    """Series with the steps of each in random order."""
    order = Rng(seed).stream("order").uniform(x.shape[:2]).argsort(1)
    return x.gather(1, order[..., None].expand(x.shape))


def test_autocorrelation_of_an_autoregressive_process() -> None:
    """Standard errors are below 0.005 (20,000 series of 40 steps), so that 0.03 is at six of them."""
    found = autocorrelation(autoregressive(20_000, 40, 0))[:, 0]
    torch.testing.assert_close(found, PHI ** torch.arange(1, 21, dtype=torch.float64), atol=0.03, rtol=0)
    assert len(autocorrelation(autoregressive(3, 500, 0))) == MAX_LAGS


def test_spectrum_of_an_autoregressive_process() -> None:
    """The expected periodogram is the transform of the autocovariance with triangular weights."""
    steps = 32
    found = power_spectrum(autoregressive(20_000, steps, 1))[:, 0]
    lags = torch.arange(-steps + 1, steps, dtype=torch.float64)
    frequency = torch.arange(steps // 2 + 1, dtype=torch.float64)[:, None] / steps
    weights = (1 - lags.abs() / steps) * PHI ** lags.abs()
    expected = (weights * torch.cos(2 * torch.pi * frequency * lags)).sum(1)
    torch.testing.assert_close(found, expected, rtol=0.06, atol=0)


def test_missing_entries_are_left_out_of_the_autocorrelation() -> None:
    x = autoregressive(20_000, 20, 2)
    x[Rng(0).stream("missing").uniform(x.shape) < 0.3] = torch.nan
    expected = PHI ** torch.arange(1, 11, dtype=torch.float64)
    torch.testing.assert_close(autocorrelation(x)[:, 0], expected, atol=0.03, rtol=0)


def test_identical_distributions_and_shuffled_time() -> None:
    a, b, train = (autoregressive(400, 24, seed) for seed in (3, 4, 5))
    wrong = shuffled(a)
    assert autocorrelation_distance(a, a) == spectrum_distance(a, a) == 0
    assert autocorrelation_distance(a, b) < 0.06 < 0.1 < autocorrelation_distance(wrong, b)
    assert spectrum_distance(a, b) < 0.2 < 0.4 < spectrum_distance(wrong, b)
    assert discriminative_score(a, b) < 0.12
    assert discriminative_score(wrong, b) > 0.3
    score, bad = predictive_score(a, train, b), predictive_score(wrong, train, b)
    assert score is not None
    assert bad is not None
    assert 0.9 < score < 1.1 < 1.15 < bad


def test_windows_are_complete_and_few() -> None:
    x = torch.arange(400 * 20, dtype=torch.float64).reshape(400, 20, 1)
    x[7, 3], x[:, 19] = torch.nan, torch.nan
    past, following = _windows(x, 4)
    assert past.shape == (MAX_WINDOWS, 4)
    np.testing.assert_array_equal(np.diff(past, axis=1), 1)
    np.testing.assert_array_equal(following, past[:, -1] + 1)
    every = _windows(x[5:9], 4)[0]
    assert len({*every[:, 0].tolist()}) == len(every) == 3 * 15 + 11


def test_too_few_arrays_have_no_scores() -> None:
    assert discriminative_score(autoregressive(3, 8, 0), autoregressive(3, 8, 1)) is None
    assert predictive_score(*(autoregressive(3, 1, seed) for seed in range(3))) is None
    assert autocorrelation_distance(torch.randn(4, 1, 2), torch.randn(4, 1, 2)) is None


def test_features_are_finite_for_every_number_of_axes() -> None:
    generator = np.random.default_rng(0)
    for shape in ((9, 1, 1), (9, 7, 2), (9, 4, 5, 2), (9, 3, 4, 2, 1)):
        x = torch.from_numpy(generator.normal(size=shape))
        x[0, -1] = torch.nan
        features = array_features(x)
        assert len(features) == 9
        assert np.isfinite(features).all()


def test_quality_of_samples_and_floors() -> None:
    def dataset(x: Tensor) -> Dataset:
        return array_dataset(RawArrays(x.numpy()))

    train, held_out, samples = (dataset(autoregressive(n, 16, seed)) for n, seed in ((300, 6), (120, 7), (120, 8)))
    held_out, samples = (data.with_modality(train.modality) for data in (held_out, samples))
    found = arrays_quality(samples, train, held_out, Rng(0))
    names = {"autocorrelation_distance", "spectrum_distance", "discriminative_score", "predictive_score"}
    assert names <= {*found} & {*METRICS}
    for name in names:
        value, floor = found[name], found[f"{name}_floor"]
        assert isinstance(value, float)
        assert isinstance(floor, float)
        assert value < 3 * floor + 0.1
    few = arrays_quality(samples, train, held_out.subset(torch.arange(5)), Rng(0))
    assert all(few[f"{name}_floor"] is None for name in names)


def test_samples_of_the_true_process_reach_the_floor_if_entries_are_missing() -> None:
    """Real series are ragged and a third of their entries is missing, the samples are complete.

    Compared as they are, the classifier scores 0.22.
    """

    def dataset(n: int, seed: int, fraction: float) -> Dataset:
        x, stream = autoregressive(n, 24, seed), Rng(seed).stream("missing")
        lengths = 12 + 12 * (stream.uniform((n, 1, 1)) < 0.5)
        hidden = (stream.uniform(x.shape) < fraction) & (torch.arange(24)[:, None] < lengths - 1)
        outside = torch.arange(24)[:, None] >= lengths
        return array_dataset(RawArrays(torch.where(hidden | outside, torch.nan, x).numpy()))

    train = dataset(600, 10, 0.35)
    held_out, samples = (dataset(300, seed, share) for seed, share in ((11, 0.35), (12, 0.0)))
    held_out, samples = (data.with_modality(train.modality) for data in (held_out, samples))
    found = arrays_quality(samples, train, held_out, Rng(0))
    for name, margin in (("discriminative_score", 0.08), ("spectrum_distance", 0.03), ("sliced_w", 0.1)):
        value, floor = found[name], found[f"{name}_floor"]
        assert isinstance(value, float)
        assert isinstance(floor, float)
        assert value < floor + margin


def test_completions_of_series_next_to_baselines() -> None:
    """Errors count hidden entries only: a model that has learned nothing samples noise, and baselines beat it."""
    values = autoregressive(360, 16, 9)
    values[0, 3] = torch.nan
    data = array_dataset(RawArrays(values.numpy()))
    train, held_out = data.subset(torch.arange(300)), data.subset(torch.arange(300, 360))
    spec = replace(arrays(train, "tiny").model_spec(train), sampling=SamplerConfig(nfe=2))
    model = Model.from_spec(spec, spec.build(Rng(0)))
    found = completion_quality(model, train, held_out, Rng(0), EvaluationBudget(), draws=4, season=2).numbers
    assert found.keys() == {
        "season",
        *(f"{task}_rmse{name}" for task in ("imputation", "gap") for name in ("", "_linear", "_gp", "_gaussian")),
        *(f"{task}_quantile_loss{name}" for task in ("imputation", "gap") for name in ("", "_gp", "_gaussian")),
        *(
            f"forecast_{kind}{name}"
            for kind in ("rmse", "quantile_loss")
            for name in ("", "_ar", "_seasonal", "_gaussian")
        ),
    }
    assert {*found} <= {*METRICS}
    assert found["season"] == 2
    for task in ("imputation", "gap", "forecast"):
        assert found[f"{task}_rmse_gaussian"] < found[f"{task}_rmse"]
        assert found[f"{task}_quantile_loss_gaussian"] < found[f"{task}_quantile_loss"]
    few = held_out.subset(torch.arange(5))
    assert completion_quality(model, train, few, Rng(0), EvaluationBudget()).numbers == {}


@pytest.mark.parametrize(
    ("seconds_per_completion", "expected"),
    [
        (0.001, (64, 16, 32)),
        (0.005, (16, 16, 32)),
        (0.015, (16, 8, 16)),
        (0.040, (16, 8, 8)),
        (0.120, None),
        (0.200, None),
        (100.0, None),
    ],
)
def test_completions_respect_the_time_limit(
    seconds_per_completion: float, expected: tuple[int, int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget of 20 s leaves 5 s for completions; 3 x 64 x 16 completions are the full effort."""
    clock = Clock(seconds_per_completion)
    monkeypatch.setattr(completion_metrics, "time", clock)
    full = CompletionEffort(64, 16, SamplerConfig(nfe=32))
    found = affordable_effort(full, EvaluationBudget(20.0), clock.work)
    assert (None if found is None else (found.series, found.draws, found.sampling.nfe)) == expected
    assert clock.done == (18 if seconds_per_completion < 0.15 else 2 if seconds_per_completion < 2 else 1)
    assert affordable_effort(full, EvaluationBudget(), clock.work) == full


def test_metrics_of_completions_are_omitted_without_time() -> None:
    data = array_dataset(RawArrays(autoregressive(360, 16, 9).numpy()))
    train, held_out = data.subset(torch.arange(300)), data.subset(torch.arange(300, 360))
    spec = arrays(train, "tiny").model_spec(train)
    found = completion_quality(
        Model.from_spec(spec, spec.build(Rng(0))), train, held_out, Rng(0), EvaluationBudget(1e-4)
    )
    assert found.numbers == {}
    assert len(found.reductions) == 1
