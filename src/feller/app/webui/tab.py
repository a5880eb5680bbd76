"""What a tab is made of, what it shows, and conditions as controls."""

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
    """A picture in a file, for people."""

    caption: str
    path: pathlib.Path


@dataclass(frozen=True)
class TextTable:
    """A table for people."""

    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class TabResult:
    """All that a tab may show; what is empty is not shown."""

    message: str = ""
    """A line or more about what was done."""
    pictures: tuple[CaptionedImage, ...] = ()
    drawing: str = ""
    """SVG of our own."""
    sides: tuple[TextTable, ...] = ()
    """Two tables that stand beside each other."""
    table: TextTable | None = None
    numbers: TextTable | None = None
    """Numbers, each with its name and its meaning, all of which is seen at once."""
    words: str = ""
    sounds: tuple[pathlib.Path, ...] = ()
    page: str = ""
    """A report, HTML that was written for a page of its own."""
    files: tuple[pathlib.Path, ...] = ()
    """To be downloaded."""
    is_finished: bool = False
    """Whether nothing more is to come, of what is looked at again and again."""


class OutputKind(enum.Enum):
    """What a tab may show: a field of `TabResult`, in the order of the page."""

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
"""What was set, by the names of the controls."""


@dataclass(frozen=True, kw_only=True)
class Tab:
    """What a person sets, and what is done with it."""

    name: str
    """Title."""
    description: str
    """What it does, in a sentence or two."""
    controls: Mapping[str, Any]
    """Gradio components that are not rendered yet, by the name of the flag that each stands for, where it does."""
    handler: Callable[[Answers, Reporter], TabResult]
    outputs: tuple[OutputKind, ...]
    button: str = "Go"
    max_pictures: int = 1
    """Side by side, at most."""
    dependent_controls: Mapping[str, tuple[str, Callable[[Any], Any]]] = field(default_factory=dict)
    """Control -> another control, and what makes its value, or whether it is seen, of that one's."""
    initial_value: tuple[str, Callable[[], Any]] | None = None
    """A control, and what makes a value to begin with."""
    dynamic_choices: tuple[str, Callable[[], tuple[str, ...]]] | None = None
    """A choice, and what looks its options up anew."""
    refresh_seconds: float | None = None
    """Seconds after which it is done again by itself."""
    is_read_only: bool = False
    """Whether it computes nothing: then it waits for nothing that does, and is done whenever somebody opens it."""


KEEP_SECONDS = 3600.0
"""For which the files of a result can be downloaded."""


@dataclass(frozen=True, kw_only=True)
class PageContext:
    """What a tab has around it."""

    runs: tuple[LoadedRun, ...]
    """All runs on the page."""
    folder: pathlib.Path
    """Of all files of the page; it is gone when the page is."""
    rewards: tuple[str, ...] = ()
    """In words, as they were named where the page was started; the client can name none."""
    memory: str | None = None
    """Documents that models of documents may look up, named there, too."""

    def new_result_folder(self) -> pathlib.Path:
        """Return a new empty folder for one result, and remove those that are too old."""
        for old in self.folder.glob("result-*"):
            if time.time() - old.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        return pathlib.Path(tempfile.mkdtemp(prefix="result-", dir=self.folder))


UNCONDITIONED = "as in the data"
"""A condition that is drawn as often as in the training data."""
CONDITION_PREFIX, GUIDANCE_CONTROL = "given:", "guidance"
"""Begins the names of conditions; name of the weight."""


def condition_controls(run: LoadedRun) -> dict[str, Any]:
    """Return a list for each condition, a slider where the model can be guided, and a line for parts that are given."""
    spec = run.spec
    if spec is None:
        return {}
    options = {name: (UNCONDITIONED, *spec.modality.conditions[name]) for name in spec.frequencies}
    controls = {f"{CONDITION_PREFIX}{name}": choice(name.capitalize(), names) for name, names in options.items()}
    if spec.frequencies and spec.cond_dropout:
        controls[GUIDANCE_CONTROL] = guidance_control("1 is plain, more follows the condition more sharply.")
    conditionable = spec.modality.conditionable_leaves if run.modality_as(Table) is not None else spec.conditionable
    names = [
        name
        for name in spec.modality.conditionable_leaves
        if name in conditionable and name not in spec.modality.file_conditions
    ]
    if names:
        hint = f"What is already known, as NAME=VALUE, one a line. Names: {', '.join(names)[:300]}."
        controls["given"] = text("Given", hint=hint, example=f"{names[0]}=...", lines=2)
    return controls


def guidance_control(hint: str, maximum: float = 10.0, value: float = 1.0) -> Any:
    """Return a slider for the weight of guidance."""
    return number("Guidance", value, 0.0, maximum, hint=hint, is_integer=False)


def conditions_from(answers: Answers, modality: Modality) -> dict[str, str]:
    """Return what is given, by name.

    Raises:
        UsageError: If a line is not NAME=VALUE, or names what only a file can say.
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
            raise UsageError("write what is given as NAME=VALUE, one a line", found=repr(line[:40]))
        if name in modality.file_conditions:
            raise UsageError(
                f"{name} is given by a file, which this page does not take", remedy="Use `feller sample --given`"
            )
        if name in values:
            raise UsageError(f"{name} is given twice", remedy="Leave one out")
        values[name] = value
    return values


def guidance_from(answers: Answers) -> float:
    """Return the weight of guidance, 1 where there is none."""
    return float(answers.get(GUIDANCE_CONTROL, 1.0))
