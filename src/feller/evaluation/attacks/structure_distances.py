"""Distances between protein chains, molecules and crystals, and the default distance of a modality."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.spatial.distance import cdist
from torch import Tensor

from feller.data.crystals.cif import Crystal
from feller.data.crystals.modality import Crystals
from feller.data.modality import Dataset, Modality
from feller.data.molecules.modality import molecules_of
from feller.data.molecules.molecule import Molecule
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.frames import CA
from feller.data.proteins.modality import Proteins
from feller.evaluation.attacks.example_distances import (
    CoordinateDistance,
    ExampleDistance,
    GeodesicDistance,
    HammingDistance,
)
from feller.evaluation.crystal_metrics import (
    MAX_COMPOSITION_DIFFERENCE,
    MAX_DISTANCE_DIFFERENCE,
    crystal_features,
    is_known,
    reduced_formula,
)
from feller.spaces import Euclidean, Product, Space, Tokens
from feller.spaces.table_tokens import TableTokens

CHAIN_COPY_RMSD = 0.5
"""RMSD of CA atoms below which a chain is a copy of another, in Å."""
MIN_IDENTITY = 0.9
"""Minimum sequence identity between a chain and its copy, over residues known in both chains."""
CHUNK_SIZE = 2**16
"""Number of segment pairs superposed per batch."""
Chain = tuple[Tensor, np.ndarray]
"""CA positions in Å, [l, 3], and residue types, [l], -1 for unknown residues."""


@dataclass(frozen=True)
class ChainDistance(ExampleDistance):
    """RMSD in Å of the CA atoms of two chains after superposition on the best-fitting segment of the longer chain."""

    max_pairwise: int = 200
    max_queries: int = 1_000
    max_neighbours: int = 1_000

    def pairwise(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        chains, references = ca_chains(a), ca_chains(b)
        return torch.stack([_distances_to_all(chain, references) for chain in chains])

    def is_copy(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Return True for chains within CHAIN_COPY_RMSD of a training chain with equal length and similar sequence.

        `usual` is not used.
        """
        train_chains = ca_chains(train)
        return torch.tensor([_has_copy(chain, train_chains) for chain in ca_chains(some)], dtype=torch.bool)


def ca_chains(data: Dataset) -> list[Chain]:
    """Return the CA positions and residue types of each chain, without padding."""
    cond = data.given
    proteins, backbones = data.modality.view(Proteins), data.modality.view(Backbones)
    if proteins is not None:
        cond = cond if "valid" in cond else proteins.add_derived_conditions(cond)
        atoms = proteins.structure.chains(data.values["atoms"], {"valid": cond["valid"]["position"]})
        residue_codes = torch.where(cond["valid"]["residue"], data.values["residue"], -1).cpu().numpy()
        residues = [row[: len(chain)] for row, chain in zip(residue_codes, atoms, strict=True)]
    elif backbones is not None:
        atoms = backbones.chains(data.values, cond)
        residues = [np.full(len(chain), -1) for chain in atoms]
    else:
        raise TypeError(f"expected protein chains, got {data.modality.display_name}")
    return [(torch.from_numpy(chain[:, CA]), residue) for chain, residue in zip(atoms, residues, strict=True)]


def kabsch_rmsd(a: Float64[Tensor, "n l 3"], b: Float64[Tensor, "n l 3"]) -> Float64[Tensor, " n"]:
    """Return the RMSD of each pair of chains after optimal superposition by rotation and translation, not reflection.

    Source: Kabsch 1976, "A solution for the best rotation to relate two sets of vectors".
    """
    a, b = (points - points.mean(1, keepdim=True) for points in (a, b))
    covariance = a.mT @ b
    s = torch.linalg.svdvals(covariance)
    s = torch.cat([s[:, :2], s[:, 2:] * torch.linalg.det(covariance).sign()[:, None]], 1)
    squared_error = a.square().sum((1, 2)) + b.square().sum((1, 2)) - 2 * s.sum(1)
    return (squared_error / a.shape[1]).clamp(min=0).sqrt()


