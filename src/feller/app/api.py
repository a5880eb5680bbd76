"""The functions of `import feller` that take and return objects: runs, models, data frames and arrays."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from feller.app.commands.steer import check, steered
from feller.app.config import (
    AuditConfig,
    BridgeConfig,
    EvaluateConfig,
    ExportConfig,
    FitConfig,
    SampleConfig,
    SteerConfig,
    TuneConfig,
)
from feller.app.python import configured, configured_pair, shown
from feller.app.results import FittedRun, Report, SteeredSamples
from feller.app.workflows.audit import NAME
from feller.app.workflows.audit import audit as audit_run
from feller.app.workflows.bridge import bridge as bridge_populations
from feller.app.workflows.bridges.bridge_options import wanted_of
from feller.app.workflows.evaluate import evaluate as evaluate_run
from feller.app.workflows.export import export as export_run
from feller.app.workflows.fit import fit as fit_data
from feller.app.workflows.tune import tune as tune_run
from feller.core.errors import UsageError
from feller.core.run_folder import Run, as_run, new_run
from feller.core.user_code import load_file
from feller.data.loading.in_memory import DataSource, Kept, is_given, keep, said_of
from feller.data.path_checks import check_free
from feller.evaluation.effort import Effort
from feller.models.model import Model, Samples

RunSource = FittedRun | Run | Model | str | os.PathLike[str]
"""A run, its folder, or a model, which is written as a run first."""


def _run_of(source: RunSource | None, code: str | None = None) -> Run:
    """Return a run; code of the user's own is loaded first.

    Raises:
        UsageError: If it is none, or a model that cannot be written as one.
        InputError: If there is none in the folder.
    """
    if code is not None or (isinstance(source, FittedRun) and source.code is not None):
        load_file(pathlib.Path(code or cast(FittedRun, source).code or ""))
    if isinstance(source, Model):
        return source.save(str(new_run(None, "model", resume=False, overwrite=False).path))
    if source is None:
        raise UsageError("expected a run, its folder, or a model")
    return as_run(source)


def load(source: RunSource, *, code: str | None = None) -> FittedRun:
    """Open a run, or write a model as one.

    Args:
        source: The run, its folder, or a model.
        code: File of your own that defines what the model is made of; it runs. None is needed if it is imported.

    Raises:
        InputError: If there is no run in the folder.
    """
    return FittedRun(_run_of(source, code).path, code=code)


@configured(FitConfig)
def fit(data: DataSource | None, config: FitConfig) -> FittedRun:
    """Fit a model to data and write a run folder.

    Args:
        data: A file, a folder, `example:NAME`, a DataFrame, an array or tensor, a list of texts, or a dict of them. The
            run keeps a copy of what is in memory, but for rows of a private fit (`epsilon=`), which `evaluate`, `audit`
            and `resume` then take again. A resumed run knows its own.
        config: How: the fields of `FitConfig`.

    Raises:
        InputError: If data, run or disk are not what they must be.
        UsageError: If an argument is wrong.
        Interrupted: After Ctrl-C, with all saved.
    """
    with shown(config.verbose) as tell:
        run, numbers = fit_data(config, data, tell=tell)
    recipe = config.recipe_name or ""
    return FittedRun(run.path, numbers, recipe.rpartition(":")[0] or None)


@configured(SampleConfig)
def sample(run: RunSource | None, config: SampleConfig) -> Samples:
    """Draw samples of a run; they are written where `out` says so.

    Args:
        run: Holds the model.
        config: Which: the fields of `SampleConfig`.

    Returns:
        Of a table a DataFrame, with the columns and types of the data; of other kinds a `Dataset`, which has
        `numpy()`, `frame()` and `save(path)`.
    """
    return FittedRun(_run_of(run, config.opening.code).path).sample(config=config)


@configured(EvaluateConfig)
def evaluate(run: RunSource | None, config: EvaluateConfig) -> Report:
    """Compare samples with real data that training did not see, and write the report.

    Args:
        run: Holds the model.
        config: How: the fields of `EvaluateConfig`; `data` may be in memory.
    """
    folder = _run_of(run, config.opening.code)
    with shown(config.verbose) as tell:
        numbers = evaluate_run(
            folder,
            data=config.data,
            samples=config.samples,
            seed=config.seed,
            effort=Effort(n=config.n),
            tell=tell,
        )
    return _report(folder, numbers)


@configured(AuditConfig)
def audit(run: RunSource | None, config: AuditConfig) -> Report:
    """Say what is promised about single rows, what bounds their reconstruction, and what attacks reach.

    Args:
        run: Holds the model, and the ledger of a private one.
        config: How: the fields of `AuditConfig`; `data` are the rows that it learned from, also in memory.
    """
    folder = _run_of(run, config.opening.code)
    with shown(config.verbose) as tell:
        numbers = audit_run(
            folder,
            data=config.data,
            shown=config.show,
            seed=config.seed,
            shadows=config.shadows,
            canaries=config.canaries,
            tell=tell,
        )
    return Report(folder.path, {name: one for name, one in numbers.items() if name != "report"}, f"report-{NAME}")


def _report(run: Run, numbers: dict[str, Any]) -> Report:
    """Return the report whose page an evaluation has named."""
    name = pathlib.Path(numbers.get("report", "report.html")).stem
    return Report(run.path, {name: one for name, one in numbers.items() if name != "report"}, name)


@configured(SteerConfig)
def steer(run: RunSource | None, config: SteerConfig) -> SteeredSamples:
    """Draw samples that are as wished, or that explain an observation, without training.

    Args:
        run: Holds the model, which stays as it is.
        config: How: the fields of `SteerConfig`, `reward` or `observe` with `operator`.
    """
    check(config)
    check_free(config.out, overwrite=config.overwrite)
    folder = _run_of(run, config.opening.code)
    with shown(config.verbose) as tell:
        found, page = steered(folder, config, tell)
    fitted, after = FittedRun(folder.path), getattr(found, "after", None)
    before = found.before if after is not None else None
    samples = after if after is not None else found.samples
    return SteeredSamples(
        fitted.as_samples(samples),
        None if before is None else fitted.as_samples(before),
        Report(folder.path, dict(found.numbers), pathlib.Path(page).stem),
    )


@configured(TuneConfig)
def tune(run: RunSource | None, config: TuneConfig) -> FittedRun:
    """Change a model so that it samples its law tilted by a reward, and write it as a run like any other.

    Args:
        run: Holds the model that is tuned, which stays as it is; none where `resume` goes on with that in `out`.
        config: How: the fields of `TuneConfig`.
    """
    source = config.out if config.resume and run is None else run
    folder = _run_of(source, config.opening.code)
    with shown(config.verbose) as tell:
        tuned, numbers = tune_run(folder, config, tell=tell)
    return FittedRun(tuned.path, numbers, config.opening.code)


@configured_pair(BridgeConfig)
def bridge(populations: tuple[DataSource, ...], config: BridgeConfig) -> FittedRun:
    """Join populations by paths that cost least, and write a run folder.

    Args:
        populations: Two or more, in the order of time: files, folders, examples, DataFrames or arrays, of which the run
            keeps a copy. A resumed bridge knows its own.
        config: How: the fields of `BridgeConfig`.
    """
    with shown(config.verbose) as tell, _files(populations, config) as (names, out):
        wanted = wanted_of(replace(config, data=names))
        run, numbers = bridge_populations(wanted, out=out, resume=config.resume, overwrite=config.overwrite, tell=tell)
    return FittedRun(run.path, numbers)


@contextlib.contextmanager
def _files(populations: Sequence[DataSource], config: BridgeConfig) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Give the names of populations, of which those in memory are written where the run will be, and the run."""
    if not any(map(is_given, populations)):
        yield tuple(str(one) for one in populations), config.out
        return
    run = new_run(config.out, "bridge", resume=config.resume, overwrite=config.overwrite)
    names: list[str] = []
    with contextlib.ExitStack() as held:
        for k, one in enumerate(populations, 1):
            place = run.path / "populations" / str(k)
            names.append(str(keep(one, place) if is_given(one) else one))
            if is_given(one):
                held.enter_context(Kept(pathlib.Path(names[-1]), said_of(one), made=True))
        yield tuple(names), str(run.path)


@configured(ExportConfig)
def export(run: RunSource | None, config: ExportConfig) -> pathlib.Path:
    """Write a run's network for other programs, or the whole model as a folder, and return where it is.

    Args:
        run: Holds the model.
        config: How: the fields of `ExportConfig`, of which `to` must be named.
    """
    if config.to is None:
        raise UsageError("expected to: torch-export, onnx or huggingface")
    folder = _run_of(run, config.opening.code)
    with shown(config.verbose) as tell:
        place, _ = export_run(folder, config.to, out=config.out, guidance=config.guidance, tell=tell)
    return place
