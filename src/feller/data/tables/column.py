"""Base classes of table columns; categorical and Boolean columns."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow
import pyarrow.compute
from jaxtyping import Bool, Float64, Int64

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import text_array
from feller.spaces import CategoryTokenizer, ColumnTokenizer

_ARROW: Any = pyarrow.compute  # its functions are created at import
WITHOUT_NAME = "(empty)"
"""Display name of an empty cell."""


class Column(abc.ABC):
    """Base class of columns; a column is the public description of a table column."""

    name: str

    @property
    @abc.abstractmethod
    def dtype(self) -> str | None:
        """Pandas dtype of the column as a string; None for the default dtype of the column type."""


class ModelledColumn(Column):
    """Base class of columns with integer codes of cells, from 0; the last code stands for missing cells, if allowed."""

    is_ordered: ClassVar[bool] = False
    """True for numbers and times, whose codes ascend with the values."""
    missing: str | None
    """Text of a missing cell; None if cells cannot be missing."""
    also_missing: tuple[str, ...]
    """Other texts that are read as missing cells."""

    @property
    @abc.abstractmethod
    def value_names(self) -> tuple[str, ...]:
        """Display name of each code, except the code of missing cells."""

    @abc.abstractmethod
    def value_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the codes of non-missing cells; -1 for cells that are not allowed."""

    def nearest_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the nearest code for each cell that is not allowed; -1 if there is no nearest code, as for words."""
        return np.full(len(words), -1, dtype=np.int64)

    @abc.abstractmethod
    def value_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        """Decode codes to non-missing text cells; `uniforms`, in [0, 1), select a value within each code."""

    @property
    @abc.abstractmethod
    def num_values(self) -> int:
        """Number of codes, without the code of missing cells."""

    @property
    def usual_code(self) -> int:
        """Code imputed for cells without a nearest code: the middle code, which does not depend on the rows."""
        return self.num_values // 2

    @property
    def num_codes(self) -> int:
        """Number of codes, including the code of missing cells."""
        return self.num_values + (self.missing is not None)

    @property
    def field(self) -> ColumnTokenizer:
        """Tokenizer of the codes of the column: by default, the code of a cell is its only token."""
        return CategoryTokenizer(self.num_codes, self.num_values if self.is_ordered else 0)

    @property
    def names(self) -> tuple[str, ...]:
        """Display name of each code, including the code of missing cells."""
        return self.value_names if self.missing is None else (*self.value_names, self.missing or WITHOUT_NAME)

    @property
    def words_for_missing(self) -> tuple[str, ...]:
        """Texts that are read as missing cells, besides the empty text; empty if cells cannot be missing."""
        return () if self.missing is None else (self.missing, *self.also_missing)

    def code(self, cell: str) -> int | None:
        """Return the code of a cell; None if the cell is not allowed."""
        code = int(self.codes(text_array([cell]))[0])
        return None if code < 0 else code

    def codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the codes of cells; -1 for cells that are not allowed."""
        codes = self.value_codes(words)
        if self.missing is not None:
            is_missing = np.asarray(_ARROW.is_in(words, text_array(self.words_for_missing)))
            codes[is_missing | ((codes < 0) & np.asarray(_ARROW.equal(words, "")))] = self.num_values
        return codes

    def clipped(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the codes of cells; cells not allowed get the nearest code, else the missing code, else -1."""
        codes = self.codes(words)
        codes[codes < 0] = self.nearest_codes(words.filter(pyarrow.array(codes < 0)))
        return codes if self.missing is None else np.where(codes < 0, self.num_values, codes)

    def cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        """Decode codes to text cells; `uniforms`, in [0, 1), select a value within each code."""
        is_value = codes < self.num_values
        value_cells = self.value_cells(codes[is_value], uniforms[is_value])
        if is_value.all():
            return value_cells
        all_cells = pyarrow.concat_arrays([value_cells, text_array([self.missing or ""])])
        return all_cells.take(pyarrow.array(np.where(is_value, np.cumsum(is_value) - 1, len(value_cells))))

    def matching(self, text: str) -> Bool[np.ndarray, " count"]:
        """Return True for each code to which the value `text` of a rule refers; InputError if it refers to no code."""
        if text in self.words_for_missing:
            return np.arange(self.num_codes) == self.num_values
        (code,) = self.value_codes(text_array([text])).tolist()
        if code < 0:
            raise InputError.unknown_name("value", text, self.names[:50]).with_context(column=self.name)
        return np.arange(self.num_codes) == code

    def parse_code(self, text: str, *, clip: bool = False) -> int:
        """Return the code of a value given by a user; with `clip`, a value out of bounds gets the code of the bound.

        Raises:
            UsageError: If the value is not allowed and not clipped.
        """
        cell = text_array([text])
        (code,), (nearest,) = self.codes(cell).tolist(), self.nearest_codes(cell).tolist()
        code = nearest if code < 0 and clip else code
        if code < 0:
            raise UsageError(self.allowed_hint(text), repr(text), argument=self.name)
        return code

    def allowed_hint(self, cell: str) -> str:
        """Return a description of the expected values, for the error about the rejected cell `cell`."""
        return self.allowed_text

    @property
    def allowed_text(self) -> str:
        """Description of the allowed values, for error messages."""
        names = list(self.names)
        return f"one of {', '.join(names[:20])}" + (", ..." if len(names) > 20 else "")

    @property
    def level_names(self) -> tuple[str, ...]:
        """Display name of each level; see `to_levels`."""
        return self.names

    def to_levels(self, codes: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Map codes to levels: for numbers generated digit by digit, levels are bins; for other columns, the codes."""
        return codes

    def from_levels(
        self, levels: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, " n"]:
        """Return a code for each level (see `to_levels`), sampled within the level by the uniform numbers in [0, 1)."""
        return levels


def check_words(name: str, words: Sequence[str], what: str) -> None:
    """Raise an InputError if a word has leading or trailing blanks or a null character, or is repeated.

    Args:
        name: Name of the column, for the message.
        words: Words in the schema of the column.
        what: Noun for a word, the start of the message.
    """
    for i, word in enumerate(words):
        if "\x00" in word:
            raise InputError(
                f"{what} {word!r} contains a null character", remedy="Remove the null characters", column=name
            )
        if word != word.strip():
            raise InputError(
                f"{what} {word!r} has leading or trailing spaces, which are stripped from cells, so it matches no cell",
                remedy="Remove the spaces",
                column=name,
            )
        if word in words[:i]:
            raise InputError(f"{what} {word!r} is listed twice", remedy="Remove one", column=name)


@dataclass(frozen=True)
class Categorical(ModelledColumn):
    """Categorical column with a list of values; if `other` is set, it replaces values that are not listed."""

    name: str  # pyrefly: ignore
    values: tuple[str, ...]
    other: str | None = None
    """Value that replaces values that are not listed; None if these are not allowed."""
    missing: str | None = None  # pyrefly: ignore
    also_missing: tuple[str, ...] = ()  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, (*self._words, *self.words_for_missing), "the value")
        if not self._words:
            raise InputError("at least one value", "none", "List the values", column=self.name)

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
        codes = np.asarray(_ARROW.index_in(words, text_array(self._words)).fill_null(-1)).astype(np.int64)
        if self.other is not None:
            is_empty = np.asarray(_ARROW.equal(words, "")) if self.missing is not None else False
            codes[(codes < 0) & np.logical_not(is_empty)] = self._words.index(self.other)
        return codes

    def value_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        return text_array(self._words).take(pyarrow.array(codes))


@dataclass(frozen=True)
class Boolean(ModelledColumn):
    """Column with two values; code 0 stands for false, and code 1 for true."""

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
        """Return the code of each cell, 0 or 1, and -1 for other cells; `True` and `False` are always accepted."""
        code_of_word = {"False": 0, "True": 1, self.false: 0, self.true: 1}
        return np.array([*code_of_word.values(), -1])[_ARROW.index_in(words, text_array([*code_of_word])).fill_null(-1)]

    def value_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        return text_array(self.value_names).take(pyarrow.array(codes))