def _distances_to_all(chain: Chain, others: list[Chain]) -> Float64[Tensor, " m"]:
    positions, distances = chain[0], torch.full((len(others),), torch.inf, dtype=torch.float64)
    for shorter in {min(len(positions), len(other)) for other, _ in others}:
        indices = [j for j, (other, _) in enumerate(others) if min(len(positions), len(other)) == shorter]
        segments, other_segments, owners = [], [], []
        for j in indices:
            windows, other_windows = (points.unfold(0, shorter, 1).mT for points in (positions, others[j][0]))
            n = max(len(windows), len(other_windows))
            segments.append(windows.expand(n, -1, -1))
            other_segments.append(other_windows.expand(n, -1, -1))
            owners.append(torch.full((n,), j))
        batches = zip(*(torch.cat(parts).split(CHUNK_SIZE) for parts in (segments, other_segments)), strict=True)
        rmsd = torch.cat([kabsch_rmsd(a, b) for a, b in batches])
        distances.scatter_reduce_(0, torch.cat(owners), rmsd, "amin")
    return distances


def _has_copy(chain: Chain, others: list[Chain]) -> bool:
    positions, residues = chain
    same = [(other, types) for other, types in others if len(other) == len(positions)]
    if not same:
        return False
    candidates = torch.stack([other for other, _ in same])
    mask = kabsch_rmsd(positions.expand_as(candidates), candidates) <= CHAIN_COPY_RMSD
    return any(
        bool(is_near) and _same_residues(residues, types) for is_near, (_, types) in zip(mask, same, strict=True)
    )


def _same_residues(a: np.ndarray, b: np.ndarray) -> bool:
    known = (a >= 0) & (b >= 0)
    return not known.any() or bool((a[known] == b[known]).mean() >= MIN_IDENTITY)


MIN_DISTANCE, MAX_DISTANCE, STEP = 0.5, 10.0, 0.25
"""Range and bin width of histograms of interatomic distances, in Å; larger distances fall into the last bin."""
MOLECULE_COPY_RMSD = 0.1
"""RMS difference of interatomic distances below which a molecule is a copy of another, in Å."""
PairDistances = dict[tuple[int, int], np.ndarray]
"""Mapping from a pair of elements to the sorted distances between their atoms, in Å."""


