"""The table of bond lengths: its limits to the hundredth of an Å, and molecules whose bonds are known."""

import numpy as np
import pytest

from feller.data.atoms.elements import NUMBERS
from feller.data.loading.read import read
from feller.data.molecules.molecule import Molecule
from feller.evaluation.molecules import known, orders, stable


def pair(first: str, second: str, apart: float) -> int:
    return int(orders(molecule(first + " " + second, [[0, 0, 0], [0, apart, 0]]))[0, 1])


def molecule(symbols: str, places: list[list[float]]) -> Molecule:
    return Molecule("", np.array([NUMBERS[symbol] for symbol in symbols.split()]), np.array(places, dtype=float))


@pytest.mark.parametrize(
    ("first", "second", "limits"),
    [
        ("C", "C", (1.64, 1.39, 1.23)),
        ("C", "N", (1.57, 1.34, 1.19)),
        ("C", "O", (1.53, 1.25, 1.16)),
        ("N", "N", (1.55, 1.30, 1.13)),
        ("N", "O", (1.50, 1.26)),
        ("O", "O", (1.58, 1.26)),
        ("C", "H", (1.19,)),
        ("N", "H", (1.11,)),
        ("O", "H", (1.06,)),
        ("F", "H", (1.02,)),
        ("H", "H", (0.84,)),
        ("C", "F", (1.45,)),
        ("N", "F", (1.46,)),
        ("O", "F", (1.52,)),
        ("F", "F", (1.52,)),
    ],
)
def test_limits_of_each_pair(first: str, second: str, limits: tuple[float, ...]) -> None:
    """Tabulated length and a margin of 10, 5 and 3 pm; the order does not depend on who is named first."""
    for order, limit in enumerate(limits, 1):
        for a, b in ((first, second), (second, first)):
            assert pair(a, b, limit - 0.005) == order
            assert pair(a, b, limit + 0.005) == order - 1
    assert pair(first, second, 0.5) == len(limits)


@pytest.mark.parametrize(
    ("symbols", "places", "right"),
    [
        ("O H H", [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]], [True] * 3),
        ("N N", [[0, 0, 0], [0, 0, 1.098]], [True] * 2),
        ("C N H", [[0, 0, 0], [0, 0, 1.156], [0, 0, -1.064]], [True] * 3),
        ("C O H H", [[0, 0, 0], [0, 0, 1.203], [0, 0.934, -0.579], [0, -0.934, -0.579]], [True] * 4),
        ("C O H", [[0, 0, 0], [0, 0, 1.203], [0, 0.934, -0.579]], [False, True, True]),
        ("O H H", [[0, 0, 0.119], [0, 0.763, -0.477], [0, -2.763, -0.477]], [False, True, False]),
        ("H F", [[0, 0, 0], [0, 0, 0.917]], [True] * 2),
        ("F", [[0, 0, 0]], [False]),
    ],
)
def test_atoms_of_known_molecules(symbols: str, places: list[list[float]], right: list[bool]) -> None:
    assert stable(molecule(symbols, places)).tolist() == right


def test_elements_beyond_the_table_are_told() -> None:
    assert known(np.array([1, 6, 7, 8, 9]))
    assert not known(np.array([1, 6, 16]))


def test_real_molecules_are_stable() -> None:
    """QM9 has 99 % of its atoms and 95 % of its molecules stable; of these 150 some more or less."""
    data = read("example:molecules/test")
    right = [stable(molecule) for molecule in data.modality.molecules(data.values, data.given)]
    assert np.concatenate(right).mean() > 0.985
    assert 0.9 < np.mean([atoms.all() for atoms in right]) < 1
