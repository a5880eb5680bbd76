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
    found = (molecule.distances() < limits).sum(0)  # limits decrease with the order
    np.fill_diagonal(found, 0)
    return found


def is_stable(molecule: Molecule) -> Bool[np.ndarray, " l"]:
    """Return True for each atom whose bond orders sum to its valency."""
    return bond_orders(molecule).sum(1) == _VALENCY[molecule.atomic_numbers]


MAX_MOLECULES = 2_000
"""Maximum number of samples, and of real molecules, for bond metrics."""


def molecules_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Compute metrics of samples; floors are those of held-out data (of training data if too few are held out).

    Distances are between samples and held-out data; their floors are distances between training data and held-out data,
    in sets of the same sizes. Floors of distances and of novelty are None if too few molecules are held out.
    """
    made = molecules_of(subsample(samples, MAX_MOLECULES, rng.fold_in("made")))
    real_molecules = molecules_of(subsample(reference_data(train, held_out), MAX_MOLECULES, rng.fold_in("unseen")))
    trained = molecules_of(train)
    tabled = has_valencies(np.concatenate([molecule.atomic_numbers for molecule in (*made, *real_molecules, *trained)]))
    shares, floors = (_stability(group, tabled=tabled) for group in (made, real_molecules))
    for name, (value, floor) in _rdkit_metrics(made, real_molecules, trained, tabled=tabled).items():
        shares[name], floors[name] = value, floor
    if not has_enough_held_out(held_out):
        floors["novel_smiles"] = None
    sets = compare_sets(samples, train, held_out, rng)
    real = molecules_of(sets.real)
    shares |= _distances(molecules_of(sets.samples), real)
    floors |= dict.fromkeys(DISTANCES) if sets.floor is None else _distances(molecules_of(sets.floor), real)
    return with_floors(shares, floors)


def _stability(molecules: list[Molecule], *, tabled: bool) -> dict[str, float | None]:
    """Return stability by the bond table, if it has all elements, and connectedness."""
    right = [is_stable(molecule) for molecule in molecules] if tabled else []
    return {
        "atom_stability": float(np.concatenate(right).mean()) if tabled else None,
        "molecule_stability": _fraction(atoms.all() for atoms in right) if tabled else None,
        "connected": _fraction(connected_components(molecule.bond_mask())[0] == 1 for molecule in molecules),
    }


def _fraction(truths: Iterable[Any]) -> float:
    return float(np.mean([bool(truth) for truth in truths]))


def _rdkit_metrics(
    made: list[Molecule], real: list[Molecule], trained: list[Molecule], *, tabled: bool
) -> dict[str, tuple[float | None, float | None]]:
    """Return rdkit metrics of samples and of real molecules; None without rdkit."""
    names = ("table_validity", "bonds_found", "bonds_sane", "unique_smiles", "novel_smiles")
    try:
        with rdkit("evaluating molecules") as chem:
            formulas = {_formula(molecule) for molecule in (*made, *real)}
            candidates = [molecule for molecule in trained if _formula(molecule) in formulas]
            training_smiles = {_smiles(chem, molecule, tabled=tabled) for molecule in candidates}
            numbers = [_smiles_metrics(chem, group, training_smiles, tabled=tabled) for group in (made, real)]
    except UsageError:
        return dict.fromkeys(names, (None, None))
    return {name: (numbers[0][name], numbers[1][name]) for name in names}


def _formula(molecule: Molecule) -> bytes:
    return np.sort(molecule.atomic_numbers).tobytes()


def _smiles_metrics(
    chem: Any, molecules: list[Molecule], training_smiles: set[str | None], *, tabled: bool
) -> dict[str, float | None]:
    """Return rdkit metrics of a set of molecules; `training_smiles` are the SMILES of the training set."""
    fitted = [rdkit_with_bonds(chem, molecule) for molecule in molecules]
    smiles = [_smiles(chem, molecule, tabled=tabled) for molecule in molecules]
    whole = [text for text in smiles if text and "." not in text]
    different = set(whole)
    return {
        "table_validity": _fraction(text is not None for text in smiles) if tabled else None,
        "bonds_found": _fraction(made is not None for made in fitted),
        "bonds_sane": _fraction(made is not None and sanitize(chem, made) for made in fitted),
        "unique_smiles": len(different) / len(whole) if whole else None,
        "novel_smiles": len(different - training_smiles) / len(different) if whole else None,
    }


def _smiles(chem: Any, molecule: Molecule, *, tabled: bool) -> str | None:
    """Return canonical SMILES without hydrogens, with bonds by the table if possible; None if rdkit rejects them."""
    made = rdkit_with_orders(chem, molecule, bond_orders(molecule)) if tabled else rdkit_with_bonds(chem, molecule)
    if made is None or not sanitize(chem, made):
        return None
    return chem.MolToSmiles(chem.RemoveHs(made))


DISTANCES = ("atom_number_distance", "element_share_distance", "bond_length_distance")


def _distances(made: list[Molecule], real: list[Molecule]) -> dict[str, float | None]:
    """Return distances between two sets in sizes, element fractions and bond lengths."""
    sizes = [[len(molecule.atomic_numbers) for molecule in group] for group in (made, real)]
    shares = [np.bincount(np.concatenate([m.atomic_numbers for m in group]), minlength=119) for group in (made, real)]
    first, second = (counts / counts.sum() for counts in shares)
    numbers = (wasserstein_distance(*sizes), np.abs(first - second).sum() / 2, _bond_distance(made, real))
    return {name: None if value is None else float(value) for name, value in zip(DISTANCES, numbers, strict=True)}


def _bond_distance(made: list[Molecule], real: list[Molecule]) -> float | None:
    """Return the mean Wasserstein distance of bond lengths per pair of elements; None without common pairs."""
    ours, theirs = _bonds(made), _bonds(real)
    shared = [pair for pair in theirs if pair in ours]
    if not shared:
        return None
    far = [wasserstein_distance(ours[pair], theirs[pair]) for pair in shared]
    return float(np.average(far, weights=[len(theirs[pair]) for pair in shared]))


def _bonds(molecules: list[Molecule]) -> dict[int, np.ndarray]:
    """Return bond lengths in Å per pair of elements."""
    pairs, lengths = [], []
    for molecule in molecules:
        i, j = np.nonzero(np.triu(molecule.bond_mask()))
        ends = np.sort(molecule.atomic_numbers[np.stack([i, j])], axis=0)
        pairs.append(1000 * ends[0] + ends[1])
        lengths.append(molecule.distances()[i, j])
    pair, length = np.concatenate(pairs), np.concatenate(lengths)
    return {int(name): length[pair == name] for name in np.unique(pair)}
