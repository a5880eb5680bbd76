"""Comparisons in rules, such as < 15."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from feller.core.errors import InputError

_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Comparison:
    """A sign and what stands behind it."""

    sign: str
    bound: str

    @property
    def text(self) -> str:
        """As a person writes it."""
        return f"{self.sign} {self.bound}"

    def over(self, spans: Sequence[tuple[int, int]], wanted: Any, name: str, count: int) -> Bool[np.ndarray, " count"]:
        """Return for which of `count` codes it holds, [count]; those behind the spans are of missing cells.

        Raises:
            InputError: If it holds for some numbers of a code only, or for none.
        """
        holds = _SIGNS[self.sign]
        found = np.zeros(count, dtype=bool)
        for code, (first, last) in enumerate(spans):
            ends = holds(first, wanted), holds(last, wanted)
            if ends[0] != ends[1]:
                raise InputError(
                    f"column {name!r}: a bin has numbers on both sides of {self.text!r}, so the rule cannot be kept;"
                    " give it an edge there, or a heavy value"
                )
            found[code] = ends[0]
        if not found.any():
            raise InputError(f"column {name!r} is never {self.text!r}; mend the rule or the bounds")
        return found


def compared(text: str) -> Comparison | None:
    """Return the comparison that a text is; None where it is a word."""
    found = re.fullmatch(r"(<=|>=|<|>)\s*(\S.*)", text)
    return None if found is None else Comparison(found[1], found[2])
