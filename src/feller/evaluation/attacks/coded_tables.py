"""Rows of a table as codes, for attacks on synthetic tables."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from feller.core.rng import Rng


@dataclass(frozen=True, eq=False)
class CodedTables:
    """Codes of synthetic rows, of training rows and of unseen rows, with the same columns."""

    synthetic: Int64[np.ndarray, "s k"]
    train: Int64[np.ndarray, "n k"]
    unseen: Int64[np.ndarray, "m k"]
    counts: tuple[int, ...]
    """Number of codes of each column."""
    is_ordered: tuple[bool, ...]
    """True for columns whose codes are ordered, as bins of a number are."""
    has_missing: tuple[bool, ...]
    """True for columns whose last code stands for missing cells."""

    def is_missing(self, column: int, codes: Int64[np.ndarray, " n"]) -> np.ndarray:
        """Return True for the cells of a column that are missing."""
        return codes == self.counts[column] - 1 if self.has_missing[column] else np.zeros(len(codes), bool)

    def last_value(self, column: int) -> int:
        """Return the largest code of a column that does not stand for missing cells."""
        return self.counts[column] - 1 - self.has_missing[column]

    def distances(self, rows: Int64[np.ndarray, "n k"], columns: tuple[int, ...]) -> Float32[np.ndarray, "n s"]:
        """Return the Gower distance of rows to all synthetic rows in some columns.

        It is the number of different cells, where ordered cells differ by their distance over the range of the column.
        """
        total = np.zeros((len(rows), len(self.synthetic)), np.float32)
        for j in columns:
            a, b = rows[:, j], self.synthetic[:, j]
            if self.is_ordered[j]:
                span = max(self.last_value(j), 1)
                part = np.abs(a[:, None] - b[None]).astype(np.float32) / span
                gone, gone_too = self.is_missing(j, a), self.is_missing(j, b)
                if gone.any() or gone_too.any():
                    part[gone[:, None] | gone_too[None]] = 1
                    part[gone[:, None] & gone_too[None]] = 0
                total += part
            else:
                total += a[:, None] != b[None]
        return total


def choose(rng: Rng, purpose: str, n: int, size: int) -> Int64[np.ndarray, " m"]:
    """Return the indices of `size` random rows out of n, or of all if there are fewer."""
    return rng.stream(purpose).uniform((n,)).argsort().numpy()[:size]
