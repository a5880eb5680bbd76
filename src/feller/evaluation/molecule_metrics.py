"""Metrics of molecules: valency, bonds, validity, novelty, elements and sizes.

Bond lengths are from standard tables; tolerances and the stability rule are those of Hoogeboom et al. 2022,
"Equivariant diffusion for molecule generation in 3D", arXiv 2203.17003. By this rule 95 % of the molecules in QM9 are
stable.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse.csgraph import connected_components
from scipy.stats import wasserstein_distance

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.atoms.elements import NUMBERS
from feller.data.modality import Dataset
from feller.data.molecules.modality import molecules_of
from feller.data.molecules.molecule import Molecule, rdkit, rdkit_with_bonds, rdkit_with_orders, sanitize
from feller.evaluation.comparison import compare_sets, has_enough_held_out, reference_data, subsample, with_floors

LENGTHS = (
    {
        **{"HH": 74, "HC": 109, "HN": 101, "HO": 96, "HF": 92, "CC": 154, "CN": 147, "CO": 143, "CF": 135, "NN": 145},
        **{"NO": 140, "NF": 136, "OO": 148, "OF": 142, "FF": 142},
    },
    {"CC": 134, "CN": 129, "CO": 120, "NN": 125, "NO": 121, "OO": 121},
    {"CC": 120, "CN": 116, "CO": 113, "NN": 110},
)
"""Lengths of single, double and triple bonds between pairs of elements, in pm."""
MARGINS = (10, 5, 3)
"""Tolerance of the bond length for each bond order, in pm."""
VALENCIES = {"H": 1, "C": 4, "N": 3, "O": 2, "F": 1}
"""Valency of each element: the sum of bond orders of a stable atom."""


def _limits() -> np.ndarray:
    """Return maximum bond lengths in Å per order and pair of atomic numbers, [3, 119, 119]; 0 without a bond."""
    limits = np.zeros((3, len(NUMBERS) + 1, len(NUMBERS) + 1))
    for order, (lengths, margin) in enumerate(zip(LENGTHS, MARGINS, strict=True)):
        for (first, second), length in lengths.items():
            a, b = NUMBERS[first], NUMBERS[second]
            limits[order, a, b] = limits[order, b, a] = (length + margin) / 100
    return limits


_LIMITS = _limits()
_VALENCY = np.zeros(len(NUMBERS) + 1, dtype=np.int64)
_VALENCY[[NUMBERS[symbol] for symbol in VALENCIES]] = list(VALENCIES.values())


def has_valencies(atoms: Int[np.ndarray, " n"]) -> bool:
    """Return True if the table of valencies contains all the given atomic numbers."""
    return bool(_VALENCY[atoms].all())


def bond_orders(molecule: Molecule) -> Int[np.ndarray, "l l"]:
    """Return the bond order of each pair of atoms, the highest one that their distance allows; 0 means no bond."""
    limits = _LIMITS[:, molecule.atomic_numbers[:, None], molecule.atomic_numbers]
    orders = (molecule.distances() < limits).sum(0)  # limits decrease with the order
    np.fill_diagonal(orders, 0)
    return orders


def is_stable(molecule: Molecule) -> Bool[np.ndarray, " l"]:
    """Return True for each atom whose bond orders sum to its valency."""
    return bond_orders(molecule).sum(1) == _VALENCY[molecule.atomic_numbers]


MAX_MOLECULES = 2_000
"""Maximum number of samples, and of real molecules, for bond metrics."""


def molecules_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Compute metrics of samples, each with its floor, which is the same metric of real molecules.

    The real molecules are the held-out data, or the training data if too few are held out.
    Distances are between samples and held-out data; their floors are distances between training data and held-out data,
    in sets of the same sizes. Floors of distances and of novelty are None if too few molecules are held out.
    """
    made = molecules_of(subsample(samples, MAX_MOLECULES, rng.fold_in("made")))
    real_molecules = molecules_of(subsample(reference_data(train, held_out), MAX_MOLECULES, rng.fold_in("unseen")))
    train_molecules = molecules_of(train)
    has_table = has_valencies(np.concatenate([m.atomic_numbers for m in (*made, *real_molecules, *train_molecules)]))
    metrics, floors = (_stability(group, has_table=has_table) for group in (made, real_molecules))
    for name, (value, floor) in _rdkit_metrics(made, real_molecules, train_molecules, has_table=has_table).items():
        metrics[name], floors[name] = value, floor
    if not has_enough_held_out(held_out):
        floors["novel_smiles"] = None
    sets = compare_sets(samples, train, held_out, rng)
    real = molecules_of(sets.real)
    metrics |= _distances(molecules_of(sets.samples), real)
    floors |= dict.fromkeys(DISTANCES) if sets.floor is None else _distances(molecules_of(sets.floor), real)
    return with_floors(metrics, floors)


