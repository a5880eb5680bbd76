"""Rows of a table as short sentences: each column is a token, or several, and says which tokens may stand where."""

import abc
import functools
import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.rng import RandomStream, categorical
from feller.spaces.space import Space

Transitions = Int64[Tensor, "states tokens"]
"""State and token -> state that follows; -1 where the token may not stand."""


class ColumnTokenizer(abc.ABC):
    """A column: its values are the codes 0, 1, ..., `num_values` - 1, each written with the same number of tokens."""

    @property
    @abc.abstractmethod
    def num_values(self) -> int:
        """Number of values."""

    @property
    @abc.abstractmethod
    def num_tokens(self) -> int:
        """Tokens of a value."""

    @abc.abstractmethod
    def transitions(self) -> list[Transitions]:
        """Return the automaton that admits the values and nothing else, place by place, from state 0 on."""

    @abc.abstractmethod
    def encode(self, codes: Int64[Tensor, " *n"]) -> Int64[Tensor, "*n places"]:
        """Return the tokens of values."""

    @abc.abstractmethod
    def decode(self, tokens: Int64[Tensor, "*n places"]) -> Int64[Tensor, " *n"]:
        """Return the values of tokens."""


@dataclass(frozen=True)
class CategoryTokenizer(ColumnTokenizer):
    """One token for each value."""

    num_tokens = 1
    number: int

    def __post_init__(self) -> None:
        check_number("number", self.number, ge=1)

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
    """Whole numbers from `low` to `high`, digit by digit from the highest, with zeros in front.

    Where some are negative, what is written is their distance from the lowest. A missing cell has the last code; its
    first token is 10, and zeros follow.
    """

    low: int
    high: int
    has_missing: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or max(abs(self.low), abs(self.high)) >= 10**15:
            raise UsageError("whole numbers low <= high of 15 digits", f"{self.low} and {self.high}")

    @property
    def num_values(self) -> int:
        return self.high - self.low + 1 + self.has_missing

    @property
    def offset(self) -> int:
        """What is subtracted before a number is written."""
        return min(self.low, 0)

    @property
    def num_tokens(self) -> int:
        return len(str(self.high - self.offset))

    def transitions(self) -> list[Transitions]:
        """Admit what is in between, and the missing cell.

        A state tells whether the digits so far are those of `low`, and those of `high`; the last one is for what is
        missing.
        """
        low, high = (f"{edge - self.offset:0{self.num_tokens}d}" for edge in (self.low, self.high))
        tables = []
        for low_digit, high_digit in zip(map(int, low), map(int, high), strict=True):
            table = torch.full((5, 10 + (self.has_missing and not tables)), -1, dtype=torch.long)
            for at_low, at_high in itertools.product((False, True), repeat=2):
                for digit in range(low_digit if at_low else 0, (high_digit if at_high else 9) + 1):
                    goes_on = _state(at_low=at_low and digit == low_digit, at_high=at_high and digit == high_digit)
                    table[_state(at_low=at_low, at_high=at_high), digit] = goes_on
            table[MISSING_STATE, 0] = MISSING_STATE
            if self.has_missing and not tables:
                table[0, 10] = MISSING_STATE
            tables.append(table)
        return tables

    def encode(self, codes: Tensor) -> Tensor:
        is_missing = codes > self.high - self.low
        number = (codes + (self.low - self.offset)).masked_fill(is_missing, 0)
        tokens = number[..., None] // self._powers(codes) % 10
        tokens[..., 0] = tokens[..., 0].masked_fill(is_missing, 10)
        return tokens

    def decode(self, tokens: Tensor) -> Tensor:
        codes = (tokens * self._powers(tokens)).sum(-1) - (self.low - self.offset)
        return codes.masked_fill(tokens[..., 0] == 10, self.high - self.low + 1)

    def _powers(self, like: Tensor) -> Int64[Tensor, " places"]:
        return 10 ** torch.arange(self.num_tokens - 1, -1, -1, device=like.device)


MISSING_STATE = 4
"""State of a missing cell."""


def _state(*, at_low: bool, at_high: bool) -> int:
    """Number the states so that a number begins in 0: at both ends of the range."""
    return 2 * (not at_low) + (not at_high)


@dataclass(frozen=True)
class PairConstraint:
    """What two columns may be together; both have one token for each value."""

    first: int
    second: int
    """Numbers of the columns, from 0."""
    allowed: tuple[str, ...]
    """One word of 0 and 1 for each value of the first: which values of the second it admits."""

    def allowed_mask(self) -> Bool[Tensor, "first second"]:
        """Return it as marks."""
        return torch.tensor([[mark == "1" for mark in word] for word in self.allowed])

    def transposed(self) -> "PairConstraint":
        """Return the same with the columns in each other's place."""
        return PairConstraint(self.second, self.first, tuple(map("".join, zip(*self.allowed, strict=True))))


