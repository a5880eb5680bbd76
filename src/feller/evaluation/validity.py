"""Validity rules for single samples: protein chains, molecules and crystals."""

from typing import cast

import numpy as np
from jaxtyping import Bool
from scipy.sparse.csgraph import connected_components

from feller.core.errors import UsageError
from feller.data.crystals.modality import Crystals
from feller.data.modality import Dataset
from feller.data.molecules.modality import molecules_of
from feller.data.molecules.molecule import rdkit, rdkit_with_bonds, sanitize
from feller.evaluation.backbone_metrics import is_broken
from feller.evaluation.crystal_metrics import crystal_geometry, is_charge_balanced, is_installed, reduced_formula

MIN_DISTANCE_RATIO = 0.6
"""Minimum ratio of an interatomic distance to the sum of the covalent radii in valid crystals. In the datasets Perov-5,
Carbon-24 and MP-40 the ratio is at least 0.64."""


def valid_chains(samples: Dataset) -> Bool[np.ndarray, " n"]:
    """Return True for protein chains without broken bonds and without clashes."""
    return ~is_broken(samples).numpy()


def valid_molecules(samples: Dataset) -> Bool[np.ndarray, " n"] | None:
    """Return True for connected molecules whose bonds rdkit accepts; None if rdkit is not installed."""
    molecules = molecules_of(samples)
    try:
        with rdkit("checking molecules") as chem:
            bonded = [rdkit_with_bonds(chem, molecule) for molecule in molecules]
            is_sane = [mol is not None and sanitize(chem, mol) for mol in bonded]
    except UsageError:
        return None
    is_connected = [connected_components(molecule.bond_mask())[0] == 1 for molecule in molecules]
    return np.array(is_sane) & np.array(is_connected)


def valid_crystals(samples: Dataset) -> Bool[np.ndarray, " n"] | None:
    """Return True for crystals with separated atoms and balanced charges; None if a required package is missing."""
    if not (is_installed("pymatgen") and is_installed("smact")):
        return None
    crystals = cast(Crystals, samples.modality).crystals(samples.values, samples.given)
    geometries = [crystal_geometry(crystal) for crystal in crystals]
    balanced = [is_charge_balanced(reduced_formula(crystal)) for crystal in crystals]
    return np.array([g.valid and g.shortest >= MIN_DISTANCE_RATIO for g in geometries]) & np.array(balanced)
