"""Export of a run as a Hugging Face folder with a model card; files are replaced atomically."""

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
from feller.app.workflows.private.guarantee_text import privacy_unit
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
"""Names of the entries in a report's metrics that do not measure quality."""


def model_card(run: Run, spec: ModelSpec, record: FitRecord, report: ReportSummary, citation: str) -> str:
    """Return the text of the README (model card): training data, metrics or privacy guarantee, usage and citation.

    All text from the run is escaped, so that it cannot act as markup.

    Args:
        run: Run with the model; it may be untrusted.
        spec: Model specification.
        record: Options of the fit.
        report: Summary of the run's report.
        citation: BibTeX entries.
    """
    example, is_private = example_of(record), record.is_private
    data = record.data if example else record.data.replace("\\", "/").rstrip("/").rpartition("/")[2]
    origin = example.info if example else None
    licence = f"{origin.licence}. Source: {origin.source}." if origin else "unknown to feller; please add it here."
    tuning_record = read_tuning_record(run)
    conditions = "".join(
        f"\n- {_quoted(name)}: {len(frequencies)} values,"
        f" {', '.join(map(_plain, spec.modality.conditions.get(name, ())[:10]))}"
        f"{' ...' if len(frequencies) > 10 else ''}"
        for name, frequencies in spec.frequencies.items()
    )
    sections = [
        "---\nlibrary_name: feller\ntags:\n- generative\n- flow-matching\n---",
        f"# {_plain(f'{record.provenance.recipe} of {data}')}\n\nA generative model of {spec.modality.display_name}"
        f" (`{type(spec.modality).__name__}`, network `{type(spec.architecture).__name__}`), made with feller"
        f" {__version__}.",
        f"## Data\n\nTrained on: {_quoted(data)}{f', {origin.summary}' if origin else ''}.\n\nLicence of the data:"
        f" {licence}"
        + (f"\n\nFine-tuned on: {_quoted(' and '.join(tuning_record.rewards))}." if tuning_record else ""),
        f"## Evaluation\n\n{_privacy_section(run) if is_private else _metrics_section(report)}",
        "## Use\n\n```sh\nfeller sample THIS_FOLDER -n 100 --out samples.npz\n```\n\n```python\nimport feller\n\n"
        'model = feller.load_model(feller.open_run("THIS_FOLDER"))\nsamples = model.sample(100)\n```'
        + (f"\n\nConditions:{conditions}" if conditions else ""),
        f"## Citation\n\n```bibtex\n{citation}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _line(text: str) -> str:
    """Return a text as one line, without unprintable characters."""
    return replace_illegible(" ".join(text.split()))


def _quoted(text: str) -> str:
    """Return a text as inline code in Markdown."""
    return f"`{_line(text).replace('`', chr(39)) or ' '}`"


def _cell(text: str) -> str:
    """Return a text as inline code for a cell of a Markdown table, with escaped bars."""
    return _quoted(text).replace("|", r"\|")


def _plain(text: str) -> str:
    """Return a text with its Markdown characters escaped."""
    escaped = re.sub(r"[\\`*_\[\]<>|~&#$]|:(?=//)|(?<=www)\.", r"\\\g<0>", _line(text))
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", escaped)  # list markers and heading underlines


def _metrics_section(report: ReportSummary) -> str:
    """Return the section of the model card with the verdict of a report and a table of its metrics."""
    metrics = {name: value for name, value in report.numbers.items() if is_number(value)}
    rows = [
        f"| {_cell(name)} | {value:.4g} | {_plain(report.explanations.get(name, ''))} |"
        for name, value in metrics.items()
        if name not in NON_METRICS
    ]
    if not rows:
        return "Not evaluated; run `feller evaluate`."
    duration = " and ".join(f"{metrics[name]:,.0f} {name}" for name in ("steps", "seconds") if name in metrics)
    reference = report.numbers.get("compared_with")
    reference_text = f" Compared with: {_plain(str(reference))}." if reference else ""
    training_text = f"Trained for {duration}.{reference_text}" if duration else reference_text.strip()
    table = "\n".join(["| metric | value | meaning |", "|---|---|---|", *rows])
    return "\n\n".join(filter(None, [_plain(report.verdict), table, training_text]))


def _privacy_section(run: Run) -> str:
    """Return the section of the model card on privacy: guarantee and spent budget, and why metrics are missing."""
    ledger = ledger_of(run)
    if ledger is None:
        return "Private; the spent privacy budget is unknown."
    unit, weakness = privacy_unit(load_spec(run).modality), describe_weakness(ledger.epsilon())
    spent = "; ".join(map(_plain, ledger.describe_events(unit)))
    sharing_text = f"with an epsilon that {weakness}" if weakness else "model and samples may be published"
    return f"Private: {sharing_text}. {spent}. Metrics that compare samples with data are not published."


T = TypeVar("T")
TRIES = 5
"""Maximum number of attempts to read the weights while another process replaces them."""


def read_stable(run: Run, take: Callable[[], T]) -> tuple[T, dict[str, Any]]:
    """Call `take`, which reads a run's EMA weights; call it again if another process replaces the weights meanwhile.

    Args:
        run: Run with the weights; another process may be training it.
        take: Function that reads the weights; it raises an error if the run has no weights.

    Returns:
        The result of `take`, and a dict with the hash of the weights file (`weights`) and its training step (`step`).

    Raises:
        InputError: If the run is damaged, or its weights are replaced at every attempt.
    """
    previous = _which(run)
    for _ in range(TRIES):
        value, current = take(), _which(run)
        if current == previous:
            return value, current
        previous = current
    raise InputError(f"the weights of {run.path} are being replaced", remedy="Wait until its fit is done")


def _which(run: Run) -> dict[str, Any]:
    if not run.ema_weights.is_file():
        return {}
    return {"weights": fingerprint(run.ema_weights), "step": read_counters(run)["step"]}


TEMP_PREFIX = ".begun-"
"""Prefix of the temporary folder for new files; the next export removes a folder left behind by a killed process."""


def list_content(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the entries of a folder except temporary folders; empty if the folder does not exist."""
    return [path for path in folder.iterdir() if not path.name.startswith(TEMP_PREFIX)] if folder.is_dir() else []


@contextlib.contextmanager
def atomic_folder(folder: pathlib.Path, first: str) -> Iterator[pathlib.Path]:
    """Yield an empty temporary folder, whose files are moved into `folder` on success and discarded after an error.

    Files with the same names are replaced. A symbolic link at the destination is replaced, not followed.

    Args:
        folder: Destination; created if missing.
        first: File that identifies the folder; it is moved before the others.

    Raises:
        InputError: If a folder has the name of a file.
        OSError: If writing fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale_folder in folder.glob(f"{TEMP_PREFIX}*"):
        if stale_folder.is_dir() and not stale_folder.is_symlink():
            shutil.rmtree(stale_folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=TEMP_PREFIX) as temp_folder:
        yield pathlib.Path(temp_folder)
        new_files = sorted(pathlib.Path(temp_folder).iterdir(), key=lambda file: (file.name != first, file.name))
        for target in [folder / file.name for file in new_files]:
            with error_path(target):
                if target.is_dir() and not target.is_symlink():
                    raise IsADirectoryError
        for file in new_files:
            os.replace(file, folder / file.name)


HUGGING_FACE = "huggingface"
LIBRARY = "feller"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PATH_OPTIONS = ("data", "schema", "start_from", "tokenizer", "latent", "recipe")
"""Names of the recorded options that are paths; an export keeps only the last component of each path."""


def write_folder(run: Run, folder: pathlib.Path, reporter: Reporter) -> tuple[pathlib.Path, dict[str, Any]]:
    """Write a Hugging Face folder: config.json, model.safetensors, README.md and the files for `feller sample FOLDER`.

    The data are recorded by name only. For a private run, metrics that compare rows with samples are omitted. Files of
    an earlier export are replaced once all new files are complete.

    Args:
        run: Run with the model; it may be untrusted.
        folder: New folder, or the folder of an earlier export.
        reporter: Progress and log output.

    Returns:
        The folder and its config.

    Raises:
        InputError: If the folder is a symbolic link or contains other files, the run is damaged or contains symbolic
            links, or the disk is full.
        UsageError: If the run's model is user code.
    """
    spec, record = load_spec(run), read_fit_record(run)
    if record.provenance.code:
        raise UsageError(
            f"the model of {run.path} uses custom code, which the folder would not contain", remedy="Use torch-export"
        )
    if folder.is_symlink():
        raise InputError("is a symbolic link", remedy="Use the folder itself for --out", file=folder)
    if list_content(folder) and not _is_feller_export(folder):
        raise InputError("is not empty and was not written by feller", remedy="Choose a new folder", file=folder)
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
        with atomic_folder(folder, CONFIG) as temp_folder:
            temp_run = Run(temp_folder)
            read_stable(run, lambda: _copy_model(run, temp_folder))
            run_content = run.read_record(_require_regular_file(run.recipe))
            temp_run.write_record(temp_run.recipe, {**run_content, **_strip_paths(run_content)})
            replace_file(temp_folder / "README.md", model_card(run, spec, record, read_report_summary(run), cite(run)))
            write_json(temp_folder / CONFIG, config)
            stale_names = [file.name for file in _companion_files(run) if not (temp_folder / file.name).exists()]
        for name in stale_names:  # files of an earlier export
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    reporter.finish()
    return folder, config


def _is_feller_export(folder: pathlib.Path) -> bool:
    try:
        config = read_json(folder / CONFIG)
    except (OSError, InputError):
        return False
    return isinstance(config, dict) and config.get("library_name") == LIBRARY


def _require_regular_file(file: pathlib.Path) -> pathlib.Path:
    """Return a file of a run after checking that it is a regular file.

    Raises:
        InputError: If it is a symbolic link, which could expose another file of the user, or not a regular file.
    """
    if file.is_symlink():
        raise InputError("is a symbolic link", remedy="Copy the run and resolve its links (cp -rL)", file=file)
    if os.path.lexists(file) and not file.is_file():
        raise InputError("a file", "a folder, a pipe or a device", "Copy the whole run again", file=file)
    return file


def _companion_files(run: Run) -> tuple[pathlib.Path, ...]:
    """Return the optional files of a run that an export copies unchanged."""
    return run.model, run.progress, run.ledger, *map(run.aux_weights, AUX_NETWORKS)


def _copy_model(run: Run, folder: pathlib.Path) -> None:
    _copy(run.ema_weights, folder / WEIGHTS)
    for file in _companion_files(run):
        if os.path.lexists(file):
            _copy(file, folder / file.name)


def _copy(file: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a file of a run, after a check of its content."""
    if _require_regular_file(file).suffix == ".safetensors":
        load_tensors(file)
    else:
        read_json(file)
    replace_file(target, file.read_bytes())


def _strip_paths(record: dict[str, Any]) -> dict[str, Any]:
    """Return a fit record in which paths are without folders, and shards without names."""

    def file_name(text: Any) -> Any:
        return text if not isinstance(text, str) or text.startswith("example:") else pathlib.PurePath(text).name

    config, provenance = (
        {name: file_name(value) if name in PATH_OPTIONS else value for name, value in record[section].items()}
        for section in ("config", "provenance")
    )
    ancestors = [{**ancestor, "data": file_name(ancestor.get("data"))} for ancestor in provenance.get("ancestors", ())]
    return {"config": config, "provenance": {**provenance, "ancestors": ancestors, "shards": {}}}


def stale_exports(run: Run) -> Iterator[str]:
    """Yield one line for each export in the run folder whose weights are older than the weights of the run.

    Exports in other folders are not checked. Each export records the hash of its weights under `weights`.
    """
    exports, weights_copy = sorted(run.path.glob("export.*.json")), run.path / HUGGING_FACE / "model.safetensors"
    if not run.ema_weights.is_file() or not (exports or weights_copy.is_file()):
        return
    weights_hash = fingerprint(run.ema_weights)
    for metadata_file in exports:
        path = metadata_file.with_suffix("")
        metadata = _record(metadata_file)
        export_hash, form = metadata.get("weights"), metadata.get("form")
        if path.is_file() and isinstance(export_hash, str) and isinstance(form, str) and export_hash != weights_hash:
            yield _stale_export_line(run, path, form, metadata.get("guidance"))
    if weights_copy.is_file() and fingerprint(weights_copy) != weights_hash:
        yield _stale_export_line(run, weights_copy.parent, HUGGING_FACE, None)


def _record(metadata_file: pathlib.Path) -> dict[str, object]:
    """Read the .json file of an export; empty if it is damaged."""
    try:
        content = read_json(metadata_file)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def _stale_export_line(run: Run, path: pathlib.Path, form: str, guidance: object) -> str:
    if isinstance(guidance, str):
        flags = ["--guidance", "input"]
    else:
        flags = ["--guidance", f"{guidance:g}"] if isinstance(guidance, int | float) and guidance != 1 else []
    command = shlex.join(["feller", "export", str(run.path), "--to", form, *flags])
    return f"{path} has older weights than the run; export it again with: {command}"
