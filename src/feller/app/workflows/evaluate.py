"""Evaluation workflow: generate samples, compute metrics and write the report."""

import contextlib
import os
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from feller.app.config import EvaluateConfig
from feller.app.modalities.registration import registration_of
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.bridge import remeasure_bridge
from feller.app.workflows.documents.evaluate_documents import evaluate_documents
from feller.app.workflows.fine_tuned_run import (
    TuningRecord,
    base_model,
    fine_tuning_of,
    read_recipe,
    read_tuning_record,
)
from feller.app.workflows.fitting.image_outlook import epochs_trained, required_training
from feller.app.workflows.next_steps import evaluate_command
from feller.app.workflows.private.private_split import contents
from feller.app.workflows.private.table_schema import owner_notes
from feller.app.workflows.reporting.comparison import IN_HAND, IN_MEMORY, SampleComparison, n_report_samples
from feller.app.workflows.reporting.evaluate_non_generative import (
    evaluate_autoencoder,
    evaluate_regressor,
    evaluate_tokenizer,
    evaluate_vocoder,
)
from feller.app.workflows.reporting.evaluation_request import EvaluationRequest
from feller.app.workflows.reporting.sample_report import sample_report
from feller.app.workflows.run_config import (
    FitRecord,
    example_of,
    is_described,
    read_bundle,
    read_fit_record,
    read_import_conventions,
    same_rows,
    split_run_data,
)
from feller.app.workflows.run_status import read_run_status, undertrained_notice, undertrained_tuning_notice
from feller.app.workflows.steering.reward_specs import parse_recorded_rewards
from feller.control.rewards.named_rewards import Reward
from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.batches import DataBundle, split
from feller.data.database_urls import is_database
from feller.data.loading.dataset_reader import read
from feller.data.loading.in_memory import IN_MEMORY_PREFIX, DataSource, InMemoryData, as_temporary_file, is_in_memory
from feller.data.loading.sample_reader import read_samples, samples_in_memory
from feller.data.modality import Dataset, Modality
from feller.data.tables.mixed_table import as_table
from feller.evaluation.autoencoder_metrics import latent_quality, latents_of
from feller.evaluation.completion_metrics import completion_quality
from feller.evaluation.conditional_metrics import conditional_quality
from feller.evaluation.evaluation_budget import MIN_EXAMPLES, EvaluationBudget
from feller.evaluation.flow_metrics import FlowMetricOptions, flow_quality
from feller.evaluation.image_metrics import class_accuracy
from feller.evaluation.judge import TRAINING, Judge, load_judge, save_judge
from feller.evaluation.metrics import HELD_OUT
from feller.evaluation.number_format import is_number
from feller.evaluation.report.report_page import write_report
from feller.evaluation.sample_quality import SampleQuality, measure_quality
from feller.evaluation.tuning_metrics import TuningComparison, compare_tuned
from feller.models.model import Model, load_model
from feller.training.engine import get_engine

SAMPLING_TIME_FRACTION, LIKELIHOOD_TIME_FRACTION = 0.35, 0.25
"""Fractions of the evaluation time: for drawing samples, and for computing likelihoods."""
SUBSTITUTE_NOTE = (
    "the run stores no copy of its training rows, and the given rows are not exactly these, though they may overlap:"
    " the metrics of copies and membership are omitted. Pass both, evaluate(run, data=held_out, train=rows), or use"
    " audit(run, data=rows)"
)
UNKNOWN = (
    "the training data of the model are unknown and may include the given data, so no metric of copies is available"
)
MOST_COMPARED = 2**28
"""Maximum size of a data set in bytes for which each example is compared with every training example."""
PIECES = 1024
"""Number of parts into which the examples are split, so that a time limit can restrict likelihoods to some parts."""


