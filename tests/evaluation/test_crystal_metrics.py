"""Metrics of crystals, and the geometry that they use, against known lattices and pymatgen."""

import importlib.util
import time

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.atoms.elements import NUMBERS
from feller.data.crystals.cif import Crystal
from feller.data.crystals.dataset import pad_crystals
from feller.data.crystals.lattice import to_cell
from feller.data.crystals.modality import crystal_dataset
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawCrystals
from feller.data.modality import Dataset
from feller.evaluation.crystal_metrics import (
    MAX_ELEMENTS,
    NEIGHBOURS,
    crystal_geometry,
    crystals_quality,
    is_charge_balanced,
)
from tests.evaluation.known import KNOWN


def salt(edge: float, *symbols: str, shift: float = 0.0, near: float = 0.5) -> Crystal:
    """Return up to five atoms in a cube; `near` is how far the second is from the first along each edge."""
    numbers = np.array([NUMBERS[symbol] for symbol in symbols])
    places = np.array([[0.0, 0, 0], [near, near, near], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])[: len(symbols)]
    return Crystal(numbers, (places + shift) % 1, np.array([edge, edge, edge, 90, 90, 90]))


AMONG = ("unique_formulas", "unique_crystals", "new_formulas", "new_crystals")
"""Measured among plausible samples."""
REAL = [
    *(salt(4 + 0.001 * i, "Cs", "Cl") for i in range(30)),
    *(salt(4.3 + 0.001 * i, "Cs", "Br") for i in range(30)),
    *(salt(3.0 + 0.001 * i, "Fe") for i in range(20)),
    salt(5.4, "Rb", "Fe", "I", "I", "I"),
]


def dataset(made: list[Crystal], like: Dataset | None = None) -> Dataset:
    atoms, places, lattice = pad_crystals(made)
    found = RawCrystals(places, atomic_numbers=atoms, lattice=lattice)
    return crystal_dataset(found) if like is None else Dataset(*like.modality.values_from_raw(found), like.modality)


TRAIN = dataset(REAL)
HELD_OUT = dataset([crystal._replace(lattice=crystal.lattice + np.repeat([5e-4, 0], 3)) for crystal in REAL], TRAIN)


def measure(*made: Crystal) -> dict[str, float | str | None]:
    return crystals_quality(dataset(list(made), TRAIN), TRAIN, HELD_OUT, Rng(0))


def test_real_crystals() -> None:
    numbers = crystals_quality(TRAIN, TRAIN, HELD_OUT, Rng(0))
    assert numbers.keys() <= KNOWN
    assert {name: value for name, value in numbers.items() if value is None} == {}
    for name in numbers:
        if f"{name}_floor" in numbers:
            assert numbers[name] == pytest.approx(numbers[f"{name}_floor"], abs=1e-12)
    for name in ("crystal_plausible", "distance_valid", "structure_valid", "composition_valid", "crystal_valid"):
        assert numbers[name] == 1
    for name in ("readable", "covered", "like_real"):
        assert numbers[name] == 1
    assert numbers["density_distance"] < 0.01
    assert numbers["element_number_distance"] == 0
    assert numbers["new_formulas"] == numbers["new_crystals"] == 0
    assert numbers["unique_formulas"] == pytest.approx(4 / 81)


def test_structure_and_composition_validity() -> None:
    good, touching = salt(4, "Cs", "Cl"), salt(4, "Cs", "Cl", near=0.05)
    unbalanced = salt(4, "Cs", "Cl", "Cl", "Cl")
    numbers = measure(good, good, touching, unbalanced)
    assert numbers["structure_valid"] == 0.75
    assert numbers["composition_valid"] == 0.75
    assert numbers["crystal_valid"] == 0.5
    assert numbers["structure_valid_floor"] == numbers["composition_valid_floor"] == 1


def diamond(bond: float) -> Crystal:
    """Return the primitive cell of diamond with bonds of this length in Å."""
    edge = 4 * bond / 3**0.5 / 2**0.5
    return Crystal(np.array([6, 6]), np.array([[0.0, 0, 0], [0.25] * 3]), np.array([edge, edge, edge, 60, 60, 60]))


def test_shortest_relative_distance() -> None:
    """A bond of diamond, an edge of CsCl (its bond has a ratio of 1.001), and an atom and its own image."""
    assert crystal_geometry(diamond(1.54)).shortest == pytest.approx(1.54 / 1.52, rel=1e-4)
    assert crystal_geometry(salt(4, "Cs", "Cl")).shortest == pytest.approx(4 / (2 * 2.44))
    assert crystal_geometry(salt(2.0, "Fe")).shortest == pytest.approx(2.0 / 2.64)
    assert crystal_geometry(salt(2.0, "Fe")).valid


