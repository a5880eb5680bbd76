"""Execution of a single request from the web page, with progress, cancellation and error messages."""

import contextlib
import html
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from feller.app.reporter import Reporter
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.tab import Answers, Tab, TabResult
from feller.core.errors import DISK_FULL_ERRNOS, FLAG_PATTERN, InputError, UsageError
from feller.core.user_code import user_frame

MAX_LETTERS = 2000
"""Maximum length of a text input in characters."""
MAX_ROWS = 50
"""Maximum number of rows of a table input."""
FIT_ADVICE = re.compile(r"(?:^Fit|;[^;]*\bfit) (?:with )?--[^;]*")
"""Regular expression for advice to fit a new model, which visitors of the page cannot follow."""
FOLDER = re.compile(r"(?<![\w./:<])(?:/[^\s/'\"<>]+)+/(?=[^\s/])")
"""Regular expression for the folders of an absolute path."""
TAG = re.compile(r"(<style\b.*?</style>|<[^>]*>)", re.DOTALL)
"""Regular expression for HTML tags and whole style elements."""


def with_labels(text: str, controls: Mapping[str, Any]) -> str:
    """Replace flags in a message by the labels of the page's controls, and remove advice to fit a new model.

    `controls` maps the option name of a flag, such as guidance, to the Gradio component with the label. Flags without
    a control are unchanged.
    """
    return FLAG_PATTERN.sub(
        lambda match: f'"{controls[match[2]].label}"' if match[2] in controls else match[0], FIT_ADVICE.sub("", text)
    )


def without_folders(text: str) -> str:
    """Remove the folders from absolute paths in a text, because visitors must not see folder names."""
    return FOLDER.sub("", text)


def page_without_folders(page: str) -> str:
    """Remove the folders from absolute paths in the text of an HTML page."""
    chunks = TAG.split(page)
    for i in range(0, len(chunks), 2):
        words = html.unescape(chunks[i])
        if (stripped := without_folders(words)) != words:
            chunks[i] = html.escape(stripped, quote=False)
    return "".join(chunks)


class RequestStopped(Exception):
    """Exception that ends a request after its stop button was pressed."""


class RequestReporter(Reporter):
    """Reporter of a request: collects log lines, and passes the completed fraction to the page (None if unknown).

    After `stop`, the next call of another method raises `RequestStopped`.
    """

    def __init__(self, progress: Callable[[float | None, str], None] = lambda share, text: None) -> None:
        self.lines: list[str] = []
        self._progress, self._task = progress, ""
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ask the request to stop at its next progress report; thread-safe."""
        self._stopped.set()

    def check(self) -> None:
        """Raise `RequestStopped` if a stop was requested."""
        if self._stopped.is_set():
            raise RequestStopped

    def log(self, text: str) -> None:
        self.check()
        self.lines.append(text)

    def start(self, name: str) -> None:
        self.check()
        self._task = name
        self._progress(None, f"{name} ...")

    def progress(self, fraction: float, text: str = "") -> None:
        self.check()
        if fraction > 0:
            self._progress(min(fraction, 1.0), f"{self._task} {text}".strip())


@dataclass(frozen=True)
class RunningRequests:
    """Registry of the running requests by session; Gradio itself can cancel only queued requests."""

    _work: dict[str, RequestReporter] = field(default_factory=dict)

    @contextlib.contextmanager
    def register(self, session: str, reporter: RequestReporter) -> Iterator[None]:
        """Register a request as running while the context is open."""
        self._work[session] = reporter
        try:
            yield
        finally:
            if self._work.get(session) is reporter:
                del self._work[session]

    def stop(self, session: str) -> None:
        """Stop the running request of a session; do nothing if no request is running."""
        if (reporter := self._work.get(session)) is not None:
            reporter.stop()


class RequestError(Exception):
    """Error of a request, with a one-line message for the page."""


def run_tab(tab: Tab, answers: Answers, reporter: RequestReporter, runs: Sequence[LoadedRun] = ()) -> TabResult:
    """Run the handler of a tab and return its result; the log lines are put in front of the result's message.

    Args:
        tab: Tab whose button was pressed.
        answers: Values of the controls by name; Gradio has validated ranges and choices.
        reporter: Progress reporter.
        runs: All runs on the page, starting with the run of the tab.

    Raises:
        RequestError: If the request fails; unexpected exceptions are also printed to standard error.
    """
    if runs and not runs[0].exists:
        raise RequestError(f"the run {runs[0].name} is no longer there")
    try:
        reporter.check()
        check_answers(tab, answers)
        result = tab.handler(answers, reporter)
    except RequestStopped as stopped:
        raise RequestError("stopped") from stopped
    except (InputError, UsageError) as error:
        if gone := [one.name for one in runs if not one.exists]:
            raise RequestError(f"the run {gone[0]} is no longer there") from error
        error.remedy = None if error.remedy is None else FIT_ADVICE.sub("", error.remedy) or None
        labels = {name: f'"{control.label}"' for name, control in tab.controls.items()}
        raise RequestError(_line(error.format(labels.get))) from error
    except OSError as error:
        why = (
            "the disk is full"
            if error.errno in DISK_FULL_ERRNOS
            else error.strerror or "a file cannot be read or written"
        )
        raise RequestError(f"{why}; contact the operator of this page") from error
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        own = user_frame(error)
        fault = "internal error of feller" if own is None else _line(own)
        raise RequestError(f"{fault}; the traceback is in the log of the server") from error
    lines = "\n".join(filter(None, (*map(_line, reporter.lines), without_folders(result.message))))
    return replace(result, message=with_labels(lines, tab.controls))


def check_answers(tab: Tab, answers: Answers) -> None:
    """Check the inputs that Gradio does not validate: empty numbers, and the length of texts and tables.

    Raises:
        UsageError: If a number is empty, or a text or table is too long.
    """
    for name, value in answers.items():
        control = tab.controls[name]
        if value is None and hasattr(control, "minimum"):
            raise UsageError(
                f"{control.label} is empty", remedy=f"Enter a number from {control.minimum} to {control.maximum}"
            )
        rows = value if isinstance(value, list) else [[value]]
        if len(rows) > MAX_ROWS:
            raise UsageError(
                expected=f"at most {MAX_ROWS} rows in {control.label}", found=len(rows), remedy="Enter fewer rows"
            )
        longest = max((len(cell) for row in rows for cell in row if isinstance(cell, str)), default=0)
        if longest > MAX_LETTERS:
            raise UsageError(
                expected=f"at most {MAX_LETTERS:,} characters in {control.label}",
                found=f"{longest:,}",
                remedy="Shorten the text",
            )


def _line(text: str) -> str:
    """Return the first line of a message, with the folders of paths removed."""
    return without_folders((text.splitlines() or ["it failed"])[0])
