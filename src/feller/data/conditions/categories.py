"""Conditions that are categories or sets."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.core.errors import InputError
from feller.data.conditions.cells import ConditionColumn, cells_of, is_missing, refuse_constant, text_of
from feller.data.conditions.condition import Condition
from feller.data.labels import abbreviated, checked_class_ids, class_number, unknown_class

SET_SEPARATORS = ("|", ";")
"""Characters that separate the elements of a set in a cell."""
MAX_CATEGORIES = 1000
"""Maximum number of categories of a condition, and of different elements of a set."""


@dataclass(frozen=True)
class CategoryCondition(Condition):
    """One of several categories, int64 [n]: indices into `categories`, whose number is the null value."""

    categories: tuple[str, ...]
    _dtype: ClassVar[torch.dtype] = torch.int64

    def __post_init__(self) -> None:
        if not self.categories or len({*self.categories}) < len(self.categories):
            raise InputError("distinct categories", ", ".join(self.categories) or "none")

    @property
    def null(self) -> int | float:
        return len(self.categories)

    @property
    def example(self) -> str:
        return self.categories[0]

    @property
    def placeholder(self) -> str:
        return abbreviated(self.categories)

    @property
    def choices(self) -> tuple[str, ...]:
        return self.categories

    def encode(self, name: str, column: ConditionColumn) -> Int64[Tensor, " n"]:
        """Convert the names of categories to indices; a tensor holds indices already, and is checked."""
        if isinstance(column, Tensor):
            return checked_class_ids(InputError, name, column, len(self.categories))
        indices = {category: index for index, category in enumerate(self.categories)}
        return self._indices(name, column, indices.get)

    def _encode_given(self, name: str, entries: ConditionColumn) -> Int64[Tensor, " n"]:
        """Convert names or indices; numbers are names if a category is a number."""
        if isinstance(entries, Tensor):
            return checked_class_ids(InputError, name, entries, len(self.categories))
        return self._indices(name, entries, lambda text: class_number(text, self.categories))

    def _indices(
        self, name: str, column: ConditionColumn, index_of: Callable[[str], int | None]
    ) -> Int64[Tensor, " n"]:
        ids = [len(self.categories) if is_missing(cell) else index_of(text_of(cell)) for cell in cells_of(column)]
        if None in ids:
            raise unknown_class(InputError, name, text_of(cells_of(column)[ids.index(None)]), self.categories)
        return torch.tensor(ids, dtype=torch.int64)

    def decode(self, values: Int64[Tensor, " n"]) -> np.ndarray:
        return np.array([*self.categories, ""])[values.cpu().numpy()]


@dataclass(frozen=True)
class SetCondition(Condition):
    """Set of elements, as multi-hot vectors, float64 [n, elements]; the null value is NaN, unlike the empty set."""

    elements: tuple[str, ...]
    separator: str = SET_SEPARATORS[0]
    """Character that separates the elements in a cell."""

    def __post_init__(self) -> None:
        if not self.elements or len({*self.elements}) < len(self.elements) or len(self.separator) != 1:
            raise InputError("distinct elements and one character that separates them", self)

    @property
    def example(self) -> str:
        return self.separator.join(self.elements[:2])

    @property
    def _shape(self) -> tuple[int, ...]:
        return (len(self.elements),)

    def _entries(self, value: Any) -> Any:
        is_nested = isinstance(value, list | tuple) and any(isinstance(entry, list | tuple | set) for entry in value)
        return value if is_nested or (isinstance(value, Tensor | np.ndarray) and value.ndim == 2) else None

    def encode(self, name: str, column: ConditionColumn) -> Float64[Tensor, "n elements"]:
        """Convert sets of elements to multi-hot vectors; a numeric array [n, elements] holds such vectors already."""
        if isinstance(column, Tensor):
            column = column.detach().cpu().numpy()
        if isinstance(column, np.ndarray) and column.ndim == 2 and column.dtype.kind in "biuf":
            return self._checked(name, torch.from_numpy(column.astype(np.float64)))
        values = np.zeros((len(column), len(self.elements)))
        for i, cell in enumerate(cells_of(column)):
            if is_missing(cell):
                values[i] = math.nan
                continue
            for element in elements_of(cell, self.separator):
                if element not in self.elements:
                    raise InputError.unknown_name(name, element, self.elements)
                values[i, self.elements.index(element)] = 1
        return torch.from_numpy(values)

    def _checked(self, name: str, vectors: Float64[Tensor, "n width"]) -> Float64[Tensor, "n elements"]:
        """Return multi-hot vectors, or the null value, unchanged; InputError for others."""
        is_valid = (vectors == 0) | (vectors == 1) | vectors.isnan()
        if vectors.shape[1] != len(self.elements) or not bool(is_valid.all()):
            found = list(vectors.shape) if bool(is_valid.all()) else vectors[~is_valid][0].item()
            raise InputError(
                f"sets of the elements {abbreviated(self.elements)}, or 0 and 1 for each, shape"
                f" [n, {len(self.elements)}]",
                found,
                argument=name,
            )
        return vectors

    def decode(self, values: Float64[Tensor, "n elements"]) -> np.ndarray:
        """Convert multi-hot vectors to cells [n]; the cell of the empty set is the separator, that of null is empty."""
        rows, is_null = (values == 1).tolist(), self.is_null(values).tolist()
        sets = [self.separator.join(itertools.compress(self.elements, row)) or self.separator for row in rows]
        return np.array(["" if null else cell for cell, null in zip(sets, is_null, strict=True)])


def fit_set(name: str, cells: Sequence[Any], separator: str) -> SetCondition:
    """Return the type of a set, with its elements in the training data."""
    counts = Counter(element for cell in cells for element in elements_of(cell, separator))
    if len(counts) > MAX_CATEGORIES:
        raise InputError(f"at most {MAX_CATEGORIES} different elements", len(counts), argument=name)
    refuse_constant(name, len({frozenset(elements_of(cell, separator)) for cell in cells}) < 2)
    return SetCondition(tuple(sorted(counts)), separator)


def elements_of(cell: Any, separator: str) -> list[str]:
    """Return the elements of a set, given as a text with separators, or as a list or set of texts."""
    entries: Iterable[Any] = (
        cell if isinstance(cell, set | frozenset | list | tuple) else text_of(cell).split(separator)
    )
    return [text for entry in entries if (text := str(entry).strip())]
