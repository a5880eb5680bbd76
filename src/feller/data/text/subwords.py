"""Byte-pair encoding of subwords; the only module that imports the package `tokenizers`."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feller.core.errors import InputError, UsageError
from feller.data.text.vocabulary import Vocabulary, check_encodable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT_VOCAB_SIZE = 2048
MIN_VOCAB_SIZE = 257
"""Minimum vocabulary size: the 256 bytes and at least one merge."""
MAX_VOCAB_SIZE = 2**17


@dataclass(frozen=True)
class Subwords(Vocabulary):
    """Byte-pair encoding vocabulary: each token is a byte, or a merged pair of tokens that is frequent.

    Source: Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword Units",
    arXiv 1508.07909; on bytes, as in GPT-2.
    """

    unit = "subwords"

    tokenizer: str
    """JSON serialisation of the `tokenizers.Tokenizer`."""

    @property
    def vocab_size(self) -> int:
        return _built(self.tokenizer).get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return _built(self.tokenizer).encode(check_encodable(text)).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Decode the bytes of the tokens as UTF-8."""
        return _built(self.tokenizer).decode(list(ids), skip_special_tokens=False)


@functools.lru_cache(maxsize=8)
def _built(tokenizer: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(tokenizer)
    except Exception as error:  # tokenizers raises a bare Exception
        raise InputError(f"the subword vocabulary is damaged ({' '.join(str(error).split())})") from error


def learn_subwords(texts: Sequence[str], count: int = DEFAULT_VOCAB_SIZE) -> Subwords:
    """Fit a BPE vocabulary: merge the most frequent token pair until there are `count` tokens or no pair occurs twice.

    Raises:
        UsageError: If the vocabulary size is out of range.
    """
    if not MIN_VOCAB_SIZE <= count <= MAX_VOCAB_SIZE:
        raise UsageError(
            f"{MIN_VOCAB_SIZE} to {MAX_VOCAB_SIZE:,} subwords",
            count,
            "Choose a number in this range; 256 of the subwords are the single bytes",
        )
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=count,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Subwords(tokenizer.to_str())
