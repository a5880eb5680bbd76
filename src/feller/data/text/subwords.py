"""Byte-pair encoding of subwords."""

from collections.abc import Sequence
from dataclasses import dataclass

from feller.core.errors import UsageError
from feller.data.byte_pairs import all_bytes, tokenizer_of, train_byte_pairs
from feller.data.text.vocabulary import Vocabulary, check_encodable

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
        return tokenizer_of(self.tokenizer).get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return tokenizer_of(self.tokenizer).encode(check_encodable(text)).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Decode the bytes of the tokens as UTF-8."""
        return tokenizer_of(self.tokenizer).decode(list(ids), skip_special_tokens=False)


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
    return Subwords(train_byte_pairs(texts, count, all_bytes()))
