"""Distances between tokens, from which metric paths are defined."""

import abc
import functools
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.paths.discrete.rates import CHUNK_SIZE, Ids

_WHOLE = 1024
"""Maximum vocabulary size for which the table of all distances is cached."""


class TokenDistance(abc.ABC):
    """Distance d(x, a) from token x to data token a: non-negative, and 0 for x = a."""

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary."""

    @abc.abstractmethod
    def to_data(self, a: Ids) -> Float64[Tensor, "m K"]:
        """Return the distances from all K tokens to each data token a."""

    @abc.abstractmethod
    def max_distance(self, x: Int[Tensor, " *m"]) -> Float64[Tensor, " *m"]:
        """Return the largest distance from each token x to any data token."""

    def median_nearest(self) -> float:
        """Return the median over all tokens of the distance to the nearest token at a positive distance."""
        chunk_size, nearest = max(1, CHUNK_SIZE // self.vocab_size), []
        for chunk in torch.arange(self.vocab_size).split(chunk_size):
            distances = self.to_data(chunk)
            nearest.append(torch.where(distances > 0, distances, torch.inf).amin(1))
        return float(torch.cat(nearest).median())


@dataclass(frozen=True)
class LevelDistance(TokenDistance):
    """Distance |x - a|^exponent between tokens that are equally spaced levels from -1 to 1, such as pixel values."""

    levels: int
    exponent: float = 2.0  # a power, not the p of a p-norm, which has no effect in one dimension

    def __post_init__(self) -> None:
        check_number("exponent", self.exponent, gt=0, lt=torch.inf)
        check_number("levels", self.levels, ge=2, remedy="Use two or more levels")

    @property
    def vocab_size(self) -> int:
        return self.levels

    def _values(self, x: Tensor) -> Tensor:
        return 2 * x.double() / (self.levels - 1) - 1

    def to_data(self, a: Ids) -> Float64[Tensor, "m K"]:
        tokens = torch.arange(self.levels, device=a.device)
        return (self._values(a)[:, None] - self._values(tokens)).abs() ** self.exponent

    def max_distance(self, x: Int[Tensor, " *m"]) -> Float64[Tensor, " *m"]:
        return (1 + self._values(x).abs()) ** self.exponent


@dataclass(frozen=True)
class EmbeddingDistance(TokenDistance):
    """Distance |v_x - v_a|^exponent between fixed vectors v of the tokens, such as codebook entries."""

    vectors: tuple[tuple[float, ...], ...]
    exponent: float = 2.0

    def __post_init__(self) -> None:
        check_number("exponent", self.exponent, gt=0, lt=torch.inf)
        lengths = sorted({len(vector) for vector in self.vectors})
        if len(self.vectors) < 2 or len(lengths) != 1 or not lengths[0]:
            raise UsageError(
                "at least 2 vectors of the same length", f"{len(self.vectors)} of lengths {lengths or 'none'}"
            )
        if not self._embeddings.isfinite().all():
            raise UsageError(
                f"vector {int((~self._embeddings.isfinite()).any(1).nonzero()[0])} is not finite",
                remedy="Remove this vector",
            )

    @property
    def vocab_size(self) -> int:
        return len(self.vectors)

    @functools.cached_property
    def _embeddings(self) -> Tensor:
        return torch.tensor(self.vectors, dtype=torch.float64)

    def _distances(self, a: Tensor) -> Tensor:
        embeddings = self._embeddings.to(a.device)
        return torch.cdist(embeddings[a], embeddings, compute_mode="donot_use_mm_for_euclid_dist") ** self.exponent

    @functools.cached_property
    def _table(self) -> Tensor:
        return self._distances(torch.arange(self.vocab_size))

    @functools.cached_property
    def _farthest(self) -> Tensor:
        chunks = torch.arange(self.vocab_size).split(max(1, CHUNK_SIZE // self.vocab_size))
        return torch.cat([self._distances(chunk).amax(1) for chunk in chunks])

    def to_data(self, a: Ids) -> Float64[Tensor, "m K"]:
        return self._table.to(a.device)[a] if self.vocab_size <= _WHOLE else self._distances(a)

    def max_distance(self, x: Int[Tensor, " *m"]) -> Float64[Tensor, " *m"]:
        return self._farthest.to(x.device)[x]


@dataclass(frozen=True)
class DistanceTable(TokenDistance):
    """Explicit table of distances: entries[a][x] is the distance from token x to data token a."""

    entries: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        num_tokens = len(self.entries)
        for a, row in enumerate(self.entries):
            if len(row) != num_tokens:
                raise UsageError(f"{num_tokens} rows of {num_tokens} distances", f"{len(row)} in row {a}")
            for x, value in enumerate(row):
                if not 0 <= value < float("inf"):
                    raise UsageError(
                        "finite distances of at least 0", f"row {a}, column {x}: {value:g}", "Correct the entry"
                    )
                if a == x and value:
                    raise UsageError(
                        "a distance of 0 from each token to itself",
                        f"row {a}, column {x}: {value:g}",
                        "Set the diagonal to 0",
                    )
        if num_tokens < 2:
            raise UsageError("distances between at least 2 tokens", num_tokens)

    @property
    def vocab_size(self) -> int:
        return len(self.entries)

    @functools.cached_property
    def _table(self) -> Tensor:
        return torch.tensor(self.entries, dtype=torch.float64)

    def to_data(self, a: Ids) -> Float64[Tensor, "m K"]:
        return self._table.to(a.device)[a]

    def max_distance(self, x: Int[Tensor, " *m"]) -> Float64[Tensor, " *m"]:
        return self._table.amax(0).to(x.device)[x]
