"""What rdkit does here: molecules with bonds. It is imported on first use, since it is an extra."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from feller.core.errors import UsageError
from feller.data.molecules.molecule import Molecule

STEPS = 10_000
"""Attempts at sharing out the orders of bonds, after which there are none; without a bound, odd samples take hours."""


@contextlib.contextmanager
def rdkit(what: str) -> Iterator[Any]:
    """Give the module `Chem`, whose messages do not reach the terminal meanwhile.

    Args:
        what: Who needs it, for the error.

    Raises:
        UsageError: If rdkit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise UsageError(f"{what} needs rdkit; install it with pip install 'feller[molecules]'") from error
    with rdBase.BlockLogs():
        yield Chem


def bare(chem: Any, molecule: Molecule) -> Any:
    """Return a molecule of rdkit that has atoms at their places and no bonds."""
    made = chem.RWMol()
    for number in molecule.atoms.tolist():
        made.AddAtom(chem.Atom(number))
    shape = chem.Conformer(len(molecule.atoms))
    shape.Set3D(True)
    shape.SetPositions(np.ascontiguousarray(molecule.places, dtype=np.float64))
    made.AddConformer(shape)
    return made


def with_orders(chem: Any, molecule: Molecule, orders: Int[np.ndarray, "l l"]) -> Any:
    """Return a molecule of rdkit with bonds of known orders, 0 where there is none."""
    kinds = (chem.BondType.SINGLE, chem.BondType.DOUBLE, chem.BondType.TRIPLE)
    made = bare(chem, molecule)
    for i, j in np.argwhere(np.triu(orders)).tolist():
        made.AddBond(i, j, kinds[orders[i, j] - 1])
    return made


def with_bonds(chem: Any, molecule: Molecule) -> Any | None:
    """Return a neutral molecule of rdkit whose bonds follow from the places, not yet sanitised; None if none do.

    Source: Kim and Kim 2015, "Universal structure conversion method for organic molecules", as rdkit has it.
    """
    from rdkit.Chem.rdDetermineBonds import DetermineBonds

    made = bare(chem, molecule)
    try:
        DetermineBonds(made, charge=0, embedChiral=False, maxIterations=STEPS)
    except (ValueError, RuntimeError):  # no bonds with right valencies, or too many attempts
        return None
    return made


def sanitised(chem: Any, made: Any) -> bool:
    """Tell whether rdkit finds the valencies right and can draw Kekulé's bonds; completes the molecule then."""
    try:
        chem.SanitizeMol(made)
    except ValueError:  # of which its own are kinds
        return False
    return True
