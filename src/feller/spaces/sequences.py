"""Token sequences of variable length, such as texts, molecules in SMILES, or protein sequences."""

import abc
from dataclasses import dataclass, field

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.errors import InputError, check_integer, check_kind
from feller.core.rng import RandomStream
from feller.spaces.space import Space


class SequenceSource(abc.ABC):
    """Distribution of the sequences at t = 0."""

    @abc.abstractmethod
    def sample(self, n: int, space: "Sequences", rng: RandomStream, device: torch.device | str) -> Tensor:
        """Return n padded sequences, int64 [n, max_length]."""


@dataclass(frozen=True)
class EmptySequence(SequenceSource):
    """Source in which every sequence is empty."""

    def sample(self, n: int, space: "Sequences", rng: RandomStream, device: torch.device | str) -> Tensor:
        return torch.full((n, space.max_length), space.pad_token_id, device=device)


@dataclass(frozen=True)
class RandomSequence(SequenceSource):
    """Source of sequences of a fixed number of independent, uniformly distributed tokens."""

    length: int
    """Number of tokens."""

    def __post_init__(self) -> None:
        check_integer("length", self.length, ge=0)

    def sample(self, n: int, space: "Sequences", rng: RandomStream, device: torch.device | str) -> Tensor:
        check_integer("length", self.length, ge=0, le=space.max_length)
        x = torch.full((n, space.max_length), space.pad_token_id, device=device)
        x[:, : self.length] = rng.randint(space.vocab_size, (n, self.length), device)
        return x


@dataclass(frozen=True)
class Sequences(Space):
    """Token sequences of variable length: states are int64 [b, max_length], with padding after the last token.

    Tokens of the data have ids from 0 to vocab_size - 1. The ids `pad_token_id` and `mask_token_id` follow.
    """

    vocab_size: int
    """Number of tokens that occur in data."""
    max_length: int
    """Maximum number of tokens of a sequence."""
    source: SequenceSource = field(default_factory=EmptySequence)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("vocab_size", self.vocab_size, ge=1)
        check_integer("max_length", self.max_length, ge=1)
        check_kind("source", self.source, SequenceSource, "feller.EmptySequence()")

    @property
    def pad_token_id(self) -> int:
        """Padding token, which also ends a sequence."""
        return self.vocab_size

    @property
    def mask_token_id(self) -> int:
        """Mask token, which stands for an unknown token; it never occurs in data."""
        return self.vocab_size + 1

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Int64[Tensor, "n l"]:
        return self.source.sample(n, self, rng, device)

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        raise TypeError("sequences have no velocity; use a process with jumps")

    def lengths(self, x: Int64[Tensor, "b l"]) -> Int64[Tensor, " b"]:
        """Return the number of tokens of each sequence."""
        return (x != self.pad_token_id).sum(1)

    def check(self, x: Int64[Tensor, "b l"]) -> None:
        """Check that sequences have tokens of the vocabulary, followed by padding only.

        Raises:
            InputError: If the shape or dtype is wrong, a token is outside the vocabulary, or follows padding.
        """
        if x.dtype != torch.int64 or x.ndim != 2 or x.shape[1] != self.max_length:
            raise InputError(f"token ids [b, {self.max_length}] in int64", f"{list(x.shape)} in {x.dtype}")
        invalid = (x < 0) | (x > self.pad_token_id)
        if invalid.any():
            row, position = invalid.nonzero()[0].tolist()
            raise InputError(
                f"tokens from 0 to {self.vocab_size - 1}, and {self.pad_token_id} as padding",
                f"{int(x[row, position])} at position {position} of sequence {row}",
            )
        is_pad = x == self.pad_token_id
        resumed = is_pad[:, :-1] & ~is_pad[:, 1:]
        if resumed.any():
            row, position = resumed.nonzero()[0].tolist()
            raise InputError("padding after the last token only", f"a token after padding in sequence {row}")


def compact(z: Int64[Tensor, "b n"], blank: int) -> Int64[Tensor, "b n"]:
    """Move the tokens of each row to its start, in their order, and the blanks to its end."""
    return z.gather(1, (z == blank).to(torch.int8).argsort(dim=1, stable=True))
