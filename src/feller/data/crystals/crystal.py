"""One crystal, as files hold it."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from feller.data.crystals.elements import SYMBOLS


class Crystal(NamedTuple):
    """A cell and what is in it."""

    numbers: np.ndarray
    """Atomic number of each site, [l]."""
    places: np.ndarray
    """Fractional coordinates, [l, 3]."""
    lattice: np.ndarray
    """Edges a, b, c in Å, and angles alpha, beta, gamma in degrees, [6]."""
    label: str | None = None
    """Name of its class, where it has one."""


def counts(numbers: np.ndarray) -> Counter[str]:
    """Count the atoms of each element, in the order in which they first come."""
    return Counter(SYMBOLS[number] for number in numbers.tolist())


def formula(numbers: np.ndarray) -> str:
    """Write what a cell holds, such as CaTiO3, in the order in which the elements first come."""
    return written(counts(numbers))


def written(found: Mapping[str, int]) -> str:
    """Write symbols with their numbers, in their order; a 1 is left out."""
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in found.items())
