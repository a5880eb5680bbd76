"""One request of the page: done, or refused in one line."""

import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from feller.errors import FULL, InputError, UsageError
from feller.studio.heard import Heard
from feller.studio.limits import Limits
from feller.studio.outcome import Outcome
from feller.studio.scratch import Scratch
from feller.studio.tab import Tab


class Wrong(Exception):
    """What a visitor is told, in one line."""


def ask(tab: Tab, sent: Mapping[str, Any], limits: Limits, scratch: Scratch, heard: Heard) -> Outcome:
    """Do what a visitor asks for, with what was said on the way in front.

    Raises:
        Wrong: If that fails; a fault of ours goes to standard error, too.
    """
    try:
        found = tab.do(sent, limits, heard)
    except (InputError, UsageError) as error:
        raise Wrong(_plain(str(error), scratch)) from error
    except OSError as error:
        why = "the disk is full" if error.errno in FULL else error.strerror or "a file cannot be read or written"
        raise Wrong(f"{why}; whoever runs this page must make room or mend it") from error
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        raise Wrong("this is a fault of feller, not yours; whoever runs this page sees more") from error
    return replace(found, said="\n".join(filter(None, (*heard.lines, found.said))))


def _plain(text: str, scratch: Scratch) -> str:
    """Return the first line of a message, without places that visitors do not know."""
    line = (text.splitlines() or ["it failed"])[0]
    words = [word.rpartition("/")[2] if str(scratch.path) in word else word for word in line.split(" ")]
    return " ".join(words)
