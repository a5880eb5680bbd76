"""HTML elements: all that comes from data is escaped, every tag is closed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, tostring

from feller.evaluation.report.wording import is_number, number

Child = Element | str | None
_FLAG = re.compile(r"(?<![\w-])(--[a-z][\w.-]*\w)")
"""A flag of the command line among words, without the full stop behind it."""


def element(tag: str, attributes: Mapping[str, str] | None = None, *children: Child) -> Element:
    """Make an element; text is escaped when the page is written, None is left out."""
    made = Element(tag, {name: legible(value) for name, value in (attributes or {}).items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child is not None and len(made):
            made[-1].tail = (made[-1].tail or "") + legible(child)
        elif child is not None:
            made.text = (made.text or "") + legible(child)
    return made


def prose(text: str) -> list[Child]:
    """Return words of a sentence in which no line breaks inside a flag such as --train.steps."""
    parts = _FLAG.split(text)
    marked = [element("span", {"class": "flag"}, part) if k % 2 else part for k, part in enumerate(parts)]
    return [part for part in marked if not isinstance(part, str) or part]


def section(title: str, *children: Child) -> Element:
    """Make a section under its heading."""
    return element("section", None, element("h2", None, title), *children)


def render(page: Element) -> str:
    """Write a whole page."""
    return "<!doctype html>\n" + tostring(page, encoding="unicode", method="html") + "\n"


def legible(text: str) -> str:
    """Replace what no page may hold: control characters, those that turn the direction of writing, half characters."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


Cell = str | float | int | None


@dataclass(frozen=True)
class Grid:
    """A table under a heading."""

    title: str
    words: str
    """What it shows, for people."""
    head: tuple[str, ...]
    """Of each column."""
    rows: Sequence[tuple[Cell, ...]]
    """The first cell names the row."""

    def plain(self) -> list[Mapping[str, Any]]:
        """Return the rows by the names of the columns, for JSON."""
        return [dict(zip(self.head, row, strict=True)) for row in self.rows]


def drawn(grid: Grid) -> Element:
    """Make the section."""
    numeric = [all(not isinstance(row[j], str) for row in grid.rows) for j in range(len(grid.head))]
    kinds = ["number" if is_one else "" for is_one in numeric]
    heads = [element("th", {"scope": "col", "class": kind}, name) for name, kind in zip(grid.head, kinds, strict=True)]
    rows = [
        element(
            "tr",
            None,
            element("th", {"scope": "row", "class": kinds[0]}, _text(first)),
            *(element("td", {"class": kind}, _text(cell)) for cell, kind in zip(rest, kinds[1:], strict=True)),
        )
        for first, *rest in grid.rows
    ]
    table = element("table", {"class": "meanings"}, element("thead", None, element("tr", None, *heads)))
    table.append(element("tbody", None, *rows))
    return section(grid.title, element("p", {"class": "soft"}, grid.words), table)


def _text(cell: Cell) -> str:
    if cell is None:
        return "–"
    return number(cell) if is_number(cell) else str(cell)
