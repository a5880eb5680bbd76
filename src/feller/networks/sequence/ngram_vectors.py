"""Computation of text vectors from hashed n-grams that are weighted by inverse document frequency."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.data.documents.vocabulary import DocumentVocabulary

MAX_NGRAM = 4
"""Maximum length of an n-gram, in tokens; all shorter n-grams are counted too."""
NUM_BUCKETS = 2**18
"""Number of hash buckets in which document frequencies are counted."""
CHUNK_SIZE = 512
"""Number of documents processed at a time, which bounds the memory."""


def mix_hash(x: Int64[Tensor, " *n"]) -> Int64[Tensor, " *n"]:
    """Hash integers with a bijection of 64-bit integers, the finalizer of splitmix64."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * (factor - 2**64)
    return x ^ ((x >> 31) & (2**33 - 1))


class HashedNgrams(nn.Module):
    """Text vectors: normalised sums of signed hashed n-grams of 1 to 4 tokens, weighted by inverse document frequency.

    The weight of an n-gram is log((2 + documents) / (1 + documents with the n-gram)). It is highest for n-grams that
    were not counted, so that new names retrieve documents that contain them. A document's vector is the normalised mean
    of the unit vectors of its texts. Source: Weinberger et al. 2009, "Feature hashing for large scale multitask
    learning", arXiv 0902.2206.
    """

    document_frequency: Tensor
    num_documents: Tensor

    def __init__(self, vocabulary: DocumentVocabulary, size: int) -> None:
        super().__init__()
        self.vocabulary, self.size = vocabulary, size
        self.register_buffer("document_frequency", torch.zeros(NUM_BUCKETS, dtype=torch.int32))
        self.register_buffer("num_documents", torch.zeros((), dtype=torch.int64))

    def update_counts(self, rows: Int64[Tensor, "n l"]) -> None:
        """Add to the count of each n-gram the number of the given documents (token rows) that contain it."""
        for chunk in rows.split(CHUNK_SIZE):
            row, _, hashes = self._ngrams(chunk)
            pairs = (row * NUM_BUCKETS + _bucket(hashes)).unique()
            self.document_frequency += torch.bincount(pairs % NUM_BUCKETS, minlength=NUM_BUCKETS).to(
                self.document_frequency.dtype
            )
        self.num_documents += len(rows)

    def forward(self, rows: Int64[Tensor, "n l"]) -> tuple[Float[Tensor, "n d"], Bool[Tensor, " n"]]:
        """Return the text vector of each document (token row), and the mask of the documents that contain text."""
        chunks = [self._vectors(chunk) for chunk in rows.split(CHUNK_SIZE)]
        return torch.cat([vectors for vectors, _ in chunks]), torch.cat([has_text for _, has_text in chunks])

    def _vectors(self, rows: Int64[Tensor, "n l"]) -> tuple[Float[Tensor, "n d"], Bool[Tensor, " n"]]:
        row, segment, hashes = self._ngrams(rows)
        num_segments = int(segment.max()) + 1 if len(segment) else 1
        weights = ((2.0 + self.num_documents) / (1.0 + self.document_frequency[_bucket(hashes)])).log()
        signs = 1 - 2 * ((hashes >> 40) & 1)
        index = (row * num_segments + segment) * self.size + ((hashes >> 41) & (2**22 - 1)) % self.size
        sums = weights.new_zeros(len(rows) * num_segments * self.size).scatter_add_(0, index, weights * signs)
        segment_vectors = F.normalize(sums.view(len(rows), num_segments, self.size), dim=2)
        return F.normalize(segment_vectors.sum(1), dim=1), self.vocabulary.is_text(rows).any(1)

    def _ngrams(
        self, rows: Int64[Tensor, "n l"]
    ) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " m"], Int64[Tensor, " m"]]:
        """Return the row, the segment and the hash of each n-gram of contiguous text."""
        text = self.vocabulary.is_text(rows)
        segment = (rows == self.vocabulary.break_token).cumsum(1)
        token_hashes = mix_hash(rows + 1)
        is_complete, hashes, ngrams = text, token_hashes, []
        for n in range(1, min(MAX_NGRAM, rows.shape[1]) + 1):
            if n > 1:
                is_complete = is_complete[:, :-1] & text[:, n - 1 :]
                hashes = mix_hash(hashes[:, :-1] + token_hashes[:, n - 1 :] * (2 * n + 1))
            row, column = is_complete.nonzero(as_tuple=True)
            ngrams.append((row, segment[row, column], hashes[row, column]))
        row_indices, segments, all_hashes = (torch.cat(tensors) for tensors in zip(*ngrams, strict=True))
        return row_indices, segments, all_hashes


def _bucket(hashes: Int64[Tensor, " m"]) -> Int64[Tensor, " m"]:
    return hashes & (NUM_BUCKETS - 1)
