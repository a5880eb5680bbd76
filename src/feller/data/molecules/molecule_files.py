"""Molecule files: reading, filtering and padding of molecules."""

import pathlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from feller.core.errors import InputError
from feller.data.atoms.elements import NUMBERS, SYMBOLS, check_min_distance
from feller.data.files.plain_text import files_in
from feller.data.labels import NoteCounter, abbreviated
from feller.data.loading.raw import RawMolecules, check_rows, prefix_lengths, properties_of
from feller.data.modality import unused_properties_note
from feller.data.molecules.molecule import Molecule
from feller.data.molecules.sdf import read_sdf
from feller.data.molecules.xyz import read_xyz

READERS = {
    **dict.fromkeys((".xyz", ".xyz.gz", ".extxyz"), read_xyz),
    **dict.fromkeys((".sdf", ".sdf.gz", ".mol", ".mol.gz"), read_sdf),
}
ENDINGS = tuple(READERS)
"""Suffixes of molecule files."""
MAX_ATOMS = 64
"""Default maximum number of atoms; larger molecules are left out."""
MAX_CENTRE_DISTANCE = 10_000.0
"""Maximum distance in Å of an atom from the mean position of the atoms of its molecule."""
MISSING_HYDROGEN_NOTE = (
    "molecules with carbon but no hydrogen: {}; add hydrogens if the file omits them, since stability counts them"
)


@dataclass
class _MoleculeCollector:
    """Molecules read so far that a model can represent, and notes on the molecules that were left out."""

    longest: int
    molecules: list[tuple[Molecule, str]] = field(default_factory=list)
    """(molecule, location) pairs."""
    tally: NoteCounter = field(default_factory=NoteCounter)

    def add(self, molecule: Molecule, where: str) -> None:
        """Add a molecule if it passes the filters; InputError if atoms coincide or are far apart."""
        num_atoms = len(molecule.atomic_numbers)
        unsuitable = {
            f"molecules with over {self.longest} atoms left out: {{}}": num_atoms > self.longest,
            "single atoms left out: {}": num_atoms < 2,
            "charged molecules left out: {}": molecule.charge != 0,
            "two-dimensional drawings left out: {}": molecule.is_2d,
        }
        reason = next((reason for reason, applies in unsuitable.items() if applies), None)
        if reason is not None:
            self.tally.add(reason, molecule.name)
            return
        _check_together(molecule, where)
        check_min_distance(molecule.distances(), molecule.atomic_numbers, where, "molecule")
        if NUMBERS["C"] in molecule.atomic_numbers and NUMBERS["H"] not in molecule.atomic_numbers:
            self.tally.add(MISSING_HYDROGEN_NOTE, molecule.name)
        self.molecules.append((molecule, where))


def _check_together(molecule: Molecule, where: str) -> None:
    with np.errstate(over="ignore"):
        offsets = np.abs(molecule.positions - (molecule.positions / len(molecule.positions)).sum(0)).max(1)
    if offsets.max() > MAX_CENTRE_DISTANCE:
        i = int(offsets.argmax())
        raise InputError(
            f"atom {i + 1} ({SYMBOLS[molecule.atomic_numbers[i]]}) is {offsets[i]:.3g} Å from the mean of the molecule",
            expected=f"{MAX_CENTRE_DISTANCE:,g} Å or less",
            remedy="Correct or remove the molecule",
            place=where,
        )


def load_molecules(path: pathlib.Path, longest: int | None = MAX_ATOMS) -> RawMolecules:
    """Read a molecule file, or a folder of molecule files; the file suffix determines the format.

    Molecules with more than `longest` atoms are left out; None disables all filters, for generated samples. InputError
    if a file is damaged, or no molecule passes the filters.
    """
    return _collect(_molecules(path), str(path), longest)


