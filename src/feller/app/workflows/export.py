"""Export of a run's network or model for other programs."""

import contextlib
import pathlib
from typing import Any

from feller.app.config import ExportConfig
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.fine_tuned_run import base_model, imported_folder, read_tuning_record
from feller.app.workflows.hugging_face import HUGGING_FACE, atomic_folder, read_stable, write_folder
from feller.app.workflows.run_config import read_fit_record
from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.pretrained_folder import INDEX
from feller.core.run_folder import Run
from feller.core.serialization import write_json
from feller.core.user_code import fingerprint
from feller.data.path_checks import require_free
from feller.models.export.export_formats import WRITERS
from feller.models.export.exported_decoder import exported_decoder
from feller.models.export.exported_network import ExportedNetwork, export_metadata
from feller.models.model import load_model
from feller.models.pretrained.export import export_lora, export_pretrained

PRETRAINED, PEFT = "pretrained", "peft"
FOLDERS = (HUGGING_FACE, PRETRAINED, PEFT)
"""Formats that are folders."""
EXPORT_FORMATS = (*WRITERS, *FOLDERS)
INPUT = "input"
"""Value of --guidance that makes the guidance scale an input of the exported network."""


def export(run: Run, config: ExportConfig, *, reporter: Reporter = SILENT) -> tuple[pathlib.Path, dict[str, Any]]:
    """Export a run's network with its EMA weights for other programs, or the whole model as a folder.

    Returns:
        Output path, and the content of the .json file.

    Raises:
        UsageError: If the format is unknown, or the network does not support it.
        InputError: If the run is damaged, another process writes to it, or the disk is full.
    """
    form, out, guidance = check_export(config), config.out, config.guidance
    if form in FOLDERS:
        if guidance != "1":
            raise UsageError(
                "guidance is chosen when the exported folder is sampled", remedy="Leave it out", argument="guidance"
            )
        path = pathlib.Path(out) if out else run.path / form
        with _write_lock(run, path):
            if form == HUGGING_FACE:
                return write_folder(run, path, reporter)
            return _write_for_package(run, form, path, reporter)
    suffix, write = WRITERS[form]
    path = pathlib.Path(out) if out else run.path / f"export{suffix}"
    if path.suffix.lower() != suffix:
        raise UsageError(f"a file name with the extension {suffix}", path, argument="out")
    model, weights_record = read_stable(run, lambda: load_model(run))
    network = ExportedNetwork(model, _guidance(guidance))
    reporter.start(f"writing {path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _write_lock(run, path):
            write(network, path)
            decoder, decoder_path = exported_decoder(model), path.with_name(f"{path.stem}.decoder{suffix}")
            if decoder is not None:
                write(decoder, decoder_path)
            metadata = {
                "file": path.name,
                "form": form,
                "sha256": fingerprint(path),
                **weights_record,
                **export_metadata(model, network),
                **({"decoder": {"file": decoder_path.name, "sha256": fingerprint(decoder_path)}} if decoder else {}),
            }
            write_json(metadata_path(path), metadata)
    except OSError as error:
        raise cannot_write(path, error) from error
    reporter.finish()
    return path, metadata


def _write_for_package(
    run: Run, form: str, path: pathlib.Path, reporter: Reporter
) -> tuple[pathlib.Path, dict[str, Any]]:
    """Write a folder for the package from which the model was imported, and return the folder and a summary."""
    source = pathlib.Path(imported_folder(run))
    if not source.name:
        found, remedy = "a model of feller", "Use --to huggingface, which feller opens"
        raise UsageError(argument="to", expected="a model imported from a folder", found=found, remedy=remedy)
    tuning_record, start = read_tuning_record(run), read_fit_record(run).config.training
    rank = start.lora.rank if tuning_record is None else tuning_record.rank
    if form == PEFT and rank is None:
        expected, remedy = "a run of `feller tune --rank` or `fit --rank`", "Use --to pretrained"
        raise UsageError(argument="to", expected=expected, found=str(run.path), remedy=remedy)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError("an empty folder", "other files", "Choose a new folder", file=path)
    model, weights_record = read_stable(run, lambda: load_model(run))
    reporter.start(f"writing {path.name}")
    try:
        with atomic_folder(path, INDEX) as temp_folder:
            if form == PEFT and rank is not None:
                base = load_model(str(start.start_from)) if tuning_record is None else base_model(run)
                export_lora(model, base.network.state_dict(), rank, source, temp_folder)
            else:
                export_pretrained(model, source, temp_folder)
    except OSError as error:
        raise cannot_write(path, error) from error
    reporter.finish()
    return path, {"form": form, **weights_record}


def _write_lock(run: Run, path: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Return the lock of the run if the output is inside the run folder; otherwise a context without effect."""
    return run.ensure_lock() if path.resolve().is_relative_to(run.path.resolve()) else contextlib.nullcontext()


def check_export(config: ExportConfig) -> str:
    """Validate the format and the output path of an export, and return the format.

    Raises:
        UsageError: If the format is unknown, or the output file or its .json file exists.
    """
    form, out = config.form, config.out
    if form not in EXPORT_FORMATS:
        raise UsageError.unknown_name("to", form, EXPORT_FORMATS)
    require_free(out, overwrite=config.overwrite)
    if out is not None and form not in FOLDERS:
        require_free(str(metadata_path(pathlib.Path(out))), overwrite=config.overwrite)
    return form


def metadata_path(place: pathlib.Path) -> pathlib.Path:
    """Return the path of the .json file that documents an exported network."""
    return place.with_name(f"{place.name}.json")


def _guidance(text: str) -> float | None:
    if text == INPUT:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"a number or `{INPUT}`", repr(text), argument="guidance") from error
