"""Tokens of a finite vocabulary, such as text, quantized pixels or atom types."""

import abc
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from feller.core.errors import UsageError, check_integer, check_kind
from feller.core.rng import RandomStream, categorical
from feller.spaces.space import Space


class TokenSource(abc.ABC):
    """Source distribution: the distribution of each token at t = 0."""

    @property
    def has_full_support(self) -> bool:
        """True if every token has positive probability."""
        return True

    @abc.abstractmethod
    def probabilities(self, vocab_size: int) -> Tensor:
        """Return the probability of each token, [vocab_size], or [vocab_size + 1] with a mask token."""


@dataclass(frozen=True)
class UniformSource(TokenSource):
    """Uniform distribution over the vocabulary."""

    def probabilities(self, vocab_size: int) -> Tensor:
        return torch.full((vocab_size,), 1 / vocab_size, dtype=torch.float64)


@dataclass(frozen=True)
class MaskSource(TokenSource):
    """Source in which every token is the mask: an extra token with id `vocab_size`, which never occurs in data."""

    has_full_support = False

    def probabilities(self, vocab_size: int) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(vocab_size), vocab_size + 1).double()


@dataclass(frozen=True)
class CategoricalSource(TokenSource):
    """Categorical distribution of each token with given weights, such as token frequencies."""

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        for token, weight in enumerate(self.weights):
            if not 0 <= weight < float("inf"):
                raise UsageError("source weights that are finite and at least 0", f"{weight:g} for token {token}")
        if sum(self.weights) == float("inf"):
            raise UsageError("the source weights sum to infinity", remedy="Divide the weights by the largest weight")
        if not sum(self.weights):
            raise UsageError(expected="a positive source weight", found="only zeros", remedy="Set at least one weight")

    @property
    def has_full_support(self) -> bool:
        return min(self.weights) > 0

    def probabilities(self, vocab_size: int) -> Tensor:
        if len(self.weights) != vocab_size:
            raise UsageError(f"{vocab_size} weights, one per token", len(self.weights), "Use 0 to exclude a token")
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return weights / weights.sum()


@dataclass(frozen=True)
class Tokens(Space):
    """Arrays of token ids from 0 to vocab_size - 1; the mask token, if any, has id `vocab_size`."""

    vocab_size: int
    """Number of tokens that occur in data."""
    shape: tuple[int, ...] = ()
    source: TokenSource = field(default_factory=UniformSource)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("vocab_size", self.vocab_size, ge=1)
        check_kind("source", self.source, TokenSource, "feller.MaskSource()")

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        if isinstance(self.source, MaskSource):
            return torch.full((n, *self.shape), self.vocab_size, device=device)
        weights = self.source.probabilities(self.vocab_size).to(device)
        return categorical(weights, rng.uniform((n, *self.shape), torch.float64, device))

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        raise TypeError("tokens have no velocity; use a process with jumps")


def mask_until_end(x: Int[Tensor, "b n"], eos_token_id: int) -> Bool[Tensor, "b n"]:
    """Return the mask of tokens up to and including the first end token; all True without an end token."""
    is_eos = x == eos_token_id
    return is_eos.cumsum(1) - is_eos.long() == 0
