"""One crystal, as files hold it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np


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
    told: Mapping[str, float] = MappingProxyType({})
    """Numbers that the file tells of it."""
