"""Tokenization of table rows: each column is one or more tokens, with an automaton of valid sequences."""

import abc
import functools
import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import UsageError, check_number, check_probabilities
from feller.core.rng import RandomStream, categorical
from feller.spaces.space import Space

Transitions = Int64[Tensor, "states tokens"]
"""Transition table of an automaton: (state, token) -> next state; -1 for an invalid token."""


class ColumnTokenizer(abc.ABC):
    """Tokenizer of a table column: converts value codes 0, ..., `num_values` - 1 to a fixed number of tokens."""

    ends_in_code: ClassVar[bool] = False
    """True if the last token of a value is its code, as constraints between columns require."""

    @property
    @abc.abstractmethod
    def num_values(self) -> int:
        """Number of values."""

    @property
    @abc.abstractmethod
    def num_tokens(self) -> int:
        """Number of tokens per value."""

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Vocabulary size of each token."""
        return tuple(table.shape[1] for table in self.transitions())

    @abc.abstractmethod
    def transitions(self) -> list[Transitions]:
        """Return the automaton that accepts exactly the valid values: one table per token, starting in state 0."""

    @abc.abstractmethod
    def encode(self, codes: Int64[Tensor, " *n"]) -> Int64[Tensor, "*n places"]:
        """Convert the codes of a column's values to tokens."""

    @abc.abstractmethod
    def decode(self, tokens: Int64[Tensor, "*n places"]) -> Int64[Tensor, " *n"]:
        """Convert tokens to the codes of a column's values."""


@dataclass(frozen=True)
class CategoryTokenizer(ColumnTokenizer):
    """Tokenizer of a categorical column, with one token per value."""

    ends_in_code: ClassVar[bool] = True
    num_tokens = 1
    number: int
    num_ordered: int = 0
    """Number of first values that are in ascending order, as bins of numbers are; networks give neighbours similar
    weights."""

    def __post_init__(self) -> None:
        check_number("number", self.number, ge=1)
        check_number("num_ordered", self.num_ordered, ge=0, le=self.number)

    @property
    def num_values(self) -> int:
        return self.number

    def transitions(self) -> list[Transitions]:
        return [torch.zeros(1, self.number, dtype=torch.long)]

    def encode(self, codes: Tensor) -> Tensor:
        return codes[..., None]

    def decode(self, tokens: Tensor) -> Tensor:
        return tokens[..., 0]


@dataclass(frozen=True)
class DigitTokenizer(ColumnTokenizer):
    """Tokenizer of integers from `low` to `high`: one token per decimal digit, zero-padded, most significant first.

    If `low` is negative, it is subtracted from all values. A missing cell has the last code and tokens 10, 0, 0, ...
    """

    low: int
    high: int
    has_missing: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or max(abs(self.low), abs(self.high)) >= 10**15:
            raise UsageError("integers low <= high of at most 15 digits", f"{self.low} and {self.high}")

    @property
    def num_values(self) -> int:
        return self.high - self.low + 1 + self.has_missing

    @property
    def offset(self) -> int:
        """Number subtracted from all values before encoding."""
        return min(self.low, 0)

    @property
    def num_tokens(self) -> int:
        return len(str(self.high - self.offset))

    def transitions(self) -> list[Transitions]:
        """Return the automaton that accepts the numbers from `low` to `high` and a missing cell.

        The state records whether the digits so far equal those of `low` and of `high`; the last state is for a missing
        cell.
        """
        low, high = (f"{bound - self.offset:0{self.num_tokens}d}" for bound in (self.low, self.high))
        tables = []
        for low_digit, high_digit in zip(map(int, low), map(int, high), strict=True):
            table = torch.full((5, 10 + (self.has_missing and not tables)), -1, dtype=torch.long)
            for at_low, at_high in itertools.product((False, True), repeat=2):
                for digit in range(low_digit if at_low else 0, (high_digit if at_high else 9) + 1):
                    next_state = _state(at_low=at_low and digit == low_digit, at_high=at_high and digit == high_digit)
                    table[_state(at_low=at_low, at_high=at_high), digit] = next_state
            table[MISSING_STATE, 0] = MISSING_STATE
            if self.has_missing and not tables:
                table[0, 10] = MISSING_STATE
            tables.append(table)
        return tables

    def encode(self, codes: Tensor) -> Tensor:
        is_missing = codes > self.high - self.low
        values = (codes + (self.low - self.offset)).masked_fill(is_missing, 0)
        tokens = values[..., None] // self._powers(codes) % 10
        tokens[..., 0] = tokens[..., 0].masked_fill(is_missing, 10)
        return tokens

    def decode(self, tokens: Tensor) -> Tensor:
        codes = (tokens * self._powers(tokens)).sum(-1) - (self.low - self.offset)
        return codes.masked_fill(tokens[..., 0] == 10, self.high - self.low + 1)

    def _powers(self, like: Tensor) -> Int64[Tensor, " places"]:
        return 10 ** torch.arange(self.num_tokens - 1, -1, -1, device=like.device)


MISSING_STATE = 4
"""Automaton state of a missing cell."""


def _state(*, at_low: bool, at_high: bool) -> int:
    """Return the state of an automaton that reads a number digit by digit.

    The flags are True if the digits so far equal those of the lower or of the upper bound; at the start both are True.
    """
    return 2 * (not at_low) + (not at_high)


