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
