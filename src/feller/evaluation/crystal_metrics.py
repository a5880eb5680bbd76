"""Metrics of crystals: validity, charge balance, density, coverage, uniqueness and novelty."""

import functools
import importlib.util
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.atoms.elements import RADII, SYMBOLS
from feller.data.crystals.cif import Crystal, cif_text, read_blocks, read_crystal
from feller.data.crystals.modality import Crystals
from feller.data.modality import Dataset
from feller.evaluation.comparison import compare_sets, has_enough_held_out, subsample, with_floors

NEIGHBOURS = 24
"""Number of nearest neighbours of each atom whose distances form the fingerprint of a crystal."""
GROWTH = 1.4
"""Factor by which the neighbour search radius is repeatedly multiplied until enough neighbours are found."""
MIN_ATOM_DISTANCE = 0.5
"""Minimum distance between atoms of a valid crystal, in Å."""
MIN_VOLUME = 0.1
"""Minimum cell volume of a valid crystal, in Å^3."""
MAX_ELEMENTS = 8
"""Maximum number of elements in a formula tested for charge balance; 12 elements would take a minute."""


@dataclass(frozen=True)
class CrystalGeometry:
    """Geometric properties of one crystal."""

    valid: bool
    """True if all atoms are more than 0.5 Å apart and the cell volume exceeds 0.1 Å^3."""
    density: float
    """Density in g / cm^3."""
    shortest: float
    """Minimum distance between atoms, including periodic images, divided by the sum of their covalent radii."""
    distances: np.ndarray
    """Average minimum distances in Å, [NEIGHBOURS]: entry k is the distance to the k-th neighbour, averaged over
    atoms."""


def is_installed(package: str) -> bool:
    """Return True if a Python package is installed."""
    return importlib.util.find_spec(package) is not None


def crystal_geometry(crystal: Crystal) -> CrystalGeometry:
    """Compute the geometric properties of a crystal; requires pymatgen.

    The distances are invariant under the choice, rotation and origin of the cell, and continuous in the positions.
    Source: Widdowson et al. 2022, "Average minimum distances of periodic point sets", MATCH 87.
    """
    from pymatgen.core import Lattice, Structure

    original = Structure(
        Lattice.from_parameters(*crystal.lattice), crystal.atomic_numbers.tolist(), crystal.frac_coords
    )
    structure: Any = original.get_reduced_structure("LLL")  # same crystal, nearly orthogonal cell
    cell, n = structure.lattice.matrix, len(structure)
    has_volume = structure.volume > MIN_VOLUME
    ball = (6 * (NEIGHBOURS + 1) * structure.volume / n / (4 * np.pi)) ** (1 / 3)  # holds twice the atoms on average
    radius = min(ball, NEIGHBOURS * min(structure.lattice.abc) / 2)  # here the atom's own images are enough
    radii = RADII[np.array([site.specie.Z for site in structure])]
    radius = max(radius, MIN_ATOM_DISTANCE, 2 * radii.max()) if has_volume else radius
    while True:
        distances = _distances(structure.frac_coords, cell, radius)
        nearest = np.partition(distances.reshape(n, -1), NEIGHBOURS, axis=1)[:, : NEIGHBOURS + 1]
        if nearest.max() <= radius * (1 + 1e-6):
            break
        radius *= GROWTH
    off_diagonal = distances[~np.eye(n, dtype=bool)]
    valid = bool(has_volume and off_diagonal.min(initial=np.inf) > MIN_ATOM_DISTANCE)
    closest = np.sort(distances, axis=2)[:, :, :2]
    closest[np.diag_indices(n)] = closest[np.diag_indices(n)][:, ::-1]  # an atom is at distance 0 from itself
    shortest = float((closest[:, :, 0] / (radii[:, None] + radii)).min())
    return CrystalGeometry(valid, float(structure.density), shortest, np.sort(nearest, axis=1)[:, 1:].mean(0))


