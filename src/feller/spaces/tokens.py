"""Symbols of a finite alphabet: text, pixels as levels, types of atoms."""

import abc
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import RandomStream, categorical
from feller.spaces.space import Space


class TokenSource(abc.ABC):
    """The law of each token at t = 0."""

    @property
    def has_full_support(self) -> bool:
        """Whether every symbol has mass."""
        return True

    @abc.abstractmethod
    def probabilities(self, vocab_size: int) -> Tensor:
        """Return the probability of each symbol, [count], or [count + 1] if there is a mask symbol."""


@dataclass(frozen=True)
class UniformSource(TokenSource):
    """Every symbol is equally likely."""

    def probabilities(self, vocab_size: int) -> Tensor:
        """Return 1 / count for each."""
        return torch.full((vocab_size,), 1 / vocab_size, dtype=torch.float64)


@dataclass(frozen=True)
class MaskSource(TokenSource):
    """Every token is the mask, a symbol of its own with the number `vocab_size`, which never is data."""

    has_full_support = False

    def probabilities(self, vocab_size: int) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(vocab_size), vocab_size + 1).double()


@dataclass(frozen=True)
class CategoricalSource(TokenSource):
    """Any law, such as the symbols' frequencies."""

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        for symbol, weight in enumerate(self.weights):
            if not 0 <= weight < float("inf"):
                raise UsageError("the weights of a source to be at least 0 and finite", f"{weight:g} for {symbol}")
        if sum(self.weights) == float("inf"):
            raise UsageError("the weights of a source add up to infinity", remedy="Divide them by the largest")
        if not sum(self.weights):
            raise UsageError(
                expected="a source with mass on some symbol, all its weights are 0", remedy="Give one a weight"
            )

    @property
    def has_full_support(self) -> bool:
        """Whether no weight is 0."""
        return min(self.weights) > 0

    def probabilities(self, vocab_size: int) -> Tensor:
        if len(self.weights) != vocab_size:
            raise UsageError(f"{vocab_size} weights, one per symbol", len(self.weights), "0 leaves a symbol out")
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return weights / weights.sum()


@dataclass(frozen=True)
class Tokens(Space):
    """Arrays of whole numbers from 0 to count - 1; the mask, where there is one, is `vocab_size`."""

    vocab_size: int
    """Symbols that data may have."""
    shape: tuple[int, ...] = ()
    source: TokenSource = field(default_factory=UniformSource)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        if isinstance(self.source, MaskSource):
            return torch.full((n, *self.shape), self.vocab_size, device=device)
        weights = self.source.probabilities(self.vocab_size).to(device)
        return categorical(weights, rng.uniform((n, *self.shape), torch.float64, device))

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        raise TypeError("tokens have no velocity; give the process jumps")


def mask_until_end(x: Int[Tensor, "b n"], eos_token_id: int) -> Bool[Tensor, "b n"]:
    """Mark each text up to its first end symbol, that included; all of it where there is none."""
    ended = x == eos_token_id
    return ended.cumsum(1) - ended.long() == 0
