"""Reading and writing of protein structure files: PDB, mmCIF and JSON lines."""

import json
import math
import pathlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from feller.core.errors import InputError
from feller.core.optional_dependency import require_package
from feller.data.files import sample_folder
from feller.data.files.plain_text import HEAD, beginning_of, parse_number, read_letters
from feller.data.proteins.residues import LETTERS, NUMBERS, PARENTS, name_of, numbers_of

ENDINGS = (".pdb", ".ent", ".pdb.gz", ".ent.gz")
MMCIF = (".cif", ".mmcif", ".cif.gz", ".mmcif.gz")
"""Suffixes of mmCIF files; CIF files of small molecules have the same suffixes."""
ATOMS = ("N", "CA", "C", "O")
"""Names of the backbone atoms, in the order of arrays."""
MARK = "REMARK  99 FELLER: EACH MODEL IS A SAMPLE"
"""Line that marks PDB files written by feller, in which each model is a sample, not a conformation of the same
chain."""
FILLERS = tuple(LETTERS.index(letter) for letter in "GA")
"""Residues that are placeholders in chains without a sequence. If all residues of a chain are the same placeholder, its
sequence counts as unknown."""


@dataclass(frozen=True, eq=False)
class ProteinChain:
    """Protein chain as read from a file."""

    name: str
    atoms: Float[np.ndarray, "l 4 3"]
    """Coordinates of the backbone atoms in Å; NaN for missing atoms."""
    residues: Int[np.ndarray, " l"]
    """Amino acid index of each residue, see the module `residues`; -1 if unknown."""


def holds_mmcif(path: pathlib.Path) -> bool:
    """Return True unless a file with an mmCIF suffix is a CIF file of small molecules.

    An mmCIF file is recognised by data names with a dot, such as `_entry.id`.
    """
    return not path.name.lower().endswith(MMCIF) or bool(re.search(r"^_\w+\.\w", beginning_of(path), re.MULTILINE))


def read_structure(path: pathlib.Path) -> list[ProteinChain]:
    """Read the chains of the first model of a PDB or mmCIF file with gemmi, using the first alternate location.

    The name of a chain is the chain id given by the author. Modified residues, such as selenomethionine, are mapped to
    their parents; other HETATM records are skipped. A chain of only glycine or only alanine counts as a chain of
    unknown sequence. All models are read from a file of samples written by feller. InputError if coordinates are
    invalid or backbone atoms are missing; UsageError if gemmi is not installed.
    """
    gemmi = require_package("gemmi", f"reading {path.name}", "proteins")
    text = read_letters(path).encode("ascii", "replace").decode()  # gemmi slices names by bytes
    try:
        if path.name.lower().endswith(MMCIF):
            structure = gemmi.make_structure_from_block(gemmi.cif.read_string(text)[0])
        else:
            _check_places(text, path)
            structure = gemmi.read_pdb_string(text)
    except InputError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(f"cannot be read as a structure ({' '.join(str(error).split())[:200]})", file=path) from error
    is_sample = MARK in text[:HEAD]
    stem = path.name.split(".")[0]
    chains = [
        chain
        for model in [*structure][: None if is_sample else 1]
        for raw_chain in model
        if (chain := _chain(raw_chain, f"{stem}:{f'{model.num}:' if is_sample else ''}{raw_chain.name}")) is not None
    ]
    if not chains:
        raise InputError(f"atoms of a backbone ({', '.join(ATOMS)})", "none", file=path)
    return chains


def _chain(raw_chain: Any, name: str) -> ProteinChain | None:
    """Return the backbone of a gemmi chain; of residues with the same number, the first is used."""
    residues: dict[str, tuple[np.ndarray, int]] = {}
    for residue in raw_chain:
        atoms = [residue.find_atom(atom, "*") for atom in ATOMS]
        if str(residue.seqid) not in residues and any(atoms) and (residue.het_flag != "H" or residue.name in PARENTS):
            coords = np.array([[np.nan] * 3 if atom is None else atom.pos.tolist() for atom in atoms])
            residues[str(residue.seqid)] = coords, NUMBERS.get(residue.name.upper(), -1)
    if not residues:
        return None
    coords, indices = zip(*residues.values(), strict=True)
    return ProteinChain(name, np.stack(coords), _without_fillers(np.array(indices)))


def _without_fillers(residues: Int[np.ndarray, " l"]) -> Int[np.ndarray, " l"]:
    """Return the residue types, or -1 for all if the file has the same placeholder type at every residue."""
    return np.full_like(residues, -1) if any((residues == filler).all() for filler in FILLERS) else residues


