"""Reading of protein chains from PDB and mmCIF files, folders and JSON lines; chains are split at chain breaks."""

import pathlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from feller.core.errors import InputError
from feller.data.files.plain_text import files_in, read_letters
from feller.data.labels import NoteCounter
from feller.data.loading.raw import RawChains, check_rows, prefix_lengths
from feller.data.proteins.files import ATOMS, MMCIF, ProteinChain, parse_chain, read_structure
from feller.data.proteins.files import ENDINGS as PDB
from feller.data.proteins.residues import LETTERS

ENDINGS = (*PDB, *MMCIF, ".jsonl", ".jsonl.gz")
"""Suffixes of backbone files."""
MAX_RESIDUES = 128
"""Default maximum number of residues; longer chains are left out."""
SHORTEST = 10
"""Minimum number of residues of a chain segment; shorter segments are dropped."""
GAP = 2.0
"""Maximum distance in Å from the C of a residue to the N of the next; a larger distance is a chain break."""
BONDS = (1.0, 2.0)
"""Valid range in Å of the bond lengths within a residue."""


@dataclass
class _ChainCollector:
    """Chain segments read so far that have a valid length, and notes on the chains that were split or left out."""

    longest: int
    chains: list[ProteinChain] = field(default_factory=list)
    tally: NoteCounter = field(default_factory=NoteCounter)

    def add(self, chain: ProteinChain) -> None:
        """Split a chain at its breaks, and add the segments of valid length."""
        boundaries = _gaps(chain.atoms)
        if len(boundaries) > 2:
            self.tally.add("chains split at missing or damaged residues: {}", chain.name)
        for start, stop in pairwise(boundaries):
            mask = _is_complete(chain.atoms[start:stop])
            segment = ProteinChain(chain.name, chain.atoms[start:stop][mask], chain.residues[start:stop][mask])
            length = len(segment.atoms)
            if length == 0 and len(boundaries) > 2:
                continue
            if length > self.longest:
                self.tally.add(f"chains with over {self.longest} residues left out: {{}}", chain.name)
            elif length < SHORTEST:
                self.tally.add(f"chains with segments under {SHORTEST} residues, left out: {{}}", chain.name)
            else:
                self.chains.append(segment)

    def notes(self) -> tuple[str, ...]:
        """Return notes on chains that were split or left out, and on residues of unknown type."""
        names = [segment.name for segment in self.chains if (segment.residues < 0).any()]
        unknown = sum(int((segment.residues < 0).sum()) for segment in self.chains)
        total = sum(len(segment.atoms) for segment in self.chains)
        if not 0 < unknown < total:
            return self.tally.notes()
        return (
            *self.tally.notes(),
            f"residues of unknown type: {unknown:,} of {total:,}, in {len(names)} chains, the first is {names[0]}; only"
            " their positions are used",
        )


def _is_complete(atoms: np.ndarray) -> np.ndarray:
    """Return the mask of residues with all atoms at valid bond lengths, [l]."""
    n, ca, c, o = atoms.swapaxes(0, 1)
    with np.errstate(invalid="ignore", over="ignore"):
        bond_lengths = np.linalg.norm([ca - n, c - ca, o - c], axis=2)
        return np.isfinite(bond_lengths).all(0) & (bond_lengths > BONDS[0]).all(0) & (bond_lengths < BONDS[1]).all(0)


def _gaps(atoms: np.ndarray) -> list[int]:
    """Return the indices at which segments of a chain start, and its length.

    A segment ends where two residues are not bonded. A damaged residue is a segment of its own, which is dropped later.
    """
    complete = _is_complete(atoms)
    with np.errstate(invalid="ignore", over="ignore"):
        is_bonded = np.linalg.norm(atoms[1:, 0] - atoms[:-1, 2], axis=1) < GAP
    is_break = ~(is_bonded & complete[1:] & complete[:-1])
    return [0, *(np.flatnonzero(is_break) + 1).tolist(), len(atoms)]


