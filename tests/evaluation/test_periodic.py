"""Surroundings of atoms: known lattices, pymatgen as the second implementation, invariance, balance of charges."""

import time

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from feller.data.atoms.elements import NUMBERS
from feller.data.crystals.cif import Crystal
from feller.data.crystals.lattice import to_cell
from feller.evaluation.crystal_metrics import MAX_ELEMENTS, NEIGHBOURS, crystal_geometry, is_charge_balanced

CUBE = np.array([4.0, 4, 4, 90, 90, 90])


def random(seed: int, size: int = 5, spread: float = 0.4) -> Crystal:
    draw = np.random.default_rng(seed)
    numbers = torch.from_numpy(spread * draw.normal(size=(1, 6)) + [1.5, 1.5, 1.5, 0, 0, 0])
    return Crystal(draw.integers(1, 60, size), draw.random((size, 3)), to_cell(numbers)[0].numpy())


def test_shells_of_a_simple_cubic_lattice() -> None:
    """Six neighbours at a, twelve at a sqrt 2, then eight at a sqrt 3; polonium has 9.2 g/cm^3 at a = 3.36."""
    seen = crystal_geometry(
        Crystal(np.array([84]), np.array([[0.3, 0.1, 0.7]]), np.array([3.36, 3.36, 3.36, 90, 90, 90]))
    )
    shells = np.repeat(3.36 * np.sqrt([1, 2, 3]), [6, 12, 8])[:NEIGHBOURS]
    np.testing.assert_allclose(seen.distances, shells)
    assert seen.density == pytest.approx(210 * 1.66054 / 3.36**3, rel=1e-3)
    assert seen.valid


@pytest.mark.parametrize("seed", range(12))
def test_distances_are_those_of_pymatgen(seed: int) -> None:
    crystal = random(seed, spread=0.6)
    structure = Structure(Lattice.from_parameters(*crystal.lattice), crystal.atomic_numbers, crystal.frac_coords)
    centres, _, _, distances = structure.get_neighbor_list(40.0, exclude_self=True)
    truth = np.mean([np.sort(distances[centres == i])[:NEIGHBOURS] for i in range(5)], axis=0)
    np.testing.assert_allclose(crystal_geometry(crystal).distances, truth, rtol=1e-6)


def test_choice_of_the_cell_does_not_matter() -> None:
    crystal = random(3)
    structure = Structure(Lattice.from_parameters(*crystal.lattice), crystal.atomic_numbers, crystal.frac_coords + 0.37)
    structure.make_supercell([[2, 1, 0], [0, 1, 0], [1, 0, 1]])
    other = Crystal(np.array(structure.atomic_numbers), structure.frac_coords, np.array(structure.lattice.parameters))
    one, two = crystal_geometry(crystal), crystal_geometry(other)
    np.testing.assert_allclose(one.distances, two.distances, rtol=1e-6)
    assert one.density == pytest.approx(two.density)


def test_atoms_that_touch_are_not_valid_also_across_faces() -> None:
    for gap, valid in ((0.52, True), (0.48, False), (0.0, False)):
        places = np.array([[0.5, 0.5, 0.999], [0.5, 0.5, 0.999 + gap / 4]]) % 1
        assert crystal_geometry(Crystal(np.array([6, 6]), places, CUBE)).valid is valid
    tiny = np.array([0.5, 0.45, 0.44, 90, 90, 90])
    for cell, valid in ((tiny, False), (1.1 * tiny * [1, 1, 1, 1 / 1.1, 1 / 1.1, 1 / 1.1], True)):  # 0.099, 0.132 Å^3
        assert crystal_geometry(Crystal(np.array([6]), np.zeros((1, 3)), cell)).valid is valid


def test_any_cell_is_looked_at_in_no_time() -> None:
    start = time.process_time()
    for seed in range(30):
        assert np.isfinite(crystal_geometry(random(seed, size=10, spread=5.0)).distances).all()
    assert time.process_time() - start < 10


def counts(**atoms: int) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((NUMBERS[symbol], count) for symbol, count in atoms.items()))


def test_balance_of_charges() -> None:
    assert is_charge_balanced(counts(Na=1, Cl=1))
    assert is_charge_balanced(counts(Ca=1, Ti=1, O=3))
    assert is_charge_balanced(counts(Cu=3, Au=1))  # metals
    assert not is_charge_balanced(counts(Na=1, Cl=3))
    assert not is_charge_balanced(counts(Ca=3, O=1))
    assert not is_charge_balanced(counts(Na=1, Og=1))  # without known charges
    assert not is_charge_balanced(tuple((number, 1) for number in range(3, 4 + MAX_ELEMENTS)))
