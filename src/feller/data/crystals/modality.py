"""Modality of crystals: elements, fractional coordinates and lattice."""

import io
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Float64, Int64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond, State
from feller.core.serialization import replace_file
from feller.data.atoms.elements import NUMBERS, SYMBOLS, element_indices, symbols_of
from feller.data.atoms.modality import Atoms
from feller.data.crystals.cif import Crystal
from feller.data.crystals.dataset import pad_crystals
from feller.data.crystals.figure import picture
from feller.data.crystals.files import blocks_of, table_of, write_folder
from feller.data.crystals.lattice import LONGEST, MARGIN, SHORTEST, from_cell, lattice_of, to_cell
from feller.data.labels import label_arrays, label_names, relabel
from feller.data.loading.raw import RawCrystals, RawExamples, check_longest, expect
from feller.data.modality import Dataset, Writer, check_finite_state, property_tensors
from feller.spaces import Euclidean, Product, Tokens, Torus
from feller.spaces.tokens import MaskSource
from feller.spaces.torus import TWO_PI, wrap

CELL_TOLERANCE = 1e-3
"""Maximum relative error, after encoding and decoding, of a lattice given by the user."""
MIN_SCALE = 1e-3
"""Minimum standard deviation by which a lattice parameter is divided, because parameters can be constant in the
data."""


