"""Rows of a table as short sentences: each column is a token, or several, and says which tokens may stand where."""

import abc
import functools
import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.rng import Draw, categorical
from feller.spaces.space import Space

Follow = Int64[Tensor, "states tokens"]
"""State and token -> state that follows; -1 where the token may not stand."""


class Field(abc.ABC):
    """A column: its values are the codes 0, 1, ..., `count` - 1, and each is written with the same number of tokens."""

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """Number of values."""

    @property
    @abc.abstractmethod
    def places(self) -> int:
        """Tokens of a value."""

    @abc.abstractmethod
    def follow(self) -> list[Follow]:
        """Return the automaton that admits the values and nothing else, place by place, from state 0 on."""

    @abc.abstractmethod
    def write(self, codes: Int64[Tensor, " *n"]) -> Int64[Tensor, "*n places"]:
        """Return the tokens of values."""

    @abc.abstractmethod
    def read(self, tokens: Int64[Tensor, "*n places"]) -> Int64[Tensor, " *n"]:
        """Return the values of tokens."""


@dataclass(frozen=True)
class Single(Field):
    """One token for each value."""

    places = 1
    number: int

    def __post_init__(self) -> None:
        check_number("number", self.number, least=1)

    @property
    def count(self) -> int:
        """Number of values."""
        return self.number

    def follow(self) -> list[Follow]:
        """Admit every token."""
        return [torch.zeros(1, self.number, dtype=torch.long)]

    def write(self, codes: Tensor) -> Tensor:
        """Return the codes as tokens."""
        return codes[..., None]

    def read(self, tokens: Tensor) -> Tensor:
        """Return the tokens as codes."""
        return tokens[..., 0]


@dataclass(frozen=True)
class Digits(Field):
    """Whole numbers from `low` to `high`, digit by digit from the highest, with zeros in front.

    Where some are negative, what is written is their distance from the lowest. A missing cell has the last code; its
    first token is 10, and zeros follow.
    """

    low: int
    high: int
    missing: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or max(abs(self.low), abs(self.high)) >= 10**15:
            raise UsageError("whole numbers low <= high of 15 digits", f"{self.low} and {self.high}")

    @property
    def count(self) -> int:
        """Number of values."""
        return self.high - self.low + 1 + self.missing

    @property
    def base(self) -> int:
        """What is subtracted before a number is written."""
        return min(self.low, 0)

    @property
    def places(self) -> int:
        """Digits of the highest."""
        return len(str(self.high - self.base))

    def follow(self) -> list[Follow]:
        """Admit what is in between, and the missing cell.

        A state tells whether the digits so far are those of `low`, and those of `high`; the last one is for what is
        missing.
        """
        low, high = (f"{edge - self.base:0{self.places}d}" for edge in (self.low, self.high))
        tables = []
        for least, most in zip(map(int, low), map(int, high), strict=True):
            table = torch.full((5, 10 + (self.missing and not tables)), -1, dtype=torch.long)
            for at_low, at_high in itertools.product((False, True), repeat=2):
                for digit in range(least if at_low else 0, (most if at_high else 9) + 1):
                    goes_on = _state(at_low=at_low and digit == least, at_high=at_high and digit == most)
                    table[_state(at_low=at_low, at_high=at_high), digit] = goes_on
            table[GONE, 0] = GONE
            if self.missing and not tables:
                table[0, 10] = GONE
            tables.append(table)
        return tables

    def write(self, codes: Tensor) -> Tensor:
        """Return the digits."""
        gone = codes > self.high - self.low
        number = (codes + (self.low - self.base)).masked_fill(gone, 0)
        tokens = number[..., None] // self._powers(codes) % 10
        tokens[..., 0] = tokens[..., 0].masked_fill(gone, 10)
        return tokens

    def read(self, tokens: Tensor) -> Tensor:
        """Return the codes."""
        codes = (tokens * self._powers(tokens)).sum(-1) - (self.low - self.base)
        return codes.masked_fill(tokens[..., 0] == 10, self.high - self.low + 1)

    def _powers(self, like: Tensor) -> Int64[Tensor, " places"]:
        return 10 ** torch.arange(self.places - 1, -1, -1, device=like.device)


GONE = 4
"""State of a missing cell."""


def _state(*, at_low: bool, at_high: bool) -> int:
    """Number the states so that a number begins in 0: at both ends of the range."""
    return 2 * (not at_low) + (not at_high)


