"""Crystal modality: states, conditions, file formats and figures."""

import dataclasses
import math
import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.conditions.numbers import NumberCondition
from feller.data.crystals.cif import Crystal
from feller.data.crystals.dataset import pad_crystals
from feller.data.crystals.figure import _seen, picture, reduced, with_images
from feller.data.crystals.lattice import to_cell
from feller.data.crystals.modality import Crystals, crystal_dataset
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawCrystals, RawPoints
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Dataset, Modality
from tests.errors import refuses

SIZES = (2, 5, 5, 3)


def raw_crystals(label: bool = False) -> RawCrystals:
    """Return crystals of 2, 5, 5 and 3 atoms among Na, Cl, Ti and O, whose lengths b and c are constant."""
    draw = np.random.default_rng(0)
    cells = to_cell(torch.from_numpy(0.2 * draw.normal(size=(4, 6)) + [1.5, 1.5, 1.5, 0, 0, 0]))
    cells[:, 1:3] = 4.0
    kinds = np.array([8, 11, 17, 22])
    crystals = [
        Crystal(kinds[draw.integers(0, 4, n)], draw.random((n, 3)), cells[i].numpy()) for i, n in enumerate(SIZES)
    ]
    crystals[1].atomic_numbers[:4] = kinds
    atoms, coords, lattice = pad_crystals(crystals)
    labels = {"labels": np.array([0, 1, 1, 0]), "classes": ("a b", "größe")} if label else {}
    return RawCrystals(coords, atomic_numbers=atoms, lattice=lattice, **labels)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return crystal_dataset(raw_crystals())


@pytest.mark.parametrize("out", ["a.npz", "a.csv", "a.cif", "folder"])
def test_conditions_are_written_and_read(data: Dataset, tmp_path: pathlib.Path, out: str) -> None:
    """The third crystal has no energy, and the name has a blank."""
    kind = NumberCondition(0.0, 1.0, -1.0, 1.0)
    modality = dataclasses.replace(data.modality, selected_conditions={"band gap": kind})
    numbers = torch.tensor([0.1, -1e-9, math.nan, 0.25], dtype=torch.float64)
    modality.write(data.values, {**data.given, "band gap": numbers}, tmp_path / out)
    _, given = read_samples(tmp_path / out, modality)
    torch.testing.assert_close(given["band gap"], numbers, rtol=0, atol=0, equal_nan=True)


def assert_same(dataset: Dataset, values: dict, given: dict) -> None:
    assert given.keys() == dataset.given.keys()
    assert torch.equal(values["element"], dataset.values["element"])
    difference = values["place"] - dataset.values["place"]
    torch.testing.assert_close(difference - difference.round(), torch.zeros_like(difference), atol=1e-6, rtol=0)
    torch.testing.assert_close(values["lattice"], dataset.values["lattice"], atol=1e-6, rtol=0)
    assert all(map(torch.equal, leaves(given), leaves({name: dataset.given[name] for name in given})))


def test_states_match_base_samples(data: Dataset) -> None:
    state, space = data.modality.encode(data.values), data.modality.space()
    base = space.sample_base(4, Rng(0).stream("x"))
    assert {name: leaf.shape for name, leaf in state.items()} == {name: leaf.shape for name, leaf in base.items()}
    assert {name: leaf.dtype for name, leaf in state.items()} == {name: leaf.dtype for name, leaf in base.items()}
    assert data.modality.elements == ("O", "Na", "Cl", "Ti")
    assert state["element"].max() == 3
    assert (base["element"] == 4).all()  # the mask
    assert ((state["place"] >= 0) & (state["place"] < 2 * torch.pi)).all()
    torch.testing.assert_close(state["place"].double(), 2 * torch.pi * data.values["place"], atol=1e-6, rtol=0)
    padding = ~data.given["valid"]["place"]
    assert padding.sum() == 5
    assert (state["place"][padding] == 0).all()
    assert (state["element"][padding] == 0).all()


def test_cell_parameters_are_standardised(data: Dataset) -> None:
    lattice = data.modality.encode(data.values)["lattice"].double()
    torch.testing.assert_close(lattice.mean(0), torch.zeros(6).double(), atol=1e-5, rtol=0)
    varies = torch.tensor([True, False, False, True, True, True])
    torch.testing.assert_close(lattice.std(0, correction=0)[varies], torch.ones(4).double(), atol=1e-5, rtol=0)
    assert lattice[:, ~varies].abs().max() < 1e-5
    assert data.modality.scale[1] == 1e-3


def test_encode_decode_round_trip(data: Dataset) -> None:
    decoded = data.modality.decode(data.modality.encode(data.values))
    assert decoded["place"].dtype == decoded["lattice"].dtype == torch.float64
    difference = decoded["place"] - data.values["place"]
    assert (difference - difference.round()).abs().max() < 1e-6
    torch.testing.assert_close(decoded["lattice"], data.values["lattice"], rtol=1e-5, atol=0)
    assert torch.equal(decoded["element"], data.values["element"])


