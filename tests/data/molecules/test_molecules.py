"""Molecules as data: states and back, conditions, every form, elements that a person gives, pictures, the example."""

import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves
from feller.core.serialization import from_dict, to_dict
from feller.data.atoms.elements import colour_of, hill_formula
from feller.data.batches import split
from feller.data.loading.dataset_reader import read
from feller.data.loading.file_formats import load_raw
from feller.data.loading.raw import RawCrystals, RawMolecules, RawPoints
from feller.data.loading.read_options import ReadOptions
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Dataset, Modality
from feller.data.molecules.figure import TITLE, _turned, balls
from feller.data.molecules.modality import Molecules, molecule_dataset
from feller.data.molecules.molecule import Molecule
from feller.spaces.tokens import MaskSource
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


def real(data: Dataset) -> torch.Tensor:
    return data.given["valid"]["place"]


def test_states_are_centred_and_scaled_by_one_number(data: Dataset) -> None:
    state, valid = data.modality.encode(data.values), real(data)
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


def test_elements_are_numbered_in_the_order_of_the_table(data: Dataset) -> None:
    assert isinstance(data.modality, Molecules)
    assert data.modality.elements == ("H", "C", "O", "Cl")
    assert data.values["element"][3, :4].tolist() == [0, 1, 2, 3]


def test_space_is_tokens_times_places(data: Dataset) -> None:
    space = data.modality.space()
    assert space.leaf_spaces["element"].vocab_size == 4
    assert isinstance(space.leaf_spaces["element"].source, MaskSource)
    assert {name: part.shape for name, part in space.leaf_spaces.items()} == {"element": (9,), "place": (9, 3)}


def test_decoding_gives_the_same_molecules_back(data: Dataset) -> None:
    back = data.modality.decode(data.modality.encode(data.values))
    assert back["place"].dtype == torch.float64
    torch.testing.assert_close(back["place"], data.values["place"], atol=1e-5, rtol=0)
    assert torch.equal(back["element"], data.values["element"])


def test_states_that_are_none_are_refused(data: Dataset) -> None:
    state = data.modality.encode(data.values)
    state["place"][2, 0, 0] = torch.nan
    with pytest.raises(InputError, match="1 of 4 samples are not finite"):
        data.modality.decode(state)
    masked = data.modality.encode(data.values)
    masked["element"] = masked["element"].index_fill(0, torch.tensor([1]), 4)
    with pytest.raises(InputError, match="1 of 4 samples contain masked elements"):
        data.modality.decode(masked)


def test_the_number_of_atoms_is_a_condition_that_says_what_is_real(data: Dataset) -> None:
    modality = data.modality
    assert modality.conditions == {"atoms": ("3", "5", "9")}
    assert data.given["atoms"].tolist() == [0, 1, 1, 2]
    given = modality.add_derived_conditions({"atoms": torch.tensor([modality.class_index("atoms", "5"), 3])})
    for leaf in ("element", "place"):
        assert given["valid"][leaf].sum(1).tolist() == [5, 9]  # not given: as many as can be
    with refuses(UsageError, argument="atoms", found="'4'"):
        modality.class_index("atoms", "4")


def test_data_of_others_are_padded_and_centred(data: Dataset) -> None:
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
    with pytest.raises(InputError, match="expected molecules; found points"):
        data.modality.values_from_raw(RawPoints(np.ones((2, 3))))
    with pytest.raises(InputError, match="expected molecules; found crystals"):
        data.modality.values_from_raw(
            RawCrystals(np.ones((1, 2, 3)), atomic_numbers=np.array([[6, 1]]), lattice=np.ones((1, 6)))
        )


@pytest.mark.filterwarnings("ignore:.*without bonds")
@pytest.mark.parametrize("name", ["a.npz", "a.xyz", "a.sdf", "folder"])
def test_every_form_gives_the_same_molecules_back(data: Dataset, tmp_path: pathlib.Path, name: str) -> None:
    data.modality.write(data.values, data.given, tmp_path / name)
    values, given = read_samples(tmp_path / name, data.modality)
    assert torch.equal(values["element"], data.values["element"])
    torch.testing.assert_close(values["place"], data.values["place"], atol=1.1e-4, rtol=0)
    assert torch.equal(given["atoms"], data.given["atoms"])
    assert torch.equal(given["valid"]["place"], real(data))


def test_molecules_without_bonds_are_counted(data: Dataset, tmp_path: pathlib.Path) -> None:
    """Atoms of chance have no bonds with right valencies."""
    with pytest.warns(UserWarning, match=r"a\.sdf: 4 of 4 molecules are written without bonds"):
        data.modality.write(data.values, data.given, tmp_path / "a.sdf")


