"""What comes out of a tab, as plain objects."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """A picture in a file, for people."""

    caption: str
    path: pathlib.Path


@dataclass(frozen=True)
class Rows:
    """A table for people."""

    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that a tab may show; what is empty is not shown."""

    said: str = ""
    """A line or more about what was done."""
    pictures: tuple[Shown, ...] = ()
    sides: tuple[Rows, ...] = ()
    """Two tables that stand beside each other."""
    table: Rows | None = None
    numbers: Rows | None = None
    """Numbers, each with its name and its meaning, all of which is seen at once."""
    words: str = ""
    sounds: tuple[pathlib.Path, ...] = ()
    files: tuple[pathlib.Path, ...] = ()
    """To be downloaded."""
    page: str = ""
    """A report, HTML that was written for a page of its own."""
    drawing: str = ""
    """SVG of our own."""
    over: bool = False
    """Whether nothing more is to come, of what is looked at again and again."""
