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
        first, second = ca_chains(a), ca_chains(b)
        return torch.stack([_distances_to_all(one, second) for one in first])

    def is_copy(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Return True for chains within CHAIN_COPY_RMSD of a training chain with equal length and similar sequence."""
        there = ca_chains(train)
        return torch.tensor([_has_copy(one, there) for one in ca_chains(some)], dtype=torch.bool)


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
    a, b = (each - each.mean(1, keepdim=True) for each in (a, b))
    across = a.mT @ b
    values = torch.linalg.svdvals(across)
    values = torch.cat([values[:, :2], values[:, 2:] * torch.linalg.det(across).sign()[:, None]], 1)
    squares = a.square().sum((1, 2)) + b.square().sum((1, 2)) - 2 * values.sum(1)
    return (squares / a.shape[1]).clamp(min=0).sqrt()


def _distances_to_all(one: Chain, others: list[Chain]) -> Float64[Tensor, " m"]:
    places, found = one[0], torch.full((len(others),), torch.inf, dtype=torch.float64)
    for shorter in {min(len(places), len(other)) for other, _ in others}:
        indices = [j for j, (other, _) in enumerate(others) if min(len(places), len(other)) == shorter]
        ours, theirs, owner = [], [], []
        for j in indices:
            here, there = (chain.unfold(0, shorter, 1).mT for chain in (places, others[j][0]))
            n = max(len(here), len(there))
            ours.append(here.expand(n, -1, -1))
            theirs.append(there.expand(n, -1, -1))
            owner.append(torch.full((n,), j))
        parts = zip(*(torch.cat(each).split(CHUNK_SIZE) for each in (ours, theirs)), strict=True)
        far = torch.cat([kabsch_rmsd(a, b) for a, b in parts])
        found.scatter_reduce_(0, torch.cat(owner), far, "amin")
    return found


def _has_copy(one: Chain, others: list[Chain]) -> bool:
    places, residues = one
    same = [(other, kinds) for other, kinds in others if len(other) == len(places)]
    if not same:
        return False
    there = torch.stack([other for other, _ in same])
    near = kabsch_rmsd(places.expand_as(there), there) <= CHAIN_COPY_RMSD
    return any(
        bool(is_near) and _same_residues(residues, kinds) for is_near, (_, kinds) in zip(near, same, strict=True)
    )


def _same_residues(a: np.ndarray, b: np.ndarray) -> bool:
    both = (a >= 0) & (b >= 0)
    return not both.any() or bool((a[both] == b[both]).mean() >= MIN_IDENTITY)


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
        first, second = ([pair_distances(one) for one in molecules_of(data)] for data in (a, b))
        pairs = sorted({pair for lines in (*first, *second) for pair in lines})
        return torch.cdist(*(_distance_histograms(lines, pairs) for lines in (first, second)))

    def is_copy(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        query_groups, there = _by_formula(molecules_of(some)), _by_formula(molecules_of(train))
        found = torch.zeros(len(some), dtype=torch.bool)
        for formula, (indices, rows) in query_groups.items():
            if formula in there:
                _, train_rows = there[formula]
                size = max(1, rows.shape[1])
                found[indices] = torch.cdist(rows, train_rows).amin(1) <= MOLECULE_COPY_RMSD * size**0.5
        return found


def pair_distances(molecule: Molecule) -> PairDistances:
    """Return the sorted interatomic distances for each pair of elements, invariant under rotation and atom order."""
    i, j = np.triu_indices(len(molecule.atomic_numbers), 1)
    ends, far = np.sort(molecule.atomic_numbers[np.stack([i, j])], axis=0), molecule.distances()[i, j]
    pairs = {(int(a), int(b)) for a, b in ends.T}
    alone = {
        (int(a), 0): np.full(int((molecule.atomic_numbers == a).sum()), 0.0) for a in np.unique(molecule.atomic_numbers)
    }
    return alone | {pair: np.sort(far[((ends[0] == pair[0]) & (ends[1] == pair[1]))]) for pair in pairs}


def _distance_histograms(several: list[PairDistances], pairs: list[tuple[int, int]]) -> Float64[Tensor, "n k"]:
    """Return histograms of distances per pair of elements, with triangular smoothing."""
    grid = np.arange(MIN_DISTANCE, MAX_DISTANCE + STEP / 2, STEP)
    rows = np.zeros((len(several), len(pairs), len(grid)))
    place = {pair: k for k, pair in enumerate(pairs)}
    for row, lines in zip(rows, several, strict=True):
        for pair, far in lines.items():
            if far.size:
                where = np.clip((far - MIN_DISTANCE) / STEP, 0, len(grid) - 1)
                below = np.floor(where).astype(int)
                np.add.at(row[place[pair]], below, 1 - (where - below))
                np.add.at(row[place[pair]], np.minimum(below + 1, len(grid) - 1), where - below)
    return torch.from_numpy(rows.reshape(len(several), -1))


def _by_formula(molecules: list[Molecule]) -> dict[bytes, tuple[list[int], Float64[Tensor, "n k"]]]:
    """Group molecules by formula: indices and flattened distances."""
    found: dict[bytes, list[int]] = {}
    for i, molecule in enumerate(molecules):
        found.setdefault(np.sort(molecule.atomic_numbers).tobytes(), []).append(i)
    return {
        formula: (indices, torch.from_numpy(np.stack([_flat(pair_distances(molecules[i])) for i in indices])))
        for formula, indices in found.items()
    }


def _flat(lines: PairDistances) -> np.ndarray:
    return np.concatenate([lines[pair] for pair in sorted(lines) if pair[1]] or [np.zeros(0)])


@dataclass(frozen=True)
class CrystalDistance(ExampleDistance):
    """Sum of two differences, in neighbour distances and in composition, each divided by its matching tolerance.

    Copies have the same formula and mean neighbour distances within 0.02 Å. Requires pymatgen.
    """

    max_pairwise: int = 1_000
    max_queries: int = 1_000
    max_neighbours: int = 2_000

    def pairwise(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        first, second = (crystal_features(_crystals(data)) for data in (a, b))
        near = cdist(first.fingerprints(), second.fingerprints(), "chebyshev") / MAX_DISTANCE_DIFFERENCE
        return torch.from_numpy(
            near
            + cdist(first.element_fractions(), second.element_fractions(), "cityblock") / 2 / MAX_COMPOSITION_DIFFERENCE
        )

    def is_copy(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        queries = _crystals(some)
        formulas = {reduced_formula(one) for one in queries}
        there = [one for one in _crystals(train) if reduced_formula(one) in formulas]
        return torch.from_numpy(is_known(crystal_features(queries), crystal_features(there)))


def _crystals(data: Dataset) -> list[Crystal]:
    return cast(Crystals, data.modality).crystals(data.values, data.given)


PYMATGEN_MISSING = "copies of crystals are not detected: pymatgen is not installed"


def default_distance(kind: Modality) -> ExampleDistance:
    """Return the default distance for the detection of copies among a modality's examples."""
    space = kind.space()
    if _is_made_of(space, Tokens, TableTokens):
        return HammingDistance()
    return CoordinateDistance() if _is_made_of(space, Euclidean, Tokens, TableTokens) else GeodesicDistance()


def _is_made_of(space: Space, *kinds: type[Space]) -> bool:
    if isinstance(space, Product):
        return all(_is_made_of(part, *kinds) for part in space.leaf_spaces.values())
    return isinstance(space, kinds)
