"""Which torsions phi and psi are usual, by the tables of Top8000, Richardson laboratory."""

import functools
import math
import pathlib

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from feller.data.proteins.frames import CA, C, N, dihedral
from feller.data.proteins.residues import LETTERS

BIN = math.radians(2)
"""Width of a bin of a table."""
FAVOURED = 2
"""Class of torsions in a table; 1 is allowed, 0 is neither."""
OUTLIER = 0
GENERAL, GLYCINE, BETA_BRANCHED, BEFORE_PROLINE, PROLINE = range(5)
NAMES = ("general", "glycine", "isoleucine_valine", "before_proline", "proline")
"""Of the tables, in the order of their numbers."""


def torsions(atoms: Float[Tensor, "n l 4 3"]) -> tuple[Float[Tensor, "n l-2"], Float[Tensor, "n l-2"]]:
    """Return phi and psi, in radians, of all residues but the first and the last."""
    n, ca, c = (atoms[:, :, atom] for atom in (N, CA, C))
    phi = dihedral(c[:, :-1], n[:, 1:], ca[:, 1:], c[:, 1:])[:, :-1]
    psi = dihedral(n[:, :-1], ca[:, :-1], c[:, :-1], n[:, 1:])[:, 1:]
    return phi, psi


def table_of(residue: Int[Tensor, "n l"]) -> Int[Tensor, "n l-2"]:
    """Return which table judges each residue but the first and the last; any number but 0 to 19 is of no kind.

    Glycine and proline have their own; of the others, those before a proline, then isoleucine and valine. All prolines
    are judged as trans.
    """
    own, after = residue[:, 1:-1], residue[:, 2:]
    table = torch.full_like(own, GENERAL)
    table[(own == LETTERS.index("I")) | (own == LETTERS.index("V"))] = BETA_BRANCHED
    table[after == LETTERS.index("P")] = BEFORE_PROLINE
    table[own == LETTERS.index("G")] = GLYCINE
    table[own == LETTERS.index("P")] = PROLINE
    return table


def judged(
    phi: Float[Tensor, "*b"], psi: Float[Tensor, "*b"], table: Int[Tensor, "*b"] | int = GENERAL
) -> UInt8[Tensor, "*b"]:
    """Return the class of torsions, in radians, in the tables with these numbers."""
    rows, columns = (((torsion + math.pi) / BIN).long() % 180 for torsion in (phi, psi))
    return _tables()[table, rows, columns]


def favoured(phi: Float[Tensor, "*b"], psi: Float[Tensor, "*b"]) -> Bool[Tensor, "*b"]:
    """Tell which torsions are favoured in the general table."""
    return judged(phi, psi) == FAVOURED


@functools.cache
def _tables() -> UInt8[Tensor, "5 180 180"]:
    with np.load(pathlib.Path(__file__).with_name("ramachandran.npz")) as arrays:
        return torch.from_numpy(np.stack([arrays[name] for name in NAMES]))