@dataclass(frozen=True)
class Rule:
    """What two columns may be together; both have one token for each value."""

    first: int
    second: int
    """Numbers of the columns, from 0."""
    allowed: tuple[str, ...]
    """One word of 0 and 1 for each value of the first: which values of the second it admits."""

    def table(self) -> Bool[Tensor, "first second"]:
        """Return it as marks."""
        return torch.tensor([[mark == "1" for mark in word] for word in self.allowed])

    def turned(self) -> "Rule":
        """Return the same with the columns in each other's place."""
        return Rule(self.second, self.first, tuple(map("".join, zip(*self.allowed, strict=True))))


@dataclass(frozen=True)
class Rows(Space):
    """Rows whose columns are fields, under rules. A state holds the tokens of all columns in turn, int64 [n, places].

    The source is independent columns: each by its shares where these are known, else all values alike; it may break
    rules between columns.
    """

    fields: tuple[Field, ...]
    rules: tuple[Rule, ...] = ()
    """No chain of rules may lead from a column back to itself."""
    shares: tuple[tuple[float, ...], ...] = ()
    """How often each value of each column is; empty for a column where it is not known, or for all."""

    def __post_init__(self) -> None:
        if not self.fields:
            raise UsageError("a row of one column or more", "none")
        if self.shares and [len(own) for own in self.shares if own] != [
            field.count for field, own in zip(self.fields, self.shares, strict=True) if own
        ]:
            raise UsageError(expected="one share for each value of a column")
        joined = list(range(len(self.fields)))
        for rule in self.rules:
            self._check(rule)
            a, b = (joined[column] for column in (rule.first, rule.second))
            if a == b:
                raise UsageError(
                    f"the rules between columns {rule.first} and {rule.second} form a circle, through which no row"
                    " could be written from left to right",
                    remedy="Leave one rule out, or join two columns to one",
                )
            joined = [a if group == b else group for group in joined]

    def _check(self, rule: Rule) -> None:
        """Refuse a rule that does not fit its columns, or leaves nothing."""
        if not 0 <= min(rule.first, rule.second) <= max(rule.first, rule.second) < len(self.fields):
            raise UsageError(
                f"a rule names columns from 0 to {len(self.fields) - 1}", found=f"{rule.first}, {rule.second}"
            )
        first, second = self.fields[rule.first], self.fields[rule.second]
        if first.places != 1 or second.places != 1:
            raise UsageError("rules are between columns of one token", remedy="Give the number bins instead of digits")
        if len(rule.allowed) != first.count or any(
            len(word) != second.count or not {*word} <= {"0", "1"} for word in rule.allowed
        ):
            raise UsageError(expected=f"{first.count} words of {second.count} marks 0 or 1 in a rule")
        if not rule.table().any():
            raise UsageError(f"the rule between columns {rule.first} and {rule.second} admits nothing")

    @property
    def places(self) -> tuple[int, ...]:
        """Tokens of each column."""
        return tuple(field.places for field in self.fields)

    @functools.cached_property
    def counts(self) -> tuple[int, ...]:
        """Tokens that there are for each place, in the order of the columns."""
        return tuple(table.shape[1] for field in self.fields for table in field.follow())

    def reference(self, n: int, draw: Draw, device: torch.device | str = "cpu") -> Int64[Tensor, "n places"]:
        """Draw rows of independent columns."""
        u = draw.uniform((n, len(self.fields)), torch.float64, device)
        codes = [
            categorical(torch.tensor(own, dtype=torch.float64, device=device), u[:, j])
            if own
            else (u[:, j] * field.count).long().clamp(max=field.count - 1)
            for j, (field, own) in enumerate(zip(self.fields, self.shares or ((),) * len(self.fields), strict=True))
        ]
        return self.write(torch.stack(codes, 1))

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        """Refuse: tokens do not flow."""
        raise TypeError("rows of tokens have no velocity")

    def write(self, codes: Int64[Tensor, "*n columns"]) -> Int64[Tensor, "*n places"]:
        """Return the tokens of rows."""
        return torch.cat([field.write(codes[..., j]) for j, field in enumerate(self.fields)], -1)

    def read(self, tokens: Int64[Tensor, "*n places"]) -> Int64[Tensor, "*n columns"]:
        """Return the codes of rows."""
        parts = tokens.split(self.places, -1)
        return torch.stack([field.read(part) for field, part in zip(self.fields, parts, strict=True)], -1)

    def in_turn(self, order: Int64[Tensor, "*n columns"]) -> Int64[Tensor, "*n places"]:
        """Return the places of columns that come in some order."""
        widths = torch.tensor(self.places, device=order.device)
        wide = widths[order]
        begins = (wide.cumsum(-1) - wide).gather(-1, order.argsort(-1))
        columns = torch.arange(len(self.places), device=order.device).repeat_interleave(widths)
        within = torch.arange(len(columns), device=order.device) - (widths.cumsum(0) - widths)[columns]
        return (begins[..., columns] + within).argsort(-1)
