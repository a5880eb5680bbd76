"""What the argument parser refuses, said in one line."""

import contextlib
import io
import pathlib
import re
from collections.abc import Callable
from typing import TypeVar

from feller.core.errors import UsageError

T = TypeVar("T")
EDGES = "╭╮╰╯─-"
KINDS = {"float": "a number", "int": "a whole number", "FLOAT": "a number", "INT": "a whole number"}


def plainly(parse: Callable[[], T]) -> T:
    """Call a parser that prints boxes and ends the program where words are wrong.

    Raises:
        UsageError: In the box's place.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return parse()
    except SystemExit as end:
        if end.code in (None, 0):
            raise
        raise UsageError(in_a_line(box.getvalue())) from None


def in_a_line(box: str) -> str:
    """Return what a box says, as a sentence and what helps."""
    lines = [line.strip("│| ") for line in box.strip("\n").splitlines()[1:]]  # the first names the kind of fault
    inner = ["" if line and not line.strip(EDGES) else line for line in lines]
    parts = " ".join(line or "\n" for line in inner).split("\n")
    parts = [" ".join(part.split()) for part in parts]
    said, *rest = [part for part in parts if part]
    whole = " ".join((said, *rest))
    helps = re.search(r"For full helptext, (?:see|run) (.*?--help)", whole)
    see = f" (see {helps[1]})" if helps else ""
    if unknown := re.match(r"Unrecognized options: (\S+?)(?:,|$|\s)", said):
        near = re.search(r"Perhaps you meant: (\S+)", whole)
        kind = "flag is called" if unknown[1].startswith("-") else "place is left for"
        if not unknown[1].startswith("-") and pathlib.PurePath(unknown[1]).suffix:
            see = f"; a name with a space needs quotes{see}"
        return f"no {kind} {unknown[1]}{f': did you mean {near[1]}?' if near else ''}{see}"
    if missing := re.match(r"Missing value for argument '([^'/]+)", said):
        return f"{missing[1]} needs a value{see}"
    if wrong := re.match(r"Error parsing (\S+): (.*)", said):
        name, why = wrong.groups()
        kind = next((text for word, text in KINDS.items() if re.search(rf"\b{word}\b", why)), None)
        given = re.search(r"(?:'([^']*)'\]?\.?|\['([^']*)'\]\.?)$", why)
        if kind and given:
            return f"{name} takes {kind}, got {given[1] or given[2]!r}{see}"
        return f"{name}: {why}" if not name.startswith("-") else f"{name}: {why}{see}"
    return said
