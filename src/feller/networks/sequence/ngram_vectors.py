"""Texts as vectors of their hashed n-grams: those that share rare pieces point the same way, also unseen ones."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.data.documents.vocabulary import DocumentVocabulary

MAX_NGRAM = 4
"""Symbols of the longest n-gram."""
NUM_BUCKETS = 2**18
"""Numbers that n-grams are counted under."""
CHUNK_SIZE = 512
"""Documents that are looked at together."""


def mix_hash(x: Int64[Tensor, " *n"]) -> Int64[Tensor, " *n"]:
    """Spread whole numbers over all 64 bits, one to one, so that near ones have nothing in common."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * (factor - 2**64)
    return x ^ ((x >> 31) & (2**33 - 1))


class HashedNgrams(nn.Module):
    """Sums of signed unit vectors, one for each n-gram of 1 to 4 symbols, weighed by how few documents have it.

    The weight is log((2 + documents) / (1 + documents with it)): the highest is that of n-grams never seen, so that a
    new name finds documents with it. Vectors have length 1; that of several texts is their mean, of length 1. Source:
    Weinberger et al. 2009, "Feature hashing for large scale multitask learning", arXiv 0902.2206.
    """

    document_frequency: Tensor
    num_documents: Tensor

    def __init__(self, vocabulary: DocumentVocabulary, size: int) -> None:
        super().__init__()
        self.vocabulary, self.size = vocabulary, size
        self.register_buffer("document_frequency", torch.zeros(NUM_BUCKETS, dtype=torch.int32))
        self.register_buffer("num_documents", torch.zeros((), dtype=torch.int64))

    def update_counts(self, rows: Int64[Tensor, "n l"]) -> None:
        """Learn how many documents have each n-gram, beside what was counted before."""
        for part in rows.split(CHUNK_SIZE):
            row, _, hashes = self._ngrams(part)
            pairs = (row * NUM_BUCKETS + _bucket(hashes)).unique()
            self.document_frequency += torch.bincount(pairs % NUM_BUCKETS, minlength=NUM_BUCKETS).to(
                self.document_frequency.dtype
            )
        self.num_documents += len(rows)

    def forward(self, rows: Int64[Tensor, "n l"]) -> tuple[Float[Tensor, "n d"], Bool[Tensor, " n"]]:
        """Return the vector of the texts of each document, and whether it has any."""
        vectors = [self._vectors(part) for part in rows.split(CHUNK_SIZE)]
        return torch.cat([part for part, _ in vectors]), torch.cat([part for _, part in vectors])

    def _vectors(self, rows: Int64[Tensor, "n l"]) -> tuple[Float[Tensor, "n d"], Bool[Tensor, " n"]]:
        row, segment, hashes = self._ngrams(rows)
        several = int(segment.max()) + 1 if len(segment) else 1
        weight = ((2.0 + self.num_documents) / (1.0 + self.document_frequency[_bucket(hashes)])).log()
        sign = 1 - 2 * ((hashes >> 40) & 1)
        place = (row * several + segment) * self.size + ((hashes >> 41) & (2**22 - 1)) % self.size
        sums = weight.new_zeros(len(rows) * several * self.size).scatter_add_(0, place, weight * sign)
        each = F.normalize(sums.view(len(rows), several, self.size), dim=2)
        return F.normalize(each.sum(1), dim=1), self.vocabulary.is_text(rows).any(1)

    def _ngrams(
        self, rows: Int64[Tensor, "n l"]
    ) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " m"], Int64[Tensor, " m"]]:
        """Return row, segment and hash of each n-gram; none reaches over anything but text."""
        text = self.vocabulary.is_text(rows)
        segment = (rows == self.vocabulary.break_token).cumsum(1)
        one = mix_hash(rows + 1)
        is_complete, hashes, ngrams = text, one, []
        for n in range(1, min(MAX_NGRAM, rows.shape[1]) + 1):
            if n > 1:
                is_complete = is_complete[:, :-1] & text[:, n - 1 :]
                hashes = mix_hash(hashes[:, :-1] + one[:, n - 1 :] * (2 * n + 1))
            row, place = is_complete.nonzero(as_tuple=True)
            ngrams.append((row, segment[row, place], hashes[row, place]))
        rows_of, segments, all_hashes = (torch.cat(part) for part in zip(*ngrams, strict=True))
        return rows_of, segments, all_hashes


def _bucket(hashes: Int64[Tensor, " m"]) -> Int64[Tensor, " m"]:
    """Return the number that an n-gram is counted under."""
    return hashes & (NUM_BUCKETS - 1)
