"""Reports of steering and of fine-tuning without data."""

import shlex
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from feller.app.reporter import Tell
from feller.app.workflows.fine_tuned_run import base_model, recipe_of, rule_of, tuned_of
from feller.app.workflows.next_steps import tuning
from feller.app.workflows.reporting.comparison import side_by_side
from feller.app.workflows.run_config import asked_of
from feller.app.workflows.run_status import tuning_sketch
from feller.app.workflows.steer import Steered
from feller.app.workflows.steering.inverse_problems import Explained
from feller.control.rewards.named_rewards import Wish
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.data.files import sample_folder
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.evaluation import fine_tuning, validity
from feller.evaluation import fine_tuning as changes
from feller.evaluation.fine_tuning import change
from feller.evaluation.report.page import Findings, write_report
from feller.evaluation.validity import EXPLAIN_VALIDITY, valid
from feller.models.model import load_model
from feller.training.callbacks import read_metrics
from feller.training.checkpoint import read_counters
from feller.training.engine import engine

NAME = "report-steered"
"""Of the page, in the folder of the run; the next steering replaces it."""
MOST = 100
"""Samples that are shown."""
EXPLAIN = {
    **fine_tuning.EXPLAIN,
    **validity.EXPLAIN_VALIDITY,
    "bounded": "What the wish sets a bound to, such as ink, on average. The reward is minus the square of how far each"
    " sample is beyond the bound, so that 0 is best.",
    "improved": "Share of the samples whose reward is larger than before.",
    "solves": "How often the flow was solved for each sample, most times with its gradient.",
    "source_size": "Mean square of the numbers of a source, 1 for those that the model knows.",
    "residual": "By how much what the samples would measure differs from what was observed: the root mean square, in"
    " its units; as small as the noise is right.",
    "residual_before": "The same of samples that nothing was asked of: what an explanation must be much smaller than.",
    "noise": "Standard deviation of the measurements, as it was said (--noise).",
    "calls": "Network calls for each sample.",
    "unknown": "What was found of the operator, such as the logarithm of a width over that of the start.",
}
"""What the numbers mean, for people."""


def page_of_wish(run: Run, rewards: Sequence[str], found: Steered, command: Sequence[str]) -> str:
    """Write the page of samples that are as wished, beside those of the same source points; return where it is."""
    before, after = side_by_side(_first(found.before), _first(found.after))
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
    findings = Findings(
        title=title,
        command=shlex.join(["feller", *words]),
        sketch=found.sketch if isinstance(found, Steered) else "",
        numbers=found.numbers,
        explanations=EXPLAIN,
        notes=found.notes,
        curve=None,
        pictures=pictures,
    )
    with run.writing():
        write_report(run.path, findings, NAME)
    return f"{run.path / NAME}.html"


def _first(data: Dataset) -> Dataset:
    return data.subset(torch.arange(min(len(data), MOST)))


def _shown(data: Dataset) -> Image.Image:
    """Draw the first samples."""
    some = _first(data)
    return some.modality.show(some.values, some.given)


def _picture(measured: Float[Tensor, " m *k"], modality: Modality) -> Image.Image | None:
    """Draw measurements that are pictures; None for others."""
    if not isinstance(modality, Images) or measured.ndim != 4 or measured.shape[1] not in (1, 3):
        return None
    return sample_folder.tile(modality.as_bytes(measured[:MOST]))


DRAWN, SHOWN = 512, 100
"""Samples that are measured, and of those, that are shown."""


def tuned_alone(run: Run, wanted: Wish, why: str, tell: Tell, seed: int = 0) -> dict[str, Any]:
    """Compare samples of a tuned run with those of its base, write the page, and return its numbers.

    Args:
        run: Was tuned.
        wanted: What to.
        why: What became of the data.
        tell: Hears how it goes.
        seed: Of all randomness.
    """
    tuned = tuned_of(run)
    if tuned is None:
        return {}
    model, base, recipe, draws = load_model(run), base_model(run), recipe_of(run), Draws(seed).named("evaluate")
    rule, asked, counters = rule_of(recipe), asked_of(run), read_counters(run)
    for network in (model.network, base.network):
        network.to(engine().device)
    given = model.conditions(DRAWN, tuned.given, draws)
    tell.task("comparing with the base")
    after = model.sample(DRAWN, given=given, guidance=rule.guidance, draws=draws, ranks=engine(), tell=tell.progress)
    found = change(rule, base, model, after, wanted, draws, tuned.given)
    tell.done()
    shares = {"validity_before": valid(found.before), "validity": valid(after)}
    numbers = {**found.numbers, **{name: float(marks.mean()) for name, marks in shares.items() if marks is not None}}
    numbers |= {"steps": counters["step"], "seconds": counters["seconds"]}
    if engine().is_first:
        some = torch.arange(SHOWN)
        pictures = side_by_side(found.before.subset(some), after.subset(some))
        captions = ("Before tuning, from the same source points", "Samples")
        page = Findings(
            title=f"Tuned to {' and '.join(tuned.rewards)}",
            command=tuning(run, asked, tuned, rule, recipe.train),
            sketch=tuning_sketch(run, tuned, counters["step"], numbers),
            judged=f"Compared: {DRAWN} samples with as many of the base.",
            numbers=numbers,
            explanations={**changes.EXPLAIN, **EXPLAIN_VALIDITY},
            notes=(f"no data stand beside the samples: {why}", *found.notes),
            settings=run.part_of(run.recipe, "recipe"),
            curve=read_metrics(run.metrics),
            pictures=[*zip(captions, pictures, strict=True)],
            seen="Before and after",
        )
        write_report(run.path, page)
    return {**numbers, "report": f"{run.path / 'report.html'}"}
