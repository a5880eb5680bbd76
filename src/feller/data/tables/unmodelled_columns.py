"""Columns that no model sees: they are made anew, left empty, left out, or follow from others."""

import re
from dataclasses import dataclass

from feller.core.errors import InputError
from feller.data.files import sample_folder
from feller.data.tables.column import Column, check_words

_NUMBER = re.compile(r"\{(#+)\}")


@dataclass(frozen=True)
class Identifier(Column):
    """Running numbers in a format, such as C-{######}: never those of the data."""

    name: str  # pyrefly: ignore
    format: str = "{#}"
    """Text around one number in braces, a # for each digit at least."""
    first: int = 1
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        if len(_NUMBER.findall(self.format)) != 1:
            raise InputError("a format with one number, as C-{######}", repr(self.format), column=self.name)
        if self.first < 0:
            raise InputError("a first number of 0 or more", self.first, column=self.name)

    def cells(self, n: int) -> list[str]:
        """Write the first n, or those from the number of the first row of a part on."""
        width = len(_NUMBER.findall(self.format)[0])
        before, after = re.split(r"\{#+\}", self.format)
        begin = self.first + sample_folder.first_number()
        return [f"{before}{i:0{width}d}{after}" for i in range(begin, begin + n)]


@dataclass(frozen=True)
class FreeText(Column):
    """Text of people's own; all cells are written alike, empty unless a word is given."""

    name: str  # pyrefly: ignore
    instead: str = ""
    """What each cell holds."""
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, (self.instead,), "the word")

    def cells(self, n: int) -> list[str]:
        """Write n cells."""
        return [self.instead] * n


@dataclass(frozen=True)
class HiddenColumn(Column):
    """What noise could not tell: real tables may have it, rows that are made do not."""

    name: str  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore


@dataclass(frozen=True)
class Derived(Column):
    """What follows from another column by a public table."""

    name: str  # pyrefly: ignore
    source: str
    """Name of the other column."""
    mapping: dict[str, str]
    """Cell of the other column -> ours."""
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, tuple(self.mapping), "the cell")
        if not self.mapping:
            raise InputError(f"a mapping from the cells of {self.source!r}", "none", column=self.name)

    def sources(self, cell: str) -> list[str]:
        """Return the cells of the other column from which a cell of ours follows."""
        return [source for source, ours in self.mapping.items() if ours == cell]