def _distances(frac_coords: np.ndarray, cell: np.ndarray, radius: float) -> np.ndarray:
    """Return distances between atoms and periodic images, [n, n, images], complete below the radius."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    differences = frac_coords[None] - frac_coords[:, None]
    differences -= np.round(differences)
    num_cells = np.ceil(radius / heights + 0.5).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in num_cells), indexing="ij"), -1).reshape(-1, 3)
    return np.linalg.norm((differences @ cell)[:, :, None] + offsets @ cell, axis=3)


@functools.lru_cache(maxsize=100_000)
def is_charge_balanced(counts: tuple[tuple[int, int], ...]) -> bool:
    """Return True if common oxidation states can sum to 0, or if all elements are metals; requires the package SMACT.

    `counts` are pairs of atomic number and number of atoms. Formulas with more than 8 elements, or with an element
    without known oxidation states, count as unbalanced.

    Source: Davies et al. 2016, "Computational screening of all stoichiometric inorganic materials", Chem 1; with the
    oxidation states of 2014, as in most papers.
    """
    from pymatgen.core import Composition
    from smact.screening import smact_validity

    if len(counts) > MAX_ELEMENTS:
        return False
    composition = Composition({SYMBOLS[number]: count for number, count in counts})
    try:
        return bool(smact_validity(composition, oxidation_states_set="smact14"))
    except KeyError:  # element missing from the SMACT tables
        return False


MAX_CRYSTALS = 1_000
"""Maximum number of crystals per compared set."""
MAX_COMPOSITION_DIFFERENCE = 0.4
"""Maximum difference in composition between matching crystals, as a fraction of the atoms."""
MAX_DISTANCE_DIFFERENCE = 0.2
"""Maximum difference in average minimum distances between matching crystals, in Å."""
DUPLICATE_TOLERANCE = 0.02
"""Maximum difference in average minimum distances, in Å, at which crystals with the same formula are duplicates."""
SHORTEST_QUANTILE, SHORTEST_FACTOR = 0.01, 0.95
"""Quantile of minimum interatomic distances in real crystals; distances below SHORTEST_FACTOR times this quantile are
implausible."""
VALIDITIES = ("crystal_plausible", "distance_valid", "structure_valid", "composition_valid", "crystal_valid")
Numbers = dict[str, float | None]


@dataclass(frozen=True)
class CrystalFeatures:
    """Crystals with their formulas and geometric properties."""

    crystals: list[Crystal]
    formulas: list[tuple[tuple[int, int], ...]]
    """Reduced formula of each crystal, as pairs of atomic number and count."""
    geometries: list[CrystalGeometry] | None
    """Geometric properties of each crystal; None without pymatgen."""

    def fingerprints(self) -> np.ndarray:
        """Return the average minimum distances of each crystal, [n, k], in Å."""
        return np.array([geometry.distances for geometry in self.geometries or []])

    def element_fractions(self) -> np.ndarray:
        """Return the fraction of each element among the atoms of each crystal, [n, elements]."""
        counts = np.zeros((len(self.formulas), len(SYMBOLS)))
        for row, formula in zip(counts, self.formulas, strict=True):
            row[[number for number, _ in formula]] = [count for _, count in formula]
        return counts / counts.sum(1, keepdims=True)


def crystals_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Compute metrics of samples, each with its floor, which is the same metric of real crystals.

    The real crystals are the held-out data, or the training data if too few are held out.
    The floor of a distance between sets is the distance of training data from held-out data. If too few crystals are
    held out, the floor is None, and the samples are compared with the training data.
    """
    sets = compare_sets(samples, train, held_out, rng)
    generated, real = (
        crystal_features(_subsample_crystals(sets.samples, rng, "samples")),
        crystal_features(_subsample_crystals(sets.real, rng, "real")),
    )
    floor = None if sets.floor is None else crystal_features(_subsample_crystals(sets.floor, rng, "floor"))
    min_distance = _least(real if floor is None else floor)
    valid, real_valid = _valid(generated, min_distance), _valid(real, min_distance)
    metrics = with_floors(_shares(valid), _shares(real_valid))
    metrics["readable"] = (
        _mean([_reads_back(crystal) for crystal in generated.crystals]) if is_installed("gemmi") else None
    )
    metrics |= with_floors(_set_distances(generated, real), None if floor is None else _set_distances(floor, real))
    plausible, real_plausible = _plausible(generated, valid), _plausible(real, real_valid)
    floor_plausible = None if floor is None else _plausible(floor, _valid(floor, min_distance))
    metrics |= with_floors(_uniqueness(plausible), None if floor is None else _uniqueness(floor_plausible))
    known = _with_same_formulas(
        _to_crystals(train), [features for features in (plausible, real_plausible) if features is not None]
    )
    metrics |= with_floors(
        _novelty(plausible, known), _novelty(real_plausible, known) if has_enough_held_out(held_out) else None
    )
    return metrics


