"""Columns of a table: base class, categorical and Boolean columns."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from jaxtyping import Bool, Float64, Int64

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import text_array
from feller.spaces import CategoryTokenizer, ColumnTokenizer

_ARROW: Any = pyarrow.compute  # whose functions are made as it is imported
WITHOUT_NAME = "(empty)"
"""What people call an empty cell."""


class Column(abc.ABC):
    """A column of a table, as its owner describes it in public."""

    name: str

    @property
    @abc.abstractmethod
    def dtype(self) -> str | None:
        """Its type in a data frame, as pandas writes it; None where that follows from its kind."""


class ModelledColumn(Column):
    """A column whose cells have codes, 0 to count - 1; where cells can be missing, the last code says so."""

    missing: str | None
    """Word that stands for a missing cell; None where none may be."""
    also_missing: tuple[str, ...]
    """Other words that are read as missing."""

    @property
    @abc.abstractmethod
    def value_names(self) -> tuple[str, ...]:
        """What people call each code but that of missing cells."""

    @abc.abstractmethod
    def value_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the codes of cells that are there; -1 outside what the column may hold."""

    def nearest_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the codes nearest to cells outside; -1 where nothing is near, as no word is near another."""
        return np.full(len(words), -1, dtype=np.int64)

    @abc.abstractmethod
    def value_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        """Write cells that are there; uniform numbers in [0, 1) choose among those of one code."""

    @property
    @abc.abstractmethod
    def num_values(self) -> int:
        """Codes but that of missing cells."""

    @property
    def usual_code(self) -> int:
        """Code in the middle, which follows from no row: what is taken for a cell that is near nothing."""
        return self.num_values // 2

    @property
    def num_codes(self) -> int:
        """Number of codes."""
        return self.num_values + (self.missing is not None)

    @property
    def field(self) -> ColumnTokenizer:
        """How codes are written: one token each."""
        return CategoryTokenizer(self.num_codes)

    @property
    def names(self) -> tuple[str, ...]:
        """What people call each code."""
        return self.value_names if self.missing is None else (*self.value_names, self.missing or WITHOUT_NAME)

    @property
    def words_for_missing(self) -> tuple[str, ...]:
        """All words that are read as a missing cell, but for the empty one, which always is where cells may miss."""
        return () if self.missing is None else (self.missing, *self.also_missing)

    def code(self, cell: str) -> int | None:
        """Return the code of a cell; None outside what the column may hold."""
        code = int(self.codes(text_array([cell]))[0])
        return None if code < 0 else code

    def codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the codes of many words; -1 outside what the column may hold."""
        codes = self.value_codes(words)
        if self.missing is not None:
            gone = np.asarray(_ARROW.is_in(words, text_array(self.words_for_missing)))
            codes[gone | ((codes < 0) & np.asarray(_ARROW.equal(words, "")))] = self.num_values
        return codes

    def clipped(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the codes of many words, or the nearest, or that of missing cells; -1 where there is none."""
        codes = self.codes(words)
        codes[codes < 0] = self.nearest_codes(words.filter(pyarrow.array(codes < 0)))
        return codes if self.missing is None else np.where(codes < 0, self.num_values, codes)

    def cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        """Write cells; uniform numbers in [0, 1) choose among those of one code."""
        there = codes < self.num_values
        own = self.value_cells(codes[there], uniforms[there])
        if there.all():
            return own
        written = pyarrow.concat_arrays([own, text_array([self.missing or ""])])
        return written.take(pyarrow.array(np.where(there, np.cumsum(there) - 1, len(own))))

    def matching(self, text: str) -> Bool[np.ndarray, " count"]:
        """Return which codes a word of a rule means; InputError if it means none."""
        if text in self.words_for_missing:
            return np.arange(self.num_codes) == self.num_values
        (code,) = self.value_codes(text_array([text])).tolist()
        if code < 0:
            raise InputError.unknown_name("value", text, self.names[:50]).with_context(column=self.name)
        return np.arange(self.num_codes) == code

    def parse_code(self, text: str, *, clip: bool = False) -> int:
        """Return the code of what a person gives, or, where a schema clips, that of the bound that it is beyond.

        Raises:
            UsageError: If the column cannot be that.
        """
        cell = text_array([text])
        (code,), (near,) = self.codes(cell).tolist(), self.nearest_codes(cell).tolist()
        code = near if code < 0 and clip else code
        if code < 0:
            raise UsageError(self.allowed_hint(text), repr(text), argument=self.name)
        return code

    def allowed_hint(self, cell: str) -> str:
        """Say what it can be, instead of a cell that it cannot be."""
        return self.allowed_text

    @property
    def allowed_text(self) -> str:
        """What it can be, for people."""
        names = list(self.names)
        return f"one of {', '.join(names[:20])}" + (", ..." if len(names) > 20 else "")

    @property
    def level_names(self) -> tuple[str, ...]:
        """What people call each level, where codes are too many to count; else each code."""
        return self.names

    def to_levels(self, codes: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the level of each code; the code itself but for numbers written digit by digit."""
        return codes

    def from_levels(
        self, levels: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, " n"]:
        """Return codes of levels, evenly drawn where a level has several."""
        return levels


def check_words(name: str, words: Sequence[str], what: str) -> None:
    """Raise an InputError on words that are no cells, or two that are the same."""
    for i, word in enumerate(words):
        if word != word.strip() or "\x00" in word:
            raise InputError(
                f"{what} {word!r} has blanks around it, which no cell has", remedy="Remove them", column=name
            )
        if word in words[:i]:
            raise InputError(f"{what} {word!r} stands twice", remedy="Keep one", column=name)


@dataclass(frozen=True)
class Categorical(ModelledColumn):
    """One of a list of words; others are taken for `other`, where there is such a word."""

    name: str  # pyrefly: ignore
    values: tuple[str, ...]
    other: str | None = None
    """Word that stands for all that is not in the list; None where nothing else may be."""
    missing: str | None = None  # pyrefly: ignore
    also_missing: tuple[str, ...] = ()  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, (*self._words, *self.words_for_missing), "the value")
        if not self._words:
            raise InputError("values", "none", "List them", column=self.name)

    @cached_property
    def _words(self) -> tuple[str, ...]:
        return self.values if self.other is None or self.other in self.values else (*self.values, self.other)

    @property
    def num_values(self) -> int:
        return len(self._words)

    @property
    def value_names(self) -> tuple[str, ...]:
        return self._words

    @property
    def usual_code(self) -> int:
        return 0 if self.other is None else self._words.index(self.other)

    def value_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        places = np.asarray(_ARROW.index_in(words, text_array(self._words)).fill_null(-1)).astype(np.int64)
        if self.other is not None:
            gap = np.asarray(_ARROW.equal(words, "")) if self.missing is not None else False
            places[(places < 0) & np.logical_not(gap)] = self._words.index(self.other)
        return places

    def value_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        return text_array(self._words).take(pyarrow.array(codes))


@dataclass(frozen=True)
class Boolean(ModelledColumn):
    """One of two words; code 0 is false, 1 is true."""

    num_values = 2

    name: str  # pyrefly: ignore
    true: str = "True"
    false: str = "False"
    missing: str | None = None  # pyrefly: ignore
    also_missing: tuple[str, ...] = ()  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, (self.false, self.true, *self.words_for_missing), "the word")

    @property
    def value_names(self) -> tuple[str, ...]:
        return (self.false, self.true)

    def value_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return 0 or 1; also for the words that data frames have."""
        known = {"False": 0, "True": 1, self.false: 0, self.true: 1}
        return np.array([*known.values(), -1])[_ARROW.index_in(words, text_array([*known])).fill_null(-1)]

    def value_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        return text_array(self.value_names).take(pyarrow.array(codes))
