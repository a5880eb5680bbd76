"""Nearest-neighbour search by inner product."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.core.errors import check_number
from feller.core.optional_dependency import require_package

SearchFn = Callable[[Float[Tensor, "b d"], int], tuple[Float[Tensor, "b k"], Int64[Tensor, "b k"]]]
"""(queries, k) -> the k largest inner products, descending, and vector indices; k is at most the number of vectors."""


class VectorIndex(abc.ABC):
    """Search index over vectors; subclasses implement `build`."""

    @abc.abstractmethod
    def build(self, vectors: Float[Tensor, "n d"]) -> SearchFn:
        """Return a search function over the vectors."""


@dataclass(frozen=True)
class ExactIndex(VectorIndex):
    """Exact search over all inner products, in blocks of vectors."""

    block: int = 2**16
    """Number of vectors per block."""

    def __post_init__(self) -> None:
        check_number("block", self.block, ge=1)

    def build(self, vectors: Float[Tensor, "n d"]) -> SearchFn:

        def lookup(queries: Float[Tensor, "b d"], k: int) -> tuple[Tensor, Tensor]:
            top_scores, index = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
            index = index.to(queries.device)
            for start in range(0, len(vectors), self.block):
                scores = queries @ vectors[start : start + self.block].T
                indices = torch.arange(start, start + scores.shape[1], device=scores.device).expand(scores.shape)
                top_scores, index = torch.cat([top_scores, scores], 1), torch.cat([index, indices], 1)
                top_scores, order = top_scores.topk(min(k, top_scores.shape[1]))
                index = index.gather(1, order)
            return top_scores, index

        return lookup


@dataclass(frozen=True)
class FaissIndex(VectorIndex):
    """Search index of the faiss library: exact, or approximate with inverted lists (IVF)."""

    nlist: int = 0
    """Number of inverted lists (clusters of vectors); 0 for exact search."""
    nprobe: int = 8
    """Number of lists searched per query; small values may return fewer results than requested."""

    def __post_init__(self) -> None:
        check_number("nlist", self.nlist, ge=0)
        check_number("nprobe", self.nprobe, ge=1)

    def build(self, vectors: Float[Tensor, "n d"]) -> SearchFn:
        """Build the index on CPU; UsageError if faiss is not installed."""
        faiss, array = require_package("faiss", "FaissIndex", "retrieval"), vectors.cpu().float().contiguous().numpy()
        index = faiss.IndexFlatIP(array.shape[1])
        if self.nlist:
            nlist = min(self.nlist, len(array))
            index = faiss.IndexIVFFlat(index, array.shape[1], nlist, faiss.METRIC_INNER_PRODUCT)
            index.nprobe = min(self.nprobe, nlist)
            index.train(array)
        index.add(array)

        def lookup(queries: Float[Tensor, "b d"], k: int) -> tuple[Tensor, Tensor]:
            scores, indices = index.search(queries.cpu().float().contiguous().numpy(), k)
            return torch.from_numpy(scores).to(queries), torch.from_numpy(indices).to(queries.device)

        return lookup
