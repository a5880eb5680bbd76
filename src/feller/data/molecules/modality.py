"""Modality of molecules: elements and positions of atoms; bonds are derived from distances."""

import math
import pathlib
import warnings
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, check_number
from feller.core.pytree import Cond, State
from feller.core.serialization import replace_file
from feller.data.atoms.elements import NUMBERS, SYMBOLS, element_indices, symbols_of
from feller.data.atoms.modality import Atoms
from feller.data.files import sample_folder
from feller.data.loading.raw import RawExamples, RawMolecules, check_longest, expect
from feller.data.modality import Dataset, Writer, check_finite_state, property_tensors
from feller.data.molecules.figure import balls
from feller.data.molecules.molecule import Molecule
from feller.data.molecules.sdf import sdf_text
from feller.data.molecules.xyz import xyz_text
from feller.spaces import Euclidean, Product, Tokens
from feller.spaces.tokens import MaskSource


@dataclass(frozen=True)
class Molecules(Atoms):
    """Modality of molecules as atoms in space, without explicit bonds.

    Values and states are dicts of `element`, indices into `elements`, int64 [n, longest]; and `place`, positions
    relative to the mean of the molecule's atoms, [n, longest, 3]. Positions are in Å in values. In states they are
    divided by one scale for all coordinates, so rotations commute with encoding. Padding is zero.
    """

    display_name = "molecules"
    raw_type = RawMolecules
    conditionable_leaves = ("element",)

    longest: int  # pyrefly: ignore
    """Number of atoms to which all molecules are padded."""
    sizes: tuple[str, ...]  # pyrefly: ignore
    elements: tuple[str, ...]  # pyrefly: ignore
    scale: float
    """Standard deviation of the coordinates, in Å."""

    def __post_init__(self) -> None:
        check_number("scale", self.scale, gt=0, lt=math.inf, kind=InputError)
        self.check_atoms()

    @property
    def writers(self) -> dict[str, Writer]:
        """Writers by file suffix: arrays, an XYZ file, an SDF file with bonds from rdkit, or a folder of XYZ files."""
        return {
            ".npz": self._write_arrays,
            ".xyz": lambda values, given, out: replace_file(out, xyz_text(self.molecules(values, given))),
            ".sdf": self._write_sdf,
            "": self._write_folder,
        }

    def parse_condition(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        """Parse the elements that are held fixed during sampling: a formula (`C2H6O`) or symbols (`C,C,O,H,H`).

        Returns:
            Indices into `elements`, [1, longest], and the class id of the condition `atoms`, the number of atoms.
        """
        if leaf not in self.conditionable_leaves:
            return super().parse_condition(leaf, text)
        symbols = symbols_of(text)
        indices = torch.from_numpy(element_indices(symbols, self.elements))
        implied = {"atoms": self.class_index("atoms", str(len(symbols)))}
        value = torch.zeros(1, self.longest, dtype=torch.long)
        value[0, : len(symbols)] = indices
        return value, implied

    def space(self) -> Product:
        """Return the state space: for each atom a token (with a mask token) for its element, R^3 for its position."""
        return Product(
            {
                "element": Tokens(len(self.elements), (self.longest,), MaskSource()),
                "place": Euclidean((self.longest, 3)),
            }
        )

    def encode(self, values: State) -> State:
        return {"element": values["element"].long(), "place": (values["place"].double() / self.scale).float()}

    def decode(self, state: State) -> State:
        """Convert a state to values, with positions in Å; padding entries hold arbitrary values."""
        check_finite_state(state)
        element = state["element"].long()
        odd = ((element < 0) | (element >= len(self.elements))).any(1)
        if odd.any():
            raise InputError(
                f"{int(odd.sum())} of {len(odd)} samples contain masked elements: the simulation ended before time 1"
            )
        return {"element": element, "place": state["place"].double() * self.scale}

    def values_from_raw(self, raw: RawExamples) -> tuple[State, Cond]:
        """Convert raw molecules to (centred, padded values; conditions).

        A number of atoms that the training data lack becomes the null class of the condition `atoms`.
        """
        raw = expect(raw, RawMolecules)
        lengths = (raw.atomic_numbers > 0).sum(1)
        check_longest(raw, lengths, self.longest, "atoms")
        sizes = torch.from_numpy(lengths)
        masks = self.valid_masks(sizes)
        element, place = self.pad_atoms(raw)
        centre = place.sum(1, keepdim=True) / sizes[:, None, None]
        place = torch.where(masks["place"][:, :, None], place - centre, 0)
        return {"element": element, "place": place}, {"atoms": self.class_of(sizes), "valid": masks}

    def molecules(self, values: State, given: Cond) -> list[Molecule]:
        """Return values as molecules without padding, centred at the origin, with conditions as properties."""
        valid = (given if "valid" in given else self.add_derived_conditions(given))["valid"]["element"]
        atomic_numbers = np.array([NUMBERS[symbol] for symbol in self.elements])
        tensors = (valid, values["element"], values["place"].double())
        rows = zip(*(column.cpu().numpy() for column in tensors), strict=True)
        unpadded = [(atomic_numbers[element[mask]], place[mask]) for mask, element, place in rows]
        properties = self.condition_numbers(given, len(unpadded))
        numbered = enumerate(zip(unpadded, properties, strict=True), sample_folder.first_number())
        return [
            Molecule(f"sample {i}", atoms, coords - coords.mean(0), properties=numbers)
            for i, ((atoms, coords), numbers) in numbered
        ]

    def arrays(self, values: State, given: Cond) -> dict[str, np.ndarray]:
        """Return zero-padded .npz arrays: atomic numbers `element` [n, l]; `place` [n, l, 3] in Å; `valid` [n, l]."""
        molecules = self.molecules(values, given)
        element = np.zeros((len(molecules), self.longest), dtype=np.int64)
        place = np.zeros((*element.shape, 3))
        for i, molecule in enumerate(molecules):
            num_atoms = len(molecule.atomic_numbers)
            element[i, :num_atoms], place[i, :num_atoms] = molecule.atomic_numbers, molecule.positions
        return {"element": element, "place": place, "valid": element > 0, **self.condition_arrays(given)}

    def show(self, values: State, given: Cond, columns: int | None = None) -> Image.Image:
        return balls(self.molecules(values, given), columns)

    def _write_sdf(self, values: State, given: Cond, out: pathlib.Path) -> None:
        molecules = self.molecules(values, given)
        text, num_unbonded = sdf_text(molecules)
        replace_file(out, text)
        if num_unbonded:
            reason = "written without bonds, because no valid bond orders fit their distances"
            warnings.warn(f"{out.name}: {num_unbonded} of {len(molecules)} molecules are {reason}", stacklevel=2)

    def _write_folder(self, values: State, given: Cond, out: pathlib.Path) -> None:
        molecules = self.molecules(values, given)
        contents = (xyz_text([molecule]) for molecule in molecules)
        sample_folder.save_files(balls(molecules), out, sample_folder.numbered_names(len(molecules), ".xyz"), contents)


def molecule_dataset(raw: RawMolecules) -> Dataset:
    """Build a dataset of molecules; its modality gets the standard deviation of their coordinates as scale."""
    is_atom = raw.atomic_numbers > 0
    sizes = is_atom.sum(1)
    centre = np.where(is_atom[:, :, None], raw.values, 0).sum(1) / sizes[:, None]
    scale = float(np.sqrt(np.square(raw.values - centre[:, None])[is_atom].mean()))
    size_names = tuple(str(size) for size in np.unique(sizes).tolist())
    elements = tuple(SYMBOLS[number] for number in np.unique(raw.atomic_numbers[is_atom]).tolist())
    modality = Molecules(raw.atomic_numbers.shape[1], size_names, elements, scale)
    return Dataset(*modality.values_from_raw(raw), modality, raw.notes, properties=property_tensors(raw))


def molecules_of(data: Dataset) -> list[Molecule]:
    """Return the molecules of a dataset, without padding."""
    return cast(Molecules, data.modality).molecules(data.values, data.given)
