"""Molecules as data: states and back, conditions, every form, elements that a person gives."""

import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.serialization import from_data, to_data
from feller.data.batches import split
from feller.data.loading.find import find
from feller.data.loading.raw import FoundCrystals, FoundMolecules, FoundRows
from feller.data.loading.read_options import Asked
from feller.data.loading.read_samples import read_back
from feller.data.modality import Dataset, Modality
from feller.data.molecules.modality import Molecules, molecules
from feller.spaces.tokens import MaskSource

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
    return molecules(FoundMolecules(values, atoms=atoms))


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
    assert space.parts["element"].count == 4
    assert isinstance(space.parts["element"].source, MaskSource)
    assert {name: part.shape for name, part in space.parts.items()} == {"element": (9,), "place": (9, 3)}


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
    with pytest.raises(InputError, match="1 of 4 samples hold no element"):
        data.modality.decode(masked)


def test_the_number_of_atoms_is_a_condition_that_says_what_is_real(data: Dataset) -> None:
    modality = data.modality
    assert modality.conditions == {"atoms": ("3", "5", "9")}
    assert data.given["atoms"].tolist() == [0, 1, 1, 2]
    given = modality.complete({"atoms": torch.tensor([modality.condition("atoms", "5"), 3])})
    for leaf in ("element", "place"):
        assert given["valid"][leaf].sum(1).tolist() == [5, 9]  # not given: as many as can be
    with pytest.raises(UsageError, match="atoms cannot be '4'"):
        modality.condition("atoms", "4")


def test_data_of_others_are_padded_and_centred(data: Dataset) -> None:
    other = FoundMolecules(np.array([[[7.0, 0, 0], [9, 0, 0]]]), atoms=np.array([[17, 1]]))
    values, given = data.modality.accept(other)
    assert values["element"].tolist() == [[3, 0, 0, 0, 0, 0, 0, 0, 0]]
    assert values["place"][0, :3].tolist() == [[-1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert given["atoms"].tolist() == [3]
    assert given["valid"]["element"].sum().item() == 2
    with pytest.raises(InputError, match="row 1: expected molecules of at most 9 atoms, got one of 10"):
        data.modality.accept(FoundMolecules(np.ones((1, 10, 3)), atoms=np.ones((1, 10), dtype=np.int64)))
    with pytest.raises(InputError, match="row 1: this model knows no N, only H, C, O, Cl"):
        data.modality.accept(FoundMolecules(np.ones((1, 2, 3)), atoms=np.array([[7, 1]])))
    with pytest.raises(InputError, match="expected molecules, got points"):
        data.modality.accept(FoundRows(np.ones((2, 3))))
    with pytest.raises(InputError, match="expected molecules, got crystals"):
        data.modality.accept(FoundCrystals(np.ones((1, 2, 3)), atoms=np.array([[6, 1]]), lattice=np.ones((1, 6))))


@pytest.mark.filterwarnings("ignore:.*without bonds")
@pytest.mark.parametrize("name", ["a.npz", "a.xyz", "a.sdf", "folder"])
def test_every_form_gives_the_same_molecules_back(data: Dataset, tmp_path: pathlib.Path, name: str) -> None:
    data.modality.write(data.values, data.given, tmp_path / name)
    values, given = read_back(tmp_path / name, data.modality)
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
        back, _ = read_back(tmp_path / name, data.modality)
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
    found = find(out, Asked())
    assert found.atoms is not None
    assert len(found.atoms) == 4


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
    assert data.modality.leaves == ("element",)
    value, follows = data.modality.give("element", text)
    assert value.dtype == torch.long
    assert value.tolist() == [numbers + [0] * (9 - len(numbers))]
    assert data.modality.conditions["atoms"][follows["atoms"]] == str(len(numbers))


@pytest.mark.parametrize(
    ("leaf", "text", "match"),
    [
        ("element", "C2H2", "atoms cannot be '4'"),
        ("element", "C,N,H", "hold no N"),
        ("element", "NH2", "hold no N"),
        ("element", "Xy3", "no element 'Xy'"),
        ("element", "c,o,h", "no element 'c'"),
        ("element", "C(OH)2N", "hold no N"),
        ("element", "", "there is no atom"),
        ("element", "H0O3", "an element no times"),
        ("element", "H999999999999", "over 10,000 atoms"),
        ("element", "H" + 5000 * "9", "element=H9{59} stands for over 10,000 atoms"),
        ("place", "0,0,0", "no part"),
    ],
)
def test_elements_that_cannot_be_given(data: Dataset, leaf: str, text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        data.modality.give(leaf, text)


def test_record_keeps_the_modality(data: Dataset) -> None:
    assert from_data(Modality, to_data(data.modality)) == data.modality
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