def _subsample_crystals(dataset: Dataset, rng: Rng, name: str) -> list[Crystal]:
    return _to_crystals(subsample(dataset, MAX_CRYSTALS, rng.fold_in("some", name)))


def _to_crystals(dataset: Dataset) -> list[Crystal]:
    if (modality := dataset.modality.view(Crystals)) is None:
        raise UsageError("crystals", dataset.modality.display_name, "Use the metrics of this modality")
    return modality.crystals(dataset.values, dataset.given)


def crystal_features(crystals: list[Crystal]) -> CrystalFeatures:
    """Compute the formulas of crystals and, if pymatgen is installed, their geometric properties."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns about elements without some property
        geometries = [crystal_geometry(crystal) for crystal in crystals] if is_installed("pymatgen") else None
    return CrystalFeatures(crystals, [reduced_formula(crystal) for crystal in crystals], geometries)


def reduced_formula(crystal: Crystal) -> tuple[tuple[int, int], ...]:
    """Return the reduced formula of a crystal as pairs of atomic number and count."""
    elements, counts = np.unique(crystal.atomic_numbers, return_counts=True)
    divisor = math.gcd(*counts.tolist())
    return tuple(zip(elements.tolist(), (counts // divisor).tolist(), strict=True))


def _mean(values: Any) -> float:
    return float(np.mean(values))


def _least(real: CrystalFeatures) -> float | None:
    """Return the smallest plausible interatomic distance, as a fraction of the sum of covalent radii.

    It is a little below the smallest fractions in the real crystals; None if pymatgen is missing.
    """
    if real.geometries is None:
        return None
    return SHORTEST_FACTOR * float(np.quantile([geometry.shortest for geometry in real.geometries], SHORTEST_QUANTILE))


def _valid(features: CrystalFeatures, min_distance: float | None) -> dict[str, Bool[np.ndarray, " n"] | None]:
    """Return, for each validity rule, True for the crystals that satisfy it; None if the rule's package is missing."""
    composition = (
        np.array([is_charge_balanced(formula) for formula in features.formulas])
        if is_installed("smact") and is_installed("pymatgen")
        else None
    )
    if features.geometries is None or min_distance is None:
        return dict.fromkeys(VALIDITIES)
    structure = np.array([geometry.valid for geometry in features.geometries])
    distance = structure & np.array([geometry.shortest >= min_distance for geometry in features.geometries])
    both_rules = (None, None) if composition is None else (distance & composition, structure & composition)
    return dict(zip(VALIDITIES, (both_rules[0], distance, structure, composition, both_rules[1]), strict=True))


def _shares(valid: dict[str, Bool[np.ndarray, " n"] | None]) -> Numbers:
    return {name: None if mask is None else _mean(mask) for name, mask in valid.items()}


def _plausible(some: CrystalFeatures, valid: dict[str, Bool[np.ndarray, " n"] | None]) -> CrystalFeatures | None:
    """Return the crystals that `valid` marks as plausible; None if there are none, or a package is missing."""
    mask = valid["crystal_plausible"]
    if mask is None or not mask.any() or some.geometries is None:
        return None
    indices = np.flatnonzero(mask).tolist()
    return CrystalFeatures(
        [some.crystals[i] for i in indices], [some.formulas[i] for i in indices], [some.geometries[i] for i in indices]
    )


