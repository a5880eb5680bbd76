"""Kinds of data made of atoms: how many there are, and where their padding begins."""

import torch
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import Cond
from feller.data.atoms.elements import NUMBERS, numbers_among
from feller.data.loading.raw import RawCrystals, RawMolecules
from feller.data.modality import Modality


class Atoms(Modality):
    """A kind whose states have room for as many atoms as the largest example; how many are real is a condition.

    Leaves are `element`, positions in `elements` [n, longest], and `place` [n, longest, 3], among others.
    """

    longest: int
    """Atoms of a state; smaller examples are padded."""
    elements: tuple[str, ...]
    """Symbols that occur, by atomic number."""
    sizes: tuple[str, ...]
    """Numbers of atoms that occur, smallest first: the classes of the condition `atoms`."""

    has_density = False  # elements have none

    def check_atoms(self) -> None:
        """Refuse sizes and elements that no example has; InputError says which."""
        if not self.sizes or not all(name.isdecimal() and 0 < int(name) <= self.longest for name in self.sizes):
            raise InputError(f"sizes from 1 to {self.longest}", ", ".join(self.sizes) or "none")
        if not self.elements or not {*self.elements} <= NUMBERS.keys() or len({*self.elements}) < len(self.elements):
            raise InputError("symbols of different elements", ", ".join(self.elements) or "none")

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        return {"atoms": self.sizes, **super().conditions}

    @property
    def read_size(self) -> int:
        return self.longest

    def add_derived_conditions(self, given: Cond) -> Cond:
        """Add `valid`, which marks the atoms that there are, [n, longest] for elements and for places."""
        sizes = torch.tensor([*map(int, self.sizes), self.longest], device=given["atoms"].device)
        return {**given, "valid": self.valid_masks(sizes[given["atoms"]])}

    def valid_masks(self, sizes: Int[Tensor, " n"]) -> dict[str, Bool[Tensor, "n l"]]:
        """Mark the first places of each example, as many as it has atoms."""
        marks = torch.arange(self.longest, device=sizes.device) < sizes[:, None]
        return {"element": marks, "place": marks}

    def class_of(self, sizes: Int[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """Return the classes of numbers of atoms; one that we do not know counts as not given, the class after all."""
        number = {int(name): i for i, name in enumerate(self.sizes)}
        return torch.tensor([number.get(size, len(number)) for size in sizes.tolist()])

    def pad_atoms(self, raw: RawCrystals | RawMolecules) -> tuple[Int64[Tensor, "n l"], Float64[Tensor, "n l 3"]]:
        """Return elements and places of examples that have room, as the file has them, with zeros behind them.

        Raises:
            InputError: If there is an element that we do not know.
        """
        kept = min(raw.atomic_numbers.shape[1], self.longest)
        element = torch.zeros(len(raw.atomic_numbers), self.longest, dtype=torch.long)
        place = torch.zeros(*element.shape, 3, dtype=torch.float64)
        element[:, :kept] = torch.from_numpy(numbers_among(self.elements, raw)[:, :kept])
        place[:, :kept] = torch.from_numpy(raw.values[:, :kept])
        return element, place