@dataclass(frozen=True)
class Crystals(Atoms):
    """Modality of crystals: unit cells with up to `longest` atoms.

    Values: `element`, indices into `elements` [n, longest]; `place`, fractional coordinates [n, longest, 3]; `lattice`,
    a, b, c in Å and alpha, beta, gamma in degrees, [n, 6]; atoms are zero-padded. States hold the same elements, the
    coordinates as angles in radians, and six standardised lattice parameters; see the module `lattice`. Atoms keep the
    order of the file.
    """

    display_name = "crystals"
    raw_type = RawCrystals
    conditionable_leaves = ("element", "lattice")

    longest: int  # pyrefly: ignore
    """Number of atoms to which all unit cells are padded."""
    elements: tuple[str, ...]  # pyrefly: ignore
    sizes: tuple[str, ...]  # pyrefly: ignore
    mean: tuple[float, ...]
    """Mean of the encoded lattice parameters: log lengths in Å, then log tan of half of each angle."""
    scale: tuple[float, ...]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.scale) == 6 or not all(0 < s < math.inf for s in self.scale):
            raise InputError("means and positive scales of 6 lattice parameters", f"{self.mean} and {self.scale}")
        self.check_atoms()

    @property
    def writers(self) -> dict[str, Writer]:
        """Writers by file suffix: arrays, a table with a CIF column, a CIF file with all crystals, or a folder."""
        return {
            ".npz": self._write_arrays,
            ".csv": lambda values, given, out: replace_file(out, table_of(self.crystals(values, given))),
            ".cif": lambda values, given, out: replace_file(out, "\n".join(blocks_of(self.crystals(values, given)))),
            "": lambda values, given, out: write_folder(self.crystals(values, given), out),
        }

    def frame(self, values: State, given: Cond) -> pd.DataFrame:
        """Return a data frame with one row per crystal: formula, CIF text, and the label if there is one."""
        return pd.read_csv(io.StringIO(table_of(self.crystals(values, given))))

    def num_entries(self, values: State) -> Int64[Tensor, " n"]:
        return torch.full((len(values["element"]),), self.longest)

    def space(self) -> Product:
        """Return the state space: for each atom a token (with a mask token) and a 3D torus, and R^6 for the lattice."""
        elements = Tokens(len(self.elements), (self.longest,), MaskSource())
        return Product({"element": elements, "place": Torus((self.longest, 3)), "lattice": Euclidean((6,))})

    def encode(self, values: State) -> State:
        place = wrap((values["place"].double() * TWO_PI).float())
        return {"element": values["element"], "place": place, "lattice": self._standardised(values["lattice"])}

    def _standardised(self, lattice: Float[Tensor, "n 6"]) -> Float32[Tensor, "n 6"]:
        params = from_cell(lattice)
        return ((params - params.new_tensor(self.mean)) / params.new_tensor(self.scale)).float()

    def _cell(self, params: Float[Tensor, "n 6"]) -> Float64[Tensor, "n 6"]:
        params = params.double()
        return to_cell(params * params.new_tensor(self.scale) + params.new_tensor(self.mean))

    def decode(self, state: State) -> State:
        """Convert a state to values; an invalid lattice is replaced by the nearest valid lattice."""
        check_finite_state(state)
        place, lattice = (state["place"].double() / TWO_PI).remainder(1), self._cell(state["lattice"])
        return {"element": state["element"], "place": torch.where(place < 1, place, 0), "lattice": lattice}

    def values_from_raw(self, raw: RawExamples) -> tuple[State, Cond]:
        """Convert raw crystals to (padded values, conditions).

        A number of atoms that the training data lack becomes the null class of the condition `atoms`.
        """
        raw = expect(raw, RawCrystals)
        lengths = (raw.atomic_numbers > 0).sum(1)
        check_longest(raw, lengths, self.longest, "atoms")
        element, place = self.pad_atoms(raw)
        sizes = torch.from_numpy(lengths)
        given = {"atoms": self.class_of(sizes), **relabel(raw, self.classes), "valid": self.valid_masks(sizes)}
        return {"element": element, "place": place, "lattice": torch.from_numpy(raw.lattice)}, given

    def parse_condition(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        """Parse the value of a component of the state that is held fixed during sampling.

        Args:
            leaf: Name of the component, `element` or `lattice`.
            text: A formula (`CaTiO3`), a list of symbols (`Ca,Ti,O,O,O`), or one symbol for all atoms of a cell of any
                size; for `lattice`, a, b, c in Å and alpha, beta, gamma in degrees.

        Returns:
            The component for one crystal: indices into `elements`, [1, longest], or an encoded lattice, [1, 6]; and the
            conditions that follow from it: the class of `atoms`, the number of atoms, if the text determines it.

        Raises:
            UsageError: If the text cannot be parsed, or the model cannot represent the crystal.
        """
        if leaf not in self.conditionable_leaves:
            return super().parse_condition(leaf, text)
        if leaf == "lattice":
            lattice = lattice_of(text)
            value = self._standardised(lattice)
            if not torch.allclose(self._cell(value), lattice, rtol=CELL_TOLERANCE, atol=0):
                closest = ",".join(f"{number:.6g}" for number in self._cell(value)[0].tolist())
                raise UsageError(
                    f"lattice={text} would become {closest}: lengths must be {SHORTEST:g} to {LONGEST:,g} Å, and angles"
                    f" must be at least {MARGIN:g} degree away from angles for which the cell is flat (without volume)",
                    remedy="Give a lattice within these limits",
                )
            return value, {}
        symbols = symbols_of(text)
        indices = torch.from_numpy(element_indices(symbols, self.elements))
        if text.strip() == symbols[0]:
            return indices.expand(1, self.longest).clone(), {}
        size = str(len(symbols))
        if size not in self.sizes:
            raise UsageError(
                f"a number of atoms in the training data ({', '.join(self.sizes)})", f"{size} atoms in {text:.60}"
            )
        element = torch.zeros(1, self.longest, dtype=torch.long)
        element[0, : len(symbols)] = indices
        return element, {"atoms": self.sizes.index(size)}

    def crystals(self, values: State, given: Cond) -> list[Crystal]:
        """Return values as crystals without padding; InputError if an element is still the mask token."""
        masks = (given if "valid" in given else self.add_derived_conditions(given))["valid"]["element"].cpu().numpy()
        element, place, lattice = (values[name].cpu().numpy() for name in ("element", "place", "lattice"))
        if ((element < 0) | (element >= len(self.elements)))[masks].any():
            raise InputError("some atoms are still masked", remedy="Run the simulation to time 1")
        numbers = np.array([NUMBERS[symbol] for symbol in self.elements])
        names = label_names(given, self.classes) or [None] * len(masks)
        properties = self.condition_numbers(given, len(masks))
        return [
            Crystal(
                numbers[element[i, mask]],
                place[i, mask].astype(np.float64),
                lattice[i].astype(np.float64),
                name,
                properties[i],
            )
            for i, (mask, name) in enumerate(zip(masks, names, strict=True))
        ]

    def arrays(self, values: State, given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays: `element` (atomic numbers), `place`, `lattice`, all zero-padded, and `valid` [n, l]."""
        element, place, lattice = pad_crystals(self.crystals(values, given))
        padding = self.longest - element.shape[1]
        element, place = np.pad(element, ((0, 0), (0, padding))), np.pad(place, ((0, 0), (0, padding), (0, 0)))
        arrays = {"element": element, "place": place, "lattice": lattice, "valid": element > 0}
        return {**arrays, **label_arrays(given, self.classes), **self.condition_arrays(given)}

    def show(self, values: State, given: Cond, columns: int | None = None) -> Image.Image:
        return picture(self.crystals(values, given), columns)


def crystal_dataset(raw: RawCrystals) -> Dataset:
    """Build a dataset of crystals; its modality gets the mean and standard deviation of the lattice parameters."""
    params = from_cell(torch.from_numpy(raw.lattice))
    scale = params.std(0, correction=0).clamp(min=MIN_SCALE)
    sizes = np.unique((raw.atomic_numbers > 0).sum(1))
    modality = Crystals(
        longest=int(sizes.max()),
        elements=tuple(SYMBOLS[number] for number in np.unique(raw.atomic_numbers[raw.atomic_numbers > 0])),
        sizes=tuple(str(size) for size in sizes),
        mean=tuple(params.mean(0).tolist()),
        scale=tuple(scale.tolist()),
        classes=raw.classes,
    )
    return Dataset(*modality.values_from_raw(raw), modality, raw.notes, properties=property_tensors(raw))
