"""From samples to numbers, and to a page to look at."""

import contextlib
import os
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from feller.app.config import EvaluateConfig
from feller.app.modalities.registration import registration_of
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.bridge import measure_again
from feller.app.workflows.documents.evaluate_documents import measure
from feller.app.workflows.fine_tuned_run import Tuned, base_model, recipe_of, rule_of, tuned_of
from feller.app.workflows.next_steps import evaluating
from feller.app.workflows.private.private_split import contents
from feller.app.workflows.private.table_schema import for_owner
from feller.app.workflows.reporting.comparison import IN_HAND, IN_MEMORY, Judged, number_shown
from feller.app.workflows.reporting.evaluate_non_generative import EvaluationRequest, copy, examine, resynthesise
from feller.app.workflows.reporting.sample_report import sample_report
from feller.app.workflows.run_config import (
    FitRecord,
    as_bundle,
    brought_of,
    example_of,
    is_described,
    read_bundle,
    record_of,
    same_rows,
)
from feller.app.workflows.run_status import first_sketch, standing, tuning_sketch
from feller.app.workflows.steering.reward_specs import recorded_wish
from feller.control.rewards.named_rewards import Wish
from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.data.batches import DataBundle, split
from feller.data.loading.in_memory import MEMORY, DataSource, Given, for_now, is_given
from feller.data.loading.read import read
from feller.data.loading.read_samples import read_back, samples_in_memory
from feller.data.modality import Dataset, Modality
from feller.data.tables.mixed import as_table
from feller.evaluation.effort import Effort
from feller.evaluation.fine_tuning import Change, change
from feller.evaluation.flow import Measuring, flow_quality
from feller.evaluation.images import accuracy
from feller.evaluation.judge import TRAINING, Judge, load_judge, save_judge
from feller.evaluation.metrics import HELD_OUT
from feller.evaluation.number_format import is_number
from feller.evaluation.quality import Quality, quality
from feller.evaluation.report.page import write_report
from feller.models.model import Model, load_model
from feller.training.engine import engine

DRAWING, MEASURING = 0.35, 0.25
"""Shares of the time of an evaluation for drawing samples and for likelihoods."""
STRANGERS = (
    "the run keeps no copy of the rows that it learned from, and these are not all of them, though they may hold some:"
    " copies and membership are not measured. Give them, too, evaluate(run, data=held_out, train=rows), or ask"
    " audit(run, data=rows)"
)
UNKNOWN = (
    "nobody knows what the model learned from: it may have learned from the data that were given, and no number here"
    " tells of copies"
)
MOST_COMPARED = 2**28
"""Bytes of examples that are compared with those of a fit one by one."""
PIECES = 64
"""Into which the examples of likelihoods are divided, to take some of them."""


def evaluate(
    run: Run,
    config: EvaluateConfig = EvaluateConfig(),  # noqa: B008 - frozen
    *,
    wanted: Wish | None = None,
    bundle: DataBundle | None = None,
    effort: Effort | None = None,
    tell: Tell = SILENT,
) -> dict[str, Any]:
    """Compare samples with real data that training did not see, and write the report.

    Args:
        run: Holds the model.
        config: What is asked for. Of a run that keeps no copy of rows that were in memory, `data` are these rows
            themselves, or others, which then stand for them.
        wanted: What a tuned run was tuned to; by default as its record says, where that is no code of the user's.
        bundle: What the fit learned from, where this process has read it; by default it is read again.
        effort: Samples that are drawn and seconds that are taken; by default as the config says.
        tell: Hears how it goes.

    Returns:
        The numbers that the report shows, and where it is under `report`: `report.html` for a run's own samples beside
        the data that it kept back, a page that is called after them for others.

    Raises:
        InputError: If run, data or samples are not what they must be, or another process writes to the run.
    """
    with run.writing() if engine().is_first else contextlib.nullcontext():
        data, effort = config.data, effort or Effort(n=config.n)
        given = data if is_given(data) else None
        model = load_model(run)
        model.network.to(engine().device)
        protocol = PROTOCOLS.get(model.family.name) or registration_of(model.description.modality).evaluate
        with for_now(given) if given is not None and protocol else contextlib.nullcontext(IN_MEMORY) as place:
            named = str(place) if given is not None else None if data is None else str(data)
            train = _training_rows(run, config)
            held = None if isinstance(config.samples, str | os.PathLike) else config.samples
            if held is not None and protocol is not None:
                raise UsageError(
                    argument="samples",
                    expected="a file or a folder",
                    found=type(held).__name__,
                    remedy="Save them: .save(path)",
                )
            samples = None if config.samples is None else str(config.samples) if held is None else IN_HAND
            asked = EvaluationRequest(run=run, model=model, data=named, samples=samples, effort=effort, tell=tell)
            if protocol is not None:
                return protocol(asked)
            return _evaluated(asked, config, given, train, wanted, bundle)


