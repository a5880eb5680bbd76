"""Interface of the tabs of the page (controls, handler, results), and the controls for conditions."""

import enum
import pathlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feller.app.reporter import Reporter
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.widgets import choice, number, text_field
from feller.core.errors import UsageError
from feller.data.conditions.condition import Condition
from feller.data.modality import Modality
from feller.data.tables.modality import Table


@dataclass(frozen=True)
class CaptionedImage:
    """Image file with a caption, for display."""

    caption: str
    path: pathlib.Path


@dataclass(frozen=True)
class TextTable:
    """Table whose cells are formatted as text, for display."""

    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class TabResult:
    """Outputs that a tab shows after a request; outputs without a value are hidden."""

    message: str = ""
    """Message to show, of one or more lines."""
    pictures: tuple[CaptionedImage, ...] = ()
    drawing: str = ""
    """SVG drawing from a trusted source."""
    sides: tuple[TextTable, ...] = ()
    """Two tables to show side by side."""
    table: TextTable | None = None
    numbers: TextTable | None = None
    """Table of metrics with their names and meanings, which spans the full width of the page."""
    words: str = ""
    sounds: tuple[pathlib.Path, ...] = ()
    page: str = ""
    """HTML of a report to show in a frame."""
    files: tuple[pathlib.Path, ...] = ()
    """Files offered for download."""
    is_finished: bool = False
    """True if a tab with automatic refreshes needs no further refreshes."""


class OutputKind(enum.Enum):
    """Kinds of output of a tab, in the order on the page.

    Each kind has the name of the corresponding field of `TabResult`.
    """

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
"""Values of the controls of a request, by control name."""


@dataclass(frozen=True, kw_only=True)
class Tab:
    """Tab of the web page: its controls, handler and outputs."""

    name: str
    """Title of the tab."""
    description: str
    """Description of the tab in one or two sentences."""
    controls: Mapping[str, Any]
    """Gradio components by name, not rendered yet; the name is that of the corresponding flag if there is one."""
    handler: Callable[[Answers, Reporter], TabResult]
    outputs: tuple[OutputKind, ...]
    button: str = "Go"
    max_pictures: int = 1
    """Maximum number of images shown side by side."""
    dependent_controls: Mapping[str, tuple[str, Callable[[Any], Any]]] = field(default_factory=dict)
    """Name of a control -> (name of the control that it depends on, function from the value of the latter to a Gradio
    update)."""
    initial_value: tuple[str, Callable[[], Any]] | None = None
    """Name of a control, and a function that returns an initial value for it; the page offers this as a button."""
    first_view: Callable[[], TabResult] | None = None
    """Function that returns what the tab shows before the first press; it must be cheap."""
    dynamic_choices: tuple[str, Callable[[], tuple[str, ...]]] | None = None
    """Name of a control, and a function that returns the current choices of this control."""
    refresh_seconds: float | None = None
    """Interval between automatic refreshes in seconds; None disables refreshes."""
    is_read_only: bool = False
    """True if the tab computes nothing; its handler then skips the queue of computing requests and runs when the tab
    opens."""


KEEP_SECONDS = 3600.0
"""Minimum time in seconds for which the files of a result are kept."""


@dataclass(frozen=True, kw_only=True)
class PageContext:
    """Data shared by all tabs of the web page."""

    runs: tuple[LoadedRun, ...]
    folder: pathlib.Path
    """Temporary folder for all files of the page."""
    rewards: tuple[str, ...] = ()
    """Rewards from the command line, as in --reward; visitors cannot add others."""
    memory: str | None = None
    """Datastore of documents for retrieval, from the command line; None without retrieval."""
    first_views: dict[pathlib.Path, tuple[int, TabResult]] = field(default_factory=dict)
    """Run folder -> (modification time of its weights in nanoseconds, samples that the page drew without a request)."""
    drawing: threading.Lock = field(default_factory=threading.Lock)
    """Lock that is held while the samples in `first_views` are drawn."""

    def new_result_folder(self) -> pathlib.Path:
        """Create a folder for the files of one result, and delete the folders of expired results."""
        for old in self.folder.glob("result-*"):
            if time.time() - old.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        return pathlib.Path(tempfile.mkdtemp(prefix="result-", dir=self.folder))


UNCONDITIONED = "any (as in the training data)"
"""Label of the choice that samples a condition with its training frequencies."""
OPEN = "open (not given)"
"""Label of the choice that leaves a selected condition open."""
CONDITION_PREFIX, GUIDANCE_CONTROL = "given:", "guidance"
"""Prefix of the control names for conditions, and name of the guidance control."""
GUIDANCE_PREFIX = "guidance:"
"""Prefix of the control names for the guidance scales of single conditions."""


