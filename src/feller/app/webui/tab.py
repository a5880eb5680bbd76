"""Interface of tabs: controls, handler, results; and controls for conditions."""

import enum
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feller.app.reporter import Reporter
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.widgets import choice, number, text
from feller.core.errors import UsageError
from feller.data.modality import Modality
from feller.data.tables.modality import Table


@dataclass(frozen=True)
class CaptionedImage:
    """Image file with a caption."""

    caption: str
    path: pathlib.Path


@dataclass(frozen=True)
class TextTable:
    """Table of formatted cells."""

    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class TabResult:
    """Outputs of a tab; empty fields are hidden."""

    message: str = ""
    """Message of one or more lines."""
    pictures: tuple[CaptionedImage, ...] = ()
    drawing: str = ""
    """Trusted SVG."""
    sides: tuple[TextTable, ...] = ()
    """Two tables side by side."""
    table: TextTable | None = None
    numbers: TextTable | None = None
    """Metrics with names and meanings, as a full-width table."""
    words: str = ""
    sounds: tuple[pathlib.Path, ...] = ()
    page: str = ""
    """HTML of a report, shown in a frame."""
    files: tuple[pathlib.Path, ...] = ()
    """Files for download."""
    is_finished: bool = False
    """True if a refreshed tab needs no more refreshes."""


class OutputKind(enum.Enum):
    """Outputs of a tab: fields of `TabResult`, in the order of the page."""

    PICTURES = "pictures"
    DRAWING = "drawing"
    SIDES = "sides"
    TABLE = "table"
    NUMBERS = "numbers"
    WORDS = "words"
    SOUNDS = "sounds"
    PAGE = "page"
    FILES = "files"


Answers = Mapping[str, Any]
"""Values by control name."""


@dataclass(frozen=True, kw_only=True)
class Tab:
    """Tab of the page: controls, handler and outputs."""

    name: str
    """Title."""
    description: str
    """Description in one or two sentences."""
    controls: Mapping[str, Any]
    """Unrendered Gradio components, by the name of the corresponding flag if there is one."""
    handler: Callable[[Answers, Reporter], TabResult]
    outputs: tuple[OutputKind, ...]
    button: str = "Go"
    max_pictures: int = 1
    """Maximum number of images side by side."""
    dependent_controls: Mapping[str, tuple[str, Callable[[Any], Any]]] = field(default_factory=dict)
    """Control -> (other control, function of its value that updates the former)."""
    initial_value: tuple[str, Callable[[], Any]] | None = None
    """(control, factory of an initial value), offered as a button."""
    dynamic_choices: tuple[str, Callable[[], tuple[str, ...]]] | None = None
    """(control, function that returns its current options)."""
    refresh_seconds: float | None = None
    """Interval of automatic refreshes in seconds; None for none."""
    is_read_only: bool = False
    """True if it computes nothing: it skips the queue and runs when the tab is opened."""


KEEP_SECONDS = 3600.0
"""Seconds for which the files of a result are kept."""


@dataclass(frozen=True, kw_only=True)
class PageContext:
    """Shared state of the page."""

    runs: tuple[LoadedRun, ...]
    """All runs on the page."""
    folder: pathlib.Path
    """Temporary folder of all files of the page."""
    rewards: tuple[str, ...] = ()
    """Rewards of the command line; users of the page cannot add any."""
    memory: str | None = None
    """Datastore of documents for retrieval, from the command line."""

    def new_result_folder(self) -> pathlib.Path:
        """Create a folder for one result, and remove expired ones."""
        for old in self.folder.glob("result-*"):
            if time.time() - old.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        return pathlib.Path(tempfile.mkdtemp(prefix="result-", dir=self.folder))


UNCONDITIONED = "any (as in the training data)"
"""Option of a condition that is sampled from the training frequencies."""
CONDITION_PREFIX, GUIDANCE_CONTROL = "given:", "guidance"
"""Prefix of condition controls; name of the guidance control."""


def condition_controls(run: LoadedRun) -> dict[str, Any]:
    """Return a dropdown per condition, a guidance slider if supported, and a text field for observed values."""
    spec = run.spec
    if spec is None:
        return {}
    options = {name: (UNCONDITIONED, *spec.modality.conditions[name]) for name in spec.frequencies}
    controls = {f"{CONDITION_PREFIX}{name}": choice(name.capitalize(), names) for name, names in options.items()}
    if spec.frequencies and spec.cond_dropout:
        controls[GUIDANCE_CONTROL] = guidance_control(
            "Classifier-free guidance: 1 is off, larger values follow the condition more closely."
        )
    conditionable = spec.modality.conditionable_leaves if run.modality_as(Table) is not None else spec.conditionable
    names = [
        name
        for name in spec.modality.conditionable_leaves
        if name in conditionable and name not in spec.modality.file_conditions
    ]
    if names:
        hint = f"Observed values as NAME=VALUE, one per line. Names: {', '.join(names)[:300]}."
        controls["given"] = text("Observed values", hint=hint, example=f"{names[0]}=...", lines=2)
    return controls


def guidance_control(hint: str, maximum: float = 10.0, value: float = 1.0) -> Any:
    """Return a slider for the guidance scale."""
    return number("Guidance scale", value, 0.0, maximum, hint=hint, is_integer=False)


def conditions_from(answers: Answers, modality: Modality) -> dict[str, str]:
    """Return the conditions of a request by name.

    Raises:
        UsageError: If a line is not NAME=VALUE, repeats a name, or names a condition that needs a file.
    """
    chosen = {
        name.removeprefix(CONDITION_PREFIX): value
        for name, value in answers.items()
        if name.startswith(CONDITION_PREFIX)
    }
    values = {name: value for name, value in chosen.items() if value != UNCONDITIONED}
    for line in filter(None, map(str.strip, answers.get("given", "").splitlines())):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise UsageError(expected="conditions as NAME=VALUE, one per line", found=repr(line[:40]))
        if name in modality.file_conditions:
            raise UsageError(
                f"{name} is given by a file, which this page does not accept", remedy="Use `feller sample --given`"
            )
        if name in values:
            raise UsageError(f"{name} is given twice", remedy="Remove one")
        values[name] = value
    return values


def guidance_from(answers: Answers) -> float:
    """Return the guidance scale of a request; 1 without the control."""
    return float(answers.get(GUIDANCE_CONTROL, 1.0))
