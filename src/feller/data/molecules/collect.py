"""Which molecules of files are taken: those that suit, padded to one length."""

import pathlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from feller.data.crystals.elements import NUMBERS, SYMBOLS
from feller.data.found import FoundMolecules
from feller.data.molecules.molecule import Molecule
from feller.data.molecules.sdf import read_sdf
from feller.data.molecules.xyz import read_xyz
from feller.data.tally import Tally
from feller.errors import InputError

READERS = {
    **dict.fromkeys((".xyz", ".xyz.gz", ".extxyz"), read_xyz),
    **dict.fromkeys((".sdf", ".sdf.gz", ".mol", ".mol.gz"), read_sdf),
}
ENDINGS = tuple(READERS)
"""Of the files that hold molecules."""
LONGEST = 64
"""Atoms beyond which a molecule is left out unless a limit is named."""
NEAREST = 0.3
"""Distance in Å below which two atoms cannot be two."""
BARE = (
    "molecules with carbon and no hydrogen: {}; add hydrogens if the file only omits them, since stability counts them"
)


@dataclass
class _Kept:
    """What was kept, and what was said of the others."""

    longest: int
    molecules: list[Molecule] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def add(self, molecule: Molecule, where: str) -> None:
        """Keep a molecule if it suits.

        Raises:
            InputError: If two of its atoms are at one place.
        """
        size = len(molecule.atoms)
        unsuitable = {
            f"molecules left out for over {self.longest} atoms: {{}}": size > self.longest,
            "single atoms left out: {}": size < 2,
            "charged molecules left out: {}": molecule.charge != 0,
            "drawings in two dimensions left out: {}": molecule.drawn,
        }
        said = next((said for said, applies in unsuitable.items() if applies), None)
        if said is not None:
            self.tally.add(said, molecule.name)
            return
        _check_apart(molecule, where)
        if NUMBERS["C"] in molecule.atoms and NUMBERS["H"] not in molecule.atoms:
            self.tally.add(BARE, molecule.name)
        self.molecules.append(molecule)


def _check_apart(molecule: Molecule, where: str) -> None:
    apart = molecule.distances() + np.diag(np.full(len(molecule.atoms), np.inf))
    if apart.min() >= NEAREST:
        return
    i, j = np.unravel_index(apart.argmin(), apart.shape)
    first, second = (f"{k + 1} ({SYMBOLS[molecule.atoms[k]]})" for k in (int(i), int(j)))
    raise InputError(
        f"{where}: atoms {first} and {second} are {apart.min():.3g} Å apart, expected {NEAREST:g} or more;"
        " mend or drop that molecule"
    )


def find_molecules(path: pathlib.Path, longest: int | None = LONGEST) -> FoundMolecules:
    """Read a file with molecules or a folder of them, by their endings.

    Args:
        path: Where it lies.
        longest: Atoms beyond which a molecule is left out; None to take all as they are, as samples must be.

    Raises:
        InputError: If a file is damaged, or if nothing is left.
    """
    return _collect(_molecules(path), str(path), longest)


def interpret_molecules(arrays: dict[str, np.ndarray], where: str, longest: int | None) -> FoundMolecules:
    """Read `element` [n, l], atomic numbers, `place` [n, l, 3] in Å and `valid` [n, l] of an .npz, as we write them.

    Raises:
        InputError: If numbers are missing, or if what is valid does not stand at the beginning.
    """
    element, place = arrays["element"], arrays["place"]
    whole = element.ndim == 2 and element.dtype.kind in "iu"
    valid = arrays["valid"] if "valid" in arrays or not whole else element > 0
    right = whole and place.shape == (*element.shape, 3) and valid.shape == element.shape
    if not right or place.dtype.kind not in "iuf" or valid.dtype.kind != "b" or 0 in element.shape:
        raise InputError(
            f"{where}: expected whole numbers element [n, l], numbers place [n, l, 3] and truths valid [n, l], got"
            f" {element.dtype} {list(element.shape)}, {place.dtype} {list(place.shape)} and {valid.dtype}"
            f" {list(valid.shape)}"
        )
    lengths = valid.sum(1)
    if not (valid == (np.arange(valid.shape[1]) < lengths[:, None])).all() or lengths.min() < 1:
        raise InputError(f"{where}: expected the valid atoms of each sample at its beginning, one or more")
    if not ((element[valid] >= 1) & (element[valid] < len(SYMBOLS))).all():
        raise InputError(f"{where}: expected atomic numbers from 1 to {len(NUMBERS)}, got others; drop those samples")
    if not np.isfinite(place[valid]).all():
        raise InputError(f"{where}: expected finite places, got others; drop those samples")
    name = pathlib.Path(where).name
    rows = (
        Molecule(f"{name}: row {i + 1}", element[i, :length].astype(np.int64), place[i, :length].astype(np.float64))
        for i, length in enumerate(lengths.tolist())
    )
    return _collect(((row, f"{where}: row {i}") for i, row in enumerate(rows, 1)), where, longest)


def _collect(molecules: Iterable[tuple[Molecule, str]], where: str, longest: int | None) -> FoundMolecules:
    """Pad what suits; without a limit all does."""
    if longest is None:
        kept, notes = [molecule for molecule, _ in molecules], ()
    else:
        collected = _Kept(longest)
        for molecule, place in molecules:
            collected.add(molecule, place)
        kept, notes = collected.molecules, collected.tally.notes()
    if not kept:
        sizes = "" if longest is None else f" of 2 to {longest} atoms"
        raise InputError(f"{where}: no molecule{sizes} is left ({'; '.join(notes) or 'there is none at all'})")
    most = max(len(molecule.atoms) for molecule in kept)
    atoms, values = np.zeros((len(kept), most), dtype=np.int64), np.zeros((len(kept), most, 3))
    for i, molecule in enumerate(kept):
        atoms[i, : len(molecule.atoms)], values[i, : len(molecule.atoms)] = molecule.atoms, molecule.places
    return FoundMolecules(values, atoms=atoms, notes=notes)


def _molecules(path: pathlib.Path) -> Iterator[tuple[Molecule, str]]:
    """Yield molecules, and where each stands."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.lower().endswith(ENDINGS))
        if not files:
            raise InputError(f"{path}: expected files {', '.join(ENDINGS)}, found none")
        for file in files:
            yield from _molecules(file)
        return
    reader = next(reader for ending, reader in READERS.items() if path.name.lower().endswith(ending))
    for molecule in reader(path):
        yield molecule, f"{path.parent / molecule.name}"
