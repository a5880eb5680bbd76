"""One request of the page: done, or refused in one line, in the words of the page."""

import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from feller.code import blamed
from feller.errors import FULL, InputError, UsageError
from feller.studio.heard import Heard
from feller.studio.labels import with_labels
from feller.studio.limits import Limits
from feller.studio.outcome import Outcome
from feller.studio.tab import Tab

FOLDERS = re.compile(r"(?<![\w./:])(?:/[^\s/'\"]+)+/(?=[^\s/])")
"""Of an absolute place, before its last part."""


class Wrong(Exception):
    """What a visitor is told, in one line."""


def ask(tab: Tab, sent: Mapping[str, Any], limits: Limits, heard: Heard) -> Outcome:
    """Do what a visitor asks for, with what was said on the way in front.

    Raises:
        Wrong: If that fails; a fault of ours goes to standard error, too.
    """
    try:
        found = tab.do(sent, limits, heard)
    except (InputError, UsageError) as error:
        raise Wrong(with_labels(_plain(str(error)), tab.controls)) from error
    except OSError as error:
        why = "the disk is full" if error.errno in FULL else error.strerror or "a file cannot be read or written"
        raise Wrong(f"{why}; whoever runs this page must make room or mend it") from error
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        own = blamed(error)
        fault = "this is a fault of feller, not yours" if own is None else _plain(own)
        raise Wrong(f"{fault}; whoever runs this page sees more") from error
    lines = [*map(_plain, heard.lines), FOLDERS.sub("", found.said)]
    return replace(found, said=with_labels("\n".join(filter(None, lines)), tab.controls))


def _plain(text: str) -> str:
    """Return the first line of a message, without the folders in which files lie: they are nothing for visitors."""
    return FOLDERS.sub("", (text.splitlines() or ["it failed"])[0])
