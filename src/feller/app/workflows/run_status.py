"""A model of few steps looks finished and is not: what is said of it, and the command that goes on."""

import math
import shlex
from collections.abc import Mapping
from typing import Any

from feller.app.workflows.fine_tuned_run import Tuned, needs_again
from feller.app.workflows.reported import reported_of
from feller.app.workflows.run_config import Asked
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.data.modality import Dataset
from feller.evaluation.report.wording import is_number, percent
from feller.models.recipes.fine_tuning_methods import TRAINING
from feller.models.recipes.registry import SECOND_STAGES, find_recipe
from feller.training.optimizer import Training

SKETCH = 0.1
"""Share of what a recipe plans below which a model is called a sketch."""
NEAR = 0.25
"""Share of the way from the base's reward to the one aimed at, below which a tuned model is."""
STEPS = 100
"""Steps below which it is one, whatever time they took; so it is before it has seen as many examples as there are."""


def planned(asked: Asked, data: Dataset) -> Training | None:
    """Return what the recipe plans for such data at its size; None of code of the user's own, which is not run here."""
    if ":" in asked.recipe or asked.recipe in SECOND_STAGES:
        return None
    try:
        return find_recipe(asked.recipe, data, asked.size or "small")[1].train
    except (InputError, UsageError):  # a recipe for other data, by now
        return None


def first_sketch(run: Run, asked: Asked, data: Dataset, step: int, seconds: float) -> str:
    """Return one line where a run had far less than its recipe plans; empty where it had enough, or cannot go on.

    Args:
        run: Where it is kept.
        asked: What was asked of it; what protects its rows also says how far it may go.
        data: What it was fitted to.
        step: Steps done.
        seconds: Of training.
    """
    whole = None if asked.private is not None else planned(asked, data)
    if whole is None or (whole.steps is None and whole.minutes is None):
        return ""
    fewest = min(STEPS, whole.steps or STEPS) if whole.minutes is None else max(STEPS, data.total / whole.batch)
    if whole.share(step, seconds) >= SKETCH and step >= fewest:
        return ""
    longer = math.ceil(fewest * seconds / max(step, 1) / 60) if step < fewest else 0
    minutes = max(whole.minutes or 0.0, float(longer))
    budget = ("--minutes", f"{minutes:g}") if whole.steps is None else ("--steps", whole.steps)
    words = ("feller", "fit", "--resume", "--out", run.path, *budget)
    many = "1 step" if step == 1 else f"{step:,} steps"
    return f"After {many} this is a first sketch; go on with: {shlex.join(map(str, words))}"


def tuning_sketch(run: Run, tuned: Tuned, step: int, numbers: Mapping[str, Any]) -> str:
    """Return one line where a tuning had few rounds, or its reward is far from what is aimed at; else nothing.

    Args:
        run: Where it is kept.
        tuned: What was asked of it.
        step: Rounds done.
        numbers: Those of its report: the mean reward, that of the base and that of the law aimed at.
    """
    usual = TRAINING.steps or 1
    reward, before, aim = (numbers.get(name) for name in ("reward", "reward_before", "reward_tilted"))
    known = is_number(reward) and is_number(before) and is_number(aim) and aim > before
    way = (reward - before) / (aim - before) if known else 1.0
    if step >= SKETCH * usual and way >= NEAR:
        return ""
    again = ("--reward", *tuned.rewards) if needs_again(tuned) else ()
    more = usual if step < usual else 2 * step
    words = ("feller", "tune", "--resume", "--out", run.path, *again, "--steps", more)
    many = "1 round" if step == 1 else f"{step:,} rounds"
    far = f" the reward has gone {percent(max(way, 0.0))} of the way to what is aimed at, and" if way < NEAR else ""
    return f"After {many}{far} this is a first sketch; go on with: {shlex.join(map(str, words))}"


def sketch_of(run: Run) -> str:
    """Return the line that the report of a run has; empty where it has none, or there is no report."""
    return reported_of(run).sketch
