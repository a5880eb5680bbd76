"""Crystals as files hold them, but for those that no state can hold."""

import pathlib
import sys
from dataclasses import dataclass, field

import numpy as np

from feller.core.errors import InputError
from feller.data.crystals.cif import Crystal
from feller.data.crystals.crystals_cif import PartialError, need_pymatgen, read_block
from feller.data.crystals.dataset import check_cells, padded
from feller.data.crystals.files import pieces
from feller.data.labels import classify
from feller.data.loading.raw import FoundCrystals, properties_of
from feller.data.tally import Tally

MAX_ATOMS = 64
"""Atoms of a cell beyond which it is left out unless a limit is named."""


@dataclass
class _Kept:
    """What was kept, and what was said of the others."""

    longest: int
    crystals: list[Crystal] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    empty: int = 0
    """Of the damaged, those that hold nothing."""
    tally: Tally = field(default_factory=Tally)

    def add(self, name: str, text: str, label: str | None, told: dict[str, float]) -> None:
        """Read one crystal and keep it if a state can hold it."""
        try:
            crystal, isotopes = read_block(text)
        except PartialError:
            self.tally.add("crystals left out for partial occupancy: {}", name)
            return
        except InputError as error:
            self.damaged.append(f"{name}: {error}")
            self.empty += not text.strip()
            return
        if len(crystal.numbers) > self.longest:
            self.tally.add(f"crystals left out for over {self.longest} atoms: {{}}", name)
            return
        if isotopes:
            self.tally.add("crystals whose deuterium or tritium counts as hydrogen: {}", name)
        self.crystals.append(crystal._replace(label=label or crystal.label, told=told))
        self.names.append(name)


def find_crystals(path: pathlib.Path, longest: int | None = MAX_ATOMS) -> FoundCrystals:
    """Read a .cif with one crystal or many, a folder of such files, or a table with a column called cif.

    Args:
        path: Where it lies.
        longest: Atoms of a cell beyond which it is left out; None to take all as they are, as samples must be.

    Raises:
        InputError: If a crystal is damaged or two atoms are at one place, naming the first, or if nothing is left.
        UsageError: If pymatgen is not installed.
    """
    need_pymatgen()
    kept = _Kept(longest or sys.maxsize)
    for piece in pieces(path):
        kept.add(*piece)
    if kept.damaged:
        empty = f", {kept.empty} of them empty" if kept.empty else ""
        more = f"; {len(kept.damaged)} are damaged in all{empty}" if len(kept.damaged) > 1 else ""
        raise InputError(f"{path}: {kept.damaged[0]}{more}; mend or drop it")
    notes = kept.tally.notes()
    if not kept.crystals:
        raise InputError(f"{path}: no crystal is left ({'; '.join(notes) or 'there is none at all'})")
    labels, classes = _labels([crystal.label for crystal in kept.crystals], str(path))
    atoms, places, lattice = padded(kept.crystals)
    names = tuple(f"{path}: {name}" for name in kept.names)
    found = FoundCrystals(
        places,
        labels,
        classes,
        notes=notes,
        names=names,
        properties=properties_of([dict(crystal.told) for crystal in kept.crystals]),
        atoms=atoms,
        lattice=lattice,
    )
    if longest is not None:
        check_cells(found)
    return found


def _labels(labels: list[str | None], where: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Number the classes, which all crystals have or none."""
    given = [label for label in labels if label]
    if not given:
        return None, ()
    if len(given) < len(labels):
        without = len(labels) - len(given)
        raise InputError(f"{where}: {without} crystals have no label, and {len(given)} have one; add or drop them")
    return classify(given, f"{where} (label)")
