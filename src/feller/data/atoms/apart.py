"""Atoms that are too near to be two."""

import numpy as np
from jaxtyping import Float, Int

from feller.core.errors import InputError
from feller.data.atoms.elements import SYMBOLS

NEAREST = 0.3
"""Distance in Å below which two atoms cannot be two."""


def check_apart(
    distances: Float[np.ndarray, "l l"], atoms: Int[np.ndarray, " l"], where: str, what: str, within: str = ""
) -> None:
    """Refuse a structure with two atoms at one place.

    Args:
        distances: Of all pairs, in Å; those of atoms from themselves do not count.
        atoms: Atomic numbers.
        where: What names the structure in the error.
        what: What such a structure is called.
        within: What the atoms are counted in.

    Raises:
        InputError: If there are two; names them.
    """
    apart = distances + np.diag(np.full(len(atoms), np.inf))
    if apart.min() >= NEAREST:
        return
    i, j = map(int, np.unravel_index(apart.argmin(), apart.shape))
    first, second = (f"{k + 1} ({SYMBOLS[atoms[k]]})" for k in (i, j))
    raise InputError(
        f"{where}: atoms {first} and {second}{within} are {apart.min():.3g} Å apart, expected {NEAREST:g} or more;"
        f" mend or drop that {what}"
    )