@dataclass(frozen=True)
class PairConstraint:
    """Allowed pairs of values of two columns, whose last token is the code of the value."""

    first: int
    second: int
    """Indices of the two columns."""
    allowed: tuple[str, ...]
    """One string of 0s and 1s per value of the first column; a 1 marks an allowed value of the second column."""

    def allowed_mask(self) -> Bool[Tensor, "first second"]:
        """Return the allowed pairs as a boolean mask."""
        return torch.tensor([[character == "1" for character in row] for row in self.allowed])

    def transposed(self) -> "PairConstraint":
        """Return the constraint with its columns swapped."""
        return PairConstraint(self.second, self.first, tuple(map("".join, zip(*self.allowed, strict=True))))


@dataclass(frozen=True)
class TableTokens(Space):
    """Space of tokenized table rows: the tokens of all columns in order, int64 [n, places].

    The source samples columns independently, from `value_probs` or else uniformly; source samples may violate
    constraints.
    """

    columns: tuple[ColumnTokenizer, ...]
    constraints: tuple[PairConstraint, ...] = ()
    """Constraints between pairs of columns; they must not form a cycle."""
    value_probs: tuple[tuple[float, ...], ...] = ()
    """Probabilities of the values of each column; empty for uniform values, of one column or of all columns."""

    def __post_init__(self) -> None:
        if not self.columns:
            raise UsageError("at least one column", "none")
        if self.value_probs and [len(probs) for probs in self.value_probs if probs] != [
            column.num_values for column, probs in zip(self.columns, self.value_probs, strict=True) if probs
        ]:
            raise UsageError(expected="one probability for each value of a column")
        for j, probs in enumerate(self.value_probs):
            check_probabilities(f"value_probs[{j}]", probs)
        groups = list(range(len(self.columns)))
        for pair in self.constraints:
            self._check(pair)
            a, b = (groups[index] for index in (pair.first, pair.second))
            if a == b:
                raise UsageError(
                    f"the constraints between columns {pair.first} and {pair.second} form a cycle, so rows cannot be"
                    " generated column by column",
                    remedy="Remove a constraint, or merge two columns into one",
                )
            groups = [a if group == b else group for group in groups]

    def _check(self, pair: PairConstraint) -> None:
        if not 0 <= min(pair.first, pair.second) <= max(pair.first, pair.second) < len(self.columns):
            raise UsageError(
                f"a constraint between columns 0 to {len(self.columns) - 1}", f"columns {pair.first} and {pair.second}"
            )
        first, second = self.columns[pair.first], self.columns[pair.second]
        if not (first.ends_in_code and second.ends_in_code):
            raise UsageError(
                "constraints require columns with a token per value", remedy="Use bins instead of digits for the number"
            )
        if len(pair.allowed) != first.num_values or any(
            len(row) != second.num_values or not {*row} <= {"0", "1"} for row in pair.allowed
        ):
            raise UsageError(
                expected=f"{first.num_values} strings of {second.num_values} characters 0 or 1 in a constraint"
            )
        if not pair.allowed_mask().any():
            raise UsageError(f"the constraint between columns {pair.first} and {pair.second} allows no pair of values")

    @property
    def tokens_per_column(self) -> tuple[int, ...]:
        """Number of tokens of each column."""
        return tuple(column.num_tokens for column in self.columns)

    @functools.cached_property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Vocabulary size of each token position, in column order."""
        return tuple(size for column in self.columns for size in column.vocab_sizes)

    @property
    def first_tokens(self) -> Int64[Tensor, " places"]:
        """Index of the first token of each position, if the tokens of all positions are numbered one after another."""
        sizes = torch.tensor(self.vocab_sizes)
        return sizes.cumsum(0) - sizes

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Int64[Tensor, "n places"]:
        u = rng.uniform((n, len(self.columns)), torch.float64, device)
        codes = [
            categorical(torch.tensor(probs, dtype=torch.float64, device=device), u[:, j])
            if probs
            else (u[:, j] * column.num_values).long().clamp(max=column.num_values - 1)
            for j, (column, probs) in enumerate(
                zip(self.columns, self.value_probs or ((),) * len(self.columns), strict=True)
            )
        ]
        return self.encode(torch.stack(codes, 1))

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        raise TypeError("rows of tokens have no velocity")

    def encode(self, codes: Int64[Tensor, "*n columns"]) -> Int64[Tensor, "*n places"]:
        """Convert rows of value codes to tokens."""
        return torch.cat([column.encode(codes[..., j]) for j, column in enumerate(self.columns)], -1)

    def decode(self, tokens: Int64[Tensor, "*n places"]) -> Int64[Tensor, "*n columns"]:
        """Convert tokens to rows of value codes."""
        token_groups = tokens.split(self.tokens_per_column, -1)
        return torch.stack([column.decode(group) for column, group in zip(self.columns, token_groups, strict=True)], -1)

    def token_order(self, order: Int64[Tensor, "*n columns"]) -> Int64[Tensor, "*n places"]:
        """Return the token positions in the order in which they are read if columns are read in the order `order`.

        `order` lists column indices. Entry i of the result is the position of the i-th token that is read.
        """
        widths = torch.tensor(self.tokens_per_column, device=order.device)
        ordered_widths = widths[order]
        starts = (ordered_widths.cumsum(-1) - ordered_widths).gather(-1, order.argsort(-1))
        columns = torch.arange(len(self.tokens_per_column), device=order.device).repeat_interleave(
            widths, output_size=len(self.vocab_sizes)
        )
        offsets = torch.arange(len(columns), device=order.device) - (widths.cumsum(0) - widths)[columns]
        return (starts[..., columns] + offsets).argsort(-1)
