"""Molecule modality: states, conditions, file formats, figures and the example."""

import dataclasses
import math
import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves
from feller.core.serialization import from_dict, to_dict
from feller.data.atoms.elements import colour_of, hill_formula
from feller.data.conditions.numbers import NumberCondition
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawCrystals, RawMolecules, RawPoints
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Dataset, Modality
from feller.data.molecules.figure import TITLE, _turned, balls
from feller.data.molecules.modality import Molecules, molecule_dataset
from feller.data.molecules.molecule import Molecule
from tests.errors import refuses

LENGTHS = (3, 5, 5, 9)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Four molecules of 3, 5, 5 and 9 atoms among H, C, O and Cl, none at the origin."""
    generator = np.random.default_rng(0)
    atoms, values = np.zeros((4, 9), dtype=np.int64), np.zeros((4, 9, 3))
    for i, length in enumerate(LENGTHS):
        atoms[i, :length] = generator.choice([1, 6, 8, 17], length)
        values[i, :length] = 5 + 2 * generator.standard_normal((length, 3))
    atoms[3, :4] = 1, 6, 8, 17
    return molecule_dataset(RawMolecules(values, atomic_numbers=atoms))


@pytest.mark.parametrize("out", ["a.npz", "a.xyz", "a.sdf", "folder"])
def test_conditions_are_written_and_read(data: Dataset, tmp_path: pathlib.Path, out: str) -> None:
    """The third molecule has no gap."""
    if out == "a.sdf":
        pytest.importorskip("rdkit", reason="reading and writing of SDF needs rdkit")
    gap, mu = NumberCondition(0.0, 1.0, -1.0, 1.0), NumberCondition(5.0, 2.0, 3.0, 7.0)
    modality = dataclasses.replace(data.modality, selected_conditions={"gap": gap, "mu": mu})
    numbers = {
        "gap": torch.tensor([0.1, -1e-9, math.nan, 0.25], dtype=torch.float64),
        "mu": torch.arange(4).double() + 3,
    }
    modality.write(data.values, {**data.given, **numbers}, tmp_path / out)
    _, given = read_samples(tmp_path / out, modality)
    for name, values in numbers.items():
        torch.testing.assert_close(given[name], values, rtol=0, atol=0, equal_nan=True)


def valid_mask(data: Dataset) -> torch.Tensor:
    return data.given["valid"]["place"]


def test_states_are_centred_and_scaled(data: Dataset) -> None:
    state, valid = data.modality.encode(data.values), valid_mask(data)
    assert state["element"].dtype == torch.long
    assert state["place"].dtype == torch.float32
    assert valid.sum(1).tolist() == list(LENGTHS)
    assert torch.equal(data.given["valid"]["element"], valid)
    assert (state["element"][~valid] == 0).all()
    assert (state["place"][~valid] == 0).all()
    means = torch.stack([place[mask].mean(0) for place, mask in zip(state["place"], valid, strict=True)])
    torch.testing.assert_close(means, torch.zeros(4, 3), atol=1e-6, rtol=0)
    assert state["place"][valid].square().mean().item() == pytest.approx(1, abs=1e-5)
    ratio = data.values["place"][valid] / state["place"][valid]
    torch.testing.assert_close(ratio, torch.full_like(ratio, data.modality.scale), atol=1e-4, rtol=1e-5)
    decoded = data.modality.decode(state)
    assert decoded["place"].dtype == torch.float64
    torch.testing.assert_close(decoded["place"], data.values["place"], atol=1e-5, rtol=0)
    assert torch.equal(decoded["element"], data.values["element"])
    assert data.modality.elements == ("H", "C", "O", "Cl")  # by atomic number
    assert data.values["element"][3, :4].tolist() == [0, 1, 2, 3]


def test_invalid_states_are_refused(data: Dataset) -> None:
    state = data.modality.encode(data.values)
    state["place"][2, 0, 0] = torch.nan
    with refuses(InputError):
        data.modality.decode(state)
    masked = data.modality.encode(data.values)
    masked["element"] = masked["element"].index_fill(0, torch.tensor([1]), 4)
    with refuses(InputError):
        data.modality.decode(masked)


def test_other_molecules_are_padded_and_checked(data: Dataset) -> None:
    other = RawMolecules(np.array([[[7.0, 0, 0], [9, 0, 0]]]), atomic_numbers=np.array([[17, 1]]))
    values, given = data.modality.values_from_raw(other)
    assert values["element"].tolist() == [[3, 0, 0, 0, 0, 0, 0, 0, 0]]
    assert values["place"][0, :3].tolist() == [[-1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert given["atoms"].tolist() == [3]
    assert given["valid"]["element"].sum().item() == 2
    with refuses(InputError, found="10"):
        data.modality.values_from_raw(
            RawMolecules(np.ones((1, 10, 3)), atomic_numbers=np.ones((1, 10), dtype=np.int64))
        )
    with refuses(InputError, row=1):
        data.modality.values_from_raw(RawMolecules(np.ones((1, 2, 3)), atomic_numbers=np.array([[7, 1]])))
    with refuses(InputError, expected="molecules", found="points with 3 columns"):
        data.modality.values_from_raw(RawPoints(np.ones((2, 3))))
    with refuses(InputError, expected="molecules", found="crystals"):
        data.modality.values_from_raw(
            RawCrystals(np.ones((1, 2, 3)), atomic_numbers=np.array([[6, 1]]), lattice=np.ones((1, 6)))
        )


@pytest.mark.filterwarnings("ignore:.*without bonds")
@pytest.mark.parametrize("name", ["a.npz", "a.xyz", "a.sdf", "folder"])
def test_file_round_trip(data: Dataset, tmp_path: pathlib.Path, name: str) -> None:
    data.modality.write(data.values, data.given, tmp_path / name)
    values, given = read_samples(tmp_path / name, data.modality)
    assert torch.equal(values["element"], data.values["element"])
    torch.testing.assert_close(values["place"], data.values["place"], atol=1.1e-4, rtol=0)
    assert torch.equal(given["atoms"], data.given["atoms"])
    assert torch.equal(given["valid"]["place"], valid_mask(data))
    assert from_dict(Modality, to_dict(data.modality)) == data.modality


@pytest.mark.filterwarnings("ignore:.*without bonds")
def test_implausible_samples_round_trip(data: Dataset, tmp_path: pathlib.Path) -> None:
    """Atoms coincide, hydrogens are missing, and the padding is arbitrary."""
    values = {"element": torch.full((2, 9), 1), "place": torch.zeros(2, 9, 3, dtype=torch.float64)}
    values["element"][:, 3:], values["place"][:, 3:] = 3, 77.0
    given = {"atoms": torch.tensor([0, 0])}
    for name in ("a.npz", "a.xyz", "a.sdf", "folder"):
        data.modality.write(values, given, tmp_path / name)
        reloaded, _ = read_samples(tmp_path / name, data.modality)
        assert reloaded["element"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0, 0]] * 2
        assert (reloaded["place"] == 0).all()


def test_rewritten_folder_has_no_older_samples(data: Dataset, tmp_path: pathlib.Path) -> None:
    few = data.subset(torch.arange(2))
    for dataset in (data, few):
        dataset.modality.write(dataset.values, dataset.given, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00000.xyz", "00001.xyz", "grid.png"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("C,O,H", [1, 2, 0]),
        (" C, O,H ", [1, 2, 0]),
        ("CHO", [1, 0, 2]),
        ("CCl2O2", [1, 3, 3, 2, 2]),
        ("CH4", [1, 0, 0, 0, 0]),
        ("C(OH)2", [1, 2, 0, 2, 0]),
    ],
)
def test_element_condition(data: Dataset, text: str, numbers: list[int]) -> None:
    assert data.modality.conditionable_leaves == ("element",)
    value, implied = data.modality.parse_condition("element", text)
    assert value.dtype == torch.long
    assert value.tolist() == [numbers + [0] * (9 - len(numbers))]
    assert data.modality.conditions["atoms"][implied["atoms"]] == str(len(numbers))


@pytest.mark.parametrize(("leaf", "text"), [("element", "C2H2"), ("element", "C,N,H"), ("place", "0,0,0")])
def test_invalid_conditions_are_refused(data: Dataset, leaf: str, text: str) -> None:
    with refuses(UsageError):
        data.modality.parse_condition(leaf, text)


@pytest.mark.parametrize("scale", [0.0, float("nan")])
def test_invalid_scale_is_refused(scale: float) -> None:
    with refuses(InputError, argument="scale"):
        Molecules(9, ("5",), ("H",), scale)
    with refuses(InputError, found="H, H"):
        Molecules(9, ("5",), ("H", "H"), 1.0)


def rgb(number: int) -> np.ndarray:
    return np.array([int(colour_of(number)[i : i + 2], 16) for i in (1, 3, 5)])


def centre_of(picture: np.ndarray) -> int:
    """Return the row in the middle below the title."""
    return (picture.shape[0] + round(100 * TITLE)) // 2


def test_drawn_molecule_is_a_rotation_to_principal_axes() -> None:
    for handedness in (1, -1):
        places = np.random.default_rng(0).standard_normal((20, 3)) * (1, 4, 2) * (1, 1, handedness) + 7
        rotated = _turned(places)
        spread = rotated.std(0)
        assert spread[0] > spread[1] > spread[2]
        np.testing.assert_allclose((rotated.max(0) + rotated.min(0)) / 2, 0, atol=1e-12)
        volumes = [np.linalg.det(points[1:4] - points[0]) for points in (places, rotated)]
        assert np.isclose(*volumes)


def test_figure_has_atoms_and_bonds() -> None:
    """Carbon and oxygen at a bond length or far apart: the middle has a bond or is white."""
    for apart, joined in ((1.2, True), (4.0, False)):
        picture = np.array(balls([Molecule("", np.array([6, 8]), np.array([[0.0, 0, 0], [apart, 0, 0]]))])).astype(int)
        for number in (6, 8):
            assert (np.abs(picture - rgb(number)).sum(2) < 6).sum() > 100
        middle = picture[centre_of(picture), picture.shape[1] // 2 - 3]
        assert ((middle < 250).all()) == joined


@pytest.mark.parametrize("sizes", [(9,), (1, 2, 3)])
def test_figure_has_a_panel_per_molecule(sizes: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    picture = np.array(
        balls([Molecule("", generator.integers(1, 119, size), generator.standard_normal((size, 3))) for size in sizes])
    )
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (picture < 200).any()
    assert (picture[:2] == 255).all()


def test_titles_are_hill_formulas() -> None:
    assert hill_formula(np.array([8, 1, 1])) == "H2O"
    assert hill_formula(np.array([1, 8, 6, 7, 6, 1])) == "C2H2NO"
    assert hill_formula(np.array([17, 11])) == "ClNa"
    title = np.array(balls([Molecule("", np.array([6]), np.zeros((1, 3)))]))[: round(100 * TITLE)]
    assert (title < 200).any()


def test_figures_share_a_scale() -> None:
    small, large = (Molecule("", np.full(6, 6), size * np.eye(6)[:, :3]) for size in (1.0, 5.0))
    single, next_to_large, other = (np.array(balls([small], same_scale_as=more)) for more in ((), [large], [small]))
    ink = [(picture < 250).any(2).sum() for picture in (single, next_to_large, other)]
    assert ink[0] == ink[2] > 3 * ink[1]
    assert next_to_large.shape == np.array(balls([large], same_scale_as=[small])).shape


def test_molecules_example() -> None:
    train, test = read("example:molecules"), read("example:molecules/test")
    assert (len(train), len(test)) == (600, 150)
    assert isinstance(train.modality, Molecules)
    assert train.modality == test.modality
    assert train.modality.elements == ("H", "C", "N", "O", "F")
    assert train.modality.longest <= 29
    heavy = (train.values["element"] > 0).sum(1)
    assert heavy.max() == 9
    states = train.modality.encode(train.values)["place"][train.given["valid"]["place"]]
    assert abs(states.square().mean().item() - 1) < 0.02  # the scale is that of both parts
    keys = [{tuple(place.flatten().tolist()) for place in part.values["place"]} for part in (train, test)]
    assert not keys[0] & keys[1]


def test_example_with_limit_or_model() -> None:
    train, test = read("example:molecules"), read("example:molecules/test")
    reloaded = read("example:molecules/test", like=train.modality)
    for expected, actual in zip(leaves(test.values), leaves(reloaded.values), strict=True):
        torch.testing.assert_close(expected, actual, atol=1e-12, rtol=0)
    few = read("example:molecules", longest=12)
    sizes = train.given["valid"]["place"].sum(1)
    assert len(few) == (sizes <= 12).sum() > 0
    assert len(few.notes) == 1
