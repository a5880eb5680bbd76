"""Vocabularies: text to whole numbers from 0 to `vocab_size` - 1, and back."""

import abc
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from feller.core.errors import InputError

PLAIN: dict[str, str] = dict(zip("“”„«»‘’‚´`–—−‐…\u00a0\t", "\"\"\"\"\"'''''----.  ", strict=True))
"""Signs of print, and what a keyboard has for them."""


class Vocabulary(abc.ABC):
    """Turns text into symbols and back: decode(encode(text)) is the text."""

    unit: ClassVar[str]
    """Plural name of a symbol in messages, such as characters."""

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of symbols."""

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the numbers of the symbols of a text.

        Raises:
            InputError: If a character has none; names it, its place, and the nearest that has one.
        """

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of symbols; bytes that are no UTF-8 become U+FFFD."""


@dataclass(frozen=True)
class Characters(Vocabulary):
    """Each character is a symbol."""

    unit = "characters"

    symbols: str
    """All of them, in the order of their numbers."""

    def __post_init__(self) -> None:
        if not self.symbols or len(set(self.symbols)) < len(self.symbols):
            raise InputError("different characters, one or more", f"{self.symbols!r:.80}")

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
            i, stranger = next((i, symbol) for i, symbol in enumerate(text) if symbol not in self._number)
            raise InputError(
                f"the {self.vocab_size} characters that the model knows",
                f"{describe_character(stranger)}, character {i + 1}",
                self._advice(stranger),
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.symbols[i] for i in ids)

    def _advice(self, stranger: str) -> str:
        """Say what to write instead: another case, the letter without its accent, a plainer sign."""
        bare = unicodedata.normalize("NFKD", stranger)[:1]
        candidates = [f(letter) for letter in (stranger, bare) for f in (str, str.lower, str.upper)]
        for near in (*candidates, PLAIN.get(stranger, "")):
            if near in self._number:  # upper case may be two letters, which are not in it
                return f"Write {near!r} instead, or leave it out"
        return f"Leave it out; there are {self.symbols!r}"


@dataclass(frozen=True)
class Bytes(Vocabulary):
    """Each byte of the text in UTF-8 is a symbol; every text has them."""

    vocab_size = 256
    unit = "bytes"

    def encode(self, text: str) -> list[int]:
        return list(check_encodable(text).encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Read the bytes as UTF-8."""
        return bytes(ids).decode(errors="replace")


def describe_character(character: str) -> str:
    """Return a character as Python writes it, with its code point."""
    return f"{character!r} (U+{ord(character):04X})"


def check_encodable(text: str) -> str:
    """Return a text if UTF-8 can hold it.

    Raises:
        InputError: If there is half of a pair of surrogates in it, as a damaged escape or file name has.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        i = error.start
        raise InputError(
            "text", f"{describe_character(text[i])}, half of a character, as character {i + 1}", "Leave it out"
        ) from error
    return text
