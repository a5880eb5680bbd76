"""Writing of the report pages of steering, and of fine-tuning without real data."""

import shlex
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from feller.app.modalities.registration import registration_of
from feller.app.reporter import Reporter
from feller.app.workflows.fine_tuned_run import base_model, fine_tuning_of, read_recipe, read_tuning_record
from feller.app.workflows.next_steps import tune_command
from feller.app.workflows.run_config import read_fit_record
from feller.app.workflows.run_status import undertrained_tuning_notice
from feller.app.workflows.steering.inverse_problems import InverseProblemResult
from feller.app.workflows.steering.reward_search import RewardSearchResult
from feller.control.rewards.named_rewards import Reward
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.files import sample_folder
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.evaluation.report.report_page import RunReport, write_report
from feller.evaluation.tuning_metrics import compare_tuned
from feller.models.model import load_model
from feller.training.callbacks import read_metrics
from feller.training.checkpoint import read_counters
from feller.training.engine import get_engine

NAME = "report-steered"
"""File name, without suffix, of the steering page in the run folder; the next `feller steer` replaces the page."""
MAX_SHOWN = 100
"""Maximum number of samples in a figure."""


def write_reward_page(run: Run, rewards: Sequence[str], result: RewardSearchResult, command: Sequence[str]) -> str:
    """Write the page of reward steering, with steered and unsteered samples from equal noise; return its path."""
    before, after = registration_of(result.samples.modality).beside(
        _first(result.unsteered), _first(result.samples), None
    )
    figures = [("Before, from the same source points", before), ("Steered", after)]
    return _write(run, f"Samples steered to {' and '.join(rewards)}", result, figures, command)


def write_measurement_page(run: Run, operator: str, result: InverseProblemResult, command: Sequence[str]) -> str:
    """Write the page of a solved inverse problem, and return its path."""
    measured, modality = result.measured, result.samples.modality
    observed = _picture(measured, modality)
    figures = [("Observed", observed)] if observed is not None else []
    num_samples = len(result.samples) // len(measured)
    figures += [
        (f"Posterior samples, {num_samples} per observation, in order", _draw_samples(result.samples)),
        ("Posterior mean of each observation", _draw_samples(result.posterior_mean)),
    ]
    return _write(run, f"Posterior samples given an observation ({operator})", result, figures, command)


def _write(
    run: Run,
    title: str,
    result: RewardSearchResult | InverseProblemResult,
    figures: Sequence[tuple[str, Image.Image]],
    arguments: Sequence[str],
) -> str:
    report = RunReport(
        title=title,
        command=shlex.join(["feller", *arguments]),
        sketch=result.sketch if isinstance(result, RewardSearchResult) else "",
        numbers=result.numbers,
        notes=result.notes,
        curve=None,
        pictures=figures,
    )
    with run.ensure_lock():
        write_report(run.path, report, NAME)
    return f"{run.path / NAME}.html"


def _first(data: Dataset) -> Dataset:
    return data.subset(torch.arange(min(len(data), MAX_SHOWN)))


def _draw_samples(data: Dataset) -> Image.Image:
    subset = _first(data)
    return subset.modality.show(subset.values, subset.given)


def _picture(measured: Float[Tensor, " m *k"], modality: Modality) -> Image.Image | None:
    """Return measurements as one image; None if they cannot be shown as images."""
    if (images := modality.view(Images)) is None or measured.ndim != 4 or measured.shape[1] not in (1, 3):
        return None
    return sample_folder.tile(images.as_bytes(measured[:MAX_SHOWN]))


MAX_MEASURED, MAX_FIGURE_SAMPLES = 512, 100
"""Maximum number of samples for the metrics, and maximum number of samples in a figure."""


def report_tuning_without_data(
    run: Run, reward: Reward, why: str, effort: EvaluationBudget, reporter: Reporter
) -> dict[str, Any]:
    """Compare samples of a fine-tuned run and of its base model, write the report, and return its metrics."""
    tuning_record = read_tuning_record(run)
    if tuning_record is None:
        return {}
    model, base, recipe, rng = load_model(run), base_model(run), read_recipe(run), Rng(0).fold_in("evaluate")
    fine_tuning, record, counters = fine_tuning_of(recipe), read_fit_record(run), read_counters(run)
    for network in (model.network, base.network):
        network.to(get_engine().device)

    def draw(n: int) -> Dataset:
        conditions = tuning_record.conditions(model, n, rng)
        return model.sample_dataset(
            n,
            given=conditions,
            guidance=fine_tuning.guidance,
            rng=rng,
            process_group=get_engine(),
            on_progress=reporter.progress,
        )

    reporter.start("comparing with the base model")
    n = effort.n or effort.num_affordable(MAX_MEASURED, 1 / 4, draw, get_engine())
    samples = draw(n)
    comparison = compare_tuned(fine_tuning, base, model, samples, reward, rng, tuning_record.conditions)
    reporter.finish()
    is_valid = registration_of(samples.modality).valid
    validity = {"validity_before": is_valid(comparison.base_samples), "validity": is_valid(samples)}
    metrics = {
        **comparison.numbers,
        **{name: float(mask.mean()) for name, mask in validity.items() if mask is not None},
    }
    metrics |= {"steps": counters["step"], "seconds": counters["seconds"]}
    if get_engine().is_main_process:
        indices = torch.arange(min(MAX_FIGURE_SAMPLES, n))
        figures = registration_of(samples.modality).beside(
            comparison.base_samples.subset(indices), samples.subset(indices), None
        )
        captions = ("Before fine-tuning, from the same source points", "Samples")
        page = RunReport(
            title=f"Fine-tuned on {' and '.join(tuning_record.rewards)}",
            command=tune_command(run, record, tuning_record, fine_tuning, recipe.train),
            sketch=undertrained_tuning_notice(run, tuning_record, counters["step"], metrics),
            compared=f"Compared: {n} samples, with {n} samples of the base model.",
            numbers=metrics,
            notes=(f"not compared with real data: {why}", *comparison.notes),
            settings=run.read_field(run.recipe, "recipe"),
            curve=read_metrics(run.metrics),
            pictures=[*zip(captions, figures, strict=True)],
            heading="Before and after",
        )
        write_report(run.path, page)
    return {**metrics, "report": f"{run.path / 'report.html'}"}
