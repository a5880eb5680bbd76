"""What a person says of a crystal: its atoms, or its cell."""

import math
import re

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from feller.data.columns import number
from feller.data.crystals.elements import NUMBERS
from feller.data.crystals.lattice import closes
from feller.errors import UsageError
from feller.record import nearest

MOST = 10_000
"""Atoms that a formula may stand for."""
HOW = "write element=CaTiO3, element=Ca,Ti,O,O,O, or one symbol for all atoms"
_PART = re.compile(r"([A-Z][a-z]?)(\d{0,9})|(\()|\)(\d{0,9})")


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
            if len(group) * repeated + len(levels[-1]) > MOST:
                raise UsageError(f"element={formula:.60} stands for over {MOST:,} atoms: {HOW}")
            levels[-1] += group * repeated
        place = part.end()
    if len(levels) > 1 or not levels[0]:
        raise UsageError(f"cannot read element={formula:.60}, a bracket is open or there is no atom: {HOW}")
    return levels[0]


def lattice_of(text: str) -> Float64[Tensor, "1 6"]:
    """Return the cell that six numbers say: a, b, c in Å, then alpha, beta, gamma in degrees.

    Raises:
        UsageError: If there are others, or if they close no cell.
    """
    parts = [number(part.strip()) for part in text.split(",")]
    lattice = torch.tensor([[math.nan if part is None else part for part in parts]], dtype=torch.float64)
    if lattice.shape != (1, 6) or not closes(lattice)[0]:
        how = "lengths in Å and angles in degrees that close, such as 4,4,4,90,90,90"
        raise UsageError(f"expected lattice=a,b,c,alpha,beta,gamma, {how}, got {text!r:.60}")
    return lattice


def numbered(symbols: list[str], elements: tuple[str, ...]) -> np.ndarray:
    """Return the place of each symbol among the elements of a model.

    Raises:
        UsageError: If the model does not know one.
    """
    unknown = next((symbol for symbol in symbols if symbol not in elements), None)
    if unknown is not None:
        raise UsageError(f"the training data hold no {unknown}: {nearest(unknown, list(elements))}")
    return np.array([elements.index(symbol) for symbol in symbols])
