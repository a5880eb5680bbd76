"""The functions of `import feller` that take and return objects: runs, models, data frames and arrays."""

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
    DataLoadingOptions,  # noqa: F401
    EvaluateConfig,
    ExportConfig,
    FitConfig,
    PrivacyOptions,  # noqa: F401 - public, with the others
    RunFolderOptions,  # noqa: F401
    SampleConfig,
    SampleFileOptions,  # noqa: F401
    SamplerOptions,  # noqa: F401
    SteerConfig,
    TrainingOptions,  # noqa: F401
    TuneConfig,
)
from feller.app.options import accepts_options, config_of
from feller.app.results import FittedRun, HasRun, Report, SteeredSamples
from feller.app.terminal import progress_reporter
from feller.app.workflows.audit import audit as audit_run
from feller.app.workflows.bridge import bridge as bridge_populations
from feller.app.workflows.evaluate import evaluate as evaluate_run
from feller.app.workflows.export import export as export_run
from feller.app.workflows.fit import fit as fit_data
from feller.app.workflows.steer import steer as steer_run
from feller.app.workflows.steering.reward_search import RewardSearchResult
from feller.app.workflows.tune import tune as tune_run
from feller.core.errors import UsageError
from feller.core.run_folder import Run, target_run, to_run
from feller.core.user_code import load_code
from feller.data.loading.in_memory import DataSource, SavedData, check_frame, is_in_memory, said_of, save, with_index
from feller.models.model import Model, Samples

RunSource = FittedRun | Run | Model | HasRun | str | os.PathLike[str]
"""A run, its folder, a `Synthesizer`, or a model, which is written as a run first."""


def _resolve_run(source: RunSource | None, code: str | None = None) -> Run:
    """Return a run; code of the user's own is loaded first."""
    source = source.fitted_run() if isinstance(source, HasRun) else source
    code = source.code if code is None and isinstance(source, FittedRun) else code
    if code is not None and source is not None and not isinstance(source, Model):
        load_code(code, to_run(source).path)
    if isinstance(source, Model):
        return source.save(str(target_run(None, "model", resume=False, overwrite=False).path))
    if source is None:
        raise UsageError(
            argument="run",
            expected="a run, its folder, a model, or a Synthesizer",
            found="none",
            remedy="Give it first",
        )
    return to_run(source)


def load(source: RunSource, *, code: str | None = None) -> FittedRun:
    """Open a run, or write a model as one.

    Args:
        source: The run, its folder, or a model.
        code: File of your own that defines what the model is made of; it runs. None is needed if it is imported.

    Raises:
        InputError: If there is no run in the folder.
    """
    return FittedRun(_resolve_run(source, code).path, code=code)


def _field_setter(fields: Mapping[str, object] | None) -> tuple[Callable[[Any], Any], tuple[str, ...]]:
    """Return the function that sets fields by their names, and the words of the command line that do the same."""
    fields = fields or {}
    return functools.partial(set_fields, given=fields), tuple(words_of_fields(fields))


@accepts_options(FitConfig)
def fit(data: DataSource | None = None, *, config: FitConfig) -> FittedRun:
    """Fit a model to data and write a run folder.

    Args:
        data: A file, a folder, `example:NAME`, a DataFrame, an array or tensor, a list of texts, or a dict of them. The
            run keeps a copy of what is in memory, but for rows of a private fit (`epsilon=`), which `evaluate`, `audit`
            and `resume` then take again. A resumed run knows its own.
        config: How: options of `FitConfig`, which may be named alone.

    Raises:
        InputError: If data, run or disk are not what they must be.
        UsageError: If an argument is wrong.
        Interrupted: After Ctrl-C, with all saved.
    """
    with progress_reporter(config.printing.verbose) as reporter:
        if isinstance(data, pd.DataFrame):
            data, notes = with_index(data)
            check_frame(data)
            for note in notes:
                reporter.note(note)
        change, words = _field_setter(config.fields)
        run, numbers = fit_data(config, data, change=change, field_words=words, reporter=reporter)
    recipe = config.recipe_name or ""
    return FittedRun(run.path, numbers, recipe.rpartition(":")[0] or None)


@accepts_options(SampleConfig)
def sample(run: RunSource | None = None, *, config: SampleConfig) -> Samples:
    """Draw samples of a run; they are written where `out` says so.

    Args:
        run: Holds the model.
        config: Which: options of `SampleConfig`, which may be named alone.

    Returns:
        Of a table a DataFrame, with the columns and types of the data; of other kinds a `Dataset`, which has
        `numpy()`, `frame()` and `save(path)`.
    """
    return FittedRun(_resolve_run(run, config.loading.code).path).sample(config=config)


@accepts_options(EvaluateConfig)
def evaluate(run: RunSource | None = None, *, config: EvaluateConfig) -> Report:
    """Compare samples with real data that training did not see, and write the report.

    Args:
        run: Holds the model.
        config: How: options of `EvaluateConfig`, which may be named alone; `data` may be in memory.
    """
    folder = _resolve_run(run, config.loading.code)
    with progress_reporter(config.loading.verbose) as reporter:
        return _report(folder, evaluate_run(folder, config, reporter=reporter))


