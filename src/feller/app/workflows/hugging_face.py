"""Export a run as a Hugging Face folder with a model card; files are replaced atomically."""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from feller import __version__
from feller.app.reporter import Reporter
from feller.app.workflows.cite import cite
from feller.app.workflows.fine_tuned_run import read_tuning_record
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.run_config import FitRecord, example_of, read_fit_record
from feller.app.workflows.run_status import ReportSummary, read_report_summary
from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.run_folder import AUX_NETWORKS, Run
from feller.core.safetensors_io import load_tensors
from feller.core.serialization import error_path, read_json, replace_file, write_json
from feller.core.user_code import fingerprint
from feller.evaluation.number_format import is_number
from feller.evaluation.report.report_page import replace_illegible
from feller.models.spec import ModelSpec, load_spec
from feller.privacy.accounting.ledger import describe_weakness
from feller.training.checkpoint import read_counters

NON_METRICS = ("steps", "seconds", "report", "format", "version", "run")
"""Entries of a report that say nothing of how good a model is."""


def model_card(run: Run, spec: ModelSpec, record: FitRecord, report: ReportSummary, citation: str) -> str:
    """Return the README: what the model learned from, how good it is, how it is loaded, what to cite.

    Whatever comes from the run stands there as text, none of it as markup.

    Args:
        run: Holds the model; it may be a stranger's.
        spec: What it is.
        record: What was asked of the fit.
        report: What its report says.
        citation: BibTeX.
    """
    example, private = example_of(record), record.is_private
    data = record.data if example else record.data.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shipped = example.info if example else None
    licence = f"{shipped.licence}. Source: {shipped.source}." if shipped else "not known to feller; add it here."
    tuning_record = read_tuning_record(run)
    conditions = "".join(
        f"\n- {_quoted(name)}: {len(shares)} values,"
        f" {', '.join(map(_plain, spec.modality.conditions.get(name, ())[:10]))}"
        f"{' ...' if len(shares) > 10 else ''}"
        for name, shares in spec.frequencies.items()
    )
    sections = [
        "---\nlibrary_name: feller\ntags:\n- generative\n- flow-matching\n---",
        f"# {_plain(f'{record.provenance.recipe} of {data}')}\n\nA generative model of {spec.modality.display_name}"
        f" (`{type(spec.modality).__name__}`, network `{type(spec.architecture).__name__}`), made with feller"
        f" {__version__}.",
        f"## Data\n\nLearned from: {_quoted(data)}{f', {shipped.summary}' if shipped else ''}.\n\nLicence of the data:"
        f" {licence}" + (f"\n\nTuned to: {_quoted(' and '.join(tuning_record.rewards))}." if tuning_record else ""),
        f"## How good it is\n\n{_privacy_section(run) if private else _metrics_section(report)}",
        "## Use\n\n```sh\nfeller sample THIS_FOLDER -n 100 --out samples.npz\n```\n\n```python\nimport feller\n\n"
        'model = feller.load_model(feller.open_run("THIS_FOLDER"))\nsamples = model.sample(100)\n```'
        + (f"\n\nWhat can be given:{conditions}" if conditions else ""),
        f"## Citation\n\n```bibtex\n{citation}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _line(text: str) -> str:
    """Return text in one line that any file can hold."""
    return replace_illegible(" ".join(text.split()))


def _quoted(text: str) -> str:
    """Return text as code."""
    return f"`{_line(text).replace('`', chr(39)) or ' '}`"


def _cell(text: str) -> str:
    """Return text as code in a table, where a bar would end its cell."""
    return _quoted(text).replace("|", r"\|")


def _plain(text: str) -> str:
    """Return text of which Markdown takes nothing for its own."""
    marked = re.sub(r"[\\`*_\[\]<>|~&#$]|:(?=//)|(?<=www)\.", r"\\\g<0>", _line(text))
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", marked)  # what begins a list or ends a heading


def _metrics_section(report: ReportSummary) -> str:
    """Return the verdict of a report, and a table of its numbers."""
    numbers = {name: value for name, value in report.numbers.items() if is_number(value)}
    rows = [
        f"| {_cell(name)} | {value:.4g} | {_plain(report.explanations.get(name, ''))} |"
        for name, value in numbers.items()
        if name not in NON_METRICS
    ]
    if not rows:
        return "Not measured; `feller evaluate` does it."
    trained = " and ".join(f"{numbers[name]:,.0f} {name}" for name in ("steps", "seconds") if name in numbers)
    reference = report.numbers.get("compared_with")
    reference_text = f" Compared with: {_plain(str(reference))}." if reference else ""
    training_text = f"Trained for {trained}.{reference_text}" if trained else reference_text.strip()
    table = "\n".join(["| measure | value | meaning |", "|---|---|---|", *rows])
    return "\n\n".join(filter(None, [_plain(report.verdict), table, training_text]))


def _privacy_section(run: Run) -> str:
    """Say what is promised to each row; what compares samples with rows is not part of the promise and stays away."""
    ledger = ledger_of(run)
    if ledger is None:
        return "Private; what was spent is not known."
    spent, worth = "; ".join(map(_plain, ledger.describe_events())), describe_weakness(ledger.epsilon())
    share_text = f"by an epsilon that {worth}" if worth else "model and samples may be given away"
    return f"Private: {share_text}. {spent}. Figures that compare samples with rows are not told."


T = TypeVar("T")
TRIES = 5
"""How often they may be replaced before it is said."""


def read_stable(run: Run, take: Callable[[], T]) -> tuple[T, dict[str, Any]]:
    """Take something of a run's average weights, again if they were replaced meanwhile, and say of which it is.

    Args:
        run: Holds them; another process may train it.
        take: Reads them, and says so where there are none.

    Returns:
        What was taken; and `weights`, the hash of their file, with `step`, after which they are.

    Raises:
        InputError: If the run is damaged, or its weights are replaced each time.
    """
    before = _which(run)
    for _ in range(TRIES):
        result, now = take(), _which(run)
        if now == before:
            return result, now
        before = now
    raise InputError(f"the weights of {run.path} are replaced while they are read", remedy="Wait until its fit is done")


def _which(run: Run) -> dict[str, Any]:
    if not run.ema_weights.is_file():
        return {}
    return {"weights": fingerprint(run.ema_weights), "step": read_counters(run)["step"]}


TEMP_PREFIX = ".begun-"
"""How the folder inside begins in which files wait; a killed process leaves it, and the next one removes it."""


def list_content(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return what a folder holds, but for what a killed process left; nothing where it is not there."""
    return [path for path in folder.iterdir() if not path.name.startswith(TEMP_PREFIX)] if folder.is_dir() else []


@contextlib.contextmanager
def atomic_folder(folder: pathlib.Path, first: str) -> Iterator[pathlib.Path]:
    """Yield an empty folder, whose files replace those of the same name at the end, or none of them after an error.

    A link in the place of a file is replaced, not followed.

    Args:
        folder: Where the files go; made if it is not there.
        first: The file by which the folder is known; it takes its place before the others.

    Raises:
        InputError: If a folder is where a file goes.
        OSError: If the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{TEMP_PREFIX}*"):
        if stale.is_dir() and not stale.is_symlink():
            shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(dir=folder, prefix=TEMP_PREFIX) as aside:
        yield pathlib.Path(aside)
        written = sorted(pathlib.Path(aside).iterdir(), key=lambda file: (file.name != first, file.name))
        for place in [folder / file.name for file in written]:
            with error_path(place):
                if place.is_dir() and not place.is_symlink():
                    raise IsADirectoryError
        for file in written:
            os.replace(file, folder / file.name)


HUGGING_FACE = "huggingface"
LIBRARY = "feller"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PATH_OPTIONS = ("data", "schema", "start_from", "tokenizer", "recipe")
"""What a record names by a path, of which others need the last part alone."""


def write_folder(run: Run, folder: pathlib.Path, reporter: Reporter) -> tuple[pathlib.Path, dict[str, Any]]:
    """Write config.json, model.safetensors and README.md, and what `feller sample FOLDER` needs beside them.

    What was learned from is in there by name alone, and of a private run no number that compares rows with samples.
    The files of an earlier export are replaced when all new ones are whole.

    Args:
        run: Holds the model; it may be a stranger's.
        folder: A new folder, or one that was written so before.
        reporter: Hears how it goes.

    Returns:
        The folder, and its config.

    Raises:
        InputError: If the folder is a link or holds other things, the run is damaged or has links in the place of
            files, or the disk refuses.
        UsageError: If the run's model is code of the user's.
    """
    spec, record = load_spec(run), read_fit_record(run)
    if record.provenance.code:
        raise UsageError(
            f"the model of {run.path} is made of code of yours, which the folder would lack", remedy="Use torch-export"
        )
    if folder.is_symlink():
        raise InputError("is a link, which may lead anywhere", remedy="Name with --out the folder itself", file=folder)
    if list_content(folder) and not _is_feller_export(folder):
        raise InputError("is not empty and was not written by feller", remedy="Name a new folder", file=folder)
    config = {
        "library_name": LIBRARY,
        "model_type": LIBRARY,
        "architectures": [type(spec.architecture).__name__],
        "modality": type(spec.modality).__name__,
        "feller_version": __version__,
        "recipe": record.provenance.recipe,
    }
    reporter.start(f"writing {folder}")
    try:
        with atomic_folder(folder, CONFIG) as aside:
            there = Run(aside)
            read_stable(run, lambda: _copy_model(run, aside))
            run_content = run.read_record(_require_regular_file(run.recipe))
            there.write_record(there.recipe, {**run_content, **_strip_paths(run_content)})
            replace_file(aside / "README.md", model_card(run, spec, record, read_report_summary(run), cite(run)))
            write_json(aside / CONFIG, config)
            gone = [file.name for file in _companion_files(run) if not (aside / file.name).exists()]
        for name in gone:  # of a model that was here before
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    reporter.finish()
    return folder, config


def _is_feller_export(folder: pathlib.Path) -> bool:
    """Tell whether a folder was written so before."""
    try:
        config = read_json(folder / CONFIG)
    except (OSError, InputError):
        return False
    return isinstance(config, dict) and config.get("library_name") == LIBRARY


def _require_regular_file(file: pathlib.Path) -> pathlib.Path:
    """Return a file of a run's own.

    Raises:
        InputError: If it is a link, by which a stranger could have something else of ours copied, or no file.
    """
    if file.is_symlink():
        raise InputError(
            "is a link, which may lead anywhere", remedy="Copy the run with what its links lead to (cp -rL)", file=file
        )
    if os.path.lexists(file) and not file.is_file():
        raise InputError("a file", "a folder, a pipe or a device", "Copy the whole run again", file=file)
    return file


def _companion_files(run: Run) -> tuple[pathlib.Path, ...]:
    """Return the files that stay as they are, of which a run need not have all."""
    return run.model, run.progress, run.ledger, *map(run.aux_weights, AUX_NETWORKS)


def _copy_model(run: Run, folder: pathlib.Path) -> None:
    """Copy weights, and what is beside them."""
    _copy(run.ema_weights, folder / WEIGHTS)
    for file in _companion_files(run):
        if os.path.lexists(file):
            _copy(file, folder / file.name)


def _copy(file: pathlib.Path, to: pathlib.Path) -> None:
    """Copy a file of a run, if it is what its name says."""
    if _require_regular_file(file).suffix == ".safetensors":
        load_tensors(file)
    else:
        read_json(file)
    replace_file(to, file.read_bytes())


def _strip_paths(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says of a fit without where files lie, and what shards are called."""

    def last(text: Any) -> Any:
        return text if not isinstance(text, str) or text.startswith("example:") else pathlib.PurePath(text).name

    config, provenance = (
        {name: last(value) if name in PATH_OPTIONS else value for name, value in record[part].items()}
        for part in ("config", "provenance")
    )
    ancestors = [{**each, "data": last(each.get("data"))} for each in provenance.get("ancestors", ())]
    return {"config": config, "provenance": {**provenance, "ancestors": ancestors, "shards": {}}}


def stale_exports(run: Run) -> Iterator[str]:
    """Yield a line for each export in a run's folder that was made of other weights than the run has.

    Files that were exported to other places are not known here; each says of which weights it is, under `weights`.
    """
    exports, copied = sorted(run.path.glob("export.*.json")), run.path / HUGGING_FACE / "model.safetensors"
    if not run.ema_weights.is_file() or not (exports or copied.is_file()):
        return
    now = fingerprint(run.ema_weights)
    for metadata_file in exports:
        place = metadata_file.with_suffix("")
        record = _record(metadata_file)
        before, form = record.get("weights"), record.get("form")
        if place.is_file() and isinstance(before, str) and isinstance(form, str) and before != now:
            yield _stale_export_line(run, place, form, record.get("guidance"))
    if copied.is_file() and fingerprint(copied) != now:
        yield _stale_export_line(run, copied.parent, HUGGING_FACE, None)


def _record(metadata_file: pathlib.Path) -> dict[str, object]:
    """Read what an export says of itself; nothing where it is damaged."""
    try:
        content = read_json(metadata_file)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def _stale_export_line(run: Run, place: pathlib.Path, form: str, guidance: object) -> str:
    """Say that an export is of older weights, and how it is made anew, with the same guidance."""
    if isinstance(guidance, str):
        guided = ["--guidance", "input"]
    else:
        guided = ["--guidance", f"{guidance:g}"] if isinstance(guidance, int | float) and guidance != 1 else []
    again = shlex.join(["feller", "export", str(run.path), "--to", form, *guided])
    return f"{place} is of older weights than the run has now; export it again with: {again}"
