"""From a run to a file that other programs open."""

import contextlib
import pathlib
from typing import Any

from feller.app.config import ExportConfig
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.hugging_face import HUGGING_FACE, read_stable, write_folder
from feller.core.errors import UsageError, cannot_write
from feller.core.run_folder import Run
from feller.core.serialization import write_json
from feller.core.user_code import fingerprint
from feller.data.path_checks import require_free
from feller.models.export.export_formats import WRITERS
from feller.models.export.exported_network import ExportedNetwork, export_metadata
from feller.models.model import load_model

EXPORT_FORMATS = (*WRITERS, HUGGING_FACE)
INPUT = "input"
"""Guidance that whoever calls the exported network chooses."""


def export(run: Run, config: ExportConfig, *, reporter: Reporter = SILENT) -> tuple[pathlib.Path, dict[str, Any]]:
    """Write a run's network, with its average weights, for other programs; or the whole model as a folder.

    Args:
        run: Holds the model.
        config: What is asked for.
        reporter: Hears how it goes.

    Returns:
        Where it is, and what the .json holds.

    Raises:
        UsageError: If the form is unknown, or the network cannot be exported; says why.
        InputError: If the run is damaged, another process writes to it, or the disk refuses.
    """
    to, out, guidance = check_export(config), config.out, config.guidance
    if to == HUGGING_FACE:
        if guidance != "1":
            raise UsageError(
                "a folder holds the model, and guidance is chosen when it samples",
                remedy="Leave it out",
                argument="guidance",
            )
        place = pathlib.Path(out) if out else run.path / HUGGING_FACE
        with _write_lock(run, place):
            return write_folder(run, place, reporter)
    ending, write = WRITERS[to]
    place = pathlib.Path(out) if out else run.path / f"export{ending}"
    if place.suffix.lower() != ending:
        raise UsageError(f"a file that ends with {ending}", place, argument="out")
    model, of = read_stable(run, lambda: load_model(run))
    answer = ExportedNetwork(model, _guidance(guidance))
    reporter.start(f"writing {place.name}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _write_lock(run, place):
            write(answer, place)
            record = {
                "file": place.name,
                "form": to,
                "sha256": fingerprint(place),
                **of,
                **export_metadata(model, answer),
            }
            write_json(metadata_path(place), record)
    except OSError as error:
        raise cannot_write(place, error) from error
    reporter.finish()
    return place, record


def _write_lock(run: Run, place: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Keep others from writing to the run where it is written to."""
    return run.ensure_lock() if place.resolve().is_relative_to(run.path.resolve()) else contextlib.nullcontext()


def check_export(config: ExportConfig) -> str:
    """Return the form that is asked for.

    Raises:
        UsageError: If there is none of that name, or a file is where it or what is said of it goes.
    """
    to, out = config.form, config.out
    if to not in EXPORT_FORMATS:
        raise UsageError.unknown_name("to", to, EXPORT_FORMATS)
    require_free(out, overwrite=config.overwrite)
    if out is not None and to != HUGGING_FACE:
        require_free(str(metadata_path(pathlib.Path(out))), overwrite=config.overwrite)
    return to


def metadata_path(place: pathlib.Path) -> pathlib.Path:
    """Return where it is said what goes into an exported network: a name of its own for each form."""
    return place.with_name(f"{place.name}.json")


def _guidance(text: str) -> float | None:
    if text == INPUT:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"a number, or {INPUT}", repr(text), argument="guidance") from error
