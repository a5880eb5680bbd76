"""What tuning changed, where there are no data to set beside the samples."""

from typing import Any

import torch

from feller.app.reporter import Tell
from feller.app.workflows.fine_tuned_run import base_model, recipe_of, rule_of, tuned_of
from feller.app.workflows.next_steps import tuning
from feller.app.workflows.reporting.side_by_side import side_by_side
from feller.app.workflows.run_config import asked_of
from feller.app.workflows.run_status import tuning_sketch
from feller.control.rewards.named_rewards import Wish
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.evaluation import fine_tuning as changes
from feller.evaluation.fine_tuning import change
from feller.evaluation.report.page import Findings, write_report
from feller.evaluation.validity import EXPLAIN_VALIDITY, valid
from feller.models.model import load_model
from feller.training.checkpoint import read_counters
from feller.training.engine import engine
from feller.training.metrics_log import read_metrics

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