@dataclass(frozen=True)
class MoleculeDistance(ExampleDistance):
    """Euclidean distance between smoothed histograms of interatomic distances; mirror images have distance 0."""

    def pairwise(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        first, second = ([pair_distances(molecule) for molecule in molecules_of(data)] for data in (a, b))
        pairs = sorted({pair for distances in (*first, *second) for pair in distances})
        return torch.cdist(*(_distance_histograms(distances, pairs) for distances in (first, second)))

    def is_copy(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        query_groups, train_groups = _by_formula(molecules_of(some)), _by_formula(molecules_of(train))
        is_copied = torch.zeros(len(some), dtype=torch.bool)
        for formula, (indices, rows) in query_groups.items():
            if formula in train_groups:
                _, train_rows = train_groups[formula]
                num_pairs = max(1, rows.shape[1])
                is_copied[indices] = torch.cdist(rows, train_rows).amin(1) <= MOLECULE_COPY_RMSD * num_pairs**0.5
        return is_copied


def pair_distances(molecule: Molecule) -> PairDistances:
    """Return the sorted interatomic distances for each pair of elements, invariant under rotation and atom order."""
    i, j = np.triu_indices(len(molecule.atomic_numbers), 1)
    z, distances = np.sort(molecule.atomic_numbers[np.stack([i, j])], axis=0), molecule.distances()[i, j]
    pairs = {(int(a), int(b)) for a, b in z.T}
    atoms = {
        (int(a), 0): np.full(int((molecule.atomic_numbers == a).sum()), 0.0) for a in np.unique(molecule.atomic_numbers)
    }
    return atoms | {pair: np.sort(distances[((z[0] == pair[0]) & (z[1] == pair[1]))]) for pair in pairs}


def _distance_histograms(molecules: list[PairDistances], pairs: list[tuple[int, int]]) -> Float64[Tensor, "n k"]:
    """Return, for each molecule, a smoothed histogram of interatomic distances for each pair of elements, flattened."""
    grid = np.arange(MIN_DISTANCE, MAX_DISTANCE + STEP / 2, STEP)
    histograms = np.zeros((len(molecules), len(pairs), len(grid)))
    pair_index = {pair: k for k, pair in enumerate(pairs)}
    for histogram, pair_distances in zip(histograms, molecules, strict=True):
        for pair, distances in pair_distances.items():
            if distances.size:
                position = np.clip((distances - MIN_DISTANCE) / STEP, 0, len(grid) - 1)
                left_bin = np.floor(position).astype(int)
                np.add.at(histogram[pair_index[pair]], left_bin, 1 - (position - left_bin))
                np.add.at(histogram[pair_index[pair]], np.minimum(left_bin + 1, len(grid) - 1), position - left_bin)
    return torch.from_numpy(histograms.reshape(len(molecules), -1))


def _by_formula(molecules: list[Molecule]) -> dict[bytes, tuple[list[int], Float64[Tensor, "n k"]]]:
    """Group molecules by formula: formula -> (indices of the molecules, their interatomic distances)."""
    groups: dict[bytes, list[int]] = {}
    for i, molecule in enumerate(molecules):
        groups.setdefault(np.sort(molecule.atomic_numbers).tobytes(), []).append(i)
    return {
        formula: (indices, torch.from_numpy(np.stack([_flat(pair_distances(molecules[i])) for i in indices])))
        for formula, indices in groups.items()
    }


def _flat(distances: PairDistances) -> np.ndarray:
    return np.concatenate([distances[pair] for pair in sorted(distances) if pair[1]] or [np.zeros(0)])


@dataclass(frozen=True)
class CrystalDistance(ExampleDistance):
    """Sum of the difference in neighbour distances and the difference in composition of two crystals.

    Each difference is divided by the tolerance up to which two crystals count as matching.

    Copies have the same formula and mean neighbour distances within 0.02 Å. Requires pymatgen.
    """

    max_pairwise: int = 1_000
    max_queries: int = 1_000
    max_neighbours: int = 2_000

    def pairwise(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        first, second = (crystal_features(_crystals(data)) for data in (a, b))
        structural = cdist(first.fingerprints(), second.fingerprints(), "chebyshev") / MAX_DISTANCE_DIFFERENCE
        return torch.from_numpy(
            structural
            + cdist(first.element_fractions(), second.element_fractions(), "cityblock") / 2 / MAX_COMPOSITION_DIFFERENCE
        )

    def is_copy(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        queries = _crystals(some)
        formulas = {reduced_formula(crystal) for crystal in queries}
        candidates = [crystal for crystal in _crystals(train) if reduced_formula(crystal) in formulas]
        return torch.from_numpy(is_known(crystal_features(queries), crystal_features(candidates)))


def _crystals(data: Dataset) -> list[Crystal]:
    return cast(Crystals, data.modality).crystals(data.values, data.given)


PYMATGEN_MISSING = "copies of crystals are not detected: pymatgen is not installed"


def default_distance(kind: Modality) -> ExampleDistance:
    """Return the default distance for the detection of copies among a modality's examples."""
    space = kind.space()
    if _is_made_of(space, Tokens, TableTokens):
        return HammingDistance()
    return CoordinateDistance() if _is_made_of(space, Euclidean, Tokens, TableTokens) else GeodesicDistance()


def _is_made_of(space: Space, *types: type[Space]) -> bool:
    if isinstance(space, Product):
        return all(_is_made_of(leaf, *types) for leaf in space.leaf_spaces.values())
    return isinstance(space, types)
