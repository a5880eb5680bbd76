"""Recognition of the type of a condition from its values."""

from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from feller.core.errors import InputError
from feller.data.conditions.categories import (
    MAX_CATEGORIES,
    SET_SEPARATORS,
    CategoryCondition,
    elements_of,
    fit_set,
)
from feller.data.conditions.cells import (
    ConditionColumn,
    cells_of,
    is_missing,
    is_missing_number,
    numbers_of,
    refuse_constant,
    text_of,
)
from feller.data.conditions.condition import Condition
from feller.data.conditions.image_condition import fit_image
from feller.data.conditions.numbers import fit_number, fit_vector
from feller.data.conditions.texts import fit_text
from feller.data.files.plain_text import parse_number
from feller.data.labels import encode_labels

TEXT_NAMES = ("caption", "captions", "text", "prompt")
"""Names of columns whose texts are no categories, even if few texts are distinct."""
MAX_RARE = 100
"""Maximum number of categories if most of them occur once."""


def fit_condition(name: str, column: ConditionColumn) -> Condition:
    """Return the type of a condition, with the statistics of its values in the training data.

    Numbers are standardised, and vectors: arrays [n, d], or cells such as `0.1 0.2`. Cells such as `a|b` or `a;b`, and
    Python lists and sets of texts, are sets. Other texts are categories; if there are too many, or the column is named
    `caption`, `text` or `prompt`, they are read by their characters, or by subwords if there are at least 200 texts of
    several words. Arrays [n, h, w] and [n, h, w, c] are images.

    Raises:
        InputError: If all values are equal or missing.
    """
    is_array = isinstance(column, Tensor | np.ndarray)
    if is_array and column.ndim in (3, 4):
        return fit_image(name, column)
    if is_array and column.ndim == 2:
        return fit_vector(name, numbers_of(name, column, 2))
    cells = cells_of(column)
    present = [cell for cell in cells if not is_missing(cell)]
    if not present:
        raise InputError("at least one value of the condition", "only missing values", argument=name)
    if all(isinstance(cell, set | frozenset | list | tuple) for cell in present):
        if all(isinstance(entry, Real) for cell in present for entry in cell) and not isinstance(present[0], set):
            return fit_vector(name, numbers_of(name, column, 2))
        return fit_set(name, present, SET_SEPARATORS[0])
    numbers = [cell for cell in present if not is_missing_number(cell)]
    if numbers and all(isinstance(cell, Real) or parse_number(text_of(cell)) is not None for cell in numbers):
        return fit_number(name, numbers_of(name, column, 1))
    if any(isinstance(cell, complex) for cell in present):
        raise InputError("numbers, vectors, texts or images", "complex numbers", argument=name)
    if len({len(text_of(cell).split()) for cell in present}) == 1 and all(map(_is_vector, present)):
        return fit_vector(name, numbers_of(name, column, 2))
    if name.lower() in TEXT_NAMES:
        return fit_text(name, cells)
    separator = next((s for s in SET_SEPARATORS if any(s in text_of(cell) for cell in present)), None)
    if separator is not None and len({e for c in present for e in elements_of(c, separator)}) <= MAX_CATEGORIES:
        return fit_set(name, present, separator)
    num_distinct = len({text_of(cell) for cell in present})
    if num_distinct > MAX_CATEGORIES or (num_distinct > MAX_RARE and num_distinct > len(present) / 2):
        return fit_text(name, cells)
    _, categories = encode_labels([text_of(cell) for cell in present], name)
    refuse_constant(name, len(categories) < 2)
    return CategoryCondition(categories)


def _is_vector(cell: Any) -> bool:
    return all(parse_number(entry) is not None for entry in text_of(cell).split())
