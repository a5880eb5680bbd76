"""What is measured of crystals: sets whose validity, density, variety and novelty are known."""

import importlib.util

import numpy as np
import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.atoms.elements import NUMBERS
from feller.data.crystals.cif import Crystal
from feller.data.crystals.dataset import pad_crystals
from feller.data.crystals.modality import crystal_dataset
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawCrystals
from feller.data.modality import Dataset
from feller.evaluation.crystal_metrics import crystal_geometry, crystals_quality
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


def test_real_crystals_are_as_good_as_real() -> None:
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


def test_validity_in_both_ways() -> None:
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


def test_shortest_distance_over_covalent_radii() -> None:
    """A bond of diamond, an edge of CsCl (its bond has a ratio of 1.001), and an atom and its own image."""
    assert crystal_geometry(diamond(1.54)).shortest == pytest.approx(1.54 / 1.52, rel=1e-4)
    assert crystal_geometry(salt(4, "Cs", "Cl")).shortest == pytest.approx(4 / (2 * 2.44))
    assert crystal_geometry(salt(2.0, "Fe")).shortest == pytest.approx(2.0 / 2.64)
    assert crystal_geometry(salt(2.0, "Fe")).valid


def test_carbon_at_half_a_bond_is_valid_by_cdvae_and_not_plausible() -> None:
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


def test_coverage_needs_both_elements_and_distances() -> None:
    """Chloride covers itself; half of its atoms are not those of the bromide, which is beyond 40 %."""
    numbers = measure(salt(4.01, "Cs", "Cl", shift=0.3))
    assert numbers["covered"] == pytest.approx(30 / 81)
    assert numbers["like_real"] == 1
    assert measure(salt(5.0, "Cs", "Cl"))["covered"] == 0
    both = measure(salt(4.01, "Cs", "Cl"), salt(4.01, "Rb", "Br"))
    assert both["like_real"] == 0.5
    assert both["covered"] == pytest.approx(30 / 81)


def test_density_and_elements_are_wasserstein_distances() -> None:
    numbers = measure(salt(3.0, "Fe"))
    assert numbers["element_number_distance"] == pytest.approx(62 / 81)
    amu = 1.66053907
    densities = [55.845 * amu / edge**3 for edge in 3.0005 + 0.001 * np.arange(20)]
    densities += [168.36 * amu / edge**3 for edge in 4.0005 + 0.001 * np.arange(30)]
    densities += [212.81 * amu / edge**3 for edge in 4.3005 + 0.001 * np.arange(30)]
    densities += [522.03 * amu / 5.4005**3]
    expected = np.abs(np.array(densities) - 55.845 * amu / 27).mean()
    assert numbers["density_distance"] == pytest.approx(expected, rel=1e-3)


def test_uniqueness_and_novelty() -> None:
    """The same crystal moved, one 0.005 Å larger, one 0.3 Å larger, another formula, and twice a new one."""
    own = salt(4.0, "Cs", "Cl")
    new = [salt(4.2, "Rb", "Cl"), salt(4.2, "Rb", "Cl", shift=0.1)]
    numbers = measure(own, salt(4.0, "Cs", "Cl", shift=0.2), salt(4.005, "Cs", "Cl"), salt(4.6, "Cs", "Cl"), *new)
    assert numbers["unique_formulas"] == pytest.approx(2 / 6)
    assert numbers["unique_crystals"] == pytest.approx(3 / 6)
    assert numbers["new_formulas"] == pytest.approx(2 / 6)
    assert numbers["new_crystals"] == pytest.approx(3 / 6)


def test_multiples_of_a_formula_are_one_formula() -> None:
    double = Crystal(np.array([26, 26]), np.array([[0.0, 0, 0], [0, 0, 0.5]]), np.array([3.0, 3, 6, 90, 90, 90]))
    numbers = measure(double, salt(3.0, "Fe"))
    assert numbers["unique_formulas"] == 0.5
    assert numbers["unique_crystals"] == 0.5
    assert numbers["new_crystals"] == 0


def test_without_enough_held_out_there_is_less_to_compare_with() -> None:
    numbers = crystals_quality(TRAIN, TRAIN, HELD_OUT.subset(torch.arange(5)), Rng(0))
    missing = {name for name, value in numbers.items() if value is None}
    compared = ("covered", "like_real", "density_distance", "element_number_distance")
    assert missing == {f"{name}_floor" for name in (*compared, *AMONG)}
    assert numbers["structure_valid_floor"] == 1


def test_noise_is_far_from_real_perovskites() -> None:
    """The example's floors, and random elements at random places in random cells."""
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


def test_what_needs_a_missing_package_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_other_data_are_refused() -> None:
    moons = read("example:moons").subset(torch.arange(60))
    with pytest.raises(UsageError):
        crystals_quality(moons, moons, moons, Rng(0))