def test_short_bonds_are_valid_but_not_plausible() -> None:
    """Distances of 0.8 to 1.1 Å, where real ones are 1.54 Å; the smallest cell of the training data sets the limit."""
    real = dataset([diamond(1.54 + 0.001 * i) for i in range(100)])
    unseen = dataset([diamond(1.545 + 0.001 * i) for i in range(60)], real)
    broken = [diamond(0.8 + 0.03 * i) for i in range(10)]
    made = dataset([*broken, diamond(1.545), diamond(1.55), diamond(1.55)], real)
    numbers = crystals_quality(made, real, unseen, Rng(0))
    assert numbers["structure_valid"] == numbers["crystal_valid"] == 1
    assert numbers["distance_valid"] == numbers["crystal_plausible"] == pytest.approx(3 / 13)
    assert numbers["distance_valid_floor"] == numbers["crystal_plausible_floor"] == 1
    assert numbers["unique_crystals"] == pytest.approx(1 / 3)  # they differ by 0.02 Å or less, and none is new
    assert numbers["unique_formulas"] == pytest.approx(1 / 3)
    assert numbers["new_crystals"] == numbers["new_formulas"] == 0
    nothing = crystals_quality(dataset(broken, real), real, unseen, Rng(0))
    assert nothing["distance_valid"] == nothing["crystal_plausible"] == 0
    assert [nothing[name] for name in AMONG] == [None] * 4


def test_coverage() -> None:
    """Chloride covers itself; half of its atoms are not those of the bromide, which is beyond 40 %."""
    numbers = measure(salt(4.01, "Cs", "Cl", shift=0.3))
    assert numbers["covered"] == pytest.approx(30 / 81)
    assert numbers["like_real"] == 1
    assert measure(salt(5.0, "Cs", "Cl"))["covered"] == 0
    both = measure(salt(4.01, "Cs", "Cl"), salt(4.01, "Rb", "Br"))
    assert both["like_real"] == 0.5
    assert both["covered"] == pytest.approx(30 / 81)


def test_density_and_element_distances() -> None:
    numbers = measure(salt(3.0, "Fe"))
    assert numbers["element_number_distance"] == pytest.approx(62 / 81)
    amu = 1.66053907
    densities = [55.845 * amu / edge**3 for edge in 3.0005 + 0.001 * np.arange(20)]
    densities += [168.36 * amu / edge**3 for edge in 4.0005 + 0.001 * np.arange(30)]
    densities += [212.81 * amu / edge**3 for edge in 4.3005 + 0.001 * np.arange(30)]
    densities += [522.03 * amu / 5.4005**3]
    expected = np.abs(np.array(densities) - 55.845 * amu / 27).mean()
    assert numbers["density_distance"] == pytest.approx(expected, rel=1e-3)


def test_unique_and_new_crystals() -> None:
    """The same crystal moved, one 0.005 Å larger, one 0.3 Å larger, another formula, and twice a new one."""
    own = salt(4.0, "Cs", "Cl")
    new = [salt(4.2, "Rb", "Cl"), salt(4.2, "Rb", "Cl", shift=0.1)]
    numbers = measure(own, salt(4.0, "Cs", "Cl", shift=0.2), salt(4.005, "Cs", "Cl"), salt(4.6, "Cs", "Cl"), *new)
    assert numbers["unique_formulas"] == pytest.approx(2 / 6)
    assert numbers["unique_crystals"] == pytest.approx(3 / 6)
    assert numbers["new_formulas"] == pytest.approx(2 / 6)
    assert numbers["new_crystals"] == pytest.approx(3 / 6)


def test_reduced_formulas() -> None:
    double = Crystal(np.array([26, 26]), np.array([[0.0, 0, 0], [0, 0, 0.5]]), np.array([3.0, 3, 6, 90, 90, 90]))
    numbers = measure(double, salt(3.0, "Fe"))
    assert numbers["unique_formulas"] == 0.5
    assert numbers["unique_crystals"] == 0.5
    assert numbers["new_crystals"] == 0


def test_few_held_out_crystals() -> None:
    numbers = crystals_quality(TRAIN, TRAIN, HELD_OUT.subset(torch.arange(5)), Rng(0))
    missing = {name for name, value in numbers.items() if value is None}
    compared = ("covered", "like_real", "density_distance", "element_number_distance")
    assert missing == {f"{name}_floor" for name in (*compared, *AMONG)}
    assert numbers["structure_valid_floor"] == 1


def test_noise() -> None:
    train = read("example:perovskites").subset(torch.arange(300))
    held_out = read("example:perovskites/test").subset(torch.arange(200))
    state = train.modality.space().sample_base(100, Rng(0).stream("x"))
    state["element"] = torch.randint(56, (100, 5), generator=torch.Generator().manual_seed(0))
    given = train.modality.add_derived_conditions({"atoms": torch.zeros(100, dtype=torch.long)})
    noise = Dataset(train.modality.decode(state), given, train.modality)
    numbers = crystals_quality(noise, train, held_out, Rng(0))
    assert numbers["composition_valid_floor"] > 0.97
    assert numbers["structure_valid_floor"] == 1
    assert numbers["covered_floor"] > 0.8
    assert numbers["covered"] < 0.02
    assert numbers["composition_valid"] < 0.95
    assert numbers["density_distance"] > 5 * numbers["density_distance_floor"]
    assert numbers["readable"] == 1


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "smact" else find(name))
    numbers = measure(salt(4, "Cs", "Cl"))
    assert {name for name, value in numbers.items() if value is None} == {
        f"{name}{end}"
        for name in ("composition_valid", "crystal_valid", "crystal_plausible", *AMONG)
        for end in ("", "_floor")
    }
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    numbers = measure(salt(4, "Cs", "Cl"))
    assert {name for name, value in numbers.items() if value is not None and not name.endswith("_floor")} == {
        "element_number_distance"
    }


