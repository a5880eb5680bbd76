"""Vocabularies of pretrained language models: their own tokenizers, with the end and mask tokens moved to the end."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from feller.core.errors import InputError, check_number
from feller.data.byte_pairs import tokenizer_of
from feller.data.text.vocabulary import Vocabulary, check_encodable

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def ordered_ids(num_ids: int, moved: Sequence[int]) -> list[int]:
    """Return the ids 0 to `num_ids` - 1 with the `moved` ids at the end, in their order."""
    others = {*range(num_ids)} - {*moved}
    return [*sorted(others), *moved]


@functools.lru_cache(maxsize=8)
def plain_tokenizer(record: str) -> "Tokenizer":
    """Return the tokenizer of its JSON serialisation; special tokens in texts are encoded as plain characters.

    Raises:
        InputError: If the record is damaged.
    """
    from tokenizers import Tokenizer

    tokenizer_of(record)  # raises for a damaged record
    tokenizer = Tokenizer.from_str(record)  # its own copy, which is changed
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


@dataclass(frozen=True)
class PretrainedSubwords(Vocabulary):
    """Tokens of a pretrained language model, without its end token and its mask token.

    Tokenizers that lower-case texts, or replace unknown characters, do not decode to the same text.
    """

    unit = "subwords"

    tokenizer: str
    """JSON serialisation of the `tokenizers.Tokenizer`."""
    num_ids: int
    """Number of ids of the language model, at least that of the tokenizer."""
    moved: tuple[int, ...]
    """Ids in the tokenizer of the tokens that are not in this vocabulary: the end token, then the mask token."""

    def __post_init__(self) -> None:
        check_number("num_ids", self.num_ids, ge=2, kind=InputError)
        if len({*self.moved}) < len(self.moved) or not all(0 <= token < self.num_ids for token in self.moved):
            raise InputError(f"distinct ids below {self.num_ids}", f"{self.moved}", argument="moved")

    @property
    def vocab_size(self) -> int:
        return self.num_ids - len(self.moved)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text; characters that the tokenizer does not know become its unknown token."""
        ids = plain_tokenizer(self.tokenizer).encode(check_encodable(text), add_special_tokens=False).ids
        return [self._token_of[i] for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        pretrained_ids = [self._ids[token] for token in ids]
        return plain_tokenizer(self.tokenizer).decode(pretrained_ids, skip_special_tokens=True)

    @cached_property
    def _ids(self) -> list[int]:
        return ordered_ids(self.num_ids, self.moved)

    @cached_property
    def _token_of(self) -> dict[int, int]:
        return {pretrained_id: token for token, pretrained_id in enumerate(self._ids)}