def test_coordinates_stay_below_one(data: Dataset) -> None:
    state = data.modality.encode(data.values)
    state["place"][:] = torch.nextafter(torch.tensor(2 * torch.pi), torch.tensor(0.0))
    assert data.modality.decode(state)["place"].max() < 1
    values = {**data.values, "place": torch.full_like(data.values["place"], 1 - 1e-12)}
    assert data.modality.encode(values)["place"].max() < 2 * torch.pi


def test_non_finite_states_are_refused(data: Dataset) -> None:
    for name in ("place", "lattice"):
        state = data.modality.encode(data.values)
        state[name][2].flatten()[0] = torch.nan
        with refuses(InputError):
            data.modality.decode(state)


def test_masked_atoms_are_refused_outside_padding(data: Dataset) -> None:
    values = {**data.values, "element": data.values["element"].clone()}
    values["element"][0, 2:] = 4
    assert data.modality.arrays(values, data.given)["element"][0, 2:].tolist() == [0, 0, 0]
    values["element"][0, 1] = 4
    with refuses(InputError):
        data.modality.arrays(values, data.given)


def test_atom_count_condition_sets_valid_mask(data: Dataset) -> None:
    modality = data.modality
    assert modality.conditions == {"atoms": ("2", "3", "5")}
    assert data.given["atoms"].tolist() == [0, 2, 2, 1]
    completed = modality.add_derived_conditions({"atoms": torch.tensor([modality.class_index("atoms", "3"), 3])})
    assert completed["valid"].keys() == {"element", "place"}
    for marks in completed["valid"].values():
        assert marks.sum(1).tolist() == [3, 5]  # not given: as many as can be
        assert marks[0].tolist() == [True, True, True, False, False]
    assert modality.num_entries(data.values).tolist() == [5] * 4


def test_other_crystals_are_padded_and_checked(data: Dataset) -> None:
    other = RawCrystals(
        np.zeros((1, 4, 3)) + 0.5,
        atomic_numbers=np.array([[8, 22, 11, 8]]),
        lattice=np.array([[4.0, 4, 4, 90, 90, 90]]),
    )
    values, given = data.modality.values_from_raw(other)
    assert values["element"].tolist() == [[0, 3, 1, 0, 0]]
    assert given["atoms"].tolist() == [3]
    assert given["valid"]["place"].sum() == 4
    with refuses(InputError, row=1):
        data.modality.values_from_raw(dataclasses.replace(other, atomic_numbers=np.array([[8, 19, 11, 8]])))
    large = RawCrystals(np.zeros((1, 6, 3)), atomic_numbers=np.full((1, 6), 8), lattice=other.lattice)
    with refuses(InputError, found="6"):
        data.modality.values_from_raw(large)
    with refuses(InputError, expected="crystals"):
        data.modality.values_from_raw(RawPoints(np.ones((2, 3))))


@pytest.mark.parametrize("label", [False, True])
@pytest.mark.parametrize("name", ["a.npz", "a.csv", "a.cif", "folder"])
def test_file_round_trip(tmp_path: pathlib.Path, name: str, label: bool) -> None:
    dataset = crystal_dataset(raw_crystals(label))
    assert dataset.given.keys() == ({"atoms", "label", "valid"} if label else {"atoms", "valid"})
    dataset.modality.write(dataset.values, dataset.given, tmp_path / name)
    assert_same(dataset, *read_samples(tmp_path / name, dataset.modality))
    reloaded = read(str(tmp_path / name))
    assert_same(dataset, reloaded.values, reloaded.given)
    assert reloaded.modality.conditions == dataset.modality.conditions
    assert from_dict(Modality, to_dict(dataset.modality)) == dataset.modality


def test_arrays_of_samples_with_atom_count_only(data: Dataset) -> None:
    state = data.modality.space().sample_base(3, Rng(0).stream("x"))
    state["element"][:, :3] = torch.tensor([0, 1, 2])
    values = data.modality.decode(state)
    arrays = data.modality.arrays(values, {"atoms": torch.tensor([1, 1, 0])})
    assert arrays["element"].tolist() == [[8, 11, 17, 0, 0], [8, 11, 17, 0, 0], [8, 11, 0, 0, 0]]


