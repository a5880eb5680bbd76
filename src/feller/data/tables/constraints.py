"""Constraints between the columns of a table, as comparisons and as allowed pairs of cells."""

import operator
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from feller.core.errors import InputError
from feller.data.tables.column import ModelledColumn

MAX_RULE_CODES = 10_000
"""Maximum number of codes of a column that occurs in a rule."""


@dataclass(frozen=True)
class Constraint:
    """Rule between two columns: if column `when` has a value in `among`, column `then` must have a value in `only`."""

    when: str
    """Name of the column on whose value the rule depends."""
    among: tuple[str, ...]
    """Values or comparisons (such as < 15) of column `when` for which the rule applies."""
    then: str
    """Name of the column that the rule constrains."""
    only: tuple[str, ...]
    """Values or comparisons that column `then` must match where the rule applies."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the rule."""
        return (self.when, self.then)

    @property
    def text(self) -> str:
        """The rule as a sentence, for error messages."""
        return f"where {self.when} is {' or '.join(self.among)}, {self.then} is {' or '.join(self.only)}"

    def masks(self, columns: Mapping[str, ModelledColumn]) -> Iterator[tuple[str, str, Bool[np.ndarray, "_ _"]]]:
        """Yield the mask of the pairs of codes that the rule allows."""
        if not self.among or not self.only:
            raise InputError("a rule between two different columns, with values for each column", self.text)
        when_mask = np.any([columns[self.when].matching(text) for text in self.among], axis=0)
        only_mask = np.any([columns[self.then].matching(text) for text in self.only], axis=0)
        yield self.when, self.then, ~when_mask[:, None] | only_mask[None, :]


@dataclass(frozen=True, eq=False)
class Pair:
    """Rules between two modelled columns: the indices of the columns, and a mask of the allowed pairs of codes."""

    first: int
    second: int
    allowed: Bool[np.ndarray, "a b"]


def check_forest(pairs: Sequence[Pair], columns: Sequence[ModelledColumn]) -> None:
    """Raise an InputError if pairs of columns form a cycle."""
    root = list(range(len(columns)))

    def top(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    for pair in pairs:
        a, b = top(pair.first), top(pair.second)
        if a == b:
            names = f"{columns[pair.first].name!r} and {columns[pair.second].name!r}"
            raise InputError(
                f"the rules connect {names} in a cycle through other columns", remedy="Remove one rule of the cycle"
            )
        root[b] = a


def allowed_codes(pairs: Sequence[Pair], counts: Sequence[int]) -> list[np.ndarray]:
    """Return, for each column, a mask of its codes: True if a row with this code can satisfy all rules."""
    masks = [np.ones(count, dtype=bool) for count in counts]
    for _ in pairs:  # on a forest, arc consistency converges within as many rounds as the longest path
        for pair in pairs:
            masks[pair.first] &= (pair.allowed & masks[pair.second]).any(1)
            masks[pair.second] &= (pair.allowed.T & masks[pair.first]).any(1)
    return masks if all(mask.any() for mask in masks) else [np.zeros(count, dtype=bool) for count in counts]


def violations(codes: Int64[np.ndarray, "n k"], pair: Pair) -> Bool[np.ndarray, " n"]:
    """Return True for each row that violates the rules of a pair of columns."""
    return ~pair.allowed[codes[:, pair.first], codes[:, pair.second]]


def repair(codes: Int64[np.ndarray, "n k"], pairs: Sequence[Pair], counts: Sequence[int]) -> Int64[np.ndarray, "n k"]:
    """Replace codes by the nearest codes that satisfy all rules.

    The rules link the columns so that they form trees. In each tree, the first column is changed first, and each
    further column is adapted to the column before it.
    """
    codes, masks = codes.copy(), allowed_codes(pairs, counts)
    visited: set[int] = set()
    for start in sorted({column for pair in pairs for column in (pair.first, pair.second)}):
        if start in visited:
            continue
        codes[:, start] = _nearest(np.broadcast_to(masks[start], (len(codes), counts[start])), codes[:, start])
        visited.add(start)
        queue = deque([start])
        while queue:
            a = queue.popleft()
            for pair in pairs:
                b = pair.second if pair.first == a else pair.first if pair.second == a else a
                if b in visited:
                    continue
                allowed = (pair.allowed if pair.first == a else pair.allowed.T) & masks[b]
                codes[:, b] = _nearest(allowed[codes[:, a]], codes[:, b])
                visited.add(b)
                queue.append(b)
    return codes


def _nearest(allowed: Bool[np.ndarray, "n count"], codes: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return, for each row, the code nearest to `codes` among the codes that `allowed` marks; the lower one of ties."""
    nearest_codes = codes.copy()
    bad_rows = np.flatnonzero(~allowed[np.arange(len(codes)), codes])
    distances = np.abs(np.arange(allowed.shape[1])[None, :] - codes[bad_rows, None])
    nearest_codes[bad_rows] = np.where(allowed[bad_rows], distances, allowed.shape[1]).argmin(1)
    return nearest_codes


_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Inequality:
    """Comparison of a column with a bound, such as < 15."""

    sign: str
    bound: str

    @property
    def text(self) -> str:
        """Text of the comparison, such as < 15."""
        return f"{self.sign} {self.bound}"

    def mask(self, spans: Sequence[tuple[int, int]], bound: Any, name: str, count: int) -> Bool[np.ndarray, " count"]:
        """Return the mask of the codes of a column whose values satisfy the comparison with `bound`.

        Args:
            spans: First and last value that each code stands for. Codes beyond the end of this list stand for missing
                cells, and get False.
            bound: The bound of the comparison, of the same type as the values in `spans`.
            name: Name of the column, for the error.
            count: Number of codes of the column.

        Raises:
            InputError: If the comparison holds for only a part of the values of a code, or for no code.
        """
        compare = _SIGNS[self.sign]
        satisfied = np.zeros(count, dtype=bool)
        for code, (first, last) in enumerate(spans):
            outcomes = compare(first, bound), compare(last, bound)
            if outcomes[0] != outcomes[1]:
                raise InputError(
                    f"a bin has values on both sides of {self.text!r}, so the rule cannot be enforced",
                    remedy="Add a bin edge at this limit (`edges` of the column in the schema), or, for a number, give"
                    " the limit a bin of its own (`heavy`)",
                    column=name,
                )
            satisfied[code] = outcomes[0]
        if not satisfied.any():
            raise InputError(
                f"no allowed value satisfies {self.text!r}", remedy="Correct the rule or the bounds", column=name
            )
        return satisfied


def parse_inequality(text: str) -> Inequality | None:
    """Parse a comparison; return None if the text is a plain value."""
    match = re.fullmatch(r"(<=|>=|<|>)\s*(\S.*)", text)
    return None if match is None else Inequality(match[1], match[2])
