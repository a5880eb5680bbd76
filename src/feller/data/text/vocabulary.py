"""Vocabularies, which map text to token ids from 0 to `vocab_size` - 1, and back."""

import abc
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from feller.core.errors import InputError

PLAIN: dict[str, str] = dict(zip("“”„«»‘’‚´`–—−‐…\u00a0\t", "\"\"\"\"\"'''''----.  ", strict=True))
"""Typographic characters, each with the equivalent characters on a keyboard."""


class Vocabulary(abc.ABC):
    """Base class of tokenisers: text to token ids and back; decode(encode(text)) is the text."""

    unit: ClassVar[str]
    """Plural noun for the tokens in messages, such as "characters"."""

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of tokens."""

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text.

        Raises:
            InputError: If a character is not in the vocabulary; the error gives its position and suggests a
            replacement.
        """

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; bytes that are not valid UTF-8 become U+FFFD."""


@dataclass(frozen=True)
class Characters(Vocabulary):
    """Character-level vocabulary: one token per character."""

    unit = "characters"

    symbols: str
    """All characters, in order of their ids."""

    def __post_init__(self) -> None:
        if not self.symbols or len(set(self.symbols)) < len(self.symbols):
            raise InputError("one or more distinct characters", f"{self.symbols!r:.80}")

    @property
    def vocab_size(self) -> int:
        return len(self.symbols)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def encode(self, text: str) -> list[int]:
        try:
            return [self._number[symbol] for symbol in text]
        except KeyError:
            i, character = next((i, symbol) for i, symbol in enumerate(text) if symbol not in self._number)
            raise InputError(
                f"one of the {self.vocab_size} characters of the vocabulary",
                f"{describe_character(character)} at character {i + 1}",
                self._advice(character),
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.symbols[i] for i in ids)

    def _advice(self, character: str) -> str:
        """Return the remedy: another case, the letter without its accent, or a plainer character."""
        base_letter = unicodedata.normalize("NFKD", character)[:1]
        candidates = [f(letter) for letter in (character, base_letter) for f in (str, str.lower, str.upper)]
        for candidate in (*candidates, PLAIN.get(character, "")):
            if candidate in self._number:  # upper case may be two letters, which are not a token
                return f"Write {candidate!r} instead, or remove it"
        return f"Remove it; the vocabulary is {self.symbols!r}"


@dataclass(frozen=True)
class Bytes(Vocabulary):
    """Byte-level vocabulary: one token per UTF-8 byte, which covers every text."""

    vocab_size = 256
    unit = "bytes"

    def encode(self, text: str) -> list[int]:
        return list(check_encodable(text).encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Decode token ids, which are bytes, as UTF-8; invalid bytes become U+FFFD."""
        return bytes(ids).decode(errors="replace")


def describe_character(character: str) -> str:
    """Return the repr of a character followed by its code point."""
    return f"{character!r} (U+{ord(character):04X})"


def check_encodable(text: str) -> str:
    """Return a text unchanged if it can be encoded as UTF-8.

    Raises:
        InputError: If the text contains a lone surrogate, for example from a damaged escape sequence or file name.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        i = error.start
        raise InputError(
            "valid Unicode text",
            f"{describe_character(text[i])}, a lone surrogate, at character {i + 1}",
            "Remove this character",
        ) from error
    return text
