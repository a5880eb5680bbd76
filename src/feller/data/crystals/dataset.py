"""Crystal datasets: reading, filtering and padding of crystals."""

import pathlib
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from feller.core.errors import InputError
from feller.data.atoms.elements import SYMBOLS, check_min_distance
from feller.data.crystals.cif import Crystal, PartialOccupancyError, read_blocks, read_crystal, wrap_coords
from feller.data.crystals.files import CifText, texts_in
from feller.data.crystals.lattice import LONGEST, SHORTEST, is_valid_cell, vectors
from feller.data.labels import NoteCounter, encode_labels
from feller.data.loading.raw import RawCrystals, check_rows, prefix_lengths, properties_of


def check_cells(raw: RawCrystals) -> None:
    """Raise an InputError for the first crystal in which two atoms, or their periodic images, coincide."""
    edges = vectors(torch.from_numpy(raw.lattice)).numpy()
    for i, (atoms, coords) in enumerate(zip(raw.atomic_numbers, raw.values, strict=True)):
        num_atoms = np.count_nonzero(atoms)
        differences = coords[:num_atoms, None] - coords[:num_atoms]
        distances = np.linalg.norm((differences - np.round(differences)) @ edges[i], axis=2)
        check_min_distance(distances, atoms[:num_atoms], raw.row_name(i), "crystal", within=" of the cell")


