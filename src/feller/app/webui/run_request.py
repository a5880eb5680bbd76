"""One request of the page: done, or refused in one line, in the words of the page."""

import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from feller.app.webui.folders import without_folders
from feller.app.webui.heard import Heard, Stopped
from feller.app.webui.labels import with_labels
from feller.app.webui.limits import Limits
from feller.app.webui.loaded_run import Opened
from feller.app.webui.outcome import Outcome
from feller.app.webui.tab import Tab
from feller.core.errors import FULL, InputError, UsageError
from feller.core.user_code import blamed


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
