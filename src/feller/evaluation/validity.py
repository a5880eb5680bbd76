"""Whether single samples are valid, where their kind has a rule for it that needs no data beside them."""

import numpy as np
from jaxtyping import Bool
from scipy.sparse.csgraph import connected_components

from feller.core.errors import UsageError
from feller.data.crystals.modality import Crystals
from feller.data.modality import Dataset
from feller.data.molecules.modality import Molecules, molecules_of
from feller.data.molecules.molecule import rdkit, sanitised, with_bonds
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.modality import Proteins
from feller.evaluation.backbones import broken
from feller.evaluation.crystals import balanced, formula_of, has, surroundings

CLOSEST = 0.6
"""Shortest distance over the sum of covalent radii that crystals have at least: real ones of Perov-5, Carbon-24 and
MP-40 have 0.64 or more."""


def valid(samples: Dataset) -> Bool[np.ndarray, " n"] | None:
    """Return which samples are valid; None for kinds without a rule, or where a package is missing."""
    modality = samples.modality
    if isinstance(modality, Molecules):
        return _molecules(samples)
    if isinstance(modality, Crystals):
        return _crystals(samples, modality) if has("pymatgen") and has("smact") else None
    if isinstance(modality, Backbones | Proteins):
        return ~broken(samples).numpy()
    return None


def why_unknown(samples: Dataset) -> str:
    """Say which package would tell; empty for kinds without a rule."""
    needs = {Molecules: "rdkit (pip install 'feller[molecules]')", Crystals: "pymatgen and SMACT"}
    return next((package for kind, package in needs.items() if isinstance(samples.modality, kind)), "")


def _molecules(samples: Dataset) -> Bool[np.ndarray, " n"] | None:
    molecules = molecules_of(samples)
    try:
        with rdkit("judging molecules") as chem:
            found = [with_bonds(chem, molecule) for molecule in molecules]
            sane = [made is not None and sanitised(chem, made) for made in found]
    except UsageError:
        return None
    whole = [connected_components(molecule.bonded())[0] == 1 for molecule in molecules]
    return np.array(sane) & np.array(whole)


def _crystals(samples: Dataset, modality: Crystals) -> Bool[np.ndarray, " n"]:
    crystals = modality.crystals(samples.values, samples.given)
    around = [surroundings(crystal) for crystal in crystals]
    charged = [balanced(formula_of(crystal)) for crystal in crystals]
    return np.array([one.valid and one.shortest >= CLOSEST for one in around]) & np.array(charged)