@dataclass(frozen=True)
class TableTokens(Space):
    """Rows whose columns are fields, under rules. A state holds the tokens of all columns in turn, int64 [n, places].

    The source is independent columns: each by its shares where these are known, else all values alike; it may break
    rules between columns.
    """

    columns: tuple[ColumnTokenizer, ...]
    constraints: tuple[PairConstraint, ...] = ()
    """No chain of rules may lead from a column back to itself."""
    value_probs: tuple[tuple[float, ...], ...] = ()
    """How often each value of each column is; empty for a column where it is not known, or for all."""

    def __post_init__(self) -> None:
        if not self.columns:
            raise UsageError("a row of one column or more", "none")
        if self.value_probs and [len(probs) for probs in self.value_probs if probs] != [
            field.num_values for field, probs in zip(self.columns, self.value_probs, strict=True) if probs
        ]:
            raise UsageError(expected="one share for each value of a column")
        groups = list(range(len(self.columns)))
        for rule in self.constraints:
            self._check(rule)
            a, b = (groups[column] for column in (rule.first, rule.second))
            if a == b:
                raise UsageError(
                    f"the rules between columns {rule.first} and {rule.second} form a circle, through which no row"
                    " could be written from left to right",
                    remedy="Leave one rule out, or join two columns to one",
                )
            groups = [a if group == b else group for group in groups]

    def _check(self, rule: PairConstraint) -> None:
        """Refuse a rule that does not fit its columns, or leaves nothing."""
        if not 0 <= min(rule.first, rule.second) <= max(rule.first, rule.second) < len(self.columns):
            raise UsageError(
                f"a rule names columns from 0 to {len(self.columns) - 1}", found=f"{rule.first}, {rule.second}"
            )
        first, second = self.columns[rule.first], self.columns[rule.second]
        if first.num_tokens != 1 or second.num_tokens != 1:
            raise UsageError("rules are between columns of one token", remedy="Give the number bins instead of digits")
        if len(rule.allowed) != first.num_values or any(
            len(word) != second.num_values or not {*word} <= {"0", "1"} for word in rule.allowed
        ):
            raise UsageError(expected=f"{first.num_values} words of {second.num_values} marks 0 or 1 in a rule")
        if not rule.allowed_mask().any():
            raise UsageError(f"the rule between columns {rule.first} and {rule.second} admits nothing")

    @property
    def tokens_per_column(self) -> tuple[int, ...]:
        """Tokens of each column."""
        return tuple(field.num_tokens for field in self.columns)

    @functools.cached_property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Tokens that there are for each place, in the order of the columns."""
        return tuple(table.shape[1] for field in self.columns for table in field.transitions())

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Int64[Tensor, "n places"]:
        u = rng.uniform((n, len(self.columns)), torch.float64, device)
        codes = [
            categorical(torch.tensor(probs, dtype=torch.float64, device=device), u[:, j])
            if probs
            else (u[:, j] * field.num_values).long().clamp(max=field.num_values - 1)
            for j, (field, probs) in enumerate(
                zip(self.columns, self.value_probs or ((),) * len(self.columns), strict=True)
            )
        ]
        return self.encode(torch.stack(codes, 1))

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        raise TypeError("rows of tokens have no velocity")

    def encode(self, codes: Int64[Tensor, "*n columns"]) -> Int64[Tensor, "*n places"]:
        """Return the tokens of rows."""
        return torch.cat([field.encode(codes[..., j]) for j, field in enumerate(self.columns)], -1)

    def decode(self, tokens: Int64[Tensor, "*n places"]) -> Int64[Tensor, "*n columns"]:
        """Return the codes of rows."""
        parts = tokens.split(self.tokens_per_column, -1)
        return torch.stack([field.decode(part) for field, part in zip(self.columns, parts, strict=True)], -1)

    def token_order(self, order: Int64[Tensor, "*n columns"]) -> Int64[Tensor, "*n places"]:
        """Return the places of columns that come in some order."""
        widths = torch.tensor(self.tokens_per_column, device=order.device)
        wide = widths[order]
        begins = (wide.cumsum(-1) - wide).gather(-1, order.argsort(-1))
        columns = torch.arange(len(self.tokens_per_column), device=order.device).repeat_interleave(widths)
        within = torch.arange(len(columns), device=order.device) - (widths.cumsum(0) - widths)[columns]
        return (begins[..., columns] + within).argsort(-1)
