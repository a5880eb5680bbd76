"""Metrics of molecules: valency, bonds, validity, novelty, elements and sizes.

Lengths are the usual ones of chemistry's tables, the margins and the rule those of Hoogeboom et al. 2022, "Equivariant
diffusion for molecule generation in 3D", arXiv 2203.17003. Of QM9's own molecules 95 % are stable by it.
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
"""Of single, double and triple bonds, in pm."""
MARGINS = (10, 5, 3)
"""By which a bond of each order may be longer, in pm."""
VALENCIES = {"H": 1, "C": 4, "N": 3, "O": 2, "F": 1}
"""Sum of the orders of the bonds of a stable atom."""


def _limits() -> np.ndarray:
    """Return the greatest length in Å of each order between each two atomic numbers, [3, 119, 119]; 0 where none is."""
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
    """Tell whether the table has all these atomic numbers."""
    return bool(_VALENCY[atoms].all())


def bond_orders(molecule: Molecule) -> Int[np.ndarray, "l l"]:
    """Return the order of the bond between each two atoms, 0 for none: the highest that their distance allows."""
    limits = _LIMITS[:, molecule.atomic_numbers[:, None], molecule.atomic_numbers]
    found = (molecule.distances() < limits).sum(0)  # a limit is below those of lower orders
    np.fill_diagonal(found, 0)
    return found


def is_stable(molecule: Molecule) -> Bool[np.ndarray, " l"]:
    """Tell which atoms have their valency."""
    return bond_orders(molecule).sum(1) == _VALENCY[molecule.atomic_numbers]


MAX_MOLECULES = 2_000
"""Samples, and real molecules beside them, whose bonds are looked at."""


def molecules_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Measure samples and, as a floor, held-out data, or training data where too few are held out.

    Distances are between samples and held-out data, their floors between training and held-out data at equal sizes,
    and None where too few are held out, as is that of what training has not seen.
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
    """Return what needs no chemistry but the table's, if it has all elements."""
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
    """Return what rdkit says of samples and of real molecules; None without it."""
    names = ("table_validity", "bonds_found", "bonds_sane", "unique_smiles", "novel_smiles")
    try:
        with rdkit("judging molecules") as chem:
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
    """Return what rdkit says of a set of molecules; `training_smiles` are the SMILES of the training data."""
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
    """Return the canonical SMILES without hydrogens; None if the bonds, by the table if it can be, are none."""
    made = rdkit_with_orders(chem, molecule, bond_orders(molecule)) if tabled else rdkit_with_bonds(chem, molecule)
    if made is None or not sanitize(chem, made):
        return None
    return chem.MolToSmiles(chem.RemoveHs(made))


DISTANCES = ("atom_number_distance", "element_share_distance", "bond_length_distance")


def _distances(made: list[Molecule], real: list[Molecule]) -> dict[str, float | None]:
    """Return how far sizes, elements and bonds of two sets are apart."""
    sizes = [[len(molecule.atomic_numbers) for molecule in group] for group in (made, real)]
    shares = [np.bincount(np.concatenate([m.atomic_numbers for m in group]), minlength=119) for group in (made, real)]
    first, second = (counts / counts.sum() for counts in shares)
    numbers = (wasserstein_distance(*sizes), np.abs(first - second).sum() / 2, _bond_distance(made, real))
    return {name: None if value is None else float(value) for name, value in zip(DISTANCES, numbers, strict=True)}


def _bond_distance(made: list[Molecule], real: list[Molecule]) -> float | None:
    """Return the distance of bond lengths, pair by pair of elements; None where no pair has bonds in both sets."""
    ours, theirs = _bonds(made), _bonds(real)
    shared = [pair for pair in theirs if pair in ours]
    if not shared:
        return None
    far = [wasserstein_distance(ours[pair], theirs[pair]) for pair in shared]
    return float(np.average(far, weights=[len(theirs[pair]) for pair in shared]))


def _bonds(molecules: list[Molecule]) -> dict[int, np.ndarray]:
    """Return the lengths of bonds in Å of each pair of elements."""
    pairs, lengths = [], []
    for molecule in molecules:
        i, j = np.nonzero(np.triu(molecule.bond_mask()))
        ends = np.sort(molecule.atomic_numbers[np.stack([i, j])], axis=0)
        pairs.append(1000 * ends[0] + ends[1])
        lengths.append(molecule.distances()[i, j])
    pair, length = np.concatenate(pairs), np.concatenate(lengths)
    return {int(name): length[pair == name] for name in np.unique(pair)}