def molecules_from_arrays(arrays: dict[str, np.ndarray], where: str, longest: int | None) -> RawMolecules:
    """Return molecules from .npz arrays: atomic numbers `element` [n, l], `place` [n, l, 3] in Å, and `valid` [n, l].

    Molecules with more than `longest` atoms are left out; None disables all filters, for generated samples. Messages
    call the file `where`. InputError if dtypes or shapes are wrong, values are invalid, or padding precedes an atom.
    """
    element, place = arrays["element"], arrays["place"]
    is_integer = element.ndim == 2 and element.dtype.kind in "iu"
    valid = arrays["valid"] if "valid" in arrays or not is_integer else element > 0
    is_valid = is_integer and place.shape == (*element.shape, 3) and valid.shape == element.shape
    if not is_valid or place.dtype.kind not in "iuf" or valid.dtype.kind != "b" or 0 in element.shape:
        raise InputError(
            "arrays element [n, l] of integers, place [n, l, 3] of numbers, and valid [n, l] of booleans",
            f"{element.dtype} {list(element.shape)}, {place.dtype} {list(place.shape)} and {valid.dtype}"
            f" {list(valid.shape)}",
            place=where,
        )
    lengths = prefix_lengths(valid, where, "atoms")
    is_element = (element >= 1) & (element < len(SYMBOLS))
    check_rows(is_element | ~valid, where, f"atomic numbers from 1 to {len(NUMBERS)}")
    check_rows(np.isfinite(place).all(2) | ~valid, where, "finite coordinates")
    rows = (
        Molecule(f"row {i}", element[i - 1, :length].astype(np.int64), place[i - 1, :length].astype(np.float64))
        for i, length in enumerate(lengths.tolist(), 1)
    )
    return _collect(((row, f"{where}: {row.name}") for row in rows), where, longest)


def _collect(molecules: Iterable[tuple[Molecule, str]], where: str, longest: int | None) -> RawMolecules:
    """Return the molecules padded to one size, without those of more than `longest` atoms and unsuitable ones.

    If `longest` is None, all molecules are kept.
    """
    if longest is None:
        kept, notes = [*molecules], ()
    else:
        collector = _MoleculeCollector(longest)
        for molecule, location in molecules:
            collector.add(molecule, location)
        kept = collector.molecules
        notes = (*collector.tally.notes(), *_unused([molecule for molecule, _ in kept]))
    if not kept:
        sizes = "" if longest is None else f" of 2 to {longest} atoms"
        raise InputError(f"no molecule{sizes} is left ({'; '.join(notes) or 'the source is empty'})", place=where)
    max_atoms = max(len(molecule.atomic_numbers) for molecule, _ in kept)
    atoms, values = np.zeros((len(kept), max_atoms), dtype=np.int64), np.zeros((len(kept), max_atoms, 3))
    for i, (molecule, _) in enumerate(kept):
        atoms[i, : len(molecule.atomic_numbers)], values[i, : len(molecule.atomic_numbers)] = (
            molecule.atomic_numbers,
            molecule.positions,
        )
    return RawMolecules(
        values,
        atomic_numbers=atoms,
        notes=notes,
        names=tuple(location for _, location in kept),
        properties=properties_of([molecule.properties for molecule, _ in kept]),
    )


def _unused(molecules: list[Molecule]) -> Iterator[str]:
    """Yield notes that list the properties and other fields of the files, which a generator does not use."""
    property_names = dict.fromkeys(name for molecule in molecules for name in molecule.properties)
    field_names = dict.fromkeys(name for molecule in molecules for name in molecule.ignored_fields)
    yield from unused_properties_note(property_names)
    if field_names:
        yield f"ignored: {abbreviated([*field_names])}"


def _molecules(path: pathlib.Path) -> Iterator[tuple[Molecule, str]]:
    if path.is_dir():
        for file in files_in(path, ENDINGS):
            yield from _molecules(file)
        return
    reader = next(reader for suffix, reader in READERS.items() if path.name.lower().endswith(suffix))
    is_empty = True
    for molecule in reader(path):
        is_empty = False
        yield molecule, f"{path.parent / molecule.name}"
    if is_empty:
        raise InputError("molecules", "none", "Remove the file", file=path)