@accepts_options(AuditConfig)
def audit(run: RunSource | None = None, *, config: AuditConfig) -> Report:
    """Say what is promised about single rows, what bounds their reconstruction, and what attacks reach.

    Args:
        run: Holds the model, and the ledger of a private one.
        config: How: options of `AuditConfig`, which may be named alone; `data` are the rows that it learned from, also
            in memory.
    """
    folder = _resolve_run(run, config.loading.code)
    with progress_reporter(config.loading.verbose) as reporter:
        return _report(folder, audit_run(folder, config, reporter=reporter))


def _report(run: Run, numbers: dict[str, Any]) -> Report:
    """Return the report whose page has been written."""
    name = pathlib.Path(numbers.get("report", "")).stem
    return Report(run.path, {name: one for name, one in numbers.items() if name != "report"}, name)


@accepts_options(SteerConfig)
def steer(run: RunSource | None = None, *, config: SteerConfig) -> SteeredSamples:
    """Draw samples that are as wished, or that explain an observation, without training.

    Args:
        run: Holds the model, which stays as it is.
        config: How: options of `SteerConfig`, which may be named alone, `reward` or `observe` with `operator`.
    """
    folder = _resolve_run(run, config.loading.code)
    with progress_reporter(config.loading.verbose) as reporter:
        result, page = steer_run(folder, config, reporter=reporter)
    fitted, before = FittedRun(folder.path), result.unsteered if isinstance(result, RewardSearchResult) else None
    return SteeredSamples(
        fitted.as_samples(result.samples),
        None if before is None else fitted.as_samples(before),
        Report(folder.path, dict(result.numbers), pathlib.Path(page).stem),
    )


@accepts_options(TuneConfig)
def tune(run: RunSource | None = None, *, fields: Mapping[str, object] | None = None, config: TuneConfig) -> FittedRun:
    """Change a model so that it samples its law tilted by a reward, and write it as a run like any other.

    Args:
        run: Holds the model that is tuned, which stays as it is; none where `resume` goes on with that in `out`.
        fields: Fields of the recipe by their names, such as {"train.lr": 1e-5}.
        config: How: options of `TuneConfig`, which may be named alone.
    """
    code, output = config.loading.code, config.output
    folder = _resolve_run(output.out if output.resume and run is None else run, code)
    with progress_reporter(config.loading.verbose) as reporter:
        change, words = _field_setter(fields)
        tuned_run, numbers = tune_run(folder, config, change=change, field_words=words, reporter=reporter)
    return FittedRun(tuned_run.path, numbers, code)


@accepts_options(BridgeConfig)
def bridge(*populations: DataSource, fields: Mapping[str, object] | None = None, config: BridgeConfig) -> FittedRun:
    """Join populations by paths that cost least, and write a run folder.

    Args:
        populations: Two or more, in the order of time: files, folders, examples, DataFrames or arrays, of which the run
            keeps a copy. A resumed bridge knows its own.
        fields: Fields of the bridge by their names, such as {"train.batch_size": 64}.
        config: How: options of `BridgeConfig`, which may be named alone.
    """
    with progress_reporter(config.printing.verbose) as reporter, _write_populations(populations, config) as config:
        change, words = _field_setter(fields)
        run, numbers = bridge_populations(config, change=change, field_words=words, reporter=reporter)
    return FittedRun(run.path, numbers)


@contextlib.contextmanager
def _write_populations(populations: Sequence[DataSource], config: BridgeConfig) -> Iterator[BridgeConfig]:
    """Give a config that names the populations; those in memory are written where the run will be."""
    if not any(map(is_in_memory, populations)):
        names = tuple(str(one) for one in populations)
        yield config_of(BridgeConfig, config, data=names or config.data)
        return
    output = config.output
    run = target_run(output.out, "bridge", resume=output.resume, overwrite=output.overwrite)
    files: list[str] = []
    with contextlib.ExitStack() as held:
        for k, one in enumerate(populations, 1):
            place = run.path / "populations" / str(k)
            files.append(str(save(one, place) if is_in_memory(one) else one))
            if is_in_memory(one):
                held.enter_context(SavedData(pathlib.Path(files[-1]), said_of(one), owns_folder=True))
        yield config_of(BridgeConfig, config, data=tuple(files), out=str(run.path))


@accepts_options(ExportConfig)
def export(run: RunSource | None = None, *, config: ExportConfig) -> pathlib.Path:
    """Write a run's network for other programs, or the whole model as a folder, and return where it is.

    Args:
        run: Holds the model.
        config: How: options of `ExportConfig`, which may be named alone; `to` must be.
    """
    folder = _resolve_run(run, config.loading.code)
    with progress_reporter(config.loading.verbose) as reporter:
        return export_run(folder, config, reporter=reporter)[0]