def test_points_are_refused() -> None:
    moons = read("example:moons").subset(torch.arange(60))
    with pytest.raises(UsageError):
        crystals_quality(moons, moons, moons, Rng(0))


CUBE = np.array([4.0, 4, 4, 90, 90, 90])


def random_crystal(seed: int, size: int = 5, spread: float = 0.4) -> Crystal:
    draw = np.random.default_rng(seed)
    numbers = torch.from_numpy(spread * draw.normal(size=(1, 6)) + [1.5, 1.5, 1.5, 0, 0, 0])
    return Crystal(draw.integers(1, 60, size), draw.random((size, 3)), to_cell(numbers)[0].numpy())


def test_geometry_of_a_cubic_lattice() -> None:
    """Six neighbours at a, twelve at a sqrt 2, then eight at a sqrt 3; polonium has 9.2 g/cm^3 at a = 3.36."""
    seen = crystal_geometry(
        Crystal(np.array([84]), np.array([[0.3, 0.1, 0.7]]), np.array([3.36, 3.36, 3.36, 90, 90, 90]))
    )
    shells = np.repeat(3.36 * np.sqrt([1, 2, 3]), [6, 12, 8])[:NEIGHBOURS]
    np.testing.assert_allclose(seen.distances, shells)
    assert seen.density == pytest.approx(210 * 1.66054 / 3.36**3, rel=1e-3)
    assert seen.valid


@pytest.mark.parametrize("seed", range(12))
def test_distances_match_pymatgen(seed: int) -> None:
    crystal = random_crystal(seed, spread=0.6)
    structure = Structure(Lattice.from_parameters(*crystal.lattice), crystal.atomic_numbers, crystal.frac_coords)
    centres, _, _, distances = structure.get_neighbor_list(40.0, exclude_self=True)
    truth = np.mean([np.sort(distances[centres == i])[:NEIGHBOURS] for i in range(5)], axis=0)
    np.testing.assert_allclose(crystal_geometry(crystal).distances, truth, rtol=1e-6)


def test_choice_of_cell() -> None:
    crystal = random_crystal(3)
    structure = Structure(Lattice.from_parameters(*crystal.lattice), crystal.atomic_numbers, crystal.frac_coords + 0.37)
    structure.make_supercell([[2, 1, 0], [0, 1, 0], [1, 0, 1]])
    other = Crystal(np.array(structure.atomic_numbers), structure.frac_coords, np.array(structure.lattice.parameters))
    one, two = crystal_geometry(crystal), crystal_geometry(other)
    np.testing.assert_allclose(one.distances, two.distances, rtol=1e-6)
    assert one.density == pytest.approx(two.density)


def test_validity_of_close_atoms_and_small_cells() -> None:
    for gap, valid in ((0.52, True), (0.48, False), (0.0, False)):
        places = np.array([[0.5, 0.5, 0.999], [0.5, 0.5, 0.999 + gap / 4]]) % 1
        assert crystal_geometry(Crystal(np.array([6, 6]), places, CUBE)).valid is valid
    tiny = np.array([0.5, 0.45, 0.44, 90, 90, 90])
    for cell, valid in ((tiny, False), (1.1 * tiny * [1, 1, 1, 1 / 1.1, 1 / 1.1, 1 / 1.1], True)):  # 0.099, 0.132 Å^3
        assert crystal_geometry(Crystal(np.array([6]), np.zeros((1, 3)), cell)).valid is valid


def test_geometry_is_fast() -> None:
    start = time.process_time()
    for seed in range(30):
        assert np.isfinite(crystal_geometry(random_crystal(seed, size=10, spread=5.0)).distances).all()
    assert time.process_time() - start < 10


def counts(**atoms: int) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((NUMBERS[symbol], count) for symbol, count in atoms.items()))


def test_charge_balance() -> None:
    assert is_charge_balanced(counts(Na=1, Cl=1))
    assert is_charge_balanced(counts(Ca=1, Ti=1, O=3))
    assert is_charge_balanced(counts(Cu=3, Au=1))  # metals
    assert not is_charge_balanced(counts(Na=1, Cl=3))
    assert not is_charge_balanced(counts(Ca=3, O=1))
    assert not is_charge_balanced(counts(Na=1, Og=1))  # without known charges
    assert not is_charge_balanced(tuple((number, 1) for number in range(3, 4 + MAX_ELEMENTS)))
