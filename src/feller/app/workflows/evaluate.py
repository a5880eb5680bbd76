"""From samples to numbers, and to a page to look at."""

import contextlib
import pathlib
from dataclasses import replace
from typing import Any

from feller.app.reporter import SILENT, Tell
from feller.app.workflows.bridge import measure_again
from feller.app.workflows.documents.evaluate_documents import measure
from feller.app.workflows.fine_tuned_run import Tuned, base_model, recipe_of, rule_of, tuned_of
from feller.app.workflows.private.table_schema import for_owner
from feller.app.workflows.reporting.comparison import Judged, number_shown
from feller.app.workflows.reporting.evaluate_non_generative import copy, examine, resynthesise
from feller.app.workflows.reporting.findings import findings, of_cells
from feller.app.workflows.run_config import asked_of, brought_of, example_of, parts, read_again
from feller.app.workflows.run_status import first_sketch, standing, tuning_sketch
from feller.app.workflows.speech.evaluate_speech import measure as speak
from feller.app.workflows.steering.reward_specs import recorded_wish
from feller.control.rewards.named_rewards import Wish
from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.data.images.labelled import plain
from feller.data.loading.read import read
from feller.data.loading.read_samples import read_back
from feller.data.modality import Dataset
from feller.data.speech.modality import Speech
from feller.data.tables.mixed import as_table
from feller.evaluation.comparison import HELD_OUT
from feller.evaluation.fine_tuning import Change, change
from feller.evaluation.flow import Measuring, flow_quality
from feller.evaluation.images import accuracy
from feller.evaluation.judge import Judge, load_judge, save_judge
from feller.evaluation.quality import Quality, quality
from feller.evaluation.report.page import write_report
from feller.evaluation.report.wording import is_number
from feller.models.model import Model, load_model
from feller.paths import Codes, Estimates, Interleaved, Resynthesis
from feller.paths.brownian import Brownian
from feller.training.engine import engine


def evaluate(
    run: Run,
    *,
    data: str | None = None,
    samples: str | None = None,
    wanted: Wish | None = None,
    seed: int = 0,
    tell: Tell = SILENT,
) -> dict[str, Any]:
    """Compare samples with real data that training did not see, and write the report.

    Args:
        run: Holds the model.
        data: Real data to compare with; by default those that the fit kept back.
        samples: Judge these instead of drawing new ones: an .npz or a folder, as `sample` writes.
        wanted: What a tuned run was tuned to; by default as its record says, where that is no code of the user's.
        seed: Of all randomness.
        tell: Hears how it goes.

    Returns:
        The numbers that the report shows, and where it is under `report`: `report.html` for a run's own samples beside
        the data that it kept back, a page that is called after them for others.

    Raises:
        InputError: If run, data or samples are not what they must be, or another process writes to the run.
    """
    with run.writing() if engine().is_first else contextlib.nullcontext():
        return _evaluated(run, data, samples, wanted, seed, tell)