def evaluate(
    run: Run,
    config: EvaluateConfig = EvaluateConfig(),  # noqa: B008 - frozen
    *,
    reward: Reward | None = None,
    bundle: DataBundle | None = None,
    effort: EvaluationBudget | None = None,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Evaluate samples against held-out data and write the report.

    Args:
        run: Run with the model.
        config: Options of `feller evaluate`. If the run was fitted to a Python object and stores no copy, `data` must
            be the same rows, or other rows to use instead.
        reward: Reward of a fine-tuned run; None for the recorded reward, unless that reward is user code.
        bundle: Training data; None if this process has not read the data yet.
        effort: Number of samples and time budget; None for those of the config.
        reporter: Progress and log output.

    Returns:
        Metrics of the report, and the path of the report under the key `report`. The path is `report.html` for the
        run's own samples and held-out data; otherwise the page is named after the given samples or data.

    Raises:
        InputError: If the run, data or samples are unusable, or another process writes to the run.
    """
    with run.ensure_lock() if get_engine().is_main_process else contextlib.nullcontext():
        data, effort = config.data, effort or EvaluationBudget(n=config.n)
        in_memory_data = data if is_in_memory(data) else None
        model = load_model(run)
        model.network.to(get_engine().device)
        evaluator = EVALUATORS.get(model.family.name) or registration_of(model.spec.modality).evaluate
        with (
            as_temporary_file(in_memory_data)
            if in_memory_data is not None and evaluator
            else contextlib.nullcontext(IN_MEMORY) as temp_file
        ):
            data_name = str(temp_file) if in_memory_data is not None else None if data is None else str(data)
            train = _training_rows(run, config)
            in_memory_samples = None if isinstance(config.samples, str | os.PathLike) else config.samples
            if in_memory_samples is not None and evaluator is not None:
                raise UsageError(
                    argument="samples",
                    expected="a file or a folder",
                    found=type(in_memory_samples).__name__,
                    remedy="Save the samples with .save(path) and pass the path",
                )
            samples = None if config.samples is None else str(config.samples) if in_memory_samples is None else IN_HAND
            request = EvaluationRequest(
                run=run, model=model, data=data_name, samples=samples, effort=effort, tell=reporter
            )
            if evaluator is not None:
                return evaluator(request)
            return _evaluate(request, config, in_memory_data, train, reward, bundle)


def _compare_populations(request: EvaluationRequest) -> dict[str, Any]:
    if request.data is not None or request.samples is not None or request.effort.n is not None:
        raise UsageError(
            "a bridge is evaluated against its own populations", remedy="Leave out --data, --samples and -n"
        )
    return remeasure_bridge(request.run, request.tell)


def _training_rows(run: Run, config: EvaluateConfig) -> InMemoryData | None:
    """Return the rows in memory that the user passed as training rows (`train`); None if none were passed.

    UsageError if the run can read its training rows itself, or no data are passed besides.
    """
    train = config.train
    if train is None:
        return None
    if not is_in_memory(train) or not read_fit_record(run).data.startswith(IN_MEMORY_PREFIX):
        raise UsageError(
            argument="train",
            expected="rows in memory, for a run that stores no copy of its training rows",
            found=f"a run trained on {read_fit_record(run).data}" if is_in_memory(train) else type(train).__name__,
            remedy="Leave it out: the run can read its rows",
        )
    if config.data is None:
        raise UsageError(
            argument="train",
            expected="held-out rows in data=... as well",
            found="none",
            remedy="Pass the rows of the fit as data; they include the held-out rows",
        )
    return train


EVALUATORS: dict[str, Callable[[EvaluationRequest], dict[str, Any]]] = {
    "autoencoder": evaluate_tokenizer,
    "bridge": _compare_populations,
    "documents": evaluate_documents,
    "latent-autoencoder": evaluate_autoencoder,
    "regressor": evaluate_regressor,
    "vocoder": evaluate_vocoder,
}
"""Name of a model family -> evaluation function, for families that are not evaluated by comparing samples."""


def _evaluate(
    request: EvaluationRequest,
    config: EvaluateConfig,
    in_memory_data: InMemoryData | None,
    train: InMemoryData | None,
    reward: Reward | None,
    bundle: DataBundle | None,
) -> dict[str, Any]:
    run, model, data, samples = request.run, request.model, request.data, request.samples
    effort, reporter = request.effort, request.tell
    modality = model.spec.modality
    registration = registration_of(modality)
    record = read_fit_record(run)
    is_unknown = data is not None and not record.data
    with reporter.spinner("reading the data"):
        is_in_memory_run = in_memory_data is not None and record.data.startswith(IN_MEMORY_PREFIX)
        if train is not None:
            run_data = read_bundle(record, modality, train)
        else:
            run_data = (
                None
                if is_unknown
                else bundle or _read_training_data(record, modality, in_memory_data if is_in_memory_run else None)
            )
        given_data = data if in_memory_data is None else in_memory_data
        reference_data = run_data or _strangers(record, modality, given_data, registration.measure_unseen is None)
    if is_in_memory_run and run_data is not None and train is None:
        data = None  # the given rows are those of the run
    raw_data = reference_data.raw
    status = read_run_status(run, record, modality, raw_data)  # first, so that a damaged run fails early
    judge = _judge(run, effort)
    training_data, held_out = (
        reference_data.train.with_modality(modality).in_memory_sample(),
        reference_data.test.with_modality(modality),
    )
    overlap_notes: tuple[str, ...] = ()
    if data is not None and run_data is not None:
        held_out = _others(record, modality, data if in_memory_data is None else in_memory_data)
        if count := _shared(held_out, run_data):
            overlap_notes = (
                f"{count:,} of the {len(held_out):,} examples are also in the data of the fit, in the model's encoding:"
                " metrics against them do not measure generalisation",
            )
    for line in () if data is None else modality.lenient.strange(held_out if run_data is not None else raw_data):
        reporter.note(line)
    rng, tuning_record, has_train = Rng(config.seed).fold_in("evaluate"), read_tuning_record(run), run_data is not None
    reductions: list[str] = []
    data_notes = overlap_notes if run_data is not None else ((UNKNOWN if is_unknown else SUBSTITUTE_NOTE),)
    if is_database(config.samples):
        generated = read(cast(str, config.samples), like=modality)
    elif isinstance(config.samples, str | os.PathLike):
        generated = Dataset(*read_samples(pathlib.Path(config.samples), modality), modality)
    elif config.samples is not None:
        generated = Dataset(*samples_in_memory(config.samples, modality), modality)
    else:
        reporter.start("sampling")
        default_n = n_report_samples(training_data, effort)
        time_fraction = SAMPLING_TIME_FRACTION / (1 if tuning_record is None else 3)
        n = effort.num_affordable(
            default_n,
            time_fraction,
            lambda n_trial: _draw(model, n_trial, tuning_record, run, held_out, rng.fold_in("pace"), SILENT),
            get_engine(),
            min_examples=MIN_EXAMPLES,
        )
        reductions += [f"{n:,} of {default_n:,} samples"] if n < default_n else []
        generated = _draw(model, n, tuning_record, run, held_out, rng, reporter)
        reporter.finish()
    tuning = (
        _tuning_change(run, model, tuning_record, generated, reward, rng, reporter)
        if samples is None and tuning_record
        else None
    )
    comparison = SampleComparison(
        generated=as_table(generated),
        train=as_table(training_data),
        held_out=as_table(held_out),
        samples=samples,
        data=data,
        has_train=has_train,
        base_samples=tuning.base_samples if tuning else None,
    )
    reporter.start("judging the samples")
    process_group = get_engine().single_process()
    measure = registration.measure if has_train else registration.measure_unseen or registration.measure
    quality_result = measure_quality(
        generated, training_data, held_out, rng, process_group, measure, judge, effort, has_train=has_train
    )
    if quality_result.judge is not None and quality_result.judge.steps < (TRAINING.steps or 0):
        reductions.append(f"{quality_result.judge.steps} of {TRAINING.steps} steps of the judge")
    sample_metrics = quality_result.numbers if tuning is None else _with_base_accuracy(quality_result, tuning)
    if samples is None and quality_result.judge is not None and (code := latents_of(model)) is not None:
        pixels, held_out_pixels = (part.modality.for_metrics(part) for part in (training_data, held_out))
        sample_metrics = sample_metrics | latent_quality(
            code, pixels, held_out_pixels, len(generated), quality_result.judge, rng
        )
    cell_fn = registration_of(comparison.generated.modality).cells
    cell_metrics, grids = ({}, ()) if cell_fn is None else cell_fn(comparison, record.data, raw_data.raw_table)
    metrics: dict[str, Any] = {**(tuning.numbers if tuning else {}), **sample_metrics, **cell_metrics}
    if samples is None and has_train:
        metrics |= conditional_quality(model, training_data, held_out, rng.fold_in("conditional"), effort)
        completions = completion_quality(
            model, training_data, held_out, rng.fold_in("completion"), effort, season=config.season
        )
        metrics |= completions.numbers
        reductions += completions.reductions
    metrics |= {} if has_train else {"rows_given": len(held_out)}
    notes = (*data_notes, *(tuning.notes if tuning else ()), *quality_result.notes)
    if data is not None and (run_data is None or metrics["compared_with"] == HELD_OUT):
        metrics["compared_with"] = data
    if samples is None:
        reporter.start("computing likelihoods")
        flow_options = FlowMetricOptions(rng=rng, ranks=get_engine())
        keys = set[str]()

        def try_likelihoods(n_trial: int) -> None:
            options = replace(flow_options, fraction=n_trial / PIECES, min_examples=get_engine().world_size)
            keys.update(flow_quality(model, held_out, options))

        n_parts = effort.num_affordable(
            PIECES, LIKELIHOOD_TIME_FRACTION, try_likelihoods, get_engine(), is_optional=True
        )
        if n_parts:
            reductions += [f"{n_parts / PIECES:.0%} of the examples for likelihood and straightness"] * (
                n_parts < PIECES
            )
            flow_options = replace(flow_options, fraction=n_parts / PIECES, on_progress=reporter.progress)
            metrics |= flow_quality(model, held_out, flow_options)
        else:
            reductions.append("no likelihood and straightness")
            metrics |= dict.fromkeys(sorted(keys))
    reporter.finish()
    notes += (
        (f"reduced to save time: {', '.join(reductions)}; full evaluation: {evaluate_command(run, record, {})}",)
        if reductions
        else ()
    )
    metrics["n"] = len(generated)
    reporter.log(comparison.sentence)
    for line in notes:
        (reporter.note if line in data_notes else reporter.log)(line)
    example = example_of(record)
    if example and example.is_inside:
        metrics["inside"] = example.is_inside(generated.values).double().mean().item()
    metrics |= status.numbers
    if get_engine().is_main_process:
        if quality_result.judge is not None:
            save_judge(run.judge, quality_result.judge)
        reporter.start("writing the report")
        step, seconds = status.counters["step"], status.counters["seconds"]
        if samples is not None or status.at_once or status.stopped_early or read_import_conventions(run) is not None:
            notice = ""
        elif tuning_record is None:
            notice = undertrained_notice(run, record, raw_data, step, seconds)
        else:
            notice = undertrained_tuning_notice(run, tuning_record, step, metrics)
        page_notes = (*notes, *(owner_notes(record, raw_data) if run_data is not None else ()))
        if samples is None and has_train and tuning_record is None and not record.is_private:
            total = training_data.total if run_data is None else run_data.train.total
            trained = epochs_trained(modality, total, step, status.training.batch_size)
            page_notes = (*page_notes, *filter(None, (trained, trained and required_training(modality, total))))
        page = sample_report(status, model.spec, comparison, metrics, page_notes, notice, grids)
        for line in page.judgement.cautions:
            reporter.log(line)
        write_report(run.path, page, comparison.name)
        reporter.finish()
    return {**metrics, "report": f"{run.path / comparison.name}.html"}


def _read_training_data(
    record: FitRecord, modality: Modality, in_memory_data: InMemoryData | None
) -> DataBundle | None:
    """Read the training data of a run; None if it stores no copy of them and other data are given."""
    try:
        return read_bundle(record, modality, in_memory_data)
    except InputError:
        if in_memory_data is None:
            raise
        raw = same_rows(record, modality, in_memory_data)
        return None if raw is None else split_run_data(record, modality, raw)


def _shared(held_out: Dataset, bundle: DataBundle) -> int:
    """Return the number of held-out rows that are also training rows.

    It is 0 if the run's own test rows repeat training rows almost as often, and for data too large to compare.
    """
    datasets = [as_table(data) for data in (held_out, bundle.train, bundle.test)]
    if any(
        data.stream is not None or sum(leaf.nbytes for leaf in leaves(data.values)) > MOST_COMPARED for data in datasets
    ):
        return 0
    given_rows, train, test = (contents(replace(data, given={}, target=None)) for data in datasets)
    train_rows = set(train)
    expected_fraction = sum(row in train_rows for row in test) / max(len(test), 1)
    n_shared = sum(row in train_rows for row in given_rows)
    return n_shared if n_shared > 2 * expected_fraction * len(given_rows) else 0


def _others(record: FitRecord, modality: Modality, source: DataSource) -> Dataset:
    """Read data other than those of the fit, in the modality of the model.

    If its schema was detected from the data, categories that it does not list are read as the nearest known ones.
    """
    like = modality if is_described(record) else modality.lenient
    loading = record.config.data_loading
    is_folder = isinstance(source, str) and os.path.isdir(source)
    data = read(
        source,
        longest=loading.longest,
        like=like,
        nested=is_folder and loading.nested,
        links=is_folder and loading.links,
    )
    return replace(data, modality=modality)


def _strangers(record: FitRecord, modality: Modality, in_memory_data: InMemoryData | None, halves: bool) -> DataBundle:
    """Return a substitute for training data that the run does not store: other rows, all held out or split in half.

    With `halves`, one half takes the role of the training data, for metrics that need both.
    """
    dataset = _others(record, modality, cast(InMemoryData, in_memory_data))
    if not halves:
        return DataBundle(dataset, dataset, dataset, "")
    return DataBundle(*split(dataset, 0.5, Rng(record.seed)), dataset, "")


def _draw(
    model: Model,
    n: int,
    tuning_record: TuningRecord | None,
    run: Run,
    held_out: Dataset,
    rng: Rng,
    reporter: Reporter,
) -> Dataset:
    """Sample from the model; for a fine-tuned run with the conditions and guidance of its fine-tuning.

    Conditions that were selected at the fit are those of random held-out examples.
    """
    if tuning_record is None:
        given = model.conditions_of(held_out, n, rng) if model.spec.modality.selected_conditions else None
        return model.sample_dataset(n, given=given, rng=rng, process_group=get_engine(), on_progress=reporter.progress)
    conditions, guidance = (
        tuning_record.conditions(model, n, rng),
        fine_tuning_of(read_recipe(run)).guidance,
    )
    return model.sample_dataset(
        n, given=conditions, guidance=guidance, rng=rng, process_group=get_engine(), on_progress=reporter.progress
    )


def _tuning_change(
    run: Run,
    model: Model,
    tuning_record: TuningRecord,
    generated: Dataset,
    reward: Reward | None,
    rng: Rng,
    reporter: Reporter,
) -> TuningComparison:
    reporter.start("comparing with the base model")
    base = base_model(run)
    base.network.to(get_engine().device)
    reward = reward or _recorded_reward(run, model, tuning_record)
    tuning = compare_tuned(
        fine_tuning_of(read_recipe(run)), base, model, generated, reward, rng, tuning_record.conditions
    )
    reporter.finish()
    return tuning


def _with_base_accuracy(quality_result: SampleQuality, tuning: TuningComparison) -> dict[str, Any]:
    """Return the sample metrics, with the class accuracy of the base model inserted after that of the model."""
    judge = quality_result.judge
    if judge is None or not is_number(quality_result.numbers.get("accuracy")):
        return quality_result.numbers
    base_accuracy = class_accuracy(tuning.base_samples.modality.for_metrics(tuning.base_samples), judge)
    metrics: dict[str, Any] = {}
    for name, value in quality_result.numbers.items():
        metrics[name] = value
        if name == "accuracy" and base_accuracy is not None:
            metrics["accuracy_before"] = base_accuracy
    return metrics


def _recorded_reward(run: Run, model: Model, tuning_record: TuningRecord) -> Reward | None:
    """Return the recorded reward; None if it names user code or another run, which recorded rewards must not load."""
    try:
        return parse_recorded_rewards(run, model.spec.modality, tuning_record.rewards)
    except (UsageError, InputError):
        return None


def _judge(run: Run, effort: EvaluationBudget) -> Judge | None:
    """Return the saved judge network if it can be used; None if one must be trained.

    A judge whose training was cut short is used only if the evaluation has a time limit.
    """
    judge = load_judge(run.judge) if run.judge.is_file() else None
    return judge if judge is None or effort.seconds is not None or judge.steps >= (TRAINING.steps or 0) else None