def _check_places(text: str, path: pathlib.Path) -> None:
    """Raise an InputError for invalid coordinates in a PDB file (gemmi would parse a numeric prefix)."""
    for line_number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("ATOM  ", "HETATM")) and line[12:16].strip() in ATOMS:
            coords = [parse_number(line[start : start + 8].strip()) for start in (30, 38, 46)]
            if not all(value is not None and math.isfinite(value) for value in coords):
                raise InputError(
                    "three numbers in columns 31 to 54",
                    repr(line[30:54]),
                    "Correct or remove the line",
                    file=path,
                    place=f"line {line_number}",
                )


def model_lines(atoms: Float[np.ndarray, "l 4 3"], sequence: str | None = None) -> list[str]:
    """Return the PDB records (lines) of one chain; if no sequence is given, all residues are glycine."""
    lines, serial = [], 0
    residue_names = [name_of(letter) for letter in sequence or "G" * len(atoms)]
    for number, (positions, residue_name) in enumerate(zip(atoms, residue_names, strict=True), 1):
        for name, (x, y, z) in zip(ATOMS, positions, strict=True):
            serial += 1
            lines.append(
                f"ATOM  {serial % 100_000:5d}  {name:<3} {residue_name} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00  0.00           {name[0]}  "
            )
    return [*lines, f"TER   {(serial + 1) % 100_000:5d}      {residue_names[-1]} A{len(atoms):4d}"]


def pdb_text(chains: list[np.ndarray], sequences: Sequence[str | None] | None = None) -> str:
    """Return the text of a PDB file with one model per chain; a single chain has no MODEL records.

    Args:
        chains: Coordinates of the backbone atoms of each chain in Å, [l, 4, 3].
        sequences: Sequence of each chain in one-letter codes; None for a chain of glycine.
    """
    models = [model_lines(*chain) for chain in zip(chains, sequences or [None] * len(chains), strict=True)]
    if len(models) == 1:
        return "\n".join([*models[0], "END", ""])
    lines = [MARK]
    for i, records in enumerate(models, 1):
        lines += [f"MODEL     {i:4d}", *records, "ENDMDL"]
    return "\n".join([*lines, "END", ""])


def parse_chain(line: str, number: int, where: str) -> ProteinChain:
    """Parse a JSON object with `coords` (coordinates by atom name, null if missing) and optionally `seq`.

    A chain without a name gets its line number, `number`, as name. `where` is the name of the file, for errors.
    InputError if the object is invalid, or the lengths of `seq` and `coords` differ.
    """
    try:
        record = json.loads(line)
        coords = record["coords"]
        columns = [[_triple(position) for position in coords[name]] for name in ATOMS]
        atoms = np.array(columns, dtype=np.float64).reshape(len(ATOMS), -1, 3)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        hint = f"an object with coords of {', '.join(ATOMS)}, each a list of [x, y, z] or null"
        raise InputError(hint, f"{line[:40]!r} ({type(error).__name__})", place=where) from error
    atoms[np.isinf(atoms)] = np.nan
    name = str(record.get("name", f"line {number}"))
    return ProteinChain(name, atoms.swapaxes(0, 1), _sequence(record.get("seq"), atoms.shape[1], where))


def _sequence(seq: object, length: int, where: str) -> np.ndarray:
    """Return the residue indices of `seq`; all -1 if there is no sequence."""
    if seq is None:
        return np.full(length, -1)
    if not (isinstance(seq, str) and seq.isascii() and all(letter.isalpha() or letter in "-?*." for letter in seq)):
        raise InputError("one letter for each residue, such as ACDE", repr(str(seq)[:40]), argument="seq", place=where)
    if len(seq) != length:
        raise InputError(
            "as many letters in seq as there are residues in coords",
            f"{len(seq)} and {length}",
            "Write X for an unknown residue",
            place=where,
        )
    return numbers_of(seq)


def json_lines(chains: list[np.ndarray], sequences: Sequence[str] | None = None) -> str:
    """Return JSON lines, one per chain, with coordinates in Å by atom name (the format of inverse folding data)."""
    lines = []
    for i, atoms in enumerate(chains):
        name = f"sample-{i + sample_folder.first_number():05}"
        coords = dict(zip(ATOMS, atoms.round(3).swapaxes(0, 1).tolist(), strict=True))
        extra = {} if sequences is None else {"seq": sequences[i]}
        lines.append(json.dumps({"name": name, **extra, "coords": coords}) + "\n")
    return "".join(lines)


def _triple(position: list[float | None] | None) -> list[float]:
    if position is None:
        return [np.nan] * 3
    x, y, z = position
    return [np.nan if value is None else float(value) for value in (x, y, z)]