def _evaluated(
    run: Run, data: str | None, samples: str | None, wanted: Wish | None, seed: int, tell: Tell
) -> dict[str, Any]:
    """Do it, while nobody else writes to the run."""
    model = load_model(run)
    model.network.to(engine().device)
    if isinstance(model.description.path, Brownian):
        if data is not None or samples is not None:
            raise UsageError("a bridge is compared with its own populations; leave out --data and --samples")
        return measure_again(run, tell)
    if isinstance(model.description.path, Estimates):
        return examine(run, model, data=data, samples=samples, tell=tell)
    if isinstance(model.description.path, Codes):
        return copy(run, model, data=data, samples=samples, tell=tell)
    if isinstance(model.description.path, Resynthesis):
        return resynthesise(run, model, data=data, samples=samples, tell=tell)
    if isinstance(model.description.path, Interleaved):
        return measure(run, model, data=data, samples=samples, tell=tell)
    modality = model.description.modality
    if isinstance(modality, Speech):
        return speak(run, model, data=data, samples=samples, tell=tell)
    asked = asked_of(run)
    if data is not None and not asked.data:  # nobody knows what it learned from: the data serve for both
        asked, data = replace(asked, data=data), None
    with tell.waiting("reading the data"):
        whole = read_again(asked, modality)
    stands, judge = standing(run, asked, modality, whole), _judge(run)  # first, as what is damaged is told at once
    training_data, held_out = parts(asked, whole.seen_as(modality))
    training_data = training_data.sampled()
    if data is not None:
        held_out = read(data, longest=asked.longest, like=modality)
    draws, tuned = Draws(seed).named("evaluate"), tuned_of(run)
    if samples is not None:
        values, given = read_back(pathlib.Path(samples), modality)
        generated = Dataset(values, given, modality)
    else:
        tell.task("sampling")
        generated = _drawn(model, number_shown(training_data), tuned, run, draws, tell)
        tell.done()
    changed = _changed(run, model, tuned, generated, wanted, draws, tell) if samples is None and tuned else None
    judged = Judged(
        generated=as_table(generated),
        train=as_table(training_data),
        held_out=as_table(held_out),
        samples=samples,
        data=data,
        before=changed.before if changed else None,
    )
    tell.task("judging the samples")
    found = quality(generated, training_data, held_out, draws, engine().alone(), judge=judge)
    measured = found.numbers if changed is None else _beside_base(found, changed)
    written, grids = of_cells(judged, asked.data)
    numbers: dict[str, Any] = {**(changed.numbers if changed else {}), **measured, **written}
    notes = (*(changed.notes if changed else ()), *found.notes)
    if data is not None and numbers["compared_with"] == HELD_OUT:
        numbers["compared_with"] = data
    if samples is None:
        tell.task("measuring the model")
        how = Measuring(draws=draws, ranks=engine(), tell=tell.progress)
        numbers |= flow_quality(model, held_out, how)
    tell.done()
    for line in (judged.sentence, *notes):
        tell.say(line)
    example = example_of(asked)
    if example and example.inside:
        numbers["inside"] = example.inside(generated.values).double().mean().item()
    numbers |= stands.numbers
    if engine().is_first:
        if found.judge is not None:
            save_judge(run.judge, found.judge)
        tell.task("writing the report")
        step, seconds = stands.counters["step"], stands.counters["seconds"]
        if samples is not None or stands.at_once or brought_of(run) is not None:
            sketch = ""
        elif tuned is None:
            sketch = first_sketch(run, asked, whole, step, seconds)
        else:
            sketch = tuning_sketch(run, tuned, step, numbers)
        seen = (*notes, *for_owner(asked, whole))
        page = findings(stands, model.description, judged, numbers, seen, sketch, grids)
        write_report(run.path, page, judged.name)
        tell.done()
    return {**numbers, "report": f"{run.path / judged.name}.html"}


def _drawn(model: Model, n: int, tuned: Tuned | None, run: Run, draws: Draws, tell: Tell) -> Dataset:
    """Draw samples; those of a tuned run as tuning looked at them."""
    if tuned is None:
        return model.sample(n, draws=draws, ranks=engine(), tell=tell.progress)
    given, guidance = model.conditions(n, tuned.given, draws), rule_of(recipe_of(run)).guidance
    return model.sample(n, given=given, guidance=guidance, draws=draws, ranks=engine(), tell=tell.progress)


def _changed(
    run: Run, model: Model, tuned: Tuned, generated: Dataset, wanted: Wish | None, draws: Draws, tell: Tell
) -> Change:
    """Return what tuning changed."""
    tell.task("comparing with the base")
    base = base_model(run)
    base.network.to(engine().device)
    wanted = wanted or _known_wish(run, model, tuned)
    found = change(rule_of(recipe_of(run)), base, model, generated, wanted, draws, tuned.given)
    tell.done()
    return found


def _beside_base(found: Quality, changed: Change) -> dict[str, Any]:
    """Return what was measured of samples and, right behind how they are read, how those of the base are."""
    judge = found.judge
    if judge is None or not is_number(found.numbers.get("accuracy")):
        return found.numbers
    before = accuracy(plain(changed.before), judge)
    numbers: dict[str, Any] = {}
    for name, value in found.numbers.items():
        numbers[name] = value
        if name == "accuracy" and before is not None:
            numbers["accuracy_before"] = before
    return numbers


def _known_wish(run: Run, model: Model, tuned: Tuned) -> Wish | None:
    """Return the wish of a record; None if it is code or another run, which no record makes run or be read."""
    try:
        return recorded_wish(run, model.description.modality, tuned.rewards)
    except (UsageError, InputError):
        return None


def _judge(run: Run) -> Judge | None:
    """Return the judge of an earlier evaluation."""
    return load_judge(run.judge) if run.judge.is_file() else None