def pad_crystals(crystals: list[Crystal]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return atomic numbers [n, L] and fractional coordinates [n, L, 3], both zero-padded, and cells [n, 6]."""
    shape = (len(crystals), max(len(crystal.atomic_numbers) for crystal in crystals))
    atoms, coords = np.zeros(shape, dtype=np.int64), np.zeros((*shape, 3))
    for i, crystal in enumerate(crystals):
        atoms[i, : len(crystal.atomic_numbers)], coords[i, : len(crystal.atomic_numbers)] = (
            crystal.atomic_numbers,
            crystal.frac_coords,
        )
    return atoms, coords, np.stack([crystal.lattice for crystal in crystals])


def crystals_from_arrays(arrays: dict[str, np.ndarray], where: str) -> RawCrystals:
    """Return crystals from .npz arrays: `element` [n, L], `place` [n, L, 3], `lattice` [n, 6] and `valid` [n, L].

    `element` holds atomic numbers; messages call the file `where`. InputError if dtypes or shapes are wrong, a cell has
    no volume, or padding precedes an atom.
    """
    atoms, coords, lattice = (arrays[name] for name in ("element", "place", "lattice"))
    valid = arrays.get("valid", atoms > 0)
    n = len(atoms)
    dtypes = (atoms.dtype.kind in "iu", coords.dtype.kind == "f", lattice.dtype.kind in "iuf", valid.dtype.kind == "b")
    shapes = (atoms.ndim == 2, coords.shape == (*atoms.shape, 3), lattice.shape == (n, 6), valid.shape == atoms.shape)
    if not all(dtypes + shapes) or 0 in atoms.shape:
        found = ", ".join(f"{array.dtype} {list(array.shape)}" for array in (atoms, coords, lattice, valid))
        raise InputError(
            "arrays element [n, l] of integers, place [n, l, 3] and lattice [n, 6] of numbers, and valid [n, l] of"
            " booleans",
            found,
            place=where,
        )
    coords, lattice = coords.astype(np.float64), lattice.astype(np.float64)
    lengths = prefix_lengths(valid, where, "atoms")
    is_element = (atoms >= 1) & (atoms < len(SYMBOLS))
    check_rows(is_element | ~valid, where, f"atomic numbers from 1 to {len(SYMBOLS) - 1}")
    check_rows(np.isfinite(coords).all(2) | ~valid, where, "finite coordinates")
    check_rows(is_valid_cell(torch.from_numpy(lattice)).numpy(), where, "a unit cell with positive volume")
    edges = lattice[:, :3]
    check_rows((edges >= SHORTEST) & (edges <= LONGEST), where, f"lattice lengths of {SHORTEST:g} to {LONGEST:,g} Å")
    atoms, coords = np.where(valid, atoms, 0).astype(np.int64), wrap_coords(np.where(valid[:, :, None], coords, 0))
    max_length = lengths.max()
    return RawCrystals(coords[:, :max_length], atomic_numbers=atoms[:, :max_length], lattice=lattice)


MAX_ATOMS = 64
"""Default maximum number of atoms of a cell; larger cells are left out."""


@dataclass
class _CrystalCollector:
    """Crystals read so far that a model state can represent, and notes on the crystals that were left out."""

    longest: int
    crystals: list[Crystal] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    empty: int = 0
    """Number of damaged CIF texts that are empty."""
    tally: NoteCounter = field(default_factory=NoteCounter)

    def add(self, source: CifText) -> None:
        """Read the crystals in a CIF text, and add those that a model state can represent."""
        try:
            blocks = read_blocks(source.text)
            if source.alone and len(blocks) > 1:
                raise InputError(
                    "one crystal in the CIF text", f"{len(blocks)} crystals", "Give each crystal its own row"
                )
        except InputError as error:
            self.damaged.append(f"{source.names(1, 1)}: {error}")
            self.empty += not source.text.strip()
            return
        for i, block in enumerate(blocks, 1):
            self._add(source.names(i, len(blocks)), block, source)

    def _add(self, name: str, block: Any, source: CifText) -> None:
        """Add the crystal of a CIF block if a model state can represent it."""
        try:
            crystal, isotopes = read_crystal(block)
        except PartialOccupancyError:
            self.tally.add("crystals left out for partial occupancy: {}", name)
            return
        except InputError as error:
            self.damaged.append(f"{name}: {error}")
            return
        if len(crystal.atomic_numbers) > self.longest:
            self.tally.add(f"crystals with over {self.longest} atoms left out: {{}}", name)
            return
        if isotopes:
            self.tally.add("crystals with deuterium or tritium, read as hydrogen: {}", name)
        properties = {**crystal.properties, **source.properties}
        self.crystals.append(crystal._replace(label=source.label or crystal.label, properties=properties))
        self.names.append(name)


def load_crystals(path: pathlib.Path, longest: int | None = MAX_ATOMS) -> RawCrystals:
    """Read a .cif file with one or more crystals, a folder of .cif files, or a table with a `cif` column.

    Unit cells of more than `longest` atoms are left out. None, which is used to read generated samples, disables this
    filter and the check that no two atoms coincide. InputError if a crystal is damaged, two atoms coincide, or no
    crystal is left; the message names the crystal. UsageError if gemmi is not installed.
    """
    collector = _CrystalCollector(longest or sys.maxsize)
    for source in texts_in(path):
        collector.add(source)
    if collector.damaged:
        empty = f", {collector.empty} of them empty" if collector.empty else ""
        suffix = f"; {len(collector.damaged)} damaged in total{empty}" if len(collector.damaged) > 1 else ""
        raise InputError(f"{collector.damaged[0]}{suffix}", remedy="Correct or remove this crystal", file=path)
    notes = collector.tally.notes()
    if not collector.crystals:
        raise InputError(f"no crystal is left ({'; '.join(notes) or 'the source is empty'})", file=path)
    labels, classes = _labels([crystal.label for crystal in collector.crystals], str(path))
    atoms, coords, lattice = pad_crystals(collector.crystals)
    names = tuple(f"{path}: {name}" for name in collector.names)
    raw = RawCrystals(
        coords,
        labels,
        classes,
        notes=notes,
        names=names,
        properties=properties_of([dict(crystal.properties) for crystal in collector.crystals]),
        atomic_numbers=atoms,
        lattice=lattice,
    )
    if longest is not None:
        check_cells(raw)
    return raw


def _labels(labels: list[str | None], where: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Encode class labels, which must be given for all crystals or none."""
    known_labels = [label for label in labels if label]
    if not known_labels:
        return None, ()
    if len(known_labels) < len(labels):
        num_unlabelled = len(labels) - len(known_labels)
        raise InputError(
            "a label for every crystal, or for none",
            f"{num_unlabelled} crystals without a label and {len(known_labels)} with one",
            "Add or remove labels",
            place=where,
        )
    return encode_labels(known_labels, f"{where} (label)")
