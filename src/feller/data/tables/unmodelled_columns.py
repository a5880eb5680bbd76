"""Columns that a model does not generate: identifiers, free text, derived, skipped and hidden columns."""

import re
from dataclasses import dataclass

from feller.core.errors import InputError
from feller.data.files import sample_folder
from feller.data.tables.column import Column, check_words

_NUMBER = re.compile(r"\{(#+)\}")


@dataclass(frozen=True)
class Identifier(Column):
    """Column of identifiers: generated rows get running numbers in `format`, never identifiers from the data."""

    name: str  # pyrefly: ignore
    format: str = "{#}"
    """Text with one placeholder {###}; the number of # characters is the minimum number of digits."""
    first: int = 1
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        if len(_NUMBER.findall(self.format)) != 1:
            raise InputError("a format with one number, such as C-{######}", repr(self.format), column=self.name)
        if self.first < 0:
            raise InputError("a first number of at least 0", self.first, column=self.name)

    def cells(self, n: int) -> list[str]:
        """Return n identifiers; the first number is `first` plus the index of the first row that is written."""
        width = len(_NUMBER.findall(self.format)[0])
        prefix, suffix = re.split(r"\{#+\}", self.format)
        begin = self.first + sample_folder.first_number()
        return [f"{prefix}{i:0{width}d}{suffix}" for i in range(begin, begin + n)]


@dataclass(frozen=True)
class FreeText(Column):
    """Free text column; all cells have the same text, empty by default."""

    name: str  # pyrefly: ignore
    instead: str = ""
    """Text of every generated cell."""
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, (self.instead,), "the word")

    def cells(self, n: int) -> list[str]:
        """Return n cells, all with the text `instead`."""
        return [self.instead] * n


@dataclass(frozen=True)
class HiddenColumn(Column):
    """Column that a private schema search could not describe, because the privacy noise hides its counts.

    Tables of real rows may contain the column, but it is not modelled, and generated rows lack it.
    """

    name: str  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore


@dataclass(frozen=True)
class SkippedColumn(Column):
    """Column that the schema leaves out: real tables may contain it, but models and generated rows lack it."""

    name: str  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore


@dataclass(frozen=True)
class Derived(Column):
    """Column derived from another one by a public mapping."""

    name: str  # pyrefly: ignore
    source: str
    """Name of the source column."""
    mapping: dict[str, str]
    """Mapping from each source cell to its derived cell."""
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, tuple(self.mapping), "the cell")
        if not self.mapping:
            raise InputError(f"a mapping from each cell of {self.source!r} to a derived cell", "none", column=self.name)

    def sources(self, cell: str) -> list[str]:
        """Return the source cells that map to a derived cell."""
        return [source for source, derived in self.mapping.items() if derived == cell]