@pytest.mark.parametrize(
    ("text", "indices", "implied"),
    [
        ("NaTiO3", [1, 3, 0, 0, 0], {"atoms": 2}),
        ("Na,Ti,O,O,O", [1, 3, 0, 0, 0], {"atoms": 2}),
        (" Na, Ti,O, O,O", [1, 3, 0, 0, 0], {"atoms": 2}),
        ("NaTi(O)3", [1, 3, 0, 0, 0], {"atoms": 2}),
        ("NaCl", [1, 2, 0, 0, 0], {"atoms": 0}),
        ("Ti", [3, 3, 3, 3, 3], {}),
    ],
)
def test_element_condition(data: Dataset, text: str, indices: list[int], implied: dict[str, int]) -> None:
    """A single symbol applies to all atoms."""
    value, found = data.modality.parse_condition("element", text)
    assert value.tolist() == [indices]
    assert value.dtype == torch.long
    assert found == implied


def test_lattice_condition(data: Dataset) -> None:
    value, implied = data.modality.parse_condition("lattice", "4,4.1,4.2,90,80,110")
    assert (value.shape, value.dtype, implied) == ((1, 6), torch.float32, {})
    state = {**data.modality.encode(data.values), "lattice": value.expand(4, 6)}
    expected = torch.tensor([4, 4.1, 4.2, 90, 80, 110]).double().expand(4, 6)
    torch.testing.assert_close(data.modality.decode(state)["lattice"], expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        *(
            ("element", text)
            for text in ("NaK", "Xx", "", "NaTiO4", "Na,,O", "na", "Na(O", "NaO)", "O0.5", "Xy3", "H0O3", "O99999")
        ),
        *(("element", text + 5000 * "9") for text in ("O", "(O)")),
        *(("lattice", text) for text in ("0.01,4,4,90,90,90", "4,4,5000,90,90,90", "4,4,4,119.9,119.9,119.9")),
        *(("lattice", f"4,4,{text}") for text in ("4", "4,120,120,120", "4,90,90,nan", "-4,90,90,90")),
        *(("lattice", text) for text in ("4_0,4,4,90,90,90", "cubic")),
        ("place", "0,0,0"),
    ],
)
def test_invalid_conditions_are_refused(data: Dataset, leaf: str, text: str) -> None:
    with refuses(UsageError) as caught:
        data.modality.parse_condition(leaf, text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "fields",
    [
        (5, ("O",), ("6",), (0.0,) * 6, (1.0,) * 6),
        (5, ("O",), (), (0.0,) * 6, (1.0,) * 6),
        (5, (), ("5",), (0.0,) * 6, (1.0,) * 6),
        (5, ("Xx",), ("5",), (0.0,) * 6, (1.0,) * 6),
        (5, ("O",), ("5",), (0.0,) * 5, (1.0,) * 5),
        (5, ("O",), ("5",), (0.0,) * 6, (0.0,) * 6),
    ],
)
def test_invalid_records_are_refused(fields: tuple) -> None:
    with refuses(InputError):
        Crystals(*fields)


CUBE = np.array([4.0, 4, 4, 90, 90, 90])


def crystal(*coords: tuple[float, float, float], number: int = 8, cell: np.ndarray = CUBE) -> Crystal:
    return Crystal(np.full(len(coords), number), np.array(coords), cell)


@pytest.mark.parametrize("count", [1, 3, 30])
def test_figure_has_a_panel_per_crystal(count: int) -> None:
    image = np.array(picture([crystal((0.5, 0.5, 0.5))] * count))
    across = int(np.ceil(np.sqrt(min(count, 25))))
    down = -(-min(count, 25) // across)
    assert image.shape == (240 * down, 240 * across, 3)
    panels = [image[240 * j : 240 * (j + 1), 240 * i : 240 * (i + 1)] for j in range(down) for i in range(across)]
    assert sum((panel < 200).any() for panel in panels) == min(count, 25)


def test_atoms_on_faces_have_images() -> None:
    for place, images in (((0, 0, 0), 8), ((0.5, 0.5, 0), 2), ((0.5, 0, 0.999), 4), ((0.5, 0.5, 0.5), 1)):
        numbers, coords = with_images(crystal(place))
        assert len(numbers) == len(np.unique(coords, axis=0)) == images
        assert (abs(coords - 0.5) < 0.53).all()


def test_drawn_cell_is_a_rotation() -> None:
    cell = np.array([3.0, 4, 5, 80, 95, 110])
    edges = _seen(cell)
    np.testing.assert_allclose(np.linalg.norm(edges, axis=1), cell[:3])
    cosines = [edges[1] @ edges[2] / 20, edges[0] @ edges[2] / 15, edges[0] @ edges[1] / 12]
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), cell[3:])
    assert np.linalg.det(edges) > 0
    assert _seen(CUBE)[2, 1] > 3  # c is up
    assert _seen(CUBE)[0, 2] > 3  # a comes to the front


def test_titles_are_reduced_formulas() -> None:
    assert reduced(np.array([20, 20, 8, 8, 22, 22, 8, 8, 8, 8])) == "CaO3Ti"
    assert reduced(np.array([26, 26])) == "Fe"
    assert reduced(np.array([20, 22, 8, 8, 8])) == "CaTiO3"
