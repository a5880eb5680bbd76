"""Elements as a person writes them: a formula, or one symbol after another."""

import re

import numpy as np

from feller.data.crystals.crystal import counts, written
from feller.data.crystals.elements import NUMBERS
from feller.errors import UsageError
from feller.record import nearest

SYMBOL = "[A-Za-z][a-z]?"
LIST = re.compile(rf"{SYMBOL}(\s*,\s*{SYMBOL})+")
FORMULA = re.compile(r"([A-Z][a-z]?)(\d{0,9})")
MOST = 10_000
"""Atoms that a formula may ask for; more cannot be meant."""


def atoms_of(text: str) -> list[str]:
    """Return the symbols of `C,O,H,H,H,H` as they stand, or those of `CH4O`, as often as it says.

    Raises:
        UsageError: If it is neither, or names what is no element.
    """
    text = text.strip()
    if LIST.fullmatch(text):
        symbols = re.split(r"\s*,\s*", text)
    else:
        parts = FORMULA.findall(text)
        counts = [int(count or 1) for _, count in parts]
        if not parts or "".join(a + b for a, b in parts) != text or min(counts) < 1 or sum(counts) > MOST:
            raise UsageError(f"expected a formula such as CH4O, or symbols such as C,O,H,H,H,H, got {text!r:.60}")
        symbols = [symbol for (symbol, _), count in zip(parts, counts, strict=True) for _ in range(count)]
    for symbol in symbols:
        if symbol not in NUMBERS:
            raise UsageError(f"there is no element {symbol!r}: {nearest(symbol, list(NUMBERS))}")
    return symbols


def formula_of(atoms: np.ndarray) -> str:
    """Write what a molecule is made of: carbon and hydrogen first where there is carbon, others by the alphabet."""
    found = counts(atoms)
    first = [symbol for symbol in ("C", "H") if symbol in found and "C" in found]
    return written({symbol: found[symbol] for symbol in (*first, *sorted(found.keys() - set(first)))})
