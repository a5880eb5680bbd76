"""Columns of words."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from feller.core.errors import InputError
from feller.data.tables.column import Modelled, check_words


@dataclass(frozen=True)
class Categorical(Modelled):
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
            raise InputError(f"column {self.name!r}: expected values, got none; list them")

    @cached_property
    def _words(self) -> tuple[str, ...]:
        return self.values if self.other is None or self.other in self.values else (*self.values, self.other)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self._words)}

    @property
    def own_count(self) -> int:
        """As many as there are words."""
        return len(self._words)

    @property
    def own_names(self) -> tuple[str, ...]:
        """The words."""
        return self._words

    def own_code(self, cell: str) -> int | None:
        """Return the place of a word, or that of all others."""
        if not cell and "" not in self._place and self.missing is not None:
            return None
        return self._place.get(cell, None if self.other is None else self._place[self.other])

    def nearest_code(self, cell: str) -> int | None:
        """Return none: no word is near another."""
        return None

    def own_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> list[str]:
        """Write the words."""
        return np.array(self._words, dtype=object)[codes].tolist()


@dataclass(frozen=True)
class Boolean(Modelled):
    """One of two words; code 0 is false, 1 is true."""

    name: str  # pyrefly: ignore
    true: str = "True"
    false: str = "False"
    missing: str | None = None  # pyrefly: ignore
    also_missing: tuple[str, ...] = ()  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, (self.false, self.true, *self.words_for_missing), "the word")

    @property
    def own_count(self) -> int:
        """Two."""
        return 2

    @property
    def own_names(self) -> tuple[str, ...]:
        """The words, false first."""
        return (self.false, self.true)

    def own_code(self, cell: str) -> int | None:
        """Return 0 or 1; also for the words that data frames have."""
        words = {"False": 0, "True": 1, self.false: 0, self.true: 1}
        return words.get(cell)

    def nearest_code(self, cell: str) -> int | None:
        """Return none."""
        return None

    def own_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> list[str]:
        """Write the words."""
        return [self.own_names[code] for code in codes]
