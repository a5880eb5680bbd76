"""Conditions that are texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import InputError
from feller.data.conditions.cells import ConditionColumn, cells_of, is_missing, refuse_constant, text_of
from feller.data.conditions.condition import Condition

MAX_TEXT = 256
"""Maximum number of characters of a text."""
NUM_BYTES = 256
"""Number of bytes; texts of more distinct characters are read as bytes."""


@dataclass(frozen=True)
class TextCondition(Condition):
    """Text as characters or bytes, int64 [n, length]; padding follows the text, and the null value is all padding."""

    symbols: str
    """All characters of the training data, in order of their tokens; empty for bytes."""
    length: int
    """Maximum number of tokens: twice that of the longest text in the training data, up to MAX_TEXT."""
    example_text: str
    """Text of the training data, for messages."""
    _dtype: ClassVar[torch.dtype] = torch.int64

    def __post_init__(self) -> None:
        if not 1 <= self.length <= MAX_TEXT:
            raise InputError(f"a length of texts from 1 to {MAX_TEXT}", self.length)

    @property
    def null(self) -> int | float:
        return len(self.symbols) or NUM_BYTES

    @property
    def example(self) -> str:
        return self.example_text

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.length,)

    def encode(self, name: str, column: ConditionColumn) -> Int64[Tensor, "n length"]:
        """Convert texts to tokens; a tensor of tokens is returned unchanged."""
        if isinstance(column, Tensor):
            is_token = column.ndim == 2 and column.shape[1] == self.length and not column.is_floating_point()
            if not is_token or bool(((column < 0) | (column > self.null)).any()):
                expected = f"integer tokens [n, {self.length}] up to {self.null}"
                raise InputError(expected, f"{column.dtype} {list(column.shape)}", argument=name)
            return column.long()
        tokens = self.null_values(len(column))
        for i, cell in enumerate(cells_of(column)):
            ids = [] if is_missing(cell) else self._tokens(name, text_of(cell))
            if len(ids) > self.length:
                raise _too_long(name, len(ids), self.length, i)
            tokens[i, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return tokens

    def decode(self, values: Int64[Tensor, "n length"]) -> np.ndarray:
        rows = [[token for token in row if token != self.null] for row in values.tolist()]
        if self.symbols:
            return np.array(["".join(self.symbols[token] for token in row) for row in rows])
        return np.array([bytes(row).decode(errors="replace") for row in rows])

    def _tokens(self, name: str, text: str) -> list[int]:
        if not self.symbols:
            return list(text.encode(errors="replace"))
        unknown = sorted({*text} - {*self.symbols})
        if unknown:
            raise InputError(f"the characters of the training data, {self.symbols!r}", repr(unknown[0]), argument=name)
        return [self.symbols.index(symbol) for symbol in text]

    def is_null(self, values: Int64[Tensor, "n length"]) -> Bool[Tensor, " n"]:
        return (values == self.null).all(1)


def _too_long(name: str, length: int, longest: int, i: int) -> InputError:
    return InputError(f"texts of at most {longest} characters", length, "Shorten the text", argument=name, row=i + 1)


def fit_text(name: str, cells: Sequence[Any]) -> TextCondition:
    """Return the type of a text, with the characters of the training data."""
    texts = ["" if is_missing(cell) else text_of(cell) for cell in cells]
    refuse_constant(name, len({*texts} - {""}) < 2)
    symbols = "".join(sorted(set().union(*texts)))
    symbols = symbols if len(symbols) <= NUM_BYTES else ""
    lengths = [len(text if symbols else text.encode(errors="replace")) for text in texts]
    if max(lengths) > MAX_TEXT:
        i = next(i for i, length in enumerate(lengths) if length > MAX_TEXT)
        raise _too_long(name, lengths[i], MAX_TEXT, i)
    return TextCondition(symbols, min(2 * max(lengths), MAX_TEXT), next(text for text in texts if text))
