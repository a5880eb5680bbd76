"""Distances between examples for copy detection, for coordinates, tokens and passages of text."""

import abc
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.sparse import csr_matrix
from torch import Tensor

from feller.core.pytree import State, leaves
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.text.modality import Text
from feller.evaluation.point_metrics import geodesic_distances
from feller.spaces import Euclidean, Manifold, Product, Space
from feller.spaces.product import space_map


@dataclass(frozen=True, kw_only=True)
class ExampleDistance(abc.ABC):
    """Base class of distances between examples, which are invariant under symmetries such as rotations or atom order.

    Subclasses implement `pairwise` and `is_copy`.
    """

    max_pairwise: int = 2_000
    """Maximum number of examples per set if all pairwise distances between two sets are computed."""
    max_queries: int = 2_000
    """Maximum number of examples that are compared with the whole training set."""
    max_neighbours: int = 20_000
    """Maximum number of training examples among which nearest neighbours are searched."""

    @abc.abstractmethod
    def pairwise(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        """Return the distance of each example in `a` from each in `b`, at least 0, in the unit of the subclass."""

    @abc.abstractmethod
    def is_copy(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Return True for each example of `some` that is a copy of a training example.

        `usual` is the median distance from a held-out example to its nearest training example; None if unknown.
        """


CHUNK_SIZE = 2**22
"""Number of token pairs or example pairs computed per chunk."""


@dataclass(frozen=True)
class HammingDistance(ExampleDistance):
    """Hamming distance between token arrays; an example is a copy if all its tokens are equal."""

    max_queries: int = 100_000

    def pairwise(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        return sum((hamming(x, y) for x, y in _state_leaves(a, b)), torch.zeros(len(a), len(b), dtype=torch.float64))

    def is_copy(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        return is_exact_copy(some, train)


@dataclass(frozen=True)
class CoordinateDistance(ExampleDistance):
    """Geodesic distance between points, combined with the Hamming distance between tokens if a state has both."""

    copy_fraction: float = 0.01
    """Distance below which a point is a copy of a training example, as a fraction r of the median distance from a
    held-out example to its nearest training example. In d dimensions, a fraction of about r^d of independent points is
    that close by chance."""

    def pairwise(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        total = torch.zeros(len(a), len(b), dtype=torch.float64)
        for squared in leaves(space_map(_squares, a.modality.space(), _state(a), _state(b))):
            total += squared
        return total.sqrt()

    def is_copy(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Return True for exact copies, and for points within `copy_fraction * usual` of a training example.

        `usual` is the median distance from a held-out example to its nearest training example; if it is None, only
        exact copies are found.
        """
        is_copied = is_exact_copy(some, train)
        if not usual or not len(some):
            return is_copied
        for rows in torch.arange(len(train)).split(max(1, CHUNK_SIZE // len(some))):
            is_copied |= (self.pairwise(some, train.subset(rows)) <= self.copy_fraction * usual).any(1)
        return is_copied


@dataclass(frozen=True)
class GeodesicDistance(CoordinateDistance):
    """Geodesic distance on a curved space; subsamples are smaller because geodesics are costly to compute."""

    max_pairwise: int = 1_000
    max_queries: int = 500
    max_neighbours: int = 5_000


def is_exact_copy(some: Dataset, train: Dataset) -> Bool[Tensor, " n"]:
    """Return True for each example of `some` that is equal to a training example in all values."""
    train_bytes = set(_row_bytes(train))
    return torch.tensor([row in train_bytes for row in _row_bytes(some)], dtype=torch.bool)


def hamming(x: Tensor, y: Tensor) -> Float64[Tensor, "n m"]:
    """Return the Hamming distance of each of the n arrays in `x` from each of the m arrays in `y`."""
    first, second = (leaf.flatten(1).cpu() if leaf.ndim > 1 else leaf[:, None].cpu() for leaf in (x, y))
    chunk_size = max(1, CHUNK_SIZE // max(1, second.numel()))
    distances = [(chunk[:, None] != second).sum(2).double() for chunk in first.split(chunk_size)]
    return torch.cat(distances) if distances else torch.zeros(0, len(second), dtype=torch.float64)


def _squares(space: Space, x: Tensor, y: Tensor) -> Float64[Tensor, "n m"]:
    # squared geodesic distances, or Hamming distances of tokens
    if not x.is_floating_point():
        return hamming(x, y)
    x, y = x.cpu().double(), y.cpu().double()
    if isinstance(space, Manifold | Product) and not isinstance(space, Euclidean):
        return geodesic_distances(space, x, y).square()
    return torch.cdist(x.flatten(1), y.flatten(1)).square()


def _state(data: Dataset) -> State:
    # images as pixel levels, whatever their encoding in the model
    values = data.values
    return values.float() if data.modality.view(Images) else data.modality.encode(values)


def _state_leaves(a: Dataset, b: Dataset) -> list[tuple[Tensor, Tensor]]:
    return list(zip(leaves(a.modality.encode(a.values)), leaves(b.modality.encode(b.values)), strict=True))


def _row_bytes(data: Dataset) -> list[bytes]:
    columns = [leaf.reshape(len(data), -1).cpu().contiguous() for leaf in leaves(_state(data))]
    arrays = [leaf.numpy() for leaf in columns]
    return [b"".join(array[i].tobytes() for array in arrays) for i in range(len(data))]


PIECE = 6
"""Number of tokens per n-gram."""
RUN_LENGTH = 50
"""Length in tokens of a substring that is unlikely to occur in two texts by chance."""


@dataclass(frozen=True)
class PassageDistance(ExampleDistance):
    """Distance of texts: 1 - s / min(a, b), with a and b the numbers of token n-grams and s that of shared n-grams."""

    max_queries: int = 100_000

    def pairwise(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        """Return 1 - |shared n-grams| / min(|a|, |b|) for all pairs of texts; a text shorter than n is one n-gram."""
        (first_matrix, first_counts), (second_matrix, second_counts) = _tables(token_rows(a), token_rows(b))
        shared = torch.from_numpy(np.asarray((first_matrix @ second_matrix.T).todense(), dtype=np.float64))
        return 1 - shared / torch.minimum(first_counts[:, None], second_counts)

    def is_copy(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        return is_exact_copy(some, train)


def token_rows(data: Dataset) -> list[np.ndarray]:
    """Return the tokens of each text, without padding and without end-of-sequence tokens."""
    values, lengths = data.values.cpu().numpy(), data.modality.num_entries(data.values).tolist()
    eos = data.modality.eos_token_id
    return [row[:n][row[:n] != eos] if eos is not None else row for row, n in zip(values, lengths, strict=True)]


def _pieces(row: np.ndarray, length: int) -> np.ndarray:
    """Return the distinct n-grams of a text as bytes; a shorter text is one n-gram."""
    length = max(1, min(length, len(row)))
    if not len(row):
        return np.array([b"-"], dtype=object)
    windows = np.lib.stride_tricks.sliding_window_view(row.astype(np.int32), length)
    return np.array([*{window.tobytes() for window in windows}], dtype=object)


def _tables(a: list[np.ndarray], b: list[np.ndarray]) -> list[tuple[Any, Float64[Tensor, " n"]]]:
    """Return, for both sets of texts, a sparse matrix of which text has which n-gram, and the n-grams per text."""
    vocab: dict[bytes, int] = {}
    ids_by_set = []
    for rows in (a, b):
        ids = [[vocab.setdefault(ngram, len(vocab)) for ngram in _pieces(row, PIECE)] for row in rows]
        ids_by_set.append(ids)
    tables = []
    for ids in ids_by_set:
        offsets = np.cumsum([0, *map(len, ids)])
        columns = np.concatenate([np.array(row, dtype=np.int64) for row in ids] or [np.zeros(0, np.int64)])
        incidence = csr_matrix((np.ones(len(columns)), columns, offsets), shape=(len(ids), len(vocab)))
        tables.append((incidence, torch.tensor([float(len(row)) for row in ids], dtype=torch.float64)))
    return tables


def has_copied_run(some: Dataset, train: Dataset) -> Bool[Tensor, " n"] | None:
    """Return True for each text in `some` that shares RUN_LENGTH consecutive tokens with the training text.

    A text of fewer than RUN_LENGTH tokens must occur as a whole in the training text. Returns None if the data are not
    text.
    """
    if train.modality.view(Text) is None:
        return None
    texts = token_rows(some)
    lengths = sorted({min(RUN_LENGTH, len(row)) for row in texts if len(row)})
    query_ngrams: dict[int, set[bytes]] = {length: set() for length in lengths}
    for row in texts:
        if len(row):
            query_ngrams[min(RUN_LENGTH, len(row))].update(_pieces(row, min(RUN_LENGTH, len(row))))
    shared = {length: set[bytes]() for length in lengths}
    for row in token_rows(train):
        for length in lengths:
            if len(row) >= length:
                shared[length].update(ngram for ngram in _pieces(row, length) if ngram in query_ngrams[length])
    is_copied = [
        any(ngram in shared[min(RUN_LENGTH, len(row))] for ngram in _pieces(row, RUN_LENGTH)) if len(row) else False
        for row in texts
    ]
    return torch.tensor(is_copied, dtype=torch.bool)