def condition_controls(run: LoadedRun) -> dict[str, Any]:
    """Return the controls for the conditions of a run, by control name.

    They are a dropdown or text field per condition, a slider for the guidance scale, and a text field for observed
    values; those that the model does not support are left out.
    """
    spec = run.spec
    if spec is None:
        return {}
    options = {name: (UNCONDITIONED, *spec.modality.conditions[name]) for name in spec.frequencies}
    controls = {f"{CONDITION_PREFIX}{name}": choice(name.capitalize(), names) for name, names in options.items()}
    for name, kind in spec.modality.selected_conditions.items():
        if not kind.is_file:
            controls[f"{CONDITION_PREFIX}{name}"] = _condition_field(name, kind, can_be_open=spec.cond_dropout > 0)
    if spec.condition_names and spec.cond_dropout:
        controls[GUIDANCE_CONTROL] = guidance_control(
            "Classifier-free guidance: 0 ignores the condition, 1 is off, larger values follow it more closely. Compare"
            " values in the tab Guidance."
        )
    conditionable = spec.modality.conditionable_leaves if run.modality_as(Table) is not None else spec.conditionable
    names = [
        name
        for name in spec.modality.conditionable_leaves
        if name in conditionable and name not in spec.modality.file_conditions
    ]
    if names:
        hint = f"Observed values as NAME=VALUE, one per line. Names: {', '.join(names)[:300]}."
        controls["given"] = text_field("Observed values", hint=hint, example=f"{names[0]}=...", lines=2)
    return controls


def _condition_field(name: str, kind: Condition, *, can_be_open: bool) -> Any:
    """Return the control of a selected condition: a dropdown for categories, or a text field."""
    if kind.choices:
        return choice(name, (OPEN, *kind.choices) if can_be_open else kind.choices)
    hint = "Empty: open, not given." if can_be_open else "This model needs a value."
    return text_field(name, hint=hint, example=kind.placeholder)


def sample_controls(run: LoadedRun) -> dict[str, Any]:
    """Return the controls of `condition_controls`, with one guidance slider for each of several conditions."""
    controls = condition_controls(run)
    names = () if run.spec is None else run.spec.condition_names
    if len(names) < 2 or GUIDANCE_CONTROL not in controls:
        return controls
    del controls[GUIDANCE_CONTROL]
    hint = "0 ignores the condition, 1 is off, larger values follow it more closely."
    sliders = {name: number(f"Guidance of {name}", 1.0, 0.0, 10.0, hint=hint, is_integer=False) for name in names}
    return {**controls, **{f"{GUIDANCE_PREFIX}{name}": slider for name, slider in sliders.items()}}


def guidance_control(hint: str, maximum: float = 10.0, value: float = 1.0) -> Any:
    """Return a slider for the guidance scale from 0 to `maximum`; `hint` is the help text below its label."""
    return number("Guidance scale", value, 0.0, maximum, hint=hint, is_integer=False)


def conditions_from(answers: Answers, modality: Modality) -> dict[str, str]:
    """Return the values of the conditions in a request as text, by condition name.

    Raises:
        UsageError: If a line is not NAME=VALUE, repeats a name, or names a condition that needs a file.
    """
    chosen = {
        name.removeprefix(CONDITION_PREFIX): value
        for name, value in answers.items()
        if name.startswith(CONDITION_PREFIX)
    }
    values = {name: value for name, value in chosen.items() if value not in (UNCONDITIONED, OPEN) and value.strip()}
    for line in filter(None, map(str.strip, answers.get("given", "").splitlines())):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise UsageError(expected="conditions as NAME=VALUE, one per line", found=repr(line[:40]))
        selected = modality.selected_conditions.get(name)
        if name in modality.file_conditions or (selected is not None and selected.is_file):
            raise UsageError(
                f"{name} is given by a file, which this page does not accept", remedy="Use `feller sample --given`"
            )
        if name in values:
            raise UsageError(f"{name} is given twice", remedy="Remove one")
        values[name] = value
    return values


def guidance_from(answers: Answers) -> float:
    """Return the guidance scale of a request; 1 if the tab has no guidance control."""
    return float(answers.get(GUIDANCE_CONTROL, 1.0))


def guidance_scales_from(answers: Answers) -> float | dict[str, float]:
    """Return the guidance scale of a request, or one for each condition if the tab has a slider for each."""
    scales = {
        name.removeprefix(GUIDANCE_PREFIX): float(value)
        for name, value in answers.items()
        if name.startswith(GUIDANCE_PREFIX)
    }
    return scales if any(scale != 1 for scale in scales.values()) else guidance_from(answers)