def _compare_populations(request: EvaluationRequest) -> dict[str, Any]:
    """Compare a bridge with its own populations."""
    if request.data is not None or request.samples is not None or request.effort.n is not None:
        raise UsageError("a bridge is compared with its own populations", remedy="Leave out --data, --samples and -n")
    return measure_again(request.run, request.tell)


def _training_rows(run: Run, config: EvaluateConfig) -> Given | None:
    """Return the training rows, if the user gave them in addition to other data."""
    train = config.train
    if train is None:
        return None
    if not is_given(train) or not record_of(run).data.startswith(MEMORY):
        raise UsageError(
            argument="train",
            expected="rows in memory, of a run that keeps no copy of them",
            found=f"a run that learned from {record_of(run).data}" if is_given(train) else type(train).__name__,
            remedy="Leave it out: the run reads its rows again",
        )
    if config.data is None:
        raise UsageError(
            argument="train",
            expected="other rows beside them, data=...",
            found="none",
            remedy="Give the rows of the fit as data: a part of them was held out",
        )
    return train


PROTOCOLS: dict[str, Callable[[EvaluationRequest], dict[str, Any]]] = {
    "autoencoder": copy,
    "bridge": _compare_populations,
    "documents": measure,
    "regressor": examine,
    "vocoder": resynthesise,
}
"""How models are evaluated that are not compared by samples of single examples, by the name of their family."""


def _evaluated(
    request: EvaluationRequest,
    config: EvaluateConfig,
    given: Given | None,
    train: Given | None,
    wanted: Wish | None,
    bundle: DataBundle | None,
) -> dict[str, Any]:
    """Do it, while nobody else writes to the run."""
    run, model, data, samples = request.run, request.model, request.data, request.samples
    effort, tell = request.effort, request.tell
    modality = model.description.modality
    kind = registration_of(modality)
    asked = record_of(run)
    unknown = data is not None and not asked.data
    with tell.waiting("reading the data"):
        gone = given is not None and asked.data.startswith(MEMORY)
        if train is not None:
            own = read_bundle(asked, modality, train)
        else:
            own = None if unknown else bundle or _own_rows(asked, modality, given if gone else None)
        others = data if given is None else given
        loaded = own or _strangers(asked, modality, others, kind.measure_unseen is None)
    if gone and own is not None and train is None:
        data = None  # they are the rows of the run
    whole = loaded.raw
    stands = standing(run, asked, modality, whole)  # first, as what is damaged is told at once
    judge = _judge(run, effort)
    training_data, held_out = loaded.train.seen_as(modality).sampled(), loaded.test.seen_as(modality)
    shared: tuple[str, ...] = ()
    if data is not None and own is not None:
        held_out = _others(asked, modality, data if given is None else given)
        if same := _shared(held_out, own):
            shared = (
                f"{same:,} of the {len(held_out):,} examples are also, as the model sees them, among those of the fit:"
                " what is measured beside them is not what it makes of unseen ones",
            )
    for line in () if data is None else modality.lenient.strange(held_out if own is not None else whole):
        tell.note(line)
    draws, tuned, has_train = Draws(config.seed).named("evaluate"), tuned_of(run), own is not None
    limits: list[str] = []
    strangers = shared if own is not None else ((UNKNOWN if unknown else STRANGERS),)
    if isinstance(config.samples, str | os.PathLike):
        generated = Dataset(*read_back(pathlib.Path(config.samples), modality), modality)
    elif config.samples is not None:
        generated = Dataset(*samples_in_memory(config.samples, modality), modality)
    else:
        tell.task("sampling")
        usual = number_shown(training_data, effort)
        share = DRAWING / (1 if tuned is None else 3)
        n = effort.affordable(
            usual, share, lambda few: _drawn(model, few, tuned, run, draws.named("pace"), SILENT), engine()
        )
        limits += [f"{n:,} of {usual:,} samples"] if n < usual else []
        generated = _drawn(model, n, tuned, run, draws, tell)
        tell.done()
    changed = _changed(run, model, tuned, generated, wanted, draws, tell) if samples is None and tuned else None
    judged = Judged(
        generated=as_table(generated),
        train=as_table(training_data),
        held_out=as_table(held_out),
        samples=samples,
        data=data,
        has_train=has_train,
        before=changed.before if changed else None,
    )
    tell.task("judging the samples")
    alone = engine().alone()
    measure = kind.measure if has_train else kind.measure_unseen or kind.measure
    found = quality(generated, training_data, held_out, draws, alone, measure, judge, effort, has_train=has_train)
    if found.judge is not None and found.judge.steps < (TRAINING.steps or 0):
        limits.append(f"{found.judge.steps} of {TRAINING.steps} steps of the judge")
    measured = found.numbers if changed is None else _beside_base(found, changed)
    cells = registration_of(judged.generated.modality).cells
    written, grids = ({}, ()) if cells is None else cells(judged, asked.data, whole.cells)
    numbers: dict[str, Any] = {**(changed.numbers if changed else {}), **measured, **written}
    numbers |= {} if has_train else {"rows_given": len(held_out)}
    notes = (*strangers, *(changed.notes if changed else ()), *found.notes)
    if data is not None and (own is None or numbers["compared_with"] == HELD_OUT):
        numbers["compared_with"] = data
    if samples is None:
        tell.task("measuring the model")
        how = Measuring(draws=draws, ranks=engine())
        parts_of = effort.affordable(
            PIECES, MEASURING, lambda few: flow_quality(model, held_out, replace(how, share=few / PIECES)), engine()
        )
        limits += [f"{parts_of / PIECES:.0%} of the examples of likelihood and straightness"] * (parts_of < PIECES)
        numbers |= flow_quality(model, held_out, replace(how, share=parts_of / PIECES, tell=tell.progress))
    tell.done()
    notes += (f"to save time: {', '.join(limits)}; all of them with: {evaluating(run, asked, {})}",) if limits else ()
    numbers["n"] = len(generated)
    tell.say(judged.sentence)
    for line in notes:
        (tell.note if line in strangers else tell.say)(line)
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
        seen = (*notes, *(for_owner(asked, whole) if own is not None else ()))
        page = sample_report(stands, model.description, judged, numbers, seen, sketch, grids)
        write_report(run.path, page, judged.name)
        tell.done()
    return {**numbers, "report": f"{run.path / judged.name}.html"}