def _reads_back(crystal: Crystal) -> bool:
    try:
        parsed, _ = read_crystal(read_blocks(cif_text(crystal, "x"))[0])
    except InputError:
        return False
    delta = (
        parsed.frac_coords - crystal.frac_coords
        if parsed.frac_coords.shape == crystal.frac_coords.shape
        else np.array([0.5])
    )
    is_close = np.allclose(parsed.lattice, crystal.lattice, atol=1e-4) and np.abs(delta - np.round(delta)).max() < 1e-4
    return bool(is_close and np.array_equal(parsed.atomic_numbers, crystal.atomic_numbers))


def _set_distances(made: CrystalFeatures, real: CrystalFeatures) -> Numbers:
    distance = wasserstein_distance([len(x) for x in made.formulas], [len(x) for x in real.formulas])
    metrics: Numbers = {"covered": None, "like_real": None, "density_distance": None}
    if made.geometries is not None and real.geometries is not None:
        is_near = cdist(made.fingerprints(), real.fingerprints(), "chebyshev") <= MAX_DISTANCE_DIFFERENCE
        is_match = is_near & (
            cdist(made.element_fractions(), real.element_fractions(), "cityblock") / 2
            <= MAX_COMPOSITION_DIFFERENCE + 1e-9
        )
        densities = ([x.density for x in crystals.geometries or []] for crystals in (made, real))
        metrics = {"covered": _mean(is_match.any(0)), "like_real": _mean(is_match.any(1))}
        metrics["density_distance"] = float(wasserstein_distance(*densities))
    return {**metrics, "element_number_distance": float(distance)}


def _uniqueness(features: CrystalFeatures | None) -> Numbers:
    if features is None:
        return dict.fromkeys(("unique_formulas", "unique_crystals"))
    n, distances, num_repeated = len(features.formulas), features.fingerprints(), 0
    for rows in _by_formula(features.formulas).values():
        pairs = KDTree(distances[rows]).query_pairs(DUPLICATE_TOLERANCE, p=math.inf, output_type="ndarray")
        num_repeated += len(np.unique(pairs.max(1))) if len(pairs) else 0
    return {"unique_formulas": len(set(features.formulas)) / n, "unique_crystals": 1 - num_repeated / n}


def _novelty(features: CrystalFeatures | None, training: CrystalFeatures) -> Numbers:
    if features is None:
        return dict.fromkeys(("new_formulas", "new_crystals"))
    known = _by_formula(training.formulas)
    new_formulas = _mean([formula not in known for formula in features.formulas])
    return {"new_formulas": new_formulas, "new_crystals": 1 - _mean(is_known(features, training))}


def is_known(some: CrystalFeatures, training: CrystalFeatures) -> Bool[np.ndarray, " n"]:
    """Return True for each crystal in `some` that is nearly equal to a training crystal.

    Nearly equal crystals have the same reduced formula, and average minimum distances that differ by at most 0.02 Å.
    """
    train_rows, is_copy = _by_formula(training.formulas), np.zeros(len(some.formulas), dtype=bool)
    distances, train_distances = some.fingerprints(), training.fingerprints()
    for formula, rows in _by_formula(some.formulas).items():
        if formula in train_rows:
            nearest, _ = KDTree(train_distances[train_rows[formula]]).query(distances[rows], p=math.inf)
            is_copy[rows] = nearest <= DUPLICATE_TOLERANCE
    return is_copy


def _with_same_formulas(crystals: list[Crystal], groups: list[CrystalFeatures]) -> CrystalFeatures:
    formulas = {formula for features in groups for formula in features.formulas}
    return crystal_features([crystal for crystal in crystals if reduced_formula(crystal) in formulas])


def _by_formula(formulas: list[tuple[tuple[int, int], ...]]) -> dict[tuple[tuple[int, int], ...], list[int]]:
    indices: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for i, formula in enumerate(formulas):
        indices.setdefault(formula, []).append(i)
    return indices
