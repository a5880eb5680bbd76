"""Molecule properties computed by RDKit, as rewards without a gradient."""

import functools
import importlib
import importlib.util
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, tree_map
from feller.data.molecules.modality import Molecules
from feller.data.molecules.molecule import rdkit, rdkit_with_bonds, sanitize


@dataclass(frozen=True)
class MoleculeProperty:
    """Property that RDKit computes from the atoms and bonds of a molecule, with its typical range."""

    compute: Callable[[Any], float]
    """Function (RDKit molecule without explicit hydrogens) -> value of the property."""
    span: tuple[float, float]
    """Typical range of the property; a molecule without valid bonds gets the worse end of the range."""


def _rdkit(name: str) -> Callable[[Any], float]:
    """Return an RDKit function by module path, imported on the first call."""
    module, _, function = name.rpartition(".")
    return lambda molecule: getattr(importlib.import_module(f"rdkit.Chem.{module}"), function)(molecule)


@functools.cache
def _scorer() -> Any:
    """Return RDKit's module for the synthetic accessibility score, which is not part of its package."""
    from rdkit.Chem import RDConfig

    file = pathlib.Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("sascorer", file) if file.is_file() else None
    if spec is None or spec.loader is None:
        raise UsageError(f"rdkit=sa needs RDKit's file {file}, which is missing", remedy="Install rdkit with pip")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROPERTIES = {
    "qed": MoleculeProperty(_rdkit("QED.qed"), (0.0, 1.0)),
    "logp": MoleculeProperty(_rdkit("Crippen.MolLogP"), (-10.0, 10.0)),
    "sa": MoleculeProperty(lambda molecule: _scorer().calculateScore(molecule), (1.0, 10.0)),
    "tpsa": MoleculeProperty(_rdkit("rdMolDescriptors.CalcTPSA"), (0.0, 500.0)),
    "weight": MoleculeProperty(_rdkit("Descriptors.MolWt"), (0.0, 2000.0)),
    "validity": MoleculeProperty(lambda molecule: 1.0, (0.0, 1.0)),
}
"""Properties by name.

Drug-likeness (Bickerton et al. 2012); octanol-water log P (Wildman and Crippen 1999); synthetic accessibility, from 1
(easy) to 10 (Ertl and Schuffenhauer 2009); polar surface area in Å² (Ertl et al. 2000); weight in Da; validity, which
is 1 for a connected molecule whose bonds follow from its distances."""


@dataclass(frozen=True)
class MoleculeReward:
    """Property of molecules as a reward; NaN if bonds cannot be derived from distances or form several fragments."""

    modality: Molecules
    name: str

    def __post_init__(self) -> None:
        if self.name not in PROPERTIES:
            raise UsageError.unknown_name("reward", self.name, PROPERTIES)
        with rdkit(f"rdkit={self.name}"):
            pass

    @property
    def span(self) -> tuple[float, float]:
        """Typical range of the property: (lower end, upper end)."""
        return PROPERTIES[self.name].span

    def __call__(self, values: State, cond: Cond) -> Float64[Tensor, " b"]:
        """Return the property of each molecule."""
        detached = tree_map(torch.Tensor.detach, values)
        with rdkit(f"rdkit={self.name}") as chem:
            properties = [
                self._property_or_nan(chem, rdkit_with_bonds(chem, molecule))
                for molecule in self.modality.molecules(detached, cond)
            ]
        return torch.tensor(properties, dtype=torch.float64, device=values["place"].device)

    def _property_or_nan(self, chem: Any, molecule: Any | None) -> float:
        is_valid = molecule is not None and len(chem.GetMolFrags(molecule)) == 1 and sanitize(chem, molecule)
        return PROPERTIES[self.name].compute(chem.RemoveHs(molecule)) if is_valid else torch.nan
