"""Which of many vectors have the largest inner products with some."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.core.errors import check_number
from feller.core.optional_dependency import need

Lookup = Callable[[Float[Tensor, "b d"], int], tuple[Float[Tensor, "b k"], Int64[Tensor, "b k"]]]
"""(queries, k) -> inner products, falling, and the numbers of their vectors; k is at most the number of vectors."""


class Index(abc.ABC):
    """Implement one method to add one."""

    @abc.abstractmethod
    def over(self, vectors: Float[Tensor, "n d"]) -> Lookup:
        """Return what looks among these vectors."""


@dataclass(frozen=True)
class Exact(Index):
    """All inner products, some vectors at a time."""

    block: int = 2**16
    """Vectors whose products are held at a time."""

    def __post_init__(self) -> None:
        check_number("block", self.block, least=1)

    def over(self, vectors: Float[Tensor, "n d"]) -> Lookup:
        """Multiply matrices."""

        def lookup(queries: Float[Tensor, "b d"], k: int) -> tuple[Tensor, Tensor]:
            best, which = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
            which = which.to(queries.device)
            for first in range(0, len(vectors), self.block):
                scores = queries @ vectors[first : first + self.block].T
                numbers = torch.arange(first, first + scores.shape[1], device=scores.device).expand(scores.shape)
                best, which = torch.cat([best, scores], 1), torch.cat([which, numbers], 1)
                best, place = best.topk(min(k, best.shape[1]))
                which = which.gather(1, place)
            return best, which

        return lookup


@dataclass(frozen=True)
class Faiss(Index):
    """The library faiss: exact without lists, else among the vectors of the nearest lists alone."""

    lists: int = 0
    """Clusters of the vectors; 0 looks at all vectors."""
    probes: int = 8
    """Lists that are looked through for a query; a small number may find fewer than were asked for."""

    def __post_init__(self) -> None:
        check_number("lists", self.lists, least=0)
        check_number("probes", self.probes, least=1)

    def over(self, vectors: Float[Tensor, "n d"]) -> Lookup:
        """Build the index, on the processor.

        Raises:
            UsageError: If faiss is not installed.
        """
        faiss, plain = need("faiss", "this index", "retrieval"), vectors.cpu().float().contiguous().numpy()
        index = faiss.IndexFlatIP(plain.shape[1])
        if self.lists:
            lists = min(self.lists, len(plain))
            index = faiss.IndexIVFFlat(index, plain.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
            index.nprobe = min(self.probes, lists)
            index.train(plain)
        index.add(plain)

        def lookup(queries: Float[Tensor, "b d"], k: int) -> tuple[Tensor, Tensor]:
            scores, which = index.search(queries.cpu().float().contiguous().numpy(), k)
            return torch.from_numpy(scores).to(queries), torch.from_numpy(which).to(queries.device)

        return lookup
