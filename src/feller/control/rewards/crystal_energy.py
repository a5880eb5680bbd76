"""Crystal energy by a pretrained interatomic potential, as a reward with gradients with respect to atom positions.

Source: Deng et al. 2023, "CHGNet as a pretrained universal neural network potential for charge-informed atomistic
modelling", Nature Machine Intelligence 5.
"""

import contextlib
import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, tree_map
from feller.data.crystals.lattice import vectors
from feller.data.crystals.modality import Crystals

Cell = tuple[Float[np.ndarray, "3 3"], Int[np.ndarray, " l"], Float[np.ndarray, "l 3"]]
"""Unit cell: lattice vectors in Å, one per row; atomic numbers; fractional coordinates."""
Potential = Callable[[Sequence[Cell]], list[tuple[float, np.ndarray]]]
"""Function (cells) -> for each cell, the energy in eV per atom and the forces on its l atoms in eV/Å, [l, 3]."""
ENERGY = "energy"


@functools.cache
def chgnet() -> Potential:
    """Return CHGNet with its bundled weights; UsageError if it is not installed."""
    try:
        from chgnet.model.model import CHGNet  # pyrefly: ignore
        from pymatgen.core import Lattice, Structure
    except ImportError as error:
        raise UsageError("chgnet=energy needs chgnet: pip install 'feller[potentials]'") from error
    with contextlib.redirect_stdout(io.StringIO()):  # CHGNet prints a message
        model = CHGNet.load(verbose=False)
    model.graph_converter.set_isolated_atom_response("ignore")

    def predict(cells: Sequence[Cell]) -> list[tuple[float, np.ndarray]]:
        structures = [Structure(Lattice(lattice), species.tolist(), coords) for lattice, species, coords in cells]
        with torch.enable_grad():  # forces need gradients even under no_grad
            output = model.predict_structure(structures, task="ef")
        outputs: list[Any] = output if isinstance(output, list) else [output]
        return [(float(row["e"]), np.asarray(row["f"], dtype=np.float64)) for row in outputs]

    return predict


@dataclass(frozen=True)
class CrystalEnergy:
    """Reward that equals the energy per atom, in eV; a negative factor thus favours low energies.

    Its gradient with respect to the lattice is zero, so it moves atoms, but does not change cell lengths and angles.
    """

    modality: Crystals
    potential: Potential

    def __call__(self, values: State, cond: Cond) -> Float64[Tensor, " b"]:
        """Return the energy per atom of each crystal."""
        return _PerAtom.apply(values["place"], values, cond, self)

    def energy_and_gradient(self, values: State, cond: Cond) -> tuple[Float64[Tensor, " b"], Float64[Tensor, "b l 3"]]:
        """Return the energies per atom, and their gradients with respect to fractional coordinates."""
        detached = tree_map(torch.Tensor.detach, values)
        lattices = vectors(detached["lattice"].double()).cpu().numpy()
        crystals = self.modality.crystals(detached, cond)
        cells = [
            (cell, crystal.atomic_numbers, crystal.frac_coords)
            for cell, crystal in zip(lattices, crystals, strict=True)
        ]
        gradients = torch.zeros(detached["place"].shape, dtype=torch.float64)
        energies = []
        for i, (energy, force) in enumerate(self.potential(cells)):
            n = len(force)
            energies.append(energy)
            gradients[i, :n] = torch.from_numpy(-force @ lattices[i].T / n)
        device = detached["place"].device
        return torch.tensor(energies, dtype=torch.float64, device=device), gradients.to(device)


class _PerAtom(torch.autograd.Function):
    """Autograd function of the energy per atom; its backward pass uses the forces of the potential."""

    @staticmethod
    def forward(ctx: Any, place: Tensor, values: State, cond: Cond, energy: CrystalEnergy) -> Tensor:
        energies, gradients = energy.energy_and_gradient(values, cond)
        ctx.save_for_backward(gradients.to(place.dtype))
        return energies

    @staticmethod
    def backward(ctx: Any, *grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (gradients,) = ctx.saved_tensors
        return gradients * grad_output[0].to(gradients.dtype)[:, None, None], None, None, None


def crystal_reward(modality: Crystals, words: str) -> CrystalEnergy:
    """Return the CHGNet reward with the name `words`, which must be `energy`.

    Raises:
        UsageError: If the name is unknown, or CHGNet is not installed.
    """
    if words != ENERGY:
        raise UsageError.unknown_name("reward", words, [ENERGY])
    return CrystalEnergy(modality, chgnet())
