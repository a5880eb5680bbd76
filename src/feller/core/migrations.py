"""Formats of run folders: older ones are brought to the present one when they are read, newer ones are refused.

How long formats are read is promised in docs/safety.md.
"""

from collections.abc import Callable
from typing import Any

from feller import __version__
from feller.core.errors import InputError

Record = dict[str, Any]
Change = Callable[[str, Record], Record]
"""(name of a JSON file of a run, what it holds) -> what it would hold in the next format."""


def name_vector_quantizer(name: str, content: Record) -> Record:
    """Record the codebook of a vector quantizer as `VectorQuantizerEMA`, where it was `EMA`."""

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(each) for each in value]
        if not isinstance(value, dict):
            return value
        value = {key: renamed(each) for key, each in value.items()}
        return {**value, "is": "VectorQuantizerEMA"} if value.get("is") == "EMA" else value

    return renamed(content)


FIRST = 1
"""The oldest format that is read."""
CHANGES: tuple[Change, ...] = (name_vector_quantizer,)
"""From each format to the next, the oldest first. Who changes what a file holds adds one here, and keeps a run of the
format before in tests/safety/formats."""


def present() -> int:
    """Return the format that is written."""
    return FIRST + len(CHANGES)


def brought_up(name: str, content: Record) -> Record:
    """Return what a file of a run holds, in the present format; its `format` says in which it is.

    Raises:
        InputError: If that is none, or one that is not read.
    """
    written = content.get("format")
    if not isinstance(written, int) or isinstance(written, bool) or written < FIRST:
        raise InputError(f"is not a file of a run: expected an object with a number `format` from {FIRST}")
    if not isinstance(content.get("version", ""), str):
        raise InputError("is not a file of a run: expected text as its `version`")
    if written > present():
        by = str(content.get("version"))[:20]
        raise InputError(
            f"was written by feller {by} in format {written}; this is feller {__version__}, which reads up to format"
            f" {present()}: upgrade feller"
        )
    rest = {key: value for key, value in content.items() if key not in ("format", "version")}
    for change in CHANGES[written - FIRST :]:
        rest = change(name, rest)
    return rest
