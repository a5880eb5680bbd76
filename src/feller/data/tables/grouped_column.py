"""Categorical columns of many values, in which rare values share the code of a group."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from jaxtyping import Float64, Int64

from feller.core.errors import InputError
from feller.data.loading.raw import text_array
from feller.data.tables.bins import Bins
from feller.data.tables.column import ModelledColumn, check_words

_ARROW: Any = pyarrow.compute  # its functions are created at import
MAX_LISTED = 20
"""Maximum number of values listed in an error."""


@dataclass(frozen=True)
class Grouped(ModelledColumn):
    """Categorical column with values of their own and groups of values; each group has one code.

    Samples of a group are values of the group, all equally likely.
    """

    name: str  # pyrefly: ignore
    values: tuple[str, ...] = ()
    """Values with codes of their own."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values that share a code, by the name of their group."""
    other: str | None = None
    """Value that replaces values that are not listed; None if these are not allowed."""
    missing: str | None = None  # pyrefly: ignore
    also_missing: tuple[str, ...] = ()  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, (*self.words, *self.words_for_missing), "the value")
        check_words(self.name, self.value_names, "the name of a group")
        empty = next((name for name, members in self.groups.items() if not members), None)
        if empty is not None:
            raise InputError("at least one value in each group", f"none in {empty!r}", column=self.name)
        if not self.words:
            raise InputError("at least one value", "none", "List the values", column=self.name)

    @cached_property
    def _single(self) -> tuple[str, ...]:
        return self.values if self.other is None or self.other in self.values else (*self.values, self.other)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All values, those of groups last, group by group."""
        return (*self._single, *(word for members in self.groups.values() for word in members))

    @cached_property
    def levels(self) -> Bins:
        """Codes as bins of indices of `words`."""
        sizes = [*(1 for _ in self._single), *map(len, self.groups.values())]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
        return Bins(tuple(starts.tolist()), len(self.words) - 1)

    @property
    def num_values(self) -> int:
        return len(self._single) + len(self.groups)

    @property
    def value_names(self) -> tuple[str, ...]:
        return (*self._single, *self.groups)

    @property
    def usual_code(self) -> int:
        return 0 if self.other is None else self._single.index(self.other)

    @property
    def allowed_text(self) -> str:
        names = [*self.words, *([] if self.missing is None else [self.missing])]
        return f"one of {', '.join(names[:MAX_LISTED])}" + (", ..." if len(names) > MAX_LISTED else "")

    def word_indices(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the index of each cell in `words`; -1 for cells that are not listed."""
        return np.asarray(_ARROW.index_in(words, text_array(self.words)).fill_null(-1)).astype(np.int64)

    def value_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        codes = self.levels.codes(self.word_indices(words))
        if self.other is not None:
            is_empty = np.asarray(_ARROW.equal(words, "")) if self.missing is not None else False
            codes[(codes < 0) & np.logical_not(is_empty)] = self._single.index(self.other)
        return codes

    def value_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        return text_array(self.words).take(pyarrow.array(self.levels.draw(codes, uniforms)))
