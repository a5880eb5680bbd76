"""Base class of modalities made of atoms: sizes, elements and padding."""

import torch
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import Cond
from feller.data.atoms.elements import NUMBERS, numbers_among
from feller.data.loading.raw import RawCrystals, RawMolecules
from feller.data.modality import Modality


class Atoms(Modality):
    """Base class of modalities of atomic structures, padded to equal size; the number of atoms is a condition.

    Values and states are dicts, which include `element`, indices into `elements` [n, longest], and `place`, coordinates
    [n, longest, 3].
    """

    longest: int
    """Number of atoms to which all examples are padded."""
    elements: tuple[str, ...]
    """Symbols of the elements in the training data, sorted by atomic number."""
    sizes: tuple[str, ...]
    """Numbers of atoms in the training data, ascending: the classes of the condition `atoms`."""

    has_density = False  # elements are discrete

    def check_atoms(self) -> None:
        """Raise an InputError if `sizes` or `elements` of the modality are invalid."""
        if not self.sizes or not all(name.isdecimal() and 0 < int(name) <= self.longest for name in self.sizes):
            raise InputError(f"numbers of atoms from 1 to {self.longest}", ", ".join(self.sizes) or "none")
        if not self.elements or not {*self.elements} <= NUMBERS.keys() or len({*self.elements}) < len(self.elements):
            raise InputError("distinct element symbols", ", ".join(self.elements) or "none")

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        return {"atoms": self.sizes, **super().conditions}

    @property
    def read_size(self) -> int:
        return self.longest

    def add_derived_conditions(self, given: Cond) -> Cond:
        """Add `valid`, the mask of real atoms, [n, longest] for each component (leaf) of the state."""
        sizes = torch.tensor([*map(int, self.sizes), self.longest], device=given["atoms"].device)
        return {**given, "valid": self.valid_masks(sizes[given["atoms"]])}

    def valid_masks(self, sizes: Int[Tensor, " n"]) -> dict[str, Bool[Tensor, "n l"]]:
        """Return the mask of real atoms for each component (leaf) of the state, given the numbers of atoms `sizes`."""
        mask = torch.arange(self.longest, device=sizes.device) < sizes[:, None]
        return {"element": mask, "place": mask}

    def class_of(self, sizes: Int[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """Return the class id of each number of atoms; a number that the training data lack becomes the null class."""
        class_ids = {int(name): i for i, name in enumerate(self.sizes)}
        return torch.tensor([class_ids.get(size, len(class_ids)) for size in sizes.tolist()])

    def pad_atoms(self, raw: RawCrystals | RawMolecules) -> tuple[Int64[Tensor, "n l"], Float64[Tensor, "n l 3"]]:
        """Return element indices and coordinates of raw examples, zero-padded to `longest`.

        Raises:
            InputError: If an element is not in the model.
        """
        length = min(raw.atomic_numbers.shape[1], self.longest)
        element = torch.zeros(len(raw.atomic_numbers), self.longest, dtype=torch.long)
        place = torch.zeros(*element.shape, 3, dtype=torch.float64)
        element[:, :length] = torch.from_numpy(numbers_among(self.elements, raw)[:, :length])
        place[:, :length] = torch.from_numpy(raw.values[:, :length])
        return element, place
