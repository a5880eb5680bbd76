"""Byte-pair encoding by the package `tokenizers`."""

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from feller.core.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@functools.lru_cache(maxsize=8)
def tokenizer_of(record: str) -> "Tokenizer":
    """Return the tokenizer of its JSON serialisation.

    Raises:
        InputError: If the record is damaged.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(record)
    except Exception as error:  # tokenizers raises a bare Exception
        raise InputError(f"the subword vocabulary is damaged ({' '.join(str(error).split())})") from error


def train_byte_pairs(texts: Iterable[str], count: int, alphabet: Sequence[str] = ()) -> str:
    """Return the JSON serialisation of a tokenizer that merges the most frequent pairs of tokens of the texts.

    It merges until there are `count` tokens or no pair occurs twice. Its single bytes are those of the texts, and those
    of `alphabet`, in the characters that stand for bytes in GPT-2.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=count, min_frequency=2, show_progress=False, initial_alphabet=list(alphabet)
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


def all_bytes() -> list[str]:
    """Return the characters that stand for the 256 bytes."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())
