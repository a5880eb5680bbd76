"""A run as a folder in the layout of the Hugging Face hub, which nothing here ever asks."""

import os
import pathlib
from typing import Any

from feller import __version__
from feller.app.reporter import Tell
from feller.app.workflows.cite import cite
from feller.app.workflows.model_card import card
from feller.app.workflows.reported import reported_of
from feller.app.workflows.run_config import asked_of
from feller.app.workflows.settled import settled
from feller.app.workflows.staged import content, staged
from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.run_folder import PARTS, Run
from feller.core.safetensors_io import load_tensors
from feller.core.serialization import read_json, replace_file, write_json
from feller.models.spec import load_description

HUGGING_FACE = "huggingface"
LIBRARY = "feller"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PATHS = ("data", "schema", "start_from", "tokenizer", "recipe")
"""What a record names by a path, of which others need the last part alone."""


def write_folder(run: Run, folder: pathlib.Path, tell: Tell) -> tuple[pathlib.Path, dict[str, Any]]:
    """Write config.json, model.safetensors and README.md, and what `feller sample FOLDER` needs beside them.

    What was learned from is in there by name alone, and of a private run no number that compares rows with samples.
    The files of an earlier export are replaced when all new ones are whole.

    Args:
        run: Holds the model; it may be a stranger's.
        folder: A new folder, or one that was written so before.
        tell: Hears how it goes.

    Returns:
        The folder, and its config.

    Raises:
        InputError: If the folder is a link or holds other things, the run is damaged or has links in the place of
            files, or the disk refuses.
        UsageError: If the run's model is code of the user's.
    """
    about, asked = load_description(run), asked_of(run)
    if asked.code:
        raise UsageError(
            f"the model of {run.path} is made of code of yours, which the folder would lack; use torch-export"
        )
    if folder.is_symlink():
        raise InputError(f"{folder} is a link, which may lead anywhere; name with --out the folder itself")
    if content(folder) and not _is_ours(folder):
        raise InputError(f"{folder} is not empty and was not written by feller; name a new folder")
    config = {
        "library_name": LIBRARY,
        "model_type": LIBRARY,
        "architectures": [type(about.architecture).__name__],
        "modality": type(about.modality).__name__,
        "feller_version": __version__,
        "recipe": asked.recipe,
    }
    tell.task(f"writing {folder}")
    try:
        with staged(folder, CONFIG) as aside:
            there = Run(aside)
            settled(run, lambda: _copy_model(run, aside))
            record = run.read_record(_own(run.recipe))
            there.write_record(there.recipe, {**record, "asked": _without_places(record["asked"])})
            replace_file(aside / "README.md", card(run, about, asked, reported_of(run), cite(run)))
            write_json(aside / CONFIG, config)
            gone = [file.name for file in _beside(run) if not (aside / file.name).exists()]
        for name in gone:  # of a model that was here before
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    tell.done()
    return folder, config


def _is_ours(folder: pathlib.Path) -> bool:
    """Tell whether a folder was written so before."""
    try:
        found = read_json(folder / CONFIG)
    except (OSError, InputError):
        return False
    return isinstance(found, dict) and found.get("library_name") == LIBRARY


def _own(file: pathlib.Path) -> pathlib.Path:
    """Return a file of a run's own.

    Raises:
        InputError: If it is a link, by which a stranger could have something else of ours copied, or no file.
    """
    if file.is_symlink():
        raise InputError(
            f"{file} is a link, which may lead anywhere; copy the run with what its links lead to (cp -rL)"
        )
    if os.path.lexists(file) and not file.is_file():
        raise InputError(f"expected a file {file}, found a folder, a pipe or a device; copy the whole run again")
    return file


def _beside(run: Run) -> tuple[pathlib.Path, ...]:
    """Return the files that stay as they are, of which a run need not have all."""
    return run.model, run.counters, run.ledger, *map(run.part, PARTS)


def _copy_model(run: Run, folder: pathlib.Path) -> None:
    """Copy weights, and what is beside them."""
    _copy(run.average, folder / WEIGHTS)
    for file in _beside(run):
        if os.path.lexists(file):
            _copy(file, folder / file.name)


def _copy(file: pathlib.Path, to: pathlib.Path) -> None:
    """Copy a file of a run, if it is what its name says.

    Raises:
        InputError: If it is not.
    """
    if _own(file).suffix == ".safetensors":
        load_tensors(file)
    else:
        read_json(file)
    replace_file(to, file.read_bytes())


def _without_places(asked: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a record where files lie, and what shards are called."""

    def last(text: Any) -> Any:
        return text if not isinstance(text, str) or text.startswith("example:") else pathlib.PurePath(text).name

    named = {name: last(asked[name]) for name in PATHS if name in asked}
    ancestors = [{**each, "data": last(each.get("data"))} for each in asked.get("ancestors", ())]
    return {**asked, **named, "ancestors": ancestors, "shards": {}}
