"""Reading and writing of SDF and MOL files with rdkit: atoms, positions, charges and numeric properties."""

import math
import pathlib
import re
from collections.abc import Iterable, Iterator

import numpy as np

from feller.core.errors import InputError
from feller.data.files.plain_text import parse_number, read_letters
from feller.data.molecules.molecule import Molecule, rdkit, rdkit_with_bonds, rdkit_without_bonds, sanitize

END = "$$$$"
"""Line that ends the record of a molecule."""
PROPERTY = re.compile(r"^>[^\n]*<([^>\n]+)>[^\n]*\n([^\n]*)$", re.MULTILINE)
"""Pattern of a property: the line with its name, and the line below with its value."""
DIMENSION = slice(20, 22)
"""Character positions in the second line of a record that hold `2D` or `3D`."""


def read_sdf(path: pathlib.Path) -> Iterator[Molecule]:
    """Yield the molecules of an SDF or MOL file, compressed or not, with explicit hydrogens.

    A molecule whose z coordinates are all zero counts as a 2D drawing, unless its record is marked as 3D. InputError,
    with the line at which the record starts, if a record is damaged; UsageError if rdkit is not installed.
    """
    with rdkit("reading .sdf and .mol") as chem:
        for line, block in _records(read_letters(path)):
            mol = chem.MolFromMolBlock(block, sanitize=False, removeHs=False, strictParsing=True)
            atoms = [] if mol is None else [atom.GetAtomicNum() for atom in mol.GetAtoms()]
            coords = np.array(mol.GetConformer().GetPositions()) if atoms else np.empty((0, 3))
            if not atoms or min(atoms) < 1 or not np.isfinite(coords).all():
                raise InputError(
                    "a record of known elements with finite coordinates",
                    "a damaged record, or atoms of unknown elements",
                    "Correct or remove this record",
                    file=path,
                    place=f"line {line}",
                )
            is_2d = not coords[:, 2].any() and block.split("\n")[1][DIMENSION] != "3D"
            charge = sum(atom.GetFormalCharge() for atom in mol.GetAtoms())
            yield Molecule(f"{path.name}: line {line}", np.array(atoms), coords, charge, is_2d, *_properties(block))


def _properties(block: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the numeric properties of a record, and the names of its other fields."""
    fields = {name: parse_number(line.strip()) for name, line in PROPERTY.findall(block)}
    numeric = {name: value for name, value in fields.items() if value is not None and math.isfinite(value)}
    return numeric, ("bonds", *(name for name in fields if name not in numeric))


def _records(text: str) -> Iterator[tuple[int, str]]:
    """Yield the records with their first line number, from 1."""
    lines, start = [line.rstrip("\r") for line in text.split("\n")], 0
    for i, line in enumerate([*lines, END]):
        if line.startswith(END):
            if any(map(str.strip, lines[start:i])):
                yield start + 1, "\n".join(lines[start:i])
            start = i + 1


def sdf_text(molecules: Iterable[Molecule]) -> tuple[str, int]:
    """Return the text of an SDF file with properties as fields, and the number of molecules written without bonds.

    Bonds are derived from the positions. If no valid bonds are found, a molecule is written without bonds.
    UsageError if rdkit is not installed.
    """
    records, num_unbonded = [], 0
    with rdkit("writing .sdf") as chem:
        for i, molecule in enumerate(molecules):
            mol = rdkit_with_bonds(chem, molecule)
            if mol is None or not sanitize(chem, mol):
                mol, num_unbonded = rdkit_without_bonds(chem, molecule), num_unbonded + 1
            mol.SetProp("_Name", f"sample-{i:05}")
            fields = "".join(f"> <{name}>\n{value!r}\n\n" for name, value in molecule.properties.items())
            records.append(f"{chem.MolToMolBlock(mol, kekulize=False)}{fields}{END}\n")
    return "".join(records), num_unbonded
