"""Modality of proteins: backbones with sequences. A model can sample both, or one given the other."""

import pathlib
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond, State
from feller.core.serialization import replace_file
from feller.data.files import sample_folder
from feller.data.loading.raw import RawChains, RawExamples, expect
from feller.data.modality import Dataset, Modality, Writer
from feller.data.proteins.backbones import Backbones, fit_backbones
from feller.data.proteins.files import json_lines, pdb_text
from feller.data.proteins.residues import LETTERS, fasta, letters_of
from feller.spaces import MaskSource, Product, Tokens

SEQUENCES = "sequences.fasta"
"""Name of the FASTA file with the sequences in a folder of PDB files."""


@dataclass(frozen=True)
class Proteins(Modality):
    """Modality of backbones with their sequences.

    Values are `atoms` in Å, [n, longest, 4, 3], and `residue`, indices into `LETTERS`, [n, longest], zero-padded. A
    state is a dict of `rotation` and `position`, as for backbones, and `residue`. In the mask `valid`, a residue
    of unknown type is True for `rotation` and `position`, but False for `residue`.
    """

    display_name = "protein chains with their sequences"
    raw_type = RawChains
    min_held_out = 300
    unit_name = "residues"
    has_density = False  # residues are discrete
    conditionable_leaves = ("residue", "structure")
    file_conditions: ClassVar[dict[str, str]] = {"structure": "one chain, such as a PDB file"}

    structure: Backbones

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        return self.structure.conditions

    def count_units(self, data: Dataset) -> int:
        return int(data.given["valid"]["position"].sum())

    @property
    def writers(self) -> dict[str, Writer]:
        """Functions that write samples, by file suffix; the empty suffix stands for a folder of files.

        The other formats are arrays, JSON lines, and one PDB file with a model per chain.
        """
        return {
            ".npz": self._write_arrays,
            ".jsonl": lambda values, given, out: replace_file(out, json_lines(*self.chains(values, given))),
            ".pdb": lambda values, given, out: replace_file(out, pdb_text(*self.chains(values, given))),
            "": self._write_folder,
        }

    def parse_condition(self, leaf: str, text: str) -> tuple[State, dict[str, int]]:
        """Parse a sequence that is held fixed during sampling.

        Args:
            leaf: Component of the state that is held fixed; only `residue` can be given as text.
            text: Sequence in one-letter codes.

        Returns:
            Indices into `LETTERS`, [1, longest], and the class id of the condition `length`.

        Raises:
            UsageError: If a letter is not a one-letter code.
        """
        if leaf != "residue":
            return super().parse_condition(leaf, text)
        sequence = "".join(text.split()).upper()
        invalid = sorted(set(sequence) - set(LETTERS))
        if invalid or not sequence:
            raise UsageError(f"residue as one-letter codes from {LETTERS}", found=", ".join(invalid) or "none")
        implied = {"length": self.class_index("length", str(len(sequence)))}
        value = torch.zeros(1, self.structure.longest, dtype=torch.long)
        value[0, : len(sequence)] = torch.tensor([LETTERS.index(letter) for letter in sequence])
        return value, implied

    def load_condition(self, leaf: str, raw: RawExamples) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Return the backbone of the only chain in a file, to be held fixed during sampling.

        The first result has the components `rotation` and `position` of the state; the second is the class id of the
        condition `length`, the length of the chain. `leaf` is the name under which the user gave the file, for errors.
        """
        raw = expect(raw, RawChains)
        n = len(raw.values)
        if n > 1 or raw.dropped:
            contents = f"{n} chains or segments" if n > 1 else "a segment of a chain"
            dropped = f" ({'; '.join(raw.dropped)})" if raw.dropped else ""
            raise InputError(
                f"a file with one complete chain for {leaf}",
                found=f"{contents}{dropped}",
                remedy="Write the chain to a file of its own",
            )
        values, given = self.structure.values_from_raw(raw)
        return self.structure.encode(values), {"length": self.class_index("length", str(int(given["valid"].sum())))}

    def space(self) -> Product:
        """Return the state space: the space of backbones, and for each residue a token (with a mask token)."""
        residue = Tokens(len(LETTERS), (self.structure.longest,), MaskSource())
        return Product({**self.structure.space().leaf_spaces, "residue": residue})

    def encode(self, values: State) -> State:
        return {**self.structure.encode(values["atoms"]), "residue": values["residue"].long()}

    def decode(self, state: State) -> State:
        """Convert a state to atoms and residues; padding entries hold arbitrary values, which may be mask tokens."""
        atoms = self.structure.decode({name: state[name] for name in ("rotation", "position")})
        return {"atoms": atoms, "residue": state["residue"].long()}

    def add_derived_conditions(self, given: Cond) -> Cond:
        """Add `valid`, the mask of real residues for each component of the state, which follows from `length`."""
        valid = self.structure.add_derived_conditions(given)["valid"]
        return {**given, "valid": _marks(valid, valid)}

    def values_from_raw(self, raw: RawExamples) -> tuple[State, Cond]:
        raw = expect(raw, RawChains)
        atoms, given = self.structure.values_from_raw(raw)
        residue = torch.full(atoms.shape[:2], -1)
        if raw.residues is not None:
            residue[:, : raw.residues.shape[1]] = torch.from_numpy(raw.residues)
        masks = _marks(given["valid"], given["valid"] & (residue >= 0))
        return {"atoms": atoms, "residue": residue.clamp(min=0)}, {**given, "valid": masks}

    def convert(self, data: Dataset) -> Dataset:
        if not isinstance(data.values, dict):
            raise InputError("chains with their sequences", "structures alone", "Use the recipe `backbones`")
        return super().convert(data)

    def chains(self, values: State, given: Cond) -> tuple[list[np.ndarray], list[str]]:
        """Return the atoms [l, 4, 3] and the sequence of each chain without padding; X stands for an unknown residue.

        Raises:
            InputError: If a residue is still the mask token.
        """
        given = given if "valid" in given else self.add_derived_conditions(given)
        valid, is_known = (given["valid"][name].cpu().numpy() for name in ("position", "residue"))
        residue = values["residue"].cpu().numpy()
        if (residue >= len(LETTERS))[is_known].any():
            raise InputError("some residues are still masked", remedy="Run the simulation to time 1")
        residues = np.where(is_known, residue, -1)
        sequences = [letters_of(row[mask]) for row, mask in zip(residues, valid, strict=True)]
        return self.structure.chains(values["atoms"], {"valid": given["valid"]["position"]}), sequences

    def arrays(self, values: State, given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays of backbones, and `residue` [n, l], indices into `LETTERS`; -1 if unknown or padding."""
        _, sequences = self.chains(values, given)
        given = given if "valid" in given else self.add_derived_conditions(given)
        arrays = self.structure.arrays(values["atoms"], {"valid": given["valid"]["position"]})
        residue = np.full(arrays["valid"].shape, -1)
        for row, sequence in zip(residue, sequences, strict=True):
            row[: len(sequence)] = [LETTERS.find(letter) for letter in sequence]
        return {**arrays, "residue": residue}

    def show(self, values: Any, given: Cond, columns: int | None = None) -> Image.Image:
        given = given if "valid" in given else self.add_derived_conditions(given)
        return self.structure.show(values["atoms"], {"valid": given["valid"]["position"]}, columns)

    def _write_folder(self, values: State, given: Cond, out: pathlib.Path) -> None:
        chains, sequences = self.chains(values, given)
        n = len(chains)
        contents = [pdb_text([atoms], [sequence]) for atoms, sequence in zip(chains, sequences, strict=True)]
        contents.append(fasta(sample_folder.numbered_names(n), sequences))
        files = [*sample_folder.numbered_names(n, ".pdb"), SEQUENCES]
        sample_folder.save_files(self.show(values, given), out, files, contents)


def _marks(valid: Tensor, residue_known: Tensor) -> dict[str, Tensor]:
    return {"rotation": valid, "position": valid, "residue": residue_known}


def backbones_only(data: Dataset) -> Dataset:
    """Convert a dataset of proteins to backbones, for structure metrics; return other data unchanged."""
    proteins = data.modality.view(Proteins)
    return data if proteins is None else data.with_modality(proteins.structure)


def protein_dataset(raw: RawChains) -> Dataset:
    """Build a dataset of proteins; the condition `length` covers all lengths from the shortest to the longest chain."""
    if raw.residues is None:
        raise InputError("chains with their sequences", "structures alone")
    backbones = fit_backbones(raw)
    lengths = tuple(str(length) for length in range(int(raw.lengths.min()), int(raw.lengths.max()) + 1))
    modality = Proteins(replace(backbones, lengths=lengths))
    return Dataset(*modality.values_from_raw(raw), modality, raw.notes)