def load_backbones(path: pathlib.Path, longest: int | None = MAX_RESIDUES) -> RawChains:
    """Read a PDB or mmCIF file, a folder of these, or JSON lines with `coords` (the format of inverse folding data).

    Chains of more than `longest` residues are left out. InputError if a file is damaged or no chain is left.
    """
    collector = _ChainCollector(longest or sys.maxsize)
    for chain in _chains(path):
        collector.add(chain)
    notes = collector.notes()
    if not collector.chains:
        limits = f"{SHORTEST} residues or more" if longest is None else f"{SHORTEST} to {longest} residues"
        raise InputError(f"no chain of {limits} is left ({'; '.join(notes) or 'the source is empty'})", file=path)
    lengths = np.array([len(segment.atoms) for segment in collector.chains])
    values = np.zeros((len(lengths), lengths.max(), len(ATOMS), 3))
    residues = np.full(values.shape[:2], -1)
    for coords, indices, segment in zip(values, residues, collector.chains, strict=True):
        coords[: len(segment.atoms)], indices[: len(segment.atoms)] = segment.atoms, segment.residues
    names = tuple(segment.name for segment in collector.chains)
    dropped = collector.tally.notes()
    return RawChains(values, lengths=lengths, residues=_any(residues), notes=notes, names=names, dropped=dropped)


def _any(residues: np.ndarray) -> np.ndarray | None:
    """Return the residue types of a chain, or None if all of them are unknown."""
    return residues if (residues >= 0).any() else None


def backbones_from_arrays(arrays: dict[str, np.ndarray], where: str) -> RawChains:
    """Return chains from .npz arrays: `samples` [n, l, 4, 3] in Å, `valid` [n, l] and optionally `residue` [n, l].

    InputError if dtypes or shapes are wrong, values are not finite, or padding precedes a residue.
    """
    samples, valid = arrays["samples"], arrays.get("valid")
    valid = np.ones(samples.shape[:2], dtype=bool) if valid is None else valid
    is_valid = samples.shape[2:] == (len(ATOMS), 3) and valid.shape == samples.shape[:2]
    if not is_valid or samples.dtype.kind not in "iuf" or valid.dtype.kind != "b" or 0 in samples.shape:
        raise InputError(
            "arrays samples [n, l, 4, 3] of numbers and valid [n, l] of booleans",
            f"{samples.dtype} {list(samples.shape)} and {valid.dtype} {list(valid.shape)}",
            place=where,
        )
    samples = samples.astype(np.float64)
    lengths = prefix_lengths(valid, where, "residues")
    check_rows(np.isfinite(samples).all((2, 3)) | ~valid, where, "finite coordinates")
    residues = _residues(arrays["residue"], valid, where)[:, : lengths.max()] if "residue" in arrays else None
    values = np.where(valid[:, :, None, None], samples, 0)[:, : lengths.max()]
    return RawChains(values, lengths=lengths, residues=None if residues is None else _any(residues))


def _residues(residue: np.ndarray, valid: np.ndarray, where: str) -> np.ndarray:
    """Return the residue indices, -1 in the padding."""
    if residue.shape != valid.shape or residue.dtype.kind not in "iu":
        raise InputError(f"an array residue {list(valid.shape)} of integers", list(residue.shape), place=where)
    residue = np.where(valid, residue.astype(np.int64), -1)
    if residue.min() < -1 or residue.max() >= len(LETTERS):
        raise InputError(
            f"residue as indices into {LETTERS}, or -1 for an unknown residue",
            f"{residue.min()} to {residue.max()}",
            place=where,
        )
    return residue


def _chains(path: pathlib.Path) -> Iterator[ProteinChain]:
    if path.is_dir():
        for file in files_in(path, ENDINGS):
            yield from _chains(file)
    elif path.name.lower().endswith((*PDB, *MMCIF)):
        yield from read_structure(path)
    else:
        lines = [(i, line) for i, line in enumerate(read_letters(path).splitlines(), 1) if line.strip()]
        if not lines:
            raise InputError("chains", "none", "Remove the file", file=path)
        for i, line in lines:
            yield parse_chain(line, i, f"{path}: line {i}")
