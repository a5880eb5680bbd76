"""Constraints between columns: comparisons and pairs of cells that may stand in one row."""

import operator
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from feller.core.errors import InputError
from feller.data.tables.column import ModelledColumn

MAX_RULE_CODES = 10_000
"""Codes of a column in a rule, at most."""


@dataclass(frozen=True)
class Constraint:
    """Where one column is any of some words or comparisons, another is one of others."""

    when: str
    """Name of the first column."""
    among: tuple[str, ...]
    """What it is then, such as < 15."""
    then: str
    """Name of the second column."""
    only: tuple[str, ...]
    """What that may be then."""

    @property
    def text(self) -> str:
        """As a person says it."""
        return f"where {self.when} is {' or '.join(self.among)}, {self.then} is {' or '.join(self.only)}"


@dataclass(frozen=True, eq=False)
class Pair:
    """Two columns by their places among those modelled, and which codes of them go together."""

    first: int
    second: int
    allowed: Bool[np.ndarray, "a b"]


def compile_rules(rules: Sequence[Constraint], columns: Sequence[ModelledColumn]) -> tuple[Pair, ...]:
    """Turn rules into tables, one for each two columns.

    Raises:
        InputError: If a rule names what is not there, if the columns form a ring, or if no row is left.
    """
    place = {column.name: i for i, column in enumerate(columns)}
    tables: dict[tuple[int, int], np.ndarray] = {}
    for rule in rules:
        for name in (rule.when, rule.then):
            if name not in place:
                raise InputError.unknown_name("column of a rule", name, place)
            if columns[place[name]].num_codes > MAX_RULE_CODES:
                raise InputError(
                    f"a rule names {name!r}, which has more than {MAX_RULE_CODES:,} codes", remedy="Give it bins"
                )
        if rule.when == rule.then or not rule.among or not rule.only:
            raise InputError("a rule that joins two columns by words of each", rule.text)
        a, b = place[rule.when], place[rule.then]
        when = np.any([columns[a].matching(text) for text in rule.among], axis=0)
        only = np.any([columns[b].matching(text) for text in rule.only], axis=0)
        allowed = ~when[:, None] | only[None, :]
        key, table = ((a, b), allowed) if a < b else ((b, a), allowed.T)
        tables[key] = tables[key] & table if key in tables else table
    pairs = tuple(Pair(a, b, table) for (a, b), table in sorted(tables.items()))
    _check_forest(pairs, columns)
    if not allowed_codes(pairs, [column.num_codes for column in columns])[0].any():
        told = "; ".join(rule.text for rule in rules)
        raise InputError(f"no row can keep all rules ({told})", remedy="Take one back")
    return pairs


def _check_forest(pairs: Sequence[Pair], columns: Sequence[ModelledColumn]) -> None:
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
                f"the rules join {names} twice, by way of other columns", remedy="Take one rule of that ring back"
            )
        root[b] = a


def allowed_codes(pairs: Sequence[Pair], counts: Sequence[int]) -> list[np.ndarray]:
    """Return which codes of each column stand in some row that keeps all rules, bool [count] each."""
    able = [np.ones(count, dtype=bool) for count in counts]
    for _ in pairs:  # a forest settles after as many rounds as its longest way
        for pair in pairs:
            able[pair.first] &= (pair.allowed & able[pair.second]).any(1)
            able[pair.second] &= (pair.allowed.T & able[pair.first]).any(1)
    return able if all(each.any() for each in able) else [np.zeros(count, dtype=bool) for count in counts]


def violations(codes: Int64[np.ndarray, "n k"], pair: Pair) -> Bool[np.ndarray, " n"]:
    """Return which rows do not keep a rule."""
    return ~pair.allowed[codes[:, pair.first], codes[:, pair.second]]


def repair(codes: Int64[np.ndarray, "n k"], pairs: Sequence[Pair], counts: Sequence[int]) -> Int64[np.ndarray, "n k"]:
    """Move codes to the nearest that keep all rules, from the first column of each tree outwards."""
    codes, able = codes.copy(), allowed_codes(pairs, counts)
    visited: set[int] = set()
    for start in sorted({column for pair in pairs for column in (pair.first, pair.second)}):
        if start in visited:
            continue
        codes[:, start] = _nearest(np.broadcast_to(able[start], (len(codes), counts[start])), codes[:, start])
        visited.add(start)
        waiting = deque([start])
        while waiting:
            a = waiting.popleft()
            for pair in pairs:
                b = pair.second if pair.first == a else pair.first if pair.second == a else a
                if b in visited:
                    continue
                table = (pair.allowed if pair.first == a else pair.allowed.T) & able[b]
                codes[:, b] = _nearest(table[codes[:, a]], codes[:, b])
                visited.add(b)
                waiting.append(b)
    return codes


def _nearest(allowed: Bool[np.ndarray, "n count"], codes: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return for each row the allowed code that is nearest to its own, the lower one of two."""
    moved = codes.copy()
    wrong = np.flatnonzero(~allowed[np.arange(len(codes)), codes])
    far = np.abs(np.arange(allowed.shape[1])[None, :] - codes[wrong, None])
    moved[wrong] = np.where(allowed[wrong], far, allowed.shape[1]).argmin(1)
    return moved


_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Inequality:
    """A sign and what stands behind it."""

    sign: str
    bound: str

    @property
    def text(self) -> str:
        """As a person writes it."""
        return f"{self.sign} {self.bound}"

    def mask(self, spans: Sequence[tuple[int, int]], bound: Any, name: str, count: int) -> Bool[np.ndarray, " count"]:
        """Return for which of `count` codes it holds, [count]; those behind the spans are of missing cells.

        Raises:
            InputError: If it holds for some numbers of a code only, or for none.
        """
        holds = _SIGNS[self.sign]
        found = np.zeros(count, dtype=bool)
        for code, (first, last) in enumerate(spans):
            ends = holds(first, bound), holds(last, bound)
            if ends[0] != ends[1]:
                raise InputError(
                    f"a bin has numbers on both sides of {self.text!r}, so the rule cannot be kept",
                    remedy="Give it an edge there, or a heavy value",
                    column=name,
                )
            found[code] = ends[0]
        if not found.any():
            raise InputError(f"is never {self.text!r}", remedy="Mend the rule or the bounds", column=name)
        return found


def parse_inequality(text: str) -> Inequality | None:
    """Return the comparison that a text is; None where it is a word."""
    found = re.fullmatch(r"(<=|>=|<|>)\s*(\S.*)", text)
    return None if found is None else Inequality(found[1], found[2])
