"""Rows of codes as numbers that a classifier can learn from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Columns whose codes have an order as they are; of the others, one column for each code."""

    counts: tuple[int, ...]
    ordered: tuple[bool, ...]
    target: int
    """Column that is to be told, and is left out."""

    @property
    def alone(self) -> bool:
        """Tell whether there is no column to learn from."""
        return len(self.counts) < 2

    def one_hot(self, codes: Int64[Tensor, "n k"]) -> Any:
        """Return the columns without an order as a sparse float32 matrix [n, codes of all of them]."""
        from scipy.sparse import csr_matrix

        which = [j for j in range(len(self.counts)) if not self.ordered[j] and j != self.target]
        starts = np.cumsum([0, *(self.counts[j] for j in which)])
        places = codes[:, which].cpu().numpy() + starts[:-1]
        begins, ones = np.arange(len(codes) + 1) * len(which), np.ones(places.size, dtype=np.float32)
        return csr_matrix((ones, places.ravel(), begins), shape=(len(codes), int(starts[-1])))

    def numbers(self, codes: Int64[Tensor, "n k"]) -> np.ndarray:
        """Return the columns with an order as float32 [n, their number]."""
        which = [j for j in range(len(self.counts)) if self.ordered[j] and j != self.target]
        return codes[:, which].to(torch.float32).cpu().numpy()

    def plain(self, codes: Int64[Tensor, "n k"]) -> Any:
        """Return all features, for trees."""
        return _beside(self.one_hot(codes), self.numbers(codes))

    def scaled(self, codes: Int64[Tensor, "n k"], like: Int64[Tensor, "m k"]) -> Any:
        """Return all features with numbers of mean 0 and variance 1 in another table, for linear models."""
        known = self.numbers(like).astype(np.float64)
        spread = known.std(0)
        numbers = (self.numbers(codes) - known.mean(0)) / np.where(spread > 0, spread, 1)
        return _beside(self.one_hot(codes), numbers.astype(np.float32))


def _beside(one_hot: Any, numbers: np.ndarray) -> Any:
    from scipy.sparse import csr_matrix, hstack

    return hstack([one_hot, csr_matrix(numbers)], format="csr")
