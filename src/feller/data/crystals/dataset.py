"""Crystals as arrays of one length."""

import numpy as np
import torch

from feller.core.errors import InputError
from feller.data.atoms.apart import check_apart
from feller.data.atoms.elements import SYMBOLS
from feller.data.crystals.cif import Crystal
from feller.data.crystals.crystals_cif import wrapped
from feller.data.crystals.lattice import LONGEST, SHORTEST, closes, vectors
from feller.data.loading.raw import FoundCrystals, check_marks, check_rows


def check_cells(found: FoundCrystals) -> None:
    """Refuse crystals with two atoms at one place, also across the faces of cells, if these are 0.6 Å apart.

    Raises:
        InputError: If there are some; names the first.
    """
    edges = vectors(torch.from_numpy(found.lattice)).numpy()
    for i, (atoms, places) in enumerate(zip(found.atoms, found.values, strict=True)):
        size = np.count_nonzero(atoms)
        steps = places[:size, None] - places[:size]
        distances = np.linalg.norm((steps - np.round(steps)) @ edges[i], axis=2)
        check_apart(distances, atoms[:size], found.called(i), "crystal", within=" of the cell")


def padded(crystals: list[Crystal]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return atomic numbers [n, L], fractional coordinates [n, L, 3], both zero behind the end, and cells [n, 6]."""
    size = (len(crystals), max(len(crystal.numbers) for crystal in crystals))
    atoms, places = np.zeros(size, dtype=np.int64), np.zeros((*size, 3))
    for i, crystal in enumerate(crystals):
        atoms[i, : len(crystal.numbers)], places[i, : len(crystal.numbers)] = crystal.numbers, crystal.places
    return atoms, places, np.stack([crystal.lattice for crystal in crystals])


def interpret_crystals(arrays: dict[str, np.ndarray], where: str) -> FoundCrystals:
    """Read `element` [n, L] (atomic numbers), `place` [n, L, 3], `lattice` [n, 6] and `valid` [n, L] of an .npz.

    Raises:
        InputError: If shapes do not fit, cells have no volume, or what is valid does not stand at the beginning.
    """
    atoms, places, lattice = (arrays[name] for name in ("element", "place", "lattice"))
    valid = arrays.get("valid", atoms > 0)
    n = len(atoms)
    kinds = (atoms.dtype.kind in "iu", places.dtype.kind == "f", lattice.dtype.kind in "iuf", valid.dtype.kind == "b")
    shapes = (atoms.ndim == 2, places.shape == (*atoms.shape, 3), lattice.shape == (n, 6), valid.shape == atoms.shape)
    if not all(kinds + shapes) or 0 in atoms.shape:
        got = ", ".join(f"{array.dtype} {list(array.shape)}" for array in (atoms, places, lattice, valid))
        raise InputError(
            f"{where}: expected whole numbers element [n, l], numbers place [n, l, 3] and lattice [n, 6], and truths"
            f" valid [n, l], got {got}"
        )
    places, lattice = places.astype(np.float64), lattice.astype(np.float64)
    lengths = check_marks(valid, where, "atoms")
    known = (atoms >= 1) & (atoms < len(SYMBOLS))
    check_rows(known | ~valid, where, f"atomic numbers from 1 to {len(SYMBOLS) - 1}")
    check_rows(np.isfinite(places).all(2) | ~valid, where, "finite coordinates")
    check_rows(closes(torch.from_numpy(lattice)).numpy(), where, "a cell with a volume")
    edges = lattice[:, :3]
    check_rows((edges >= SHORTEST) & (edges <= LONGEST), where, f"edges of {SHORTEST:g} to {LONGEST:,g} Å")
    atoms, places = np.where(valid, atoms, 0).astype(np.int64), wrapped(np.where(valid[:, :, None], places, 0))
    most = lengths.max()
    return FoundCrystals(places[:, :most], atoms=atoms[:, :most], lattice=lattice)
