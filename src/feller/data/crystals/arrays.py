"""Crystals as arrays of one length."""

import numpy as np
import torch

from feller.data.crystals.cif import wrapped
from feller.data.crystals.crystal import Crystal
from feller.data.crystals.elements import SYMBOLS
from feller.data.crystals.lattice import closes
from feller.data.found import FoundCrystals
from feller.errors import InputError


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
    lengths, places, lattice = valid.sum(1), places.astype(np.float64), lattice.astype(np.float64)
    if not (valid == (np.arange(valid.shape[1]) < lengths[:, None])).all() or lengths.min() < 1:
        raise InputError(f"{where}: expected the valid atoms of each crystal at its beginning, one or more")
    if atoms[valid].min() < 1 or atoms[valid].max() >= len(SYMBOLS):
        raise InputError(f"{where}: expected atomic numbers from 1 to {len(SYMBOLS) - 1}, got others")
    if not np.isfinite(places[valid]).all():
        raise InputError(f"{where}: expected finite coordinates, got others; drop those crystals")
    flat = np.flatnonzero(~closes(torch.from_numpy(lattice)).numpy())
    if len(flat):
        raise InputError(f"{where}: crystal {flat[0] + 1} has a cell without volume, {len(flat)} such; drop them")
    atoms, places = np.where(valid, atoms, 0).astype(np.int64), wrapped(np.where(valid[:, :, None], places, 0))
    most = lengths.max()
    return FoundCrystals(places[:, :most], atoms=atoms[:, :most], lattice=lattice)
