"""One molecule: atoms, neighbours, and bonds by rdkit."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from feller.core.errors import UsageError
from feller.data.atoms.elements import RADII

STRETCH = 1.3
"""Factor on the sum of two radii up to which atoms are bonded."""


@dataclass(frozen=True, eq=False)
class Molecule:
    """Atoms as a file has them."""

    name: str
    """Where it stands, for people."""
    atomic_numbers: Int[np.ndarray, " l"]
    """Atomic numbers."""
    positions: Float[np.ndarray, "l 3"]
    """In Å."""
    charge: int = 0
    """In electron charges, where the file says it."""
    is_2d: bool = False
    """It is a drawing in two dimensions."""
    properties: dict[str, float] = field(default_factory=dict)
    """Numbers that the file tells of it."""
    ignored_fields: tuple[str, ...] = ()
    """Names of what else the file tells of it, which is not kept."""

    def distances(self) -> Float[np.ndarray, "l l"]:
        """Return how far each two atoms are apart, in Å."""
        return np.linalg.norm(self.positions[:, None] - self.positions, axis=2)

    def bond_mask(self) -> Bool[np.ndarray, "l l"]:
        """Tell which two atoms are near enough for a bond, whatever its order."""
        radii = RADII[self.atomic_numbers]
        near = self.distances() < STRETCH * (radii[:, None] + radii)
        return near & ~np.eye(len(near), dtype=bool)


STEPS = 10_000
"""Attempts at sharing out the orders of bonds, after which there are none; without a bound, odd samples take hours."""


@contextlib.contextmanager
def rdkit(what: str) -> Iterator[Any]:
    """Give the module `Chem`, whose messages do not reach the terminal; without it UsageError that says `what` for."""
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise UsageError(f"{what} needs rdkit", remedy="Install it with pip install 'feller[molecules]'") from error
    with rdBase.BlockLogs():
        yield Chem


def rdkit_without_bonds(chem: Any, molecule: Molecule) -> Any:
    """Return a molecule of rdkit that has atoms at their places and no bonds."""
    made = chem.RWMol()
    for number in molecule.atomic_numbers.tolist():
        made.AddAtom(chem.Atom(number))
    shape = chem.Conformer(len(molecule.atomic_numbers))
    shape.Set3D(True)
    shape.SetPositions(np.ascontiguousarray(molecule.positions, dtype=np.float64))
    made.AddConformer(shape)
    return made


def rdkit_with_orders(chem: Any, molecule: Molecule, orders: Int[np.ndarray, "l l"]) -> Any:
    """Return a molecule of rdkit with bonds of known orders, 0 where there is none."""
    kinds = (chem.BondType.SINGLE, chem.BondType.DOUBLE, chem.BondType.TRIPLE)
    made = rdkit_without_bonds(chem, molecule)
    for i, j in np.argwhere(np.triu(orders)).tolist():
        made.AddBond(i, j, kinds[orders[i, j] - 1])
    return made


def rdkit_with_bonds(chem: Any, molecule: Molecule) -> Any | None:
    """Return a neutral molecule of rdkit whose bonds follow from the places, not yet sanitised; None if none do.

    Source: Kim and Kim 2015, "Universal structure conversion method for organic molecules", as rdkit has it.
    """
    from rdkit.Chem.rdDetermineBonds import DetermineBonds

    made = rdkit_without_bonds(chem, molecule)
    try:
        DetermineBonds(made, charge=0, embedChiral=False, maxIterations=STEPS)
    except (ValueError, RuntimeError):  # no bonds with right valencies, or too many attempts
        return None
    return made


def sanitize(chem: Any, made: Any) -> bool:
    """Tell whether rdkit finds the valencies right and can draw Kekulé's bonds; completes the molecule then."""
    try:
        chem.SanitizeMol(made)
    except ValueError:  # of which its own are kinds
        return False
    return True
