"""Which molecules of files are taken: those that suit, padded to one length."""

import pathlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from feller.core.errors import InputError
from feller.data.atoms.elements import NUMBERS, SYMBOLS, check_apart
from feller.data.files.plain_text import files_in
from feller.data.labels import Tally, first_of
from feller.data.loading.raw import FoundMolecules, check_marks, check_rows, properties_of
from feller.data.modality import unused_numbers
from feller.data.molecules.molecule import Molecule
from feller.data.molecules.sdf import read_sdf
from feller.data.molecules.xyz import read_xyz

READERS = {
    **dict.fromkeys((".xyz", ".xyz.gz", ".extxyz"), read_xyz),
    **dict.fromkeys((".sdf", ".sdf.gz", ".mol", ".mol.gz"), read_sdf),
}
ENDINGS = tuple(READERS)
"""Of the files that hold molecules."""
LONGEST = 64
"""Atoms beyond which a molecule is left out unless a limit is named."""
FARTHEST = 10_000.0
"""Distance in Å from the mean of a molecule beyond which there is no atom."""
BARE = (
    "molecules with carbon and no hydrogen: {}; add hydrogens if the file only omits them, since stability counts them"
)


@dataclass
class _Kept:
    """What was kept, and what was said of the others."""

    longest: int
    molecules: list[tuple[Molecule, str]] = field(default_factory=list)
    """With where they stand."""
    tally: Tally = field(default_factory=Tally)

    def add(self, molecule: Molecule, where: str) -> None:
        """Keep a molecule if it suits; InputError if two of its atoms are at one place, or one is far away."""
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
        _check_together(molecule, where)
        check_apart(molecule.distances(), molecule.atoms, where, "molecule")
        if NUMBERS["C"] in molecule.atoms and NUMBERS["H"] not in molecule.atoms:
            self.tally.add(BARE, molecule.name)
        self.molecules.append((molecule, where))


def _check_together(molecule: Molecule, where: str) -> None:
    with np.errstate(over="ignore"):
        away = np.abs(molecule.places - (molecule.places / len(molecule.places)).sum(0)).max(1)
    if away.max() > FARTHEST:
        i = int(away.argmax())
        raise InputError(
            f"atom {i + 1} ({SYMBOLS[molecule.atoms[i]]}) is {away[i]:.3g} Å from the mean of the molecule",
            expected=f"{FARTHEST:,g} or less",
            remedy="Mend or drop that molecule",
            place=where,
        )


def find_molecules(path: pathlib.Path, longest: int | None = LONGEST) -> FoundMolecules:
    """Read a file with molecules or a folder of them, by their endings.

    Molecules of more than `longest` atoms are left out; None takes all as they are, as samples must be. InputError if a
    file is damaged, or if nothing is left.
    """
    return _collect(_molecules(path), str(path), longest)


def interpret_molecules(arrays: dict[str, np.ndarray], where: str, longest: int | None) -> FoundMolecules:
    """Read `element` [n, l], atomic numbers, `place` [n, l, 3] in Å and `valid` [n, l] of an .npz, as we write them.

    InputError if numbers are missing, or if what is valid does not stand at the beginning.
    """
    element, place = arrays["element"], arrays["place"]
    whole = element.ndim == 2 and element.dtype.kind in "iu"
    valid = arrays["valid"] if "valid" in arrays or not whole else element > 0
    right = whole and place.shape == (*element.shape, 3) and valid.shape == element.shape
    if not right or place.dtype.kind not in "iuf" or valid.dtype.kind != "b" or 0 in element.shape:
        raise InputError(
            "whole numbers element [n, l], numbers place [n, l, 3] and truths valid [n, l]",
            f"{element.dtype} {list(element.shape)}, {place.dtype} {list(place.shape)} and {valid.dtype}"
            f" {list(valid.shape)}",
            place=where,
        )
    lengths = check_marks(valid, where, "atoms")
    known = (element >= 1) & (element < len(SYMBOLS))
    check_rows(known | ~valid, where, f"atomic numbers from 1 to {len(NUMBERS)}")
    check_rows(np.isfinite(place).all(2) | ~valid, where, "finite places")
    rows = (
        Molecule(f"row {i}", element[i - 1, :length].astype(np.int64), place[i - 1, :length].astype(np.float64))
        for i, length in enumerate(lengths.tolist(), 1)
    )
    return _collect(((row, f"{where}: {row.name}") for row in rows), where, longest)


def _collect(molecules: Iterable[tuple[Molecule, str]], where: str, longest: int | None) -> FoundMolecules:
    """Pad what suits; without a limit all does."""
    if longest is None:
        kept, notes = [*molecules], ()
    else:
        collected = _Kept(longest)
        for molecule, place in molecules:
            collected.add(molecule, place)
        kept = collected.molecules
        notes = (*collected.tally.notes(), *_unused([molecule for molecule, _ in kept]))
    if not kept:
        sizes = "" if longest is None else f" of 2 to {longest} atoms"
        raise InputError(f"no molecule{sizes} is left ({'; '.join(notes) or 'there is none at all'})", place=where)
    most = max(len(molecule.atoms) for molecule, _ in kept)
    atoms, values = np.zeros((len(kept), most), dtype=np.int64), np.zeros((len(kept), most, 3))
    for i, (molecule, _) in enumerate(kept):
        atoms[i, : len(molecule.atoms)], values[i, : len(molecule.atoms)] = molecule.atoms, molecule.places
    return FoundMolecules(
        values,
        atoms=atoms,
        notes=notes,
        names=tuple(place for _, place in kept),
        properties=properties_of([molecule.told for molecule, _ in kept]),
    )


def _unused(molecules: list[Molecule]) -> Iterator[str]:
    """Say which numbers and texts of the files a generator does not learn."""
    told = dict.fromkeys(name for molecule in molecules for name in molecule.told)
    aside = dict.fromkeys(name for molecule in molecules for name in molecule.aside)
    yield from unused_numbers(told)
    if aside:
        yield f"ignored: {first_of([*aside])}"


def _molecules(path: pathlib.Path) -> Iterator[tuple[Molecule, str]]:
    """Yield molecules, and where each stands."""
    if path.is_dir():
        for file in files_in(path, ENDINGS):
            yield from _molecules(file)
        return
    reader = next(reader for ending, reader in READERS.items() if path.name.lower().endswith(ending))
    empty = True
    for molecule in reader(path):
        empty = False
        yield molecule, f"{path.parent / molecule.name}"
    if empty:
        raise InputError(expected="molecules, the file holds none", remedy="Drop it", file=path)
