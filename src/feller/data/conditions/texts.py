"""Conditions that are texts, as characters or as subwords."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import InputError, warn
from feller.data.byte_pairs import tokenizer_of, train_byte_pairs
from feller.data.conditions.cells import ConditionColumn, cells_of, is_missing, refuse_constant, text_of
from feller.data.conditions.condition import Condition

MAX_TEXT = 256
"""Maximum number of characters of a text; the rest is cut."""
NUM_BYTES = 256
"""Number of bytes; texts of more distinct characters are read as bytes."""
MAX_SUBWORDS = 128
"""Maximum number of subwords of a text; the rest is cut."""
NUM_SUBWORDS = 2048
"""Maximum number of different subwords."""
MIN_SENTENCES = 200
"""Minimum number of distinct texts from which subwords are learned; fewer texts are read by their characters."""


class TokenizedText(Condition):
    """Text as tokens, int64 [n, length]; padding follows the text, and the null value is all padding."""

    if TYPE_CHECKING:  # fields of the subclasses; real properties would become their defaults

        @property
        def length(self) -> int:
            """Maximum number of tokens."""
            ...

        @property
        def example_text(self) -> str:
            """Text of the training data, for messages."""
            ...

    unit: ClassVar[str]
    """Plural noun for the tokens in messages."""
    _dtype: ClassVar[torch.dtype] = torch.int64

    @property
    def example(self) -> str:
        return self.example_text

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.length,)

    @abc.abstractmethod
    def _tokens(self, name: str, text: str) -> list[int]:
        """Return the tokens of a text; InputError if a character is unknown."""

    @abc.abstractmethod
    def _text(self, tokens: list[int]) -> str:
        """Return the text of tokens without padding."""

    def encode(self, name: str, column: ConditionColumn) -> Int64[Tensor, "n length"]:
        """Convert texts to tokens, and cut texts that are too long, with a warning; tensors of tokens are unchanged."""
        if isinstance(column, Tensor):
            is_token = column.ndim == 2 and column.shape[1] == self.length and not column.is_floating_point()
            if not is_token or bool(((column < 0) | (column > self.null)).any()):
                expected = f"integer tokens [n, {self.length}] up to {self.null}"
                raise InputError(expected, f"{column.dtype} {list(column.shape)}", argument=name)
            return column.long()
        cells = [[] if is_missing(cell) else self._tokens(name, text_of(cell)) for cell in cells_of(column)]
        if num_cut := sum(len(ids) > self.length for ids in cells):
            warn(f"{name}: {num_cut} of {len(cells)} texts are cut after their first {self.length} {self.unit}")
        tokens = self.null_values(len(column))
        for row, ids in zip(tokens, cells, strict=True):
            row[: len(ids)] = torch.tensor(ids[: self.length], dtype=torch.int64)
        return tokens

    def decode(self, values: Int64[Tensor, "n length"]) -> np.ndarray:
        return np.array([self._text([token for token in row if token != self.null]) for row in values.tolist()])

    def is_null(self, values: Int64[Tensor, "n length"]) -> Bool[Tensor, " n"]:
        return (values == self.null).all(1)


@dataclass(frozen=True)
class TextCondition(TokenizedText):
    """Text as characters or bytes, int64 [n, length]; padding follows the text, and the null value is all padding."""

    symbols: str
    """All characters of the training data, in order of their tokens; empty for bytes."""
    length: int
    """Maximum number of tokens: twice that of the longest text in the training data, up to MAX_TEXT."""
    example_text: str
    """Text of the training data, for messages."""
    unit: ClassVar[str] = "characters"

    def __post_init__(self) -> None:
        if not 1 <= self.length <= MAX_TEXT:
            raise InputError(f"a length of texts from 1 to {MAX_TEXT}", self.length)

    @property
    def null(self) -> int | float:
        return len(self.symbols) or NUM_BYTES

    def _tokens(self, name: str, text: str) -> list[int]:
        if not self.symbols:
            return list(text.encode(errors="replace"))
        unknown = sorted({*text} - {*self.symbols})
        if unknown:
            raise _unknown(name, unknown[0], self.symbols)
        return [self.symbols.index(symbol) for symbol in text]

    def _text(self, tokens: list[int]) -> str:
        if self.symbols:
            return "".join(self.symbols[token] for token in tokens)
        return bytes(tokens).decode(errors="replace")


@dataclass(frozen=True)
class SubwordCondition(TokenizedText):
    """Text as subwords (byte pairs), int64 [n, length]; padding follows the text, the null value is all padding."""

    tokenizer: str
    """JSON serialisation of the `tokenizers.Tokenizer`."""
    length: int
    """Maximum number of tokens: twice that of the longest text in the training data, up to MAX_SUBWORDS."""
    example_text: str
    """Text of the training data, for messages."""
    unit: ClassVar[str] = "subwords"

    def __post_init__(self) -> None:
        if not 1 <= self.length <= MAX_SUBWORDS:
            raise InputError(f"a length of texts from 1 to {MAX_SUBWORDS}", self.length)

    @property
    def null(self) -> int | float:
        return tokenizer_of(self.tokenizer).get_vocab_size()

    def _tokens(self, name: str, text: str) -> list[int]:
        ids = tokenizer_of(self.tokenizer).encode(text.encode(errors="replace").decode()).ids
        if (known := self._text(ids)) != text:  # bytes that are not in the training data are left out
            raise _unknown(name, next((symbol for symbol in text if symbol not in known), text))
        return ids

    def _text(self, tokens: list[int]) -> str:
        return tokenizer_of(self.tokenizer).decode(tokens, skip_special_tokens=False)


def _unknown(name: str, symbol: str, symbols: str = "") -> InputError:
    expected = "the characters of the training data" + (f", {symbols!r}" if symbols else "")
    return InputError(expected, repr(symbol), "Leave it out", argument=name)


def fit_text(name: str, cells: Sequence[Any]) -> TokenizedText:
    """Return the type of a text: subwords for many texts of several words, otherwise characters or bytes."""
    texts = ["" if is_missing(cell) else text_of(cell) for cell in cells]
    distinct = {*texts} - {""}
    refuse_constant(name, len(distinct) < 2)
    example = next(text for text in texts if text)
    if len(distinct) >= MIN_SENTENCES and sum(len(text.split()) for text in distinct) > 1.5 * len(distinct):
        tokenizer = train_byte_pairs((text.encode(errors="replace").decode() for text in texts), NUM_SUBWORDS)
        lengths = [len(encoding.ids) for encoding in tokenizer_of(tokenizer).encode_batch(sorted(distinct))]
        return SubwordCondition(tokenizer, min(2 * max(lengths), MAX_SUBWORDS), example)
    symbols = "".join(sorted(set().union(*texts)))
    symbols = symbols if len(symbols) <= NUM_BYTES else ""
    lengths = [len(text if symbols else text.encode(errors="replace")) for text in texts]
    return TextCondition(symbols, min(2 * max(lengths), MAX_TEXT), example)