def _own_rows(asked: FitRecord, modality: Modality, given: Given | None) -> DataBundle | None:
    """Read what a run learned from; None where it keeps no copy, and others are given."""
    try:
        return read_bundle(asked, modality, given)
    except InputError:
        if given is None:
            raise
        raw = same_rows(asked, modality, given)
        return None if raw is None else as_bundle(asked, modality, raw)


def _shared(held_out: Dataset, bundle: DataBundle) -> int:
    """Return how many rows are also among those of a fit; 0 where no more are than chance makes of such data."""
    parts = [as_table(part) for part in (held_out, bundle.train, bundle.test)]
    if any(
        part.stream is not None or sum(leaf.nbytes for leaf in leaves(part.values)) > MOST_COMPARED for part in parts
    ):
        return 0
    other, train, test = (contents(replace(part, given={}, target=None)) for part in parts)
    known = set(train)
    usual = sum(row in known for row in test) / max(len(test), 1)
    same = sum(row in known for row in other)
    return same if same > 2 * usual * len(other) else 0


def _others(asked: FitRecord, modality: Modality, source: DataSource) -> Dataset:
    """Read other data than those of the fit; where nobody described their columns, none of their cells is refused."""
    like = modality if is_described(asked) else modality.lenient
    return replace(read(source, longest=asked.config.reading.longest, like=like), modality=modality)


def _strangers(asked: FitRecord, modality: Modality, given: Given | None, halves: bool) -> DataBundle:
    """Return other rows than those that a run learned from, of which it keeps no copy: all as held out, or a half.

    Where data are only measured beside training data, the other half stands for these.
    """
    others = _others(asked, modality, cast(Given, given))
    if not halves:
        return DataBundle(others, others, others, "")
    return DataBundle(*split(others, 0.5, Draws(asked.seed)), others, "")


def _drawn(model: Model, n: int, tuned: Tuned | None, run: Run, draws: Draws, tell: Tell) -> Dataset:
    """Draw samples; those of a tuned run as tuning looked at them."""
    if tuned is None:
        return model.draw(n, draws=draws, ranks=engine(), tell=tell.progress)
    given, guidance = model.conditions(n, tuned.given, draws), rule_of(recipe_of(run)).guidance
    return model.draw(n, given=given, guidance=guidance, draws=draws, ranks=engine(), tell=tell.progress)


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
    before = accuracy(changed.before.modality.for_measures(changed.before), judge)
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


def _judge(run: Run, effort: Effort) -> Judge | None:
    """Return the judge of an earlier evaluation; none that was trained in a hurry, where there is time."""
    judge = load_judge(run.judge) if run.judge.is_file() else None
    return judge if judge is None or effort.seconds is not None or judge.steps >= (TRAINING.steps or 0) else None
