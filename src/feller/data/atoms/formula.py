"""Elements as people write them: a formula, or one symbol after another."""

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from feller.core.errors import UsageError
from feller.core.serialization import nearest
from feller.data.atoms.elements import NUMBERS, SYMBOLS

MOST = 10_000
"""Atoms that a formula may stand for."""
HOW = "write a formula such as CaTiO3, or symbols such as Ca,Ti,O,O,O"
_PART = re.compile(r"([A-Z][a-z]?)(\d{0,9})|(\()|\)(\d{0,9})")


def counts(atoms: np.ndarray) -> Counter[str]:
    """Count the atoms of each element, by their atomic numbers, in the order in which they first come."""
    return Counter(SYMBOLS[number] for number in atoms.tolist())


def written(found: Mapping[str, int]) -> str:
    """Write symbols with their numbers, in their order; a 1 is left out."""
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in found.items())


def formula(atoms: np.ndarray) -> str:
    """Write what a cell holds, such as CaTiO3, in the order in which the elements first come."""
    return written(counts(atoms))


def hill_formula(atoms: np.ndarray) -> str:
    """Write what a molecule is made of: carbon and hydrogen first where there is carbon, others by the alphabet."""
    found = counts(atoms)
    first = [symbol for symbol in ("C", "H") if symbol in found and "C" in found]
    return written({symbol: found[symbol] for symbol in (*first, *sorted(found.keys() - set(first)))})


def symbols_of(text: str) -> list[str]:
    """Return the symbols that a formula such as Ca(OH)2, or a list such as Ca,O,O, stands for, in its order.

    Raises:
        UsageError: If it is neither, or if there is no such element.
    """
    found = [part.strip() for part in text.split(",")] if "," in text else _expand(text.strip())
    unknown = next((symbol for symbol in found if symbol not in NUMBERS), None)
    if unknown is not None:
        raise UsageError(f"there is no element {unknown!r:.40} in element={text:.60}: {HOW}")
    return found


def _expand(formula: str) -> list[str]:
    """Repeat what a number follows; brackets nest."""
    levels: list[list[str]] = [[]]
    place = 0
    while place < len(formula):
        part = _PART.match(formula, place)
        if part is None or (part[0][0] == ")" and len(levels) == 1):
            raise UsageError(f"cannot read element={formula:.60} from {formula[place:]!r:.40} on: {HOW}")
        symbol, times, opened, closed = part.groups()
        if opened:
            levels.append([])
        else:
            group = [symbol] if symbol else levels.pop()
            repeated = int((times if symbol else closed) or 1)
            if repeated == 0:
                raise UsageError(f"element={formula:.60} has an element no times: {HOW}")
            if len(group) * repeated + len(levels[-1]) > MOST:
                raise UsageError(f"element={formula:.60} stands for over {MOST:,} atoms: {HOW}")
            levels[-1] += group * repeated
        place = part.end()
    if len(levels) > 1 or not levels[0]:
        raise UsageError(f"cannot read element={formula:.60}, a bracket is open or there is no atom: {HOW}")
    return levels[0]


def places_among(symbols: list[str], elements: tuple[str, ...]) -> np.ndarray:
    """Return the place of each symbol among the elements of a model.

    Raises:
        UsageError: If the model does not know one.
    """
    unknown = next((symbol for symbol in symbols if symbol not in elements), None)
    if unknown is not None:
        raise UsageError(f"the training data hold no {unknown}: {nearest(unknown, list(elements))}")
    return np.array([elements.index(symbol) for symbol in symbols])
