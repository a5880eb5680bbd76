"""How a table is written as text: what stands between cells, and whether a mark of UTF-8 stands before all."""

import re
from dataclasses import dataclass

from feller.core.errors import InputError

SEPARATORS = ",;\t"
"""What may stand between cells."""
MARK = "\ufeff"
"""What programs for tables write before UTF-8, and look for."""


@dataclass(frozen=True)
class Dialect:
    """Of a file; nothing of its rows."""

    separator: str = ","
    marked: bool = False
    """Whether it begins with the mark of UTF-8."""

    def __post_init__(self) -> None:
        if len(self.separator) != 1 or self.separator not in SEPARATORS:
            raise InputError(f"expected a comma, a semicolon or a tab between cells, got {self.separator!r}")

    def text(self, rows: list[list[str]]) -> str:
        """Return rows of cells, the names first, as text that is read as the same; one row or more."""
        alone = len(rows[0]) == 1  # an empty cell alone would be an empty line, which is no row
        cut = "" if alone else self.separator
        lines = (self.separator.join(quoted(cell, cut) for cell in row) or '""' * alone for row in rows)
        return MARK * self.marked + "".join(f"{line}\n" for line in lines)


def quoted(word: str, separator: str = "") -> str:
    """Quote a word that would otherwise be cut, or not be read as it is, with any separator or with one."""
    cuts = ";\t" if separator == ";" else ",;\t"
    return '"' + word.replace('"', '""') + '"' if re.search(rf'[{cuts}"\r\n]', word) else word


def separator_in(line: str) -> str:
    """Return what separates the cells of a first line."""
    first = re.sub(r'"[^"]*("|$)', "", line)  # what is quoted separates nothing
    return "\t" if "\t" in first else ";" if ";" in first else ","