def _stability(molecules: list[Molecule], *, has_table: bool) -> dict[str, float | None]:
    """Return the fractions of stable atoms, stable molecules and connected molecules.

    Stability needs the table of bond lengths, and is None if an element is missing there.
    """
    stable = [is_stable(molecule) for molecule in molecules] if has_table else []
    return {
        "atom_stability": float(np.concatenate(stable).mean()) if has_table else None,
        "molecule_stability": _fraction(atoms.all() for atoms in stable) if has_table else None,
        "connected": _fraction(connected_components(molecule.bond_mask())[0] == 1 for molecule in molecules),
    }


def _fraction(flags: Iterable[Any]) -> float:
    return float(np.mean([bool(flag) for flag in flags]))


def _rdkit_metrics(
    made: list[Molecule], real: list[Molecule], trained: list[Molecule], *, has_table: bool
) -> dict[str, tuple[float | None, float | None]]:
    """Return (value for samples, value for real molecules) of each RDKit metric; None without RDKit."""
    names = ("table_validity", "bonds_found", "bonds_sane", "unique_smiles", "novel_smiles")
    try:
        with rdkit("evaluating molecules") as chem:
            formulas = {_formula(molecule) for molecule in (*made, *real)}
            candidates = [molecule for molecule in trained if _formula(molecule) in formulas]
            training_smiles = {_smiles(chem, molecule, has_table=has_table) for molecule in candidates}
            metrics = [_smiles_metrics(chem, group, training_smiles, has_table=has_table) for group in (made, real)]
    except UsageError:
        return dict.fromkeys(names, (None, None))
    return {name: (metrics[0][name], metrics[1][name]) for name in names}


def _formula(molecule: Molecule) -> bytes:
    return np.sort(molecule.atomic_numbers).tobytes()


def _smiles_metrics(
    chem: Any, molecules: list[Molecule], training_smiles: set[str | None], *, has_table: bool
) -> dict[str, float | None]:
    """Return the RDKit metrics of one set of molecules; `training_smiles` are the SMILES of the training set."""
    bonded = [rdkit_with_bonds(chem, molecule) for molecule in molecules]
    smiles = [_smiles(chem, molecule, has_table=has_table) for molecule in molecules]
    connected = [text for text in smiles if text and "." not in text]
    unique = set(connected)
    return {
        "table_validity": _fraction(text is not None for text in smiles) if has_table else None,
        "bonds_found": _fraction(mol is not None for mol in bonded),
        "bonds_sane": _fraction(mol is not None and sanitize(chem, mol) for mol in bonded),
        "unique_smiles": len(unique) / len(connected) if connected else None,
        "novel_smiles": len(unique - training_smiles) / len(unique) if connected else None,
    }


def _smiles(chem: Any, molecule: Molecule, *, has_table: bool) -> str | None:
    """Return canonical SMILES without hydrogens, with bonds by the table if possible; None if rdkit rejects them."""
    mol = rdkit_with_orders(chem, molecule, bond_orders(molecule)) if has_table else rdkit_with_bonds(chem, molecule)
    if mol is None or not sanitize(chem, mol):
        return None
    return chem.MolToSmiles(chem.RemoveHs(mol))


DISTANCES = ("atom_number_distance", "element_share_distance", "bond_length_distance")


def _distances(made: list[Molecule], real: list[Molecule]) -> dict[str, float | None]:
    """Return the distances between samples and real molecules: of sizes, element fractions and bond lengths."""
    sizes = [[len(molecule.atomic_numbers) for molecule in group] for group in (made, real)]
    counts = [np.bincount(np.concatenate([m.atomic_numbers for m in group]), minlength=119) for group in (made, real)]
    first, second = (c / c.sum() for c in counts)
    distances = (wasserstein_distance(*sizes), np.abs(first - second).sum() / 2, _bond_distance(made, real))
    return {name: None if value is None else float(value) for name, value in zip(DISTANCES, distances, strict=True)}


def _bond_distance(made: list[Molecule], real: list[Molecule]) -> float | None:
    """Return the mean Wasserstein distance of bond lengths per pair of elements; None without common pairs."""
    lengths, real_lengths = _bonds(made), _bonds(real)
    shared = [pair for pair in real_lengths if pair in lengths]
    if not shared:
        return None
    distances = [wasserstein_distance(lengths[pair], real_lengths[pair]) for pair in shared]
    return float(np.average(distances, weights=[len(real_lengths[pair]) for pair in shared]))


def _bonds(molecules: list[Molecule]) -> dict[int, np.ndarray]:
    """Return bond lengths in Å per pair of elements."""
    pairs, lengths = [], []
    for molecule in molecules:
        i, j = np.nonzero(np.triu(molecule.bond_mask()))
        elements = np.sort(molecule.atomic_numbers[np.stack([i, j])], axis=0)
        pairs.append(1000 * elements[0] + elements[1])
        lengths.append(molecule.distances()[i, j])
    keys, length = np.concatenate(pairs), np.concatenate(lengths)
    return {int(key): length[keys == key] for key in np.unique(keys)}
