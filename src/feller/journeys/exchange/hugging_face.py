"""A run as a folder in the layout of the Hugging Face hub, which nothing here ever asks."""

import json
import pathlib
import shutil
from typing import Any

from feller import __version__
from feller.description import load_description
from feller.errors import InputError, UsageError, cannot_write
from feller.journeys.asked import asked_of
from feller.journeys.cite import cite
from feller.journeys.exchange.model_card import card
from feller.journeys.tell import Tell
from feller.record import read_json, replace_file, write_json
from feller.run import PARTS, Run

HUGGING_FACE = "huggingface"
LIBRARY = "feller"
PATHS = ("data", "schema", "start_from", "tokenizer", "recipe")
"""What a record names by a path, of which others need the last part alone."""


def write_folder(run: Run, folder: pathlib.Path, tell: Tell) -> tuple[pathlib.Path, dict[str, Any]]:
    """Write config.json, model.safetensors and README.md, and what `feller sample FOLDER` needs beside them.

    What was learned from is in there by name alone, and of a private run no number that compares rows with samples.

    Args:
        run: Holds the model.
        folder: A new folder, or one that was written so before.
        tell: Hears how it goes.

    Returns:
        The folder, and its config.

    Raises:
        InputError: If the folder holds other things, the run is damaged, or the disk refuses.
        UsageError: If the run's model is code of the user's.
    """
    about, asked = load_description(run), asked_of(run)
    if asked.code:
        raise UsageError(
            f"the model of {run.path} is made of code of yours, which the folder would lack; use torch-export"
        )
    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder):
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
        folder.mkdir(parents=True, exist_ok=True)
        there = Run(folder)
        shutil.copyfile(run.average, folder / "model.safetensors")
        for file in (run.model, run.counters, run.ledger, *map(run.part, PARTS)):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
        record = run.read_record(run.recipe)
        there.write_record(there.recipe, {**record, "asked": _without_places(record["asked"])})
        replace_file(folder / "README.md", card(run, about, asked, _report(run), cite(run)))
        write_json(folder / "config.json", config)
    except OSError as error:
        raise cannot_write(folder, error) from error
    tell.done()
    return folder, config


def _is_ours(folder: pathlib.Path) -> bool:
    """Tell whether a folder was written so before."""
    try:
        return json.loads((folder / "config.json").read_text()).get("library_name") == LIBRARY
    except (OSError, ValueError, AttributeError):
        return False


def _without_places(asked: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a record where files lie."""

    def last(text: Any) -> Any:
        return text if not isinstance(text, str) or text.startswith("example:") else pathlib.PurePath(text).name

    named = {name: last(asked[name]) for name in PATHS if name in asked}
    ancestors = [{**each, "data": last(each.get("data"))} for each in asked.get("ancestors", ())]
    return {**asked, **named, "ancestors": ancestors}


def _report(run: Run) -> dict[str, Any]:
    """Return the run's report; nothing where there is none."""
    file = run.path / "report.json"
    found = read_json(file) if file.is_file() else {}
    return found if isinstance(found, dict) else {}
