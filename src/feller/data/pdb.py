"""Files of the Protein Data Bank: the backbone atoms of their chains."""

import gzip
import pathlib
import zlib
from collections.abc import Iterator

import numpy as np

from feller.errors import InputError

ATOMS = ("N", "CA", "C", "O")
"""Backbone atoms, in the order of arrays."""
MARK = "REMARK  99 FELLER: EACH MODEL IS A SAMPLE"
"""Line by which we know that models are different chains, and not one chain seen several times."""
_PLACE = {name: i for i, name in enumerate(ATOMS)}

Chain = tuple[str, np.ndarray]
"""Name, and atoms [l, 4, 3] in Å with not-a-number where one is missing."""


def read_text(path: pathlib.Path) -> str:
    """Read text, packed or not; letters beyond ASCII do not matter in such files.

    Raises:
        InputError: If it cannot be unpacked.
    """
    packed = path.read_bytes()
    try:
        return (gzip.decompress(packed) if path.suffix.lower() == ".gz" else packed).decode("latin-1")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}); fetch the file again") from error


def read_pdb(path: pathlib.Path) -> list[Chain]:
    """Read the chains of the first model, in the order in which they come; of alternate places the first counts.

    Selenomethionine counts as a residue, other HETATM records do not.

    Raises:
        InputError: If coordinates are damaged, or if there are no backbone atoms.
    """
    lines = read_text(path).splitlines()
    chains: dict[str, dict[str, np.ndarray]] = {}
    for number, model, line in _records(lines):
        place = _PLACE.get(line[12:16].strip())
        if place is None:
            continue
        name = f"{path.name.split('.')[0]}:{f'{model}:' if model else ''}{line[21]}"
        residue = chains.setdefault(name, {}).setdefault(line[22:27], np.full((4, 3), np.nan))
        if np.isnan(residue[place, 0]):
            residue[place] = _coordinates(line, f"{path}: line {number}")
    if not chains:
        raise InputError(f"{path}: expected ATOM records of the backbone ({', '.join(ATOMS)}), found none")
    return [(name, np.stack(list(residues.values()))) for name, residues in chains.items()]


def _records(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield number of the line, number of the model and text of what counts: all models are read of our own files."""
    ours, model = any(line.startswith(MARK) for line in lines[:5]), 0
    for number, line in enumerate(lines, 1):
        if line.startswith("ENDMDL") and not ours:
            return
        model += ours and line.startswith("MODEL")
        if line.startswith("ATOM  ") or (line.startswith("HETATM") and line[17:20] == "MSE"):
            yield number, model, line.ljust(27)


def _coordinates(line: str, where: str) -> list[float]:
    try:
        numbers = [float(line[start : start + 8]) for start in (30, 38, 46)]
    except ValueError:
        numbers = [np.nan]
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: expected three numbers in columns 31 to 54, got {line[30:54]!r}; mend or drop it")
    return numbers


def model_lines(atoms: np.ndarray) -> list[str]:
    """Return the records of one chain [l, 4, 3], all of whose residues are called glycine."""
    lines, serial = [], 0
    for residue, places in enumerate(atoms, 1):
        for name, (x, y, z) in zip(ATOMS, places, strict=True):
            serial += 1
            lines.append(
                f"ATOM  {serial % 100_000:5d}  {name:<3} GLY A{residue:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00  0.00           {name[0]}  "
            )
    return [*lines, f"TER   {(serial + 1) % 100_000:5d}      GLY A{len(atoms):4d}"]


def pdb_text(chains: list[np.ndarray]) -> str:
    """Return a file with a model for each chain, or with the one chain that there is."""
    if len(chains) == 1:
        return "\n".join([*model_lines(chains[0]), "END", ""])
    lines = [MARK]
    for number, atoms in enumerate(chains, 1):
        lines += [f"MODEL     {number:4d}", *model_lines(atoms), "ENDMDL"]
    return "\n".join([*lines, "END", ""])
