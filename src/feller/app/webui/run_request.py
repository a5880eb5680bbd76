"""One request of the page: its progress, and errors in words for visitors."""

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
"""Of a text that is typed in."""
MAX_ROWS = 50
"""Rows of a table that is typed in."""
FIT_ADVICE = re.compile(r"(?:^Fit|;[^;]*\bfit) (?:with )?--[^;]*")
"""Advice to whoever fits, which no visitor can follow."""
FOLDER = re.compile(r"(?<![\w./:<])(?:/[^\s/'\"<>]+)+/(?=[^\s/])")
"""Of an absolute place, before its last part."""
TAG = re.compile(r"(<style\b.*?</style>|<[^>]*>)", re.DOTALL)
"""What is no text of an HTML page."""


def with_labels(text: str, controls: Mapping[str, Any]) -> str:
    """Return a message in which each flag is the label of its control, without advice for fitting."""
    return FLAG_PATTERN.sub(
        lambda match: f'"{controls[match[2]].label}"' if match[2] in controls else match[0], FIT_ADVICE.sub("", text)
    )


def without_folders(text: str) -> str:
    """Return a text in which absolute places are names of files: visitors do not learn where they lie."""
    return FOLDER.sub("", text)


def page_without_folders(page: str) -> str:
    """Return HTML whose words name no absolute places; its tags stay."""
    chunks = TAG.split(page)
    for i in range(0, len(chunks), 2):
        words = html.unescape(chunks[i])
        if (stripped := without_folders(words)) != words:
            chunks[i] = html.escape(stripped, quote=False)
    return "".join(chunks)


class RequestStopped(Exception):
    """A visitor wants no more of it."""


class RequestReporter(Reporter):
    """Keeps lines, and hands on which share of a task is done; None where it is not known.

    Once it is stopped, whatever a workflow says next raises `RequestStopped`.
    """

    def __init__(self, progress: Callable[[float | None, str], None] = lambda share, text: None) -> None:
        self.lines: list[str] = []
        self._progress, self._task = progress, ""
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the work that reports here as soon as it reports something; from any thread."""
        self._stopped.set()

    def check(self) -> None:
        """Go on unless it was stopped."""
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
    """What is worked on, by the session that asked for it: Gradio cancels what waits, and not what runs."""

    _work: dict[str, RequestReporter] = field(default_factory=dict)

    @contextlib.contextmanager
    def register(self, session: str, reporter: RequestReporter) -> Iterator[None]:
        """Let a request be stopped until the end of the block."""
        self._work[session] = reporter
        try:
            yield
        finally:
            if self._work.get(session) is reporter:
                del self._work[session]

    def stop(self, session: str) -> None:
        """Stop what a session has asked for, if it is worked on."""
        if (reporter := self._work.get(session)) is not None:
            reporter.stop()


class RequestError(Exception):
    """What a visitor is told, in one line."""


def run_tab(tab: Tab, answers: Answers, reporter: RequestReporter, runs: Sequence[LoadedRun] = ()) -> TabResult:
    """Do what a visitor asks for, with what was said on the way in front.

    Args:
        tab: What is asked.
        answers: What was set, by the names of the controls; Gradio has checked ranges and choices.
        reporter: Hears how it goes.
        runs: Those on the page, that of the tab first.

    Raises:
        RequestError: If that fails; a fault of ours goes to standard error, too.
    """
    if runs and not runs[0].exists:
        raise RequestError(f"the run {runs[0].name} is no longer there")
    try:
        reporter.check()
        check_answers(tab, answers)
        result = tab.handler(answers, reporter)
    except RequestStopped as stopped:
        raise RequestError("stopped, as you asked") from stopped
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
        raise RequestError(f"{why}; whoever runs this page must make room or mend it") from error
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        own = user_frame(error)
        fault = "this is a fault of feller, not yours" if own is None else _line(own)
        raise RequestError(f"{fault}; whoever runs this page sees more") from error
    lines = "\n".join(filter(None, (*map(_line, reporter.lines), without_folders(result.message))))
    return replace(result, message=with_labels(lines, tab.controls))


def check_answers(tab: Tab, answers: Answers) -> None:
    """Refuse what Gradio lets through: numbers that are left empty, and long texts and tables."""
    for name, value in answers.items():
        control = tab.controls[name]
        if value is None and hasattr(control, "minimum"):
            raise UsageError(
                f"{control.label} is empty", remedy=f"Type a number from {control.minimum} to {control.maximum}"
            )
        rows = value if isinstance(value, list) else [[value]]
        if len(rows) > MAX_ROWS:
            raise UsageError(
                f"{control.label} may have {MAX_ROWS} rows here", found=len(rows), remedy="Fill fewer at once"
            )
        longest = max((len(cell) for row in rows for cell in row if isinstance(cell, str)), default=0)
        if longest > MAX_LETTERS:
            raise UsageError(
                f"{control.label} may have {MAX_LETTERS:,} characters here", found=f"{longest:,}", remedy="Shorten it"
            )


def _line(text: str) -> str:
    """Return the first line of a message, without the folders in which files lie."""
    return without_folders((text.splitlines() or ["it failed"])[0])
