"""Reports of steering and of fine-tuning without data."""

import shlex
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from feller.app.modalities.registration import registration_of
from feller.app.reporter import Tell
from feller.app.workflows.fine_tuned_run import base_model, recipe_of, rule_of, tuned_of
from feller.app.workflows.next_steps import tuning
from feller.app.workflows.run_config import record_of
from feller.app.workflows.run_status import tuning_sketch
from feller.app.workflows.steering.inverse_problems import Explained
from feller.app.workflows.steering.reward_search import Steered
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
"""Of the page, in the folder of the run; the next steering replaces it."""
MOST = 100
"""Samples that are shown."""


def page_of_reward(run: Run, rewards: Sequence[str], found: Steered, command: Sequence[str]) -> str:
    """Write the page of samples that are as wished, beside those of the same source points; return where it is."""
    before, after = registration_of(found.samples.modality).beside(_first(found.before), _first(found.samples), None)
    pictures = [("Before, from the same source points", before), ("Steered", after)]
    return _write(run, f"Samples steered to {' and '.join(rewards)}", found, pictures, command)


def page_of_observation(run: Run, operator: str, found: Explained, command: Sequence[str]) -> str:
    """Write the page of samples that explain an observation; return where it is."""
    seen, modality = found.measured, found.samples.modality
    observed = _picture(seen, modality)
    pictures = [("Observed", observed)] if observed is not None else []
    per = len(found.samples) // len(seen)
    pictures += [
        (f"Explained, {per} samples each, in their order", _shown(found.samples)),
        ("Mean of the samples of each observation", _shown(found.mean)),
    ]
    return _write(run, f"Samples that explain an observation ({operator})", found, pictures, command)


def _write(
    run: Run,
    title: str,
    found: Steered | Explained,
    pictures: Sequence[tuple[str, Image.Image]],
    words: Sequence[str],
) -> str:
    """Write a page into the folder of the run."""
    report = RunReport(
        title=title,
        command=shlex.join(["feller", *words]),
        sketch=found.sketch if isinstance(found, Steered) else "",
        numbers=found.numbers,
        notes=found.notes,
        curve=None,
        pictures=pictures,
    )
    with run.ensure_lock():
        write_report(run.path, report, NAME)
    return f"{run.path / NAME}.html"


def _first(data: Dataset) -> Dataset:
    return data.subset(torch.arange(min(len(data), MOST)))


def _shown(data: Dataset) -> Image.Image:
    """Draw the first samples."""
    some = _first(data)
    return some.modality.show(some.values, some.given)


def _picture(measured: Float[Tensor, " m *k"], modality: Modality) -> Image.Image | None:
    """Draw measurements that are pictures; None for others."""
    if (images := modality.view(Images)) is None or measured.ndim != 4 or measured.shape[1] not in (1, 3):
        return None
    return sample_folder.tile(images.as_bytes(measured[:MOST]))


DRAWN, SHOWN = 512, 100
"""Samples that are measured, and of those, that are shown."""


def tuned_alone(
    run: Run, wanted: Reward, why: str, effort: EvaluationBudget, tell: Tell, seed: int = 0
) -> dict[str, Any]:
    """Compare samples of a tuned run with those of its base, write the page, and return its numbers.

    Args:
        run: Was tuned.
        wanted: What to.
        why: What became of the data.
        effort: Samples and seconds.
        tell: Hears how it goes.
        seed: Of all randomness.
    """
    tuned = tuned_of(run)
    if tuned is None:
        return {}
    model, base, recipe, draws = load_model(run), base_model(run), recipe_of(run), Rng(seed).fold_in("evaluate")
    rule, asked, counters = rule_of(recipe), record_of(run), read_counters(run)
    for network in (model.network, base.network):
        network.to(get_engine().device)

    def draw(n: int) -> Dataset:
        given = model.sample_conditions(n, tuned.given, draws)
        return model.sample_dataset(
            n, given=given, guidance=rule.guidance, rng=draws, process_group=get_engine(), on_progress=tell.progress
        )

    tell.task("comparing with the base")
    n = effort.n or effort.num_affordable(DRAWN, 1 / 4, draw, get_engine())
    after = draw(n)
    found = compare_tuned(rule, base, model, after, wanted, draws, tuned.given)
    tell.done()
    valid = registration_of(after.modality).valid
    shares = {"validity_before": valid(found.base_samples), "validity": valid(after)}
    numbers = {**found.numbers, **{name: float(marks.mean()) for name, marks in shares.items() if marks is not None}}
    numbers |= {"steps": counters["step"], "seconds": counters["seconds"]}
    if get_engine().is_main_process:
        some = torch.arange(min(SHOWN, n))
        pictures = registration_of(after.modality).beside(found.base_samples.subset(some), after.subset(some), None)
        captions = ("Before tuning, from the same source points", "Samples")
        page = RunReport(
            title=f"Tuned to {' and '.join(tuned.rewards)}",
            command=tuning(run, asked, tuned, rule, recipe.train),
            sketch=tuning_sketch(run, tuned, counters["step"], numbers),
            compared=f"Compared: {n} samples with as many of the base.",
            numbers=numbers,
            notes=(f"no data stand beside the samples: {why}", *found.notes),
            settings=run.read_field(run.recipe, "recipe"),
            curve=read_metrics(run.metrics),
            pictures=[*zip(captions, pictures, strict=True)],
            heading="Before and after",
        )
        write_report(run.path, page)
    return {**numbers, "report": f"{run.path / 'report.html'}"}
