"""Molecule: atoms, distances between atoms, and bonds assigned by rdkit."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from feller.core.errors import UsageError
from feller.data.atoms.elements import RADII

STRETCH = 1.3
"""Maximum bond length, as a multiple of the sum of the covalent radii of both atoms."""


@dataclass(frozen=True, eq=False)
class Molecule:
    """Molecule as read from a file: atomic numbers, positions of the atoms, and what else the file states about it."""

    name: str
    """Location of the molecule in its file, for error messages."""
    atomic_numbers: Int[np.ndarray, " l"]
    positions: Float[np.ndarray, "l 3"]
    """Coordinates of the atoms in Å, [l, 3]."""
    charge: int = 0
    """Total charge in elementary charges; 0 if the file does not state it."""
    is_2d: bool = False
    """True if the file holds a two-dimensional drawing instead of positions in space."""
    properties: dict[str, float] = field(default_factory=dict)
    """Numeric properties of the molecule in the file, by name."""
    ignored_fields: tuple[str, ...] = ()
    """Names of further fields of the molecule in the file, which are not used."""

    def distances(self) -> Float[np.ndarray, "l l"]:
        """Return the distances of all pairs of atoms in Å."""
        return np.linalg.norm(self.positions[:, None] - self.positions, axis=2)

    def bond_mask(self) -> Bool[np.ndarray, "l l"]:
        """Return True for each pair of atoms within bonding distance."""
        radii = RADII[self.atomic_numbers]
        is_close = self.distances() < STRETCH * (radii[:, None] + radii)
        return is_close & ~np.eye(len(is_close), dtype=bool)


STEPS = 10_000
"""Maximum number of bond order assignments that rdkit tries; without a limit, malformed samples take hours."""


@contextlib.contextmanager
def rdkit(what: str) -> Iterator[Any]:
    """Yield the module `rdkit.Chem`, with its log silenced within the context.

    Raises:
        UsageError: If rdkit is not installed; the message says that `what`, such as a file format, needs it.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise UsageError(f"{what} needs rdkit", remedy="Install rdkit with pip install 'feller[molecules]'") from error
    with rdBase.BlockLogs():
        yield Chem


def rdkit_without_bonds(chem: Any, molecule: Molecule) -> Any:
    """Return an rdkit molecule with atoms and positions but no bonds."""
    mol = chem.RWMol()
    for number in molecule.atomic_numbers.tolist():
        mol.AddAtom(chem.Atom(number))
    conformer = chem.Conformer(len(molecule.atomic_numbers))
    conformer.Set3D(True)
    conformer.SetPositions(np.ascontiguousarray(molecule.positions, dtype=np.float64))
    mol.AddConformer(conformer)
    return mol


def rdkit_with_orders(chem: Any, molecule: Molecule, orders: Int[np.ndarray, "l l"]) -> Any:
    """Return an rdkit molecule with the bond orders `orders` between all pairs of atoms; 0 for no bond."""
    bond_types = (chem.BondType.SINGLE, chem.BondType.DOUBLE, chem.BondType.TRIPLE)
    mol = rdkit_without_bonds(chem, molecule)
    for i, j in np.argwhere(np.triu(orders)).tolist():
        mol.AddBond(i, j, bond_types[orders[i, j] - 1])
    return mol


def rdkit_with_bonds(chem: Any, molecule: Molecule) -> Any | None:
    """Return a neutral, unsanitised rdkit molecule with bonds derived from positions; None if no bonds are valid.

    Source: Kim and Kim 2015, "Universal structure conversion method for organic molecules", in rdkit.
    """
    from rdkit.Chem.rdDetermineBonds import DetermineBonds

    mol = rdkit_without_bonds(chem, molecule)
    try:
        DetermineBonds(mol, charge=0, embedChiral=False, maxIterations=STEPS)
    except (ValueError, RuntimeError):  # no valid bond orders, or too many attempts
        return None
    return mol


def sanitize(chem: Any, made: Any) -> bool:
    """Sanitise the rdkit molecule `made` in place; return False if its valencies or aromatic bonds are invalid."""
    try:
        chem.SanitizeMol(made)
    except ValueError:  # base class of rdkit's sanitisation errors
        return False
    return True
