"""Run one request of the page: progress, errors in the page's labels, paths hidden."""

import contextlib
import contextvars
import html
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from feller.app.reporter import Tell
from feller.app.webui.controls import Control
from feller.app.webui.limits import Limits
from feller.app.webui.loaded_run import Opened
from feller.app.webui.tab import Outcome, Tab
from feller.core.errors import FULL, InputError, UsageError
from feller.core.user_code import blamed

WORDS = re.compile(r"(?P<command>`[^`]*`|\bfeller [a-z]+\b[^;()`]*)|(?<![\w-])(?P<flag>--?[a-z][a-z-]*)(?![\w-]|\.\w)")
"""Whole commands, which stay as they are, and flags beside them."""
FITS = re.compile(r";[^;]*\bfit (?:with )?--[^;]*")
"""Advice to whoever fits, which no visitor can follow."""


def with_labels(text: str, controls: Mapping[str, Control]) -> str:
    """Return a message in which each flag that a control stands for is its label, without advice for fitting."""
    named = {flag: control.label for control in reversed([*controls.values()]) for flag in control.flags}

    def said(match: re.Match[str]) -> str:
        flag = match["flag"]
        return f'"{named[flag]}"' if flag in named else match[0]

    return WORDS.sub(said, FITS.sub("", text))


FOLDERS = re.compile(r"(?<![\w./:])(?:/[^\s/'\"]+)+/(?=[^\s/])")
"""Of an absolute place, before its last part."""
TAG = re.compile(r"(<style\b.*?</style>|<[^>]*>)", re.DOTALL)
"""What is no text of a page."""
COMMAND = re.compile(r'(<code class="command">.*?</code>)', re.DOTALL)
WORD = re.compile(r"(?<=>)(?P<begin>&#x27;|'?)(?P<word>[^<>\s]*?/[^<>\s]*?)(?P<end>&#x27;|'?)(?=<)")
"""A word of a command that has folders; it is an element of its own."""
LEADING = re.compile(r".*/(?=[^/])")


def without_folders(text: str, places: Mapping[str, str]) -> str:
    """Return a text without folders.

    Args:
        text: What visitors are about to read.
        places: Runs and files as the text may name them -> what they are called on the page.
    """
    for place, name in sorted(places.items(), key=lambda pair: -len(pair[0])):
        if "/" in place:
            whole = re.compile(rf"(?<![\w./-]){re.escape(place)}(?:(?P<inside>/)(?=[^\s/])|(?![\w-]))")
            text = whole.sub(lambda match, name=name: "" if match["inside"] else name, text)
    return FOLDERS.sub("", text)


def page_without_folders(page: str, places: Mapping[str, str]) -> str:
    """Return a report without folders, neither in its words nor in its commands, but for those of the runs.

    Args:
        page: HTML.
        places: Runs and files as it may name them -> what they are called on the page.
    """
    kept = {word for name in places.values() for word in name.split(" ")}  # each is an element of its own

    def told(match: re.Match[str]) -> str:
        word = html.unescape(match["word"])
        word = places.get(word) or (word if word in kept else LEADING.sub("", word))
        return f"{match['begin']}{html.escape(word, quote=False)}{match['end']}"

    parts = COMMAND.split(page)
    parts[1::2] = [WORD.sub(told, part) for part in parts[1::2]]
    words = TAG.split("".join(parts))
    words[::2] = [_word(word, places) for word in words[::2]]
    return "".join(words)


def _word(text: str, places: Mapping[str, str]) -> str:
    """Return what stands between two tags without folders."""
    plain = html.unescape(text)
    told = without_folders(plain, places)
    return text if told == plain else html.escape(told, quote=False)


EACH = 1.0
"""Seconds between two words on a task of which no share is known."""


class Stopped(Exception):
    """A visitor wants no more of it."""


class Heard(Tell):
    """Keeps lines, and hands on which share of a task is done; None where it is not known.

    Once it is stopped, whatever a journey says next raises `Stopped`.
    """

    def __init__(self, progress: Callable[[float | None, str], None] = lambda share, text: None) -> None:
        self.lines: list[str] = []
        self._progress, self._task, self._share, self._since = progress, "", 0.0, time.monotonic()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End what is told of here as soon as it tells something; from any thread."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        """Whether somebody wants no more of it."""
        return self._stopped.is_set()

    def check(self) -> None:
        """Go on unless it was stopped.

        Raises:
            Stopped: Then.
        """
        if self.is_stopped:
            raise Stopped

    def say(self, text: str) -> None:
        """Keep one line."""
        self.check()
        self.lines.append(text)

    def task(self, name: str) -> None:
        """Begin."""
        self.check()
        self._task, self._share, self._since = name, 0.0, time.monotonic()
        self._progress(None, f"{name} ...")

    def progress(self, share: float, text: str = "") -> None:
        """Hand it on."""
        self.check()
        self._share = min(share, 1.0)
        if self._share > 0:
            self._progress(self._share, f"{self._task} {text}".strip())

    def wait(self) -> None:
        """Tell how long a task has taken, as long as no share of it is known."""
        if self._task and self._share == 0:
            self._progress(None, f"{self._task}, {time.monotonic() - self._since:.0f} s")


@contextlib.contextmanager
def passing(heard: Heard) -> Iterator[None]:
    """Let the seconds that pass be told until the end of the block."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(EACH):
            heard.wait()

    around = contextvars.copy_context()  # by which Gradio knows whose request it is
    thread = threading.Thread(target=around.run, args=(tick,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Wrong(Exception):
    """What a visitor is told, in one line."""


def ask(
    tab: Tab,
    sent: Mapping[str, Any],
    limits: Limits,
    heard: Heard,
    runs: Sequence[Opened] = (),
    *,
    places: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """Do what a visitor asks for, with what was said on the way in front.

    Args:
        tab: What is asked.
        sent: What was set, by the names of the controls.
        limits: How much one visitor may ask for.
        heard: Hears how it goes.
        runs: Those on the page, that of the tab first.
        places: What messages may name of this machine -> what it is called on the page.

    Raises:
        Wrong: If that fails; a fault of ours goes to standard error, too.
    """
    if runs and not runs[0].is_there:
        raise Wrong(gone(runs[0]))
    try:
        heard.check()
        found = tab.do(sent, limits, heard)
    except Stopped as stopped:
        raise Wrong("stopped, as you asked") from stopped
    except (InputError, UsageError) as error:
        lost = [one for one in runs if not one.is_there and str(one.run.path) in str(error)]
        said = gone(lost[0]) if lost else with_labels(_plain(str(error), places), tab.controls)
        raise Wrong(said) from error
    except OSError as error:
        why = "the disk is full" if error.errno in FULL else error.strerror or "a file cannot be read or written"
        raise Wrong(f"{why}; whoever runs this page must make room or mend it") from error
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        own = blamed(error)
        fault = "this is a fault of feller, not yours" if own is None else _plain(own, places)
        raise Wrong(f"{fault}; whoever runs this page sees more") from error
    lines = [*(_plain(line, places) for line in heard.lines), without_folders(found.said, places)]
    return replace(found, said=with_labels("\n".join(filter(None, lines)), tab.controls))


def gone(one: Opened) -> str:
    """Say that a run was removed while the page shows it."""
    return f"the run {one.name} is no longer there"


def _plain(text: str, places: Mapping[str, str]) -> str:
    """Return the first line of a message, without the folders in which files lie."""
    return without_folders((text.splitlines() or ["it failed"])[0], places)
