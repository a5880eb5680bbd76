"""Public Python functions that run whole workflows: fit, sample, evaluate, audit, steer, tune, bridge, export."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from feller.app.commands.arguments import set_fields, words_of_fields
from feller.app.config import (
    AuditConfig,
    BridgeConfig,
    EvaluateConfig,
    ExportConfig,
    FitConfig,
    ImportConfig,
    SampleConfig,
    SchemaConfig,
    SteerConfig,
    TuneConfig,
)
from feller.app.option_groups import (
    DataLoadingOptions,  # noqa: F401
    LoRAOptions,  # noqa: F401
    PrivacyOptions,  # noqa: F401 - public, with the others
    RunFolderOptions,  # noqa: F401
    SampleFileOptions,  # noqa: F401
    SamplerOptions,  # noqa: F401
    TokenOptions,  # noqa: F401
    TrainingOptions,  # noqa: F401
)
from feller.app.options import accepts_options, config_of
from feller.app.results import FittedRun, HasRun, Report, SteeredSamples
from feller.app.terminal import progress_reporter
from feller.app.workflows.audit import audit as audit_run
from feller.app.workflows.bridge import bridge as bridge_populations
from feller.app.workflows.draft_schema import infer_schema as infer_table_schema
from feller.app.workflows.evaluate import evaluate as evaluate_run
from feller.app.workflows.export import export as export_run
from feller.app.workflows.fit import fit as fit_data
from feller.app.workflows.import_folder import import_folder
from feller.app.workflows.steer import steer as steer_run
from feller.app.workflows.steering.reward_search import RewardSearchResult
from feller.app.workflows.tune import tune as tune_run
from feller.core.errors import UsageError
from feller.core.output_shards import ShardedSamples
from feller.core.pretrained_folder import is_pretrained_folder
from feller.core.run_folder import Run, target_run, to_run
from feller.core.user_code import load_code
from feller.data.loading.in_memory import DataSource, SavedData, check_frame, is_in_memory, said_of, save, with_index
from feller.data.tables.schema import Schema
from feller.models.export.model_saving import save_for_this_process
from feller.models.model import Model, Samples

RunSource = FittedRun | Run | Model | HasRun | str | os.PathLike[str]
"""Run to use: its folder, an object that holds a run, or a model. A model is first written to a new run folder."""


def _resolve_run(source: RunSource | None, code: str | None = None) -> Run:
    """Return the run that a source stands for; the Python file `code` is imported first."""
    source = source.fitted_run() if isinstance(source, HasRun) else source
    code = source.code if code is None and isinstance(source, FittedRun) else code
    if code is not None and source is not None and not isinstance(source, Model):
        load_code(code, to_run(source).path)
    if isinstance(source, Model):
        return save_for_this_process(source, str(target_run(None, "model", resume=False, overwrite=False).path))
    if source is None:
        raise UsageError(
            argument="run",
            expected="a run, its folder, a model, or a Synthesizer",
            found="none",
            remedy="Pass the run as the first argument",
        )
    return to_run(source)


def load(source: RunSource, *, code: str | None = None) -> FittedRun:
    """Open a run; a model, or a folder of diffusers, is first written to a new run folder, at each call.

    Args:
        source: Run, its folder, a model, or a folder that `save_pretrained` of diffusers wrote.
        code: Python file that defines custom components of the model. The file is executed. None if the components have
            already been imported.

    Raises:
        InputError: If the folder contains no run.
    """
    if isinstance(source, str | os.PathLike) and is_pretrained_folder(os.fspath(source)):
        return FittedRun(import_folder(ImportConfig(place=os.fspath(source))).path)
    return FittedRun(_resolve_run(source, code).path, code=code)


def _field_setter(fields: Mapping[str, object] | None) -> tuple[Callable[[Any], Any], tuple[str, ...]]:
    """Return a function that sets recipe fields to the given values, and the equivalent command-line words."""
    fields = fields or {}
    return functools.partial(set_fields, given=fields), tuple(words_of_fields(fields))


@accepts_options(FitConfig)
def fit(data: DataSource | None = None, *, config: FitConfig) -> FittedRun:
    """Fit a model to data and write a run folder.

    Args:
        data: File, folder, `example:NAME`, DataFrame, array or tensor, list of texts, a dict of these, or a dict of
            DataFrames that are linked by keys. The run stores a copy of data passed as Python objects, unless
            the fit is private (`epsilon=`). After a private fit, `evaluate`, `audit` and `resume` need the data
            again if they were Python objects. Pass None to resume a run.
        config: Options of `feller fit`; each can also be passed as a keyword argument.

    Raises:
        InputError: If the data, the run or the disk is unusable.
        UsageError: If an argument is wrong.
        Interrupted: If training is interrupted by Ctrl-C; the run is saved.
    """
    with progress_reporter(config.printing.verbose) as reporter:
        if isinstance(data, pd.DataFrame):
            data, notes = with_index(data)
            check_frame(data)
            for note in notes:
                reporter.note(note)
        change, field_words = _field_setter(config.fields)
        run, metrics = fit_data(config, data, change=change, field_words=field_words, reporter=reporter)
    recipe = config.recipe_name or ""
    return FittedRun(run.path, metrics, recipe.rpartition(":")[0] or None)


@accepts_options(SampleConfig)
def sample(run: RunSource | None = None, *, config: SampleConfig) -> Samples | ShardedSamples:
    """Sample from a run; also write the samples to a file if the option `out` is set.

    Args:
        run: Run with the model: its folder, an object that holds a run, or a model. Required.
        config: Options of `feller sample`; each can also be passed as a keyword argument.

    Returns:
        For a table, a DataFrame with the columns and dtypes of the training data; otherwise a `Dataset` with the
        methods `numpy()`, `frame()` and `save(path)`. With `shard_size`, the opened shards, as from
        `feller.open_shards`.
    """
    return FittedRun(_resolve_run(run, config.loading.code).path).sample(config=config)


@accepts_options(SchemaConfig)
def infer_schema(
    data: DataSource,
    schema: str | os.PathLike[str] | Mapping[str, object] | Schema | None = None,
    *,
    config: SchemaConfig,
) -> dict[str, object]:
    """Infer the schema of a table, as a dict to review and then pass to `fit(schema=...)`; or edit an existing schema.

    A draft is inferred from the rows, so it is not private until you have reviewed it: keep only values that are known
    without the rows, such as public bounds, and remove the entry `draft`. `json.dump` writes the dict to a file like
    that of `feller data schema`.

    Args:
        data: DataFrame, file or example; for an example with a public schema, this schema is returned.
        schema: Existing schema of the table, to be edited instead of a new draft.
        config: Edits of the schema; each can also be passed as a keyword argument, such as `rare=20` or `drop=["id"]`.

    Raises:
        InputError: If the file is not a table, or a column to edit does not exist.
        UsageError: If `data` has another type, its columns have no names, or a column is to have two kinds.
    """
    return infer_table_schema(data, schema, config)


@accepts_options(EvaluateConfig)
def evaluate(run: RunSource | None = None, *, config: EvaluateConfig) -> Report:
    """Evaluate samples against held-out data, write the report in the run folder, and return it.

    Args:
        run: Run with the model: its folder, an object that holds a run, or a model. Required.
        config: Options of `feller evaluate`; each can also be passed as a keyword argument. The option `data` may be a
            Python object, such as a DataFrame.
    """
    folder = _resolve_run(run, config.loading.code)
    with progress_reporter(config.loading.verbose) as reporter:
        return _report(folder, evaluate_run(folder, config, reporter=reporter))


@accepts_options(AuditConfig)
def audit(run: RunSource | None = None, *, config: AuditConfig) -> Report:
    """Audit what a run reveals about individual rows or persons: guarantee, reconstruction bounds and attacks.

    Args:
        run: Run with the model and, if training was private, a privacy ledger: its folder, an object that holds a run,
            or a model. Required.
        config: Options of `feller audit`; each can also be passed as a keyword argument. The option `data` is the
            training data and may be a Python object, such as a DataFrame.
    """
    folder = _resolve_run(run, config.loading.code)
    with progress_reporter(config.loading.verbose) as reporter:
        return _report(folder, audit_run(folder, config, reporter=reporter))


def _report(run: Run, metrics: dict[str, Any]) -> Report:
    """Return the report of a run with these metrics, whose page the workflow has written."""
    name = pathlib.Path(metrics.get("report", "")).stem
    return Report(run.path, {name: value for name, value in metrics.items() if name != "report"}, name)


@accepts_options(SteerConfig)
def steer(run: RunSource | None = None, *, config: SteerConfig) -> SteeredSamples:
    """Steer samples toward a reward, or solve an inverse problem, without training.

    Args:
        run: Run with the model, which is not changed: its folder, an object that holds a run, or a model. Must be
            given.
        config: Options of `feller steer`; each can also be passed as a keyword argument. Either `reward`, or both
            `observe` and `operator`, are required.
    """
    folder = _resolve_run(run, config.loading.code)
    with progress_reporter(config.loading.verbose) as reporter:
        result, page = steer_run(folder, config, reporter=reporter)
    fitted, unsteered = FittedRun(folder.path), result.unsteered if isinstance(result, RewardSearchResult) else None
    return SteeredSamples(
        fitted.as_samples(result.samples),
        None if unsteered is None else fitted.as_samples(unsteered),
        Report(folder.path, dict(result.numbers), pathlib.Path(page).stem),
    )


@accepts_options(TuneConfig)
def tune(run: RunSource | None = None, *, fields: Mapping[str, object] | None = None, config: TuneConfig) -> FittedRun:
    """Fine-tune a model toward its distribution tilted by a reward, and write it as a new run.

    Args:
        run: Run with the base model, which is not changed; None to resume the run in `out` with the option `resume`.
        fields: Fields of the recipe by name, such as {"train.lr": 1e-5}.
        config: Options of `feller tune`; each can also be passed as a keyword argument.
    """
    code, output = config.loading.code, config.output
    folder = _resolve_run(output.out if output.resume and run is None else run, code)
    with progress_reporter(config.loading.verbose) as reporter:
        change, field_words = _field_setter(fields)
        tuned_run, metrics = tune_run(folder, config, change=change, field_words=field_words, reporter=reporter)
    return FittedRun(tuned_run.path, metrics, code)


@accepts_options(BridgeConfig)
def bridge(*populations: DataSource, fields: Mapping[str, object] | None = None, config: BridgeConfig) -> FittedRun:
    """Fit a Schrödinger bridge between populations and write a run folder.

    Args:
        populations: Two or more populations in order of time: files, folders, examples, DataFrames or arrays. The run
            stores a copy of DataFrames and arrays. No populations are needed to resume a bridge.
        fields: Fields of the bridge solver by name, such as {"train.batch_size": 64}.
        config: Options of `feller bridge`; each can also be passed as a keyword argument.
    """
    with progress_reporter(config.printing.verbose) as reporter, _write_populations(populations, config) as config:
        change, field_words = _field_setter(fields)
        run, metrics = bridge_populations(config, change=change, field_words=field_words, reporter=reporter)
    return FittedRun(run.path, metrics)


@contextlib.contextmanager
def _write_populations(populations: Sequence[DataSource], config: BridgeConfig) -> Iterator[BridgeConfig]:
    """Yield the config with the paths of the populations; populations in memory are written to the run folder."""
    if not any(map(is_in_memory, populations)):
        names = tuple(str(population) for population in populations)
        yield config_of(BridgeConfig, config, data=names or config.data)
        return
    output = config.output
    run = target_run(output.out, "bridge", resume=output.resume, overwrite=output.overwrite)
    files: list[str] = []
    with contextlib.ExitStack() as stack:
        for k, population in enumerate(populations, 1):
            path = run.path / "populations" / str(k)
            files.append(str(save(population, path) if is_in_memory(population) else population))
            if is_in_memory(population):
                stack.enter_context(SavedData(pathlib.Path(files[-1]), said_of(population), owns_folder=True))
        yield config_of(BridgeConfig, config, data=tuple(files), out=str(run.path))


@accepts_options(ExportConfig)
def export(run: RunSource | None = None, *, config: ExportConfig) -> pathlib.Path:
    """Export a run's network for other programs, or the whole model as a folder; return the output path.

    Args:
        run: Run with the model: its folder, an object that holds a run, or a model. Required.
        config: Options of `feller export`; each can also be passed as a keyword argument. The option `to`, the format,
            is required.
    """
    folder = _resolve_run(run, config.loading.code)
    with progress_reporter(config.loading.verbose) as reporter:
        return export_run(folder, config, reporter=reporter)[0]
