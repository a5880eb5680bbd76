"""What surrounds the atoms of a crystal: distances to their neighbours, in their cell and beyond."""

import functools
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np

from feller.data.atoms.elements import RADII, SYMBOLS
from feller.data.crystals.cif import Crystal

NEIGHBOURS = 24
"""Neighbours of each atom that the fingerprint looks at."""
GROWTH = 1.4
"""By how much the radius grows, in which neighbours are looked for, until there are enough."""
TOUCH = 0.5
"""Distance in Å at which two atoms of a valid crystal are apart, at least."""
SMALLEST = 0.1
"""Least volume of the cell of a valid crystal, in Å^3."""
RICHEST = 8
"""Different elements up to which compositions are tried: with 12 of them one takes a minute."""


@dataclass(frozen=True)
class Surroundings:
    """What the places of the atoms of one crystal say."""

    valid: bool
    """Different atoms are more than 0.5 Å apart, and the cell has a volume."""
    density: float
    """In g / cm^3."""
    shortest: float
    """Shortest distance between two atoms, or an atom and its own image, over the sum of their covalent radii."""
    distances: np.ndarray
    """Distance of an atom to its first, second, ... neighbour, averaged over the atoms, in Å, [NEIGHBOURS]."""


def has(package: str) -> bool:
    """Tell whether a package is installed."""
    return importlib.util.find_spec(package) is not None


def surroundings(crystal: Crystal) -> Surroundings:
    """Look at a crystal; needs pymatgen.

    The distances depend neither on how the cell is chosen or turned nor on where it begins, and hardly change where
    atoms hardly move. Source: Widdowson et al. 2022, "Average minimum distances of periodic point sets", MATCH 87.
    """
    from pymatgen.core import Lattice, Structure

    given = Structure(Lattice.from_parameters(*crystal.lattice), crystal.numbers.tolist(), crystal.places)
    structure: Any = given.get_reduced_structure("LLL")  # the same crystal, with a cell that is not oblique
    edges, n = structure.lattice.matrix, len(structure)
    large = structure.volume > SMALLEST
    ball = (6 * (NEIGHBOURS + 1) * structure.volume / n / (4 * np.pi)) ** (1 / 3)  # with twice as many atoms
    radius = min(ball, NEIGHBOURS * min(structure.lattice.abc) / 2)  # the images of an atom itself suffice
    radii = RADII[np.array([site.specie.Z for site in structure])]
    radius = max(radius, TOUCH, 2 * radii.max()) if large else radius
    while True:
        found = _distances(structure.frac_coords, edges, radius)
        nearest = np.partition(found.reshape(n, -1), NEIGHBOURS, axis=1)[:, : NEIGHBOURS + 1]
        if nearest.max() <= radius * (1 + 1e-6):
            break
        radius *= GROWTH
    between = found[~np.eye(n, dtype=bool)]
    valid = bool(large and between.min(initial=np.inf) > TOUCH)
    closest = np.sort(found, axis=2)[:, :, :2]
    closest[np.diag_indices(n)] = closest[np.diag_indices(n)][:, ::-1]  # an atom is at distance 0 from itself
    shortest = float((closest[:, :, 0] / (radii[:, None] + radii)).min())
    return Surroundings(valid, float(structure.density), shortest, np.sort(nearest, axis=1)[:, 1:].mean(0))


def _distances(places: np.ndarray, edges: np.ndarray, radius: float) -> np.ndarray:
    """Return distances from each atom to images of each, [n, n, images]; none below the radius is left out."""
    heights = 1 / np.linalg.norm(np.linalg.inv(edges), axis=0)
    away = places[None] - places[:, None]
    away -= np.round(away)
    reach = np.ceil(radius / heights + 0.5).astype(int)
    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
    return np.linalg.norm((away @ edges)[:, :, None] + steps @ edges, axis=3)


@functools.lru_cache(maxsize=100_000)
def balanced(counts: tuple[tuple[int, int], ...]) -> bool:
    """Tell whether usual charges of atoms add up to nothing, or all are metals; needs SMACT.

    `counts` are atomic numbers and how many atoms of each. More than 8 elements count as not balanced, as does one
    without known charges.

    Source: Davies et al. 2016, "Computational screening of all stoichiometric inorganic materials", Chem 1; with the
    charges of 2014, as most papers have it.
    """
    from pymatgen.core import Composition
    from smact.screening import smact_validity

    if len(counts) > RICHEST:
        return False
    composition = Composition({SYMBOLS[number]: count for number, count in counts})
    try:
        return bool(smact_validity(composition, oxidation_states_set="smact14"))
    except KeyError:  # elements beyond its tables
        return False