@pytest.mark.filterwarnings("ignore:.*without bonds")
def test_odd_samples_are_written_and_read_back_too(data: Dataset, tmp_path: pathlib.Path) -> None:
    """Atoms on top of each other and no hydrogen anywhere; what lies behind the end means nothing."""
    values = {"element": torch.full((2, 9), 1), "place": torch.zeros(2, 9, 3, dtype=torch.float64)}
    values["element"][:, 3:], values["place"][:, 3:] = 3, 77.0
    given = {"atoms": torch.tensor([0, 0])}
    for name in ("a.npz", "a.xyz", "a.sdf", "folder"):
        data.modality.write(values, given, tmp_path / name)
        back, _ = read_samples(tmp_path / name, data.modality)
        assert back["element"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0, 0]] * 2
        assert (back["place"] == 0).all()


def test_arrays_hold_atomic_numbers(data: Dataset, tmp_path: pathlib.Path) -> None:
    data.modality.write(data.values, data.given, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        assert set(file) == {"element", "place", "valid"}
        assert file["element"].shape == file["valid"].shape == (4, 9)
        assert file["element"][3, :4].tolist() == [1, 6, 8, 17]
        assert (file["element"] > 0).tolist() == file["valid"].tolist() == real(data).tolist()
        assert file["place"].shape == (4, 9, 3)


def test_folder_holds_a_file_a_molecule_and_a_picture(data: Dataset, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    data.modality.write(data.values, data.given, out)
    names = ["00000.xyz", "00001.xyz", "00002.xyz", "00003.xyz", "grid.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    found = load_raw(out, ReadOptions())
    assert found.atomic_numbers is not None
    assert len(found.atomic_numbers) == 4


def test_folder_that_is_written_again_holds_no_older_samples(data: Dataset, tmp_path: pathlib.Path) -> None:
    few = data.subset(torch.arange(2))
    for some in (data, few):
        some.modality.write(some.values, some.given, tmp_path / "out")
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
def test_elements_can_be_given(data: Dataset, text: str, numbers: list[int]) -> None:
    assert data.modality.conditionable_leaves == ("element",)
    value, follows = data.modality.parse_condition("element", text)
    assert value.dtype == torch.long
    assert value.tolist() == [numbers + [0] * (9 - len(numbers))]
    assert data.modality.conditions["atoms"][follows["atoms"]] == str(len(numbers))


@pytest.mark.parametrize(
    ("leaf", "text", "match"),
    [
        ("element", "C2H2", "atoms: expected"),
        ("element", "C,N,H", "element: expected"),
        ("element", "NH2", "element: expected"),
        ("element", "Xy3", "unknown element 'Xy'"),
        ("element", "c,o,h", "unknown element 'c'"),
        ("element", "C(OH)2N", "element: expected"),
        ("element", "", "no atoms"),
        ("element", "H0O3", "multiplicity of 0"),
        ("element", "H999999999999", "over 10,000 atoms"),
        ("element", "H" + 5000 * "9", "element=H9{59} has over 10,000 atoms"),
        ("place", "0,0,0", "cannot be conditioned"),
    ],
)
def test_elements_that_cannot_be_given(data: Dataset, leaf: str, text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        data.modality.parse_condition(leaf, text)


def test_record_keeps_the_modality(data: Dataset) -> None:
    assert from_dict(Modality, to_dict(data.modality)) == data.modality
    for wrong in (
        (9, ("10",), ("H",), 1.0),
        (9, (), ("H",), 1.0),
        (9, ("x",), ("H",), 1.0),
        (9, ("5",), (), 1.0),
        (9, ("5",), ("Xx",), 1.0),
        (9, ("5",), ("H", "H"), 1.0),
        (9, ("5",), ("H",), 0.0),
        (9, ("5",), ("H",), float("nan")),
    ):
        with pytest.raises(InputError, match="expected"):
            Molecules(*wrong)


def test_a_share_is_set_aside(data: Dataset) -> None:
    twelve = data.subset(torch.arange(4).repeat(3))
    train, held_out = split(twelve, 0.25)
    assert (len(train), len(held_out)) == (9, 3)
    assert held_out.given["valid"]["element"].shape == (3, 9)


def rgb(number: int) -> np.ndarray:
    return np.array([int(colour_of(number)[i : i + 2], 16) for i in (1, 3, 5)])


def centre_of(picture: np.ndarray) -> int:
    """Return the row in the middle below the title."""
    return (picture.shape[0] + round(100 * TITLE)) // 2


def test_molecule_is_widest_from_left_to_right_and_keeps_its_hand() -> None:
    for hand in (1, -1):
        places = np.random.default_rng(0).standard_normal((20, 3)) * (1, 4, 2) * (1, 1, hand) + 7
        turned = _turned(places)
        spread = turned.std(0)
        assert spread[0] > spread[1] > spread[2]
        np.testing.assert_allclose((turned.max(0) + turned.min(0)) / 2, 0, atol=1e-12)
        volumes = [np.linalg.det(points[1:4] - points[0]) for points in (places, turned)]
        assert np.isclose(*volumes)


def test_balls_have_their_colours_and_sticks_join_what_is_bonded() -> None:
    """Carbon left, oxygen right, as far apart as bonds are or far beyond; the middle is drawn or white."""
    for apart, joined in ((1.2, True), (4.0, False)):
        picture = np.array(balls([Molecule("", np.array([6, 8]), np.array([[0.0, 0, 0], [apart, 0, 0]]))])).astype(int)
        for number in (6, 8):
            assert (np.abs(picture - rgb(number)).sum(2) < 6).sum() > 100
        middle = picture[centre_of(picture), picture.shape[1] // 2 - 3]
        assert ((middle < 250).all()) == joined


def test_nearer_balls_hide_what_lies_behind() -> None:
    """Three oxygens in a wide row and, seen in the middle, sulphur before or behind the one there."""
    for depth, front in ((0.9, 16), (-0.9, 8)):
        places = np.array([[-6.0, 0, 0], [6, 0, 0], [0, 3, 0], [0, -3, 0], [0, 0, 0], [0, 0, depth]])
        molecule = Molecule("", np.array([8, 8, 8, 8, 8, 16]), places)
        turned = _turned(places)
        flipped = np.sign(turned[5, 2] - turned[4, 2]) != np.sign(depth)  # which side is seen is free
        picture = np.array(balls([molecule])).astype(int)
        centre = picture[centre_of(picture), picture.shape[1] // 2]
        expected = {8: 16, 16: 8}[front] if flipped else front
        assert np.abs(centre - rgb(expected)).sum() < 6


@pytest.mark.parametrize("sizes", [(9,), (1, 2, 3), (5,) * 30])
def test_picture_has_a_panel_for_each_molecule(sizes: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    picture = np.array(
        balls([Molecule("", generator.integers(1, 119, size), generator.standard_normal((size, 3))) for size in sizes])
    )
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (picture < 200).any()
    assert (picture[:2] == 255).all()


def test_titles_are_formulas_in_the_usual_order() -> None:
    assert hill_formula(np.array([8, 1, 1])) == "H2O"
    assert hill_formula(np.array([1, 8, 6, 7, 6, 1])) == "C2H2NO"
    assert hill_formula(np.array([17, 11])) == "ClNa"
    title = np.array(balls([Molecule("", np.array([6]), np.zeros((1, 3)))]))[: round(100 * TITLE)]
    assert (title < 200).any()


def test_pictures_beside_each_other_have_one_scale() -> None:
    small, large = (Molecule("", np.full(6, 6), size * np.eye(6)[:, :3]) for size in (1.0, 5.0))
    alone, beside, other = (np.array(balls([small], same_scale_as=more)) for more in ((), [large], [small]))
    ink = [(picture < 250).any(2).sum() for picture in (alone, beside, other)]
    assert ink[0] == ink[2] > 3 * ink[1]
    assert beside.shape == np.array(balls([large], same_scale_as=[small])).shape


@pytest.mark.slow
def test_samples_that_collapsed_are_drawn() -> None:
    assert balls([Molecule("", np.full(29, 6), np.zeros((29, 3)))] * 25).width > 100


def test_example_has_two_parts_of_one_kind() -> None:
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


def test_no_molecule_is_in_both_parts() -> None:
    train, test = read("example:molecules"), read("example:molecules/test")
    shapes = [{tuple(place.flatten().tolist()) for place in part.values["place"]} for part in (train, test)]
    assert not shapes[0] & shapes[1]


def test_example_is_the_same_on_every_way() -> None:
    """With a limit or a model's kind it is read as if from a file."""
    train, test = read("example:molecules"), read("example:molecules/test")
    again = read("example:molecules/test", like=train.modality)
    for own, other in zip(leaves(test.values), leaves(again.values), strict=True):
        torch.testing.assert_close(own, other, atol=1e-12, rtol=0)
    few = read("example:molecules", longest=12)
    sizes = train.given["valid"]["place"].sum(1)
    assert len(few) == (sizes <= 12).sum() > 0
    assert few.notes[0].startswith(f"molecules with over 12 atoms left out: {(sizes > 12).sum()}")
