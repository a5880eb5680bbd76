"""Sampling workflow: draws samples, generates documents or speech, or transports samples along a bridge."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pandas as pd

from feller.app.config import SampleConfig
from feller.app.modalities.registration import registration_of
from feller.app.option_groups import DocumentOptions, RowOptions, SpeechOptions, TransportOptions
from feller.app.options import flags_of, non_default_options
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.bridges.bridge_detection import is_bridge
from feller.app.workflows.completer import Completer
from feller.app.workflows.imputation import complete_rows, make_completer
from feller.app.workflows.run_config import is_described, read_fit_record
from feller.app.workflows.sampler import Sampler, complete_arrays, make_sampler
from feller.app.workflows.sharded_samples import write_sharded_samples
from feller.app.workflows.shares import PARITY_ROWS, parity_difference
from feller.app.workflows.streamed_samples import (
    append_completed,
    append_samples,
    stream_completed,
    stream_samples,
    table_in_parts,
    table_rows,
)
from feller.core.errors import UsageError
from feller.core.output_shards import ShardedSamples, check_sample_counts
from feller.core.run_folder import Run
from feller.data.arrays.modality import Arrays
from feller.data.conditions.image_condition import image_files
from feller.data.conditions.prompts import PromptCondition
from feller.data.database_urls import is_database
from feller.data.images.modality import Images
from feller.data.loading.in_memory import DataSource
from feller.data.loading.raw import RawTable
from feller.data.modality import Dataset, Modality
from feller.data.path_checks import require_free
from feller.data.tables.database_tables import database_writer
from feller.data.tables.dataframes import to_frame
from feller.data.tables.histories import with_conditions_on_cells
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table
from feller.data.text.modality import Text
from feller.models.model import Model, OnStep, no_callback
from feller.models.pretrained.diffusers_network import PROMPT
from feller.models.spec import load_spec
from feller.paths.discrete.token_path import TokenPath
from feller.paths.product import iter_leaf_paths
from feller.training.engine import get_engine

MANY = 250_000
"""Number of samples above which a hint suggests writing them to several files (shards)."""
N = 64
"""Default number of samples, except of documents and speech."""
MOST_LINES = 10
"""Maximum number of sampled texts that are printed; the output file contains all texts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleResult:
    """Samples, and the path of the file or folder to which they were written."""

    data: Dataset | None
    """Samples; None for shards and large tables, which may not fit in memory."""
    shards: ShardedSamples | None = None
    """Shards that were written; None for samples in one file."""
    path: pathlib.Path
    table_url: str = ""
    """URL of the database table to which the samples were written; empty for samples in files."""
    n: int
    lines: tuple[str, ...]
    """Lines to show to the user: sampled texts, and the path of the output."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """Additional metrics by name, as in the output of `--json`."""
    cells: RawTable | None = None
    """Cells of the sampled table as written to the file; cells that were given as conditions keep their original
    text."""

    @property
    def dataset(self) -> Dataset:
        """Samples as a `Dataset`; UsageError if the samples are in files only."""
        if self.data is None:
            raise UsageError(
                argument="samples",
                expected="samples in memory",
                found=f"{'shards' if self.shards else 'a table'}, {self.table_url or self.path}",
                remedy="Read the shards with feller.open_shards" if self.shards else "Read the table",
            )
        return self.data

    @property
    def frame(self) -> pd.DataFrame:
        """Samples as a data frame; UsageError if the samples are in shards or are not a table."""
        table = with_conditions_on_cells(self.dataset.modality)
        if self.cells is not None and table is not None:
            return to_frame(self.cells, table.schema)
        return self.dataset.frame()


def sample(
    run: Run,
    config: SampleConfig,
    *,
    weights: pathlib.Path | None = None,
    on_step: OnStep = no_callback,
    writes_files: bool = True,
    keeps_samples: bool = True,
    reporter: Reporter = SILENT,
) -> SampleResult:
    """Sample from a run and write the samples.

    Args:
        run: Run with the model.
        config: Options of `feller sample`.
        weights: File with the weights; None for the EMA weights.
        on_step: Callback (time, states of the batch) after each step of a continuous-time process.
        writes_files: True to write the samples to a file; documents, audio and transported samples of a bridge are
            always written.
        keeps_samples: False to write large tables in parts, whose rows are not returned.
        reporter: Progress and log output.

    Raises:
        InputError: If the run is damaged, or the disk is full.
        UsageError: If an argument is wrong, or does not apply to this type of model.
    """
    if config.output.shard_size is None:  # shards have their own checks
        require_free(config.output.out, overwrite=config.output.overwrite)
    is_a_bridge = is_bridge(run)
    modality = None if is_a_bridge else load_spec(run).modality
    output_type = BRIDGE if modality is None else registration_of(modality).output
    _check_alone(BRIDGE if config.bridge.from_data is not None else output_type)
    if config.bridge != TransportOptions() and not is_a_bridge and output_type != "speech":
        flag = "backward" if config.bridge.from_data is None else "from_data"
        raise UsageError(f"applies to bridges only; {run.path} is not a bridge", remedy="Leave it out", argument=flag)
    if is_a_bridge and config.n is not None:
        end = "last" if config.bridge.backward else "first"
        raise UsageError(
            f"a bridge transports each sample of its {end} population, or of the file in --from, once; the number"
            " cannot be chosen",
            remedy="Leave it out",
            argument="n",
        )
    if output_type in RUN_OPTIONS:
        models, names = RUN_OPTIONS[output_type]
        _refuse_other_options(config, names, f"does not apply to {models}")
    if output_type == "speech":
        return _sample_speech(run, config, reporter)
    if is_a_bridge:
        from feller.app.workflows.apply_bridge import transport

        endpoints, path = transport(run, config, reporter=reporter)
        return SampleResult(data=endpoints, path=path, n=len(endpoints), lines=(f"{len(endpoints):,} samples: {path}",))
    if output_type == "documents":
        return _write(run, config, reporter)
    _check_no_image_inpainting(config, modality)
    _check_no_prompt(config, modality)
    _refuse_other_options(config, _others(OF_DOCUMENTS), "applies to document models only")
    _refuse_other_options(config, _others(OF_SPEECH), "applies to speech models only")
    return _draw(
        run, config, weights, on_step, reporter, writes_files=writes_files, in_parts=writes_files and not keeps_samples
    )


def _check_no_image_inpainting(config: SampleConfig, modality: Modality | None) -> None:
    """Raise an error for --template or --mask with an image model; only `feller steer` can inpaint its images."""
    flag = "--template" if config.infill.template is not None else "--mask" if config.document.mask is not None else ""
    if flag and modality is not None and modality.view(Images) is not None:
        raise UsageError(
            f"{flag} does not apply to image models",
            remedy="Use `feller steer RUN --observe IMAGE --operator inpaint --mask MASK`",
        )


def _check_no_prompt(config: SampleConfig, modality: Modality | None) -> None:
    """Raise an error for --prompt, the prompt of a document, that names the flag for the prompt of another model."""
    if config.document.prompt is None or modality is None:
        return
    remedy = "Leave it out"
    if isinstance(modality.selected_conditions.get(PROMPT), PromptCondition):
        remedy = f"Use --given {PROMPT}=TEXT"
    elif modality.view(Text) is not None:
        remedy = "Use --template TEXT"
    raise UsageError("applies to document models only", remedy=remedy, argument="prompt")


def _refuse_other_options(config: SampleConfig, names: tuple[str, ...], reason: str) -> None:
    """Raise an error if an option other than those in `names` was set."""
    extra = [name for name in non_default_options(config) if name not in names and name != "verbose"]
    if extra:
        raise UsageError(reason, remedy="Leave it out", argument=extra[0])


def _check_alone(output: str) -> None:
    """Raise an error if `output` is not plain samples and several processes run."""
    if output != "samples" and get_engine().world_size > 1:
        raise UsageError(f"{output} are sampled by a single process", remedy="Run without torchrun")


def _others(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in flags_of(SampleConfig) if name not in names)


OF_DOCUMENTS = tuple(flags_of(DocumentOptions))
"""Names of the options for documents; `edit` also applies to speech."""
OF_SPEECH = ("edit", *flags_of(SpeechOptions))
"""Names of the options for speech."""
BRIDGE = "the ends of a bridge"
"""Output of a bridge, which has no modality of its own."""
WRITING = ("folder", "out", "overwrite", "seed", "code", "json")
SAMPLING = (*WRITING, "n", "guidance")
RUN_OPTIONS = {
    BRIDGE: ("bridges", (*WRITING, *flags_of(TransportOptions))),
    "documents": ("document models", (*SAMPLING, "temperature", "top_k", "top_p", *OF_DOCUMENTS)),
    "speech": ("speech models", (*SAMPLING, "nfe", "solver", *OF_SPEECH)),
}
"""Output -> name of such models in messages, and the options that apply; other models take all other options."""


def applicable_options(run: Run) -> frozenset[str]:
    """Return the names of the options of `feller sample` that apply to the model of a run."""
    if is_bridge(run):
        return frozenset(RUN_OPTIONS[BRIDGE][1])
    spec = load_spec(run)
    if (output := registration_of(spec.modality).output) in RUN_OPTIONS:
        return frozenset(RUN_OPTIONS[output][1])
    paths = [*iter_leaf_paths(spec.path)] if spec.family.is_process else []
    has_sampler = any(hasattr(path, "token_sampler") for path in paths)
    samples_tokens = has_sampler or (not paths and spec.modality.view(Text) is not None)
    conditions = {
        "template": spec.modality.view(Text) is not None,
        "length": spec.architecture.takes_any_length,
        **dict.fromkeys(("complete", "impute", "imputations"), with_conditions_on_cells(spec.modality) is not None),
        **dict.fromkeys(("shares", "fair"), spec.modality.view(Table) is not None),
        **dict.fromkeys(("nfe", "solver", "compile"), bool(paths)),
        "precision": getattr(spec.family, "has_mixed_precision", True),
        "superpose": any(hasattr(path, "jump_weight") for path in paths),
        **dict.fromkeys(("temperature", "top_k", "top_p"), samples_tokens),
        "order": any(path.is_discrete and cast(TokenPath, path).has_mask for path in paths),
        "rates": any(path.is_discrete for path in paths),
        **dict.fromkeys((*OF_DOCUMENTS, *OF_SPEECH, *flags_of(TransportOptions)), False),
    }
    return frozenset(name for name in flags_of(SampleConfig) if conditions.get(name, True))


def _draw(
    run: Run,
    config: SampleConfig,
    weights: pathlib.Path | None,
    on_step: OnStep,
    reporter: Reporter,
    *,
    writes_files: bool,
    in_parts: bool,
) -> SampleResult:
    """Draw samples, or impute the missing cells of table rows, and write them."""
    if config.output.shard_size is not None:
        return _draw_shards(run, config, config.output.shard_size, on_step, reporter)
    if config.output.overwrite and config.output.out is None:
        raise UsageError("needs --out with the file to replace, or --shard-size", argument="overwrite")
    if "{shard}" in (config.output.out or ""):
        raise UsageError("{shard} in --out needs --shard-size, the number of samples per file")
    _check_complete_options(config)
    n = _count(run, config)
    check_sample_counts(n=n)
    sampler = make_sampler(run, config, weights=weights, on_step=on_step, reporter=reporter)
    modality = sampler.model.spec.modality
    if writes_files and is_database(config.output.out):
        return _draw_to_database(run, sampler, config, n, reporter)
    path = run.output_path(config.output.out) if writes_files else run.samples
    if writes_files:
        modality.check_place(path)
    cells: RawTable | None = None
    numbers: dict[str, Any] = {}
    if config.infill.complete is not None and modality.view(Arrays) is not None:
        _check_observable(sampler.model)
        _refuse_table_options(config)
        samples = complete_arrays(sampler, config.infill.complete, reporter)
        if writes_files and get_engine().is_main_process:
            sampler.write(samples, path)
    elif config.infill.complete is not None:
        _check_complete(modality, sampler.cond_texts)
        completer = _completer(run, sampler, config, reporter)
        if config.infill.rows.imputations is not None:
            return _impute_several(completer, config, path, reporter, writes_files=writes_files)
        if in_parts and table_in_parts(modality, path, len(completer)):
            stream_completed(completer, path, reporter)
            return _streamed(path, len(completer))
        reporter.start("imputing")
        samples, cells = complete_rows(completer, reporter, get_engine())
        reporter.finish()
        if writes_files and get_engine().is_main_process:
            completer.modality.write_cells(cells, path)
    else:
        sampler.check(n)
        if in_parts and config.infill.rows.fair is None and (rows := table_in_parts(modality, path, n)) is not None:
            stream_samples(sampler, rows, n, path, reporter)
            return _streamed(path, n)
        if n > MANY:
            reporter.log(
                f"all {n:,} samples are held in memory; with --shard-size 100000 they are written to several files, one"
                " at a time"
            )
        reporter.start("sampling")
        samples = sampler.draw(n, ranks=get_engine(), on_progress=reporter.progress)
        reporter.finish()
        numbers = _parity(sampler, samples, config.infill.rows.fair, reporter)
        if (table := with_conditions_on_cells(modality)) is not None and sampler.cond_texts:
            cells = table.with_given(samples.values, table.given_cells(sampler.cond_texts))
        if writes_files and get_engine().is_main_process:
            sampler.write(samples, path)
    get_engine().barrier()  # wait for the files of the main process
    text_modality = samples.modality.view(Text)
    texts = () if text_modality is None else text_modality.texts(samples.values[:MOST_LINES])
    text_lines = (f"--- {i}\n{text}" for i, text in enumerate(texts, 1))
    lines = (*text_lines, f"{len(samples):,} samples: {path}")
    return SampleResult(data=samples, path=path, n=len(samples), lines=lines, cells=cells, numbers=numbers)


def _draw_to_database(run: Run, sampler: Sampler, config: SampleConfig, n: int, reporter: Reporter) -> SampleResult:
    """Draw rows, or impute the missing cells of rows, and write them to a new table of a database."""
    url, modality, infill = str(config.output.out), sampler.model.spec.modality, config.infill
    for name in ("imputations", "fair"):
        if getattr(infill.rows, name) is not None:
            raise UsageError(argument=name, expected="a file in --out", found=url)
    completer = None
    if infill.complete is not None:
        _check_complete(modality, sampler.cond_texts)
        completer = _completer(run, sampler, config, reporter)
    else:
        sampler.check(n)
    table = table_rows(modality)
    with database_writer(url, table.schema, overwrite=config.output.overwrite) as append:
        if completer is None:
            append_samples(append, sampler, table, n, reporter)
        else:
            append_completed(append, completer, reporter)
    n = n if completer is None else len(completer)
    return SampleResult(data=None, path=run.samples, table_url=url, n=n, lines=(f"{n:,} rows: {url}",))


def _streamed(path: pathlib.Path, n: int) -> SampleResult:
    return SampleResult(data=None, path=path, n=n, lines=(f"{n:,} samples: {path}",))


def _count(run: Run, config: SampleConfig) -> int:
    """Return the number of samples: -n, else one for each image of a folder that is given, else N."""
    kinds = load_spec(run).modality.selected_conditions if config.n is None else {}
    folders = {name: pathlib.Path(str(value)) for name, value in (config.given or {}).items() if name in kinds}
    counts = [len(image_files(path)) for name, path in folders.items() if kinds[name].is_file and path.is_dir()]
    return counts[0] if counts else N if config.n is None else config.n


def _parity(sampler: Sampler, samples: Dataset, fair: str | None, reporter: Reporter) -> dict[str, Any]:
    """Log and return the parity difference of the target, with and without the option `fair`."""
    table = samples.modality.view(Table)
    if fair is None or table is None:
        return {}
    columns = [column.name for column in table.schema.modelled].index(fair), table.schema.target_index
    before = parity_difference(replace(sampler, shares=()).draw(PARITY_ROWS).values, *columns)
    after = parity_difference(samples.values, *columns)
    reporter.log(
        f"largest difference of the shares of {table.schema.modelled[columns[1]].name} between groups of {fair}:"
        f" {before:.3f} before, {after:.3f} now"
    )
    return {"parity_before": before, "parity_after": after}


def _check_complete_options(config: SampleConfig) -> None:
    """Raise an error for options of imputation without a table, or options that exclude each other."""
    infill = config.infill
    if infill.complete is not None and (config.n is not None or infill.template is not None):
        flag = "-n" if config.n is not None else "--template"
        raise UsageError(
            "draws one sample for each row or series of its file", remedy=f"Leave {flag} out", argument="complete"
        )
    for name in ("impute", "imputations"):
        if getattr(infill.rows, name) is not None and infill.complete is None:
            raise UsageError(
                argument=name,
                expected="--complete FILE",
                found="none",
                remedy=f"Add --complete FILE, or leave {name} out",
            )
    for name in ("shares", "fair") if infill.complete is not None else ():
        if getattr(infill.rows, name) is not None:
            raise UsageError("applies to new rows, not to --complete", remedy="Leave it out", argument=name)
    if infill.rows.imputations is not None and infill.rows.impute not in (None, "sample"):
        raise UsageError(
            argument="imputations",
            expected="--impute sample, whose imputations differ",
            found=f"--impute {infill.rows.impute}",
            remedy="Leave one of the two out",
        )


def _refuse_table_options(config: SampleConfig) -> None:
    for name in flags_of(RowOptions):
        if getattr(config.infill.rows, name) is not None:
            raise UsageError("applies to tables only", remedy="Leave it out", argument=name)


def _completer(run: Run, sampler: Sampler, config: SampleConfig, reporter: Reporter) -> Completer:
    """Read the table whose missing cells are imputed."""
    return make_completer(
        sampler.model,
        cast(DataSource, config.infill.complete),
        sampler.rng,
        strategy=config.infill.rows.impute or "sample",
        sampling=sampler.sampling,
        lenient=not is_described(read_fit_record(run)),
        reporter=reporter,
    )


def _impute_several(
    completer: Completer, config: SampleConfig, path: pathlib.Path, reporter: Reporter, *, writes_files: bool
) -> SampleResult:
    """Impute all rows m times; the files are numbered from 1."""
    m = config.infill.rows.imputations or 1
    paths = [path.with_name(f"{path.stem}-{index + 1}{path.suffix}") for index in range(m)]
    for target in paths if writes_files else ():
        require_free(str(target), overwrite=config.output.overwrite)
    results = []
    for index, target in enumerate(paths):
        reporter.start(f"imputation {index + 1} of {m}")
        results.append(complete_rows(completer.imputation(index), reporter, get_engine()))
        if writes_files and get_engine().is_main_process:
            completer.modality.write_cells(results[-1][1], target)
        reporter.finish()
    samples, cells = results[0]
    get_engine().barrier()
    line = f"{len(completer):,} rows, imputed {m} times: {paths[0]}" + (f" to {paths[-1].name}" if m > 1 else "")
    return SampleResult(
        data=samples, path=paths[0], n=len(completer), lines=(line,), numbers={"imputations": m}, cells=cells
    )


def _draw_shards(run: Run, config: SampleConfig, size: int, on_step: OnStep, reporter: Reporter) -> SampleResult:
    _check_complete_options(config)
    if is_database(config.output.out):
        raise UsageError(argument="shard_size", expected="files in --out", found=config.output.out)
    if config.infill.rows.imputations is not None:
        raise UsageError("writes each imputation to one file", remedy="Leave out --shard-size", argument="imputations")
    n = _count(run, config)
    check_sample_counts(n=n, shard=size)
    sampler = make_sampler(run, config, on_step=on_step, reporter=reporter)
    source: Sampler | Completer = sampler
    if config.infill.complete is not None:
        _check_complete(sampler.model.spec.modality, sampler.cond_texts)
        if sampler.model.spec.modality.view(Arrays) is not None:
            raise UsageError("writes all arrays to one file", remedy="Leave out --shard-size", argument="complete")
        source = _completer(run, sampler, config, reporter)
        n = len(source)
    shards = write_sharded_samples(
        run, source, n, size, out=config.output.out, overwrite=config.output.overwrite, reporter=reporter
    )
    line = f"{n:,} sample{'s' * (n != 1)} in {len(shards):,} shard{'s' * (len(shards) != 1)}: {shards.folder}"
    return SampleResult(
        data=None, shards=shards, path=shards.folder, n=n, lines=(line,), numbers={"shards": len(shards)}
    )


def _check_observable(model: Model) -> None:
    """Raise an error if a network of arrays has no input for the observed mask."""
    if not model.spec.architecture.reads_observed:
        raise UsageError(
            "needs a network that was trained with observed entries",
            remedy="Fit a model with --recipe arrays",
            argument="complete",
        )


def _check_complete(modality: Modality, given: Mapping[str, object]) -> None:
    """Raise an error if the model cannot impute missing cells of table rows."""
    if modality.view(MixedTable):
        raise UsageError(
            "this model samples all columns jointly and cannot impute", remedy="Fit a model with --recipe table"
        )
    if with_conditions_on_cells(modality) is None:
        raise UsageError(
            argument="complete",
            expected="a model of a table, of arrays or of series",
            found=f"a model of {modality.display_name}",
            remedy="Fit the table without --condition",
        )
    if given:
        raise UsageError("takes the conditions from its table", remedy="Leave --given out", argument="complete")


def _write(run: Run, config: SampleConfig, reporter: Reporter) -> SampleResult:
    from feller.app.workflows.documents.generate_documents import sample_documents

    output, path = sample_documents(run, config, reporter=reporter)
    several = len(output.texts) > 1
    texts = [f"--- {i + 1}\n{output.text_of(i)}" if several else output.text_of(i) for i in range(len(output.texts))]
    n = len(output.data)
    metrics: dict[str, Any] = {"said": list(output.texts)} if output.texts else {}
    metrics |= {"looked_up": list(output.retrieved)} if config.document.memory is not None else {}
    lines = (output.speed_text, *texts[:MOST_LINES], f"{n:,} document{'s' * (n != 1)}: {path}")
    return SampleResult(data=output.data, path=path, n=n, lines=lines, numbers=metrics)


def _sample_speech(run: Run, config: SampleConfig, reporter: Reporter) -> SampleResult:
    from feller.app.workflows.speech.sample_speech import utter

    output, path = utter(run, config, reporter=reporter)
    n, seconds, elapsed = len(output.sounds), output.seconds, output.network_seconds
    line = (
        f"{n:,} {'sound' if n == 1 else 'sounds'}, {seconds:.1f} s in total, log-mels computed in {elapsed:.1f} s, seed"
        f" {config.seed}: {path}"
    )
    metrics = {"seed": config.seed, "seconds": round(seconds, 3), "network_seconds": round(elapsed, 3)}
    return SampleResult(data=output.data, path=path, n=n, lines=(line,), numbers=metrics)
