"""Phone durations: regression, flow matching, and regression without context durations."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.evaluation.speech.duration_metrics import NUM_SAMPLES, PhoneDurations, durations_quality
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.voicebox.chains import ChainBatch, concatenate_clips
from feller_papers.voicebox.filling import sample_task
from feller_papers.voicebox.models import DURATION_MODELS, TrainedModels, evaluate_seeds
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.spoken import requires_speech

HALF_WORDS = 3
"""Words of the context, and of the target."""
CHAIN_FACTOR = 5
"""Factor on the number of test chains: durations are cheap to sample."""


@dataclass(frozen=True)
class DurationMetrics:
    """Metrics of sampled durations."""

    error: float
    """Mean absolute error of target phones, in frames."""
    correlation: float
    """Correlation over chains of the mean target and mean context duration; 0 if either is constant."""
    distance: float
    """Squared Fréchet distance to the training durations, both taken as normal distributions."""


def compare_durations(
    samples: Int64[Tensor, "k b m"], rows: ChainBatch, hidden: Bool[Tensor, "b m"], train: ChainBatch
) -> DurationMetrics:
    """Return metrics over phones; the correlation includes silences.

    Args:
        samples: Sampled durations.
        rows: Ground truth.
        hidden: Target phones.
        train: Training data.
    """
    truth, reference = (
        PhoneDurations(batch.phone.where(batch.phone_valid, -1), batch.duration, marks)
        for batch, marks in ((rows, hidden), (train, train.phone_valid))
    )
    metrics = durations_quality(samples, truth, reference)
    names = ("phone_mae", "duration_correlation", "phone_fdd")
    return DurationMetrics(*(metrics[metric] or 0.0 for metric in names))


def evaluate(trained: TrainedModels) -> dict[str, DurationMetrics]:
    """Return the metrics of each duration model on the second half of test chains."""
    digits, rng = trained.digits, trained.rng.fold_in("durations")
    task = sample_task(digits.test, CHAIN_FACTOR * trained.setting.num_chains, rng, HALF_WORDS, HALF_WORDS)
    rows, hidden = task.rows, task.hidden
    train_rows = concatenate_clips([(clip,) for clip in digits.train])
    results = {"truth": compare_durations(rows.duration[None], rows, hidden, train_rows)}
    for model in DURATION_MODELS:
        samples = NUM_SAMPLES if model == "drawn" else 1
        context = task.context if model != "alone" else torch.zeros_like(task.context)
        durations = [trained.sample_durations(model, rows, context, rng.fold_in(model, i)) for i in range(samples)]
        results[model] = compare_durations(torch.stack(durations), rows, hidden, train_rows)
    return results


@requires_speech("models of durations: error, correlation and distance", "regression 2.45, .35; flow .41 of .47")
def kinds(setting: Setting) -> Iterator[Claim]:
    """Error, correlation with the prompt, and Fréchet distance of each duration model."""
    results = evaluate_seeds(setting, evaluate)

    def values(model: str, metric: str) -> list[float]:
        return [getattr(result[model], metric) for result in results]

    def format_means(metric: str) -> str:
        labels = {"truth": "truth", "at once": "regression", "drawn": "flow", "alone": "told none"}
        return ", ".join(
            f"{labels[model]} {mean_of(values(model, metric), 3)}" for model in ("truth", "alone", "at once", "drawn")
        )

    gaps = [min(result["drawn"].error, result["alone"].error) - result["at once"].error for result in results]
    yield Claim(
        "durations by regression that is told others have the least error",
        "error of a phone, in frames: told none 2.57, regression 2.45, flow 2.52",
        f"error of a phone, in frames: {format_means('error')}",
        f"{spread_of(gaps)}, from regression to the next",
        verdict(min(gaps) > 0),
    )
    gaps = [
        min(result["drawn"].correlation, result["at once"].correlation) - result["alone"].correlation
        for result in results
    ]
    yield Claim(
        "durations follow those of the prompt, and more so where the model is told them",
        "correlation: truth .47, told none .26, regression .35, flow .41",
        f"correlation over chains: {format_means('correlation')}",
        f"{spread_of(gaps)}, from the one that is told none to the lower of the others",
        verdict(min(gaps) > 0),
    )
    gaps = [min(result["at once"].distance, result["alone"].distance) - result["drawn"].distance for result in results]
    yield Claim(
        "durations that are drawn have the least Fréchet distance to those of the data",
        "told none .72, regression .76, flow .61",
        f"squared frames: {format_means('distance')}",
        f"{spread_of(gaps)}, from the flow to the next",
        verdict(min(gaps) > 0),
    )
