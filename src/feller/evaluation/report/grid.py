"""Tables of rows and columns, for what has more than one number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from feller.evaluation.report.html import element, section
from feller.evaluation.report.wording import is_number, number

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
