"""Molecule datasets from files, folders and arrays: filters and refusals."""

import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.data.loading.dataset_reader import read
from feller.data.loading.file_formats import load_raw
from feller.data.loading.read_options import ReadOptions
from feller.data.loading.sample_reader import read_samples
from feller.data.molecules.modality import Molecules
from feller.data.molecules.molecule import Molecule
from feller.data.molecules.molecule_files import load_molecules, molecules_from_arrays
from feller.data.molecules.xyz import xyz_text
from tests.data.molecules.test_sdf import HYDROXIDE, record
from tests.data.molecules.test_sdf import WATER as WATER_SDF
from tests.data.molecules.test_xyz import METHANE, WATER
from tests.errors import refuses


def chain(length: int) -> str:
    """Return a chain of carbon atoms."""
    places = np.stack([1.3 * np.arange(length), np.arange(length) % 2, np.zeros(length)], 1)
    return xyz_text([Molecule("", np.full(length, 6), places)])


def test_molecules_are_padded(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.xyz").write_text(WATER + METHANE)
    found = load_molecules(tmp_path / "a.xyz", 64)
    assert found.atomic_numbers.tolist() == [[8, 1, 1, 0, 0], [6, 1, 1, 1, 1]]
    assert found.values.shape == (2, 5, 3)
    assert found.values[0, 1].tolist() == [0, 0.763, -0.477]
    assert (found.values[0, 3:] == 0).all()
    assert len(found.notes) == 1  # the comments are ignored
    (tmp_path / "b.xyz").write_text(chain(3).replace("C ", "N "))
    assert load_molecules(tmp_path / "b.xyz", 64).notes == ()


def test_unused_properties_are_noted(tmp_path: pathlib.Path) -> None:
    head = 'Properties=species:S:1:pos:R:3:forces:R:3 gap=0.2 mu=1.9 smiles=O source="a b" charge=0 pbc="F F F"'
    rows = WATER.splitlines()
    atoms = [f"{row} 0 0 0" for row in rows[2:5]]
    (tmp_path / "a.extxyz").write_text("\n".join([rows[0], head, *atoms, ""]))
    found = load_molecules(tmp_path / "a.extxyz", 64)
    notes = " ".join(found.notes)
    assert [name in notes for name in ("gap", "mu", "smiles", "source", "forces")] == [True] * 5
    assert "pbc" not in notes
    assert found.properties["gap"].tolist() == [0.2]
    raw = "3\ngdb 1\t157.7 157.7 157.7 0. 13.2 -0.4 0.1 0.5 35.3 0.04 -40.5 -40.5 -40.5 -40.5 6.5\n"
    (tmp_path / "b.xyz").write_text(raw + "\n".join(rows[2:5]) + "\n1.0 2.0\nO\nInChI=1\n")
    notes = " ".join(load_molecules(tmp_path / "b.xyz", 64).notes)
    assert [name in notes for name in ("gap", "SMILES", "InChI")] == [True] * 3


@pytest.mark.parametrize("word", ["charge=1", 'total_charge="+1"', "Charge=-2", "net_charge=1.0", "pbc=F charge=1 e=2"])
def test_charged_molecules_are_left_out(word: str, tmp_path: pathlib.Path) -> None:
    rows = METHANE.splitlines()
    charged = "\n".join([rows[0], word, *rows[2:7], ""])
    neutral = "\n".join([rows[0], "charge=0", *rows[2:7], ""])
    (tmp_path / "a.xyz").write_text(charged + neutral + charged)
    found = load_molecules(tmp_path / "a.xyz", 64)
    assert len(found.values) == 1
    assert "a.xyz: line 1" in found.notes[0]
    (tmp_path / "b.xyz").write_text("\n".join([rows[0], "charge=0.5", *rows[2:7], ""]))
    with refuses(InputError, place="line 2", found="'charge=0.5'"):
        load_molecules(tmp_path / "b.xyz", 64)


def test_filtered_molecules_are_noted(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.xyz").write_text(WATER + "1\n\nHe 0 0 0\n" + chain(9) + chain(10))
    found = load_molecules(tmp_path / "a.xyz", 9)
    assert (found.atomic_numbers > 0).sum(1).tolist() == [3, 9]
    for note, line in zip(found.notes[:3], (6, 9, 20), strict=True):  # single atom, no hydrogen, too large
        assert f"a.xyz: line {line}" in note
    drawing = record([("C", 0, 0, 0), ("C", 1.5, 0, 0)], dimension="2D")
    water = record([("O", 0, 0, 0.119), ("H", 0, 0.763, -0.477)])
    (tmp_path / "b.sdf").write_text("$$$$\n".join([HYDROXIDE, drawing, water]))
    found = load_molecules(tmp_path / "b.sdf", 64)
    assert len(found.values) == 1
    for note, word in zip(found.notes[:3], ("b.sdf: line 1", "b.sdf: line 10", "bonds"), strict=True):
        assert word in note
    with refuses(InputError):
        load_molecules(tmp_path / "a.xyz", 2)


def test_coinciding_atoms_are_refused(tmp_path: pathlib.Path) -> None:
    coinciding = WATER.replace("H 0.0 -0.763 -0.477", "H 0.0 0.763 -0.2")  # 0.277 Å from the other
    (tmp_path / "a.xyz").write_text(METHANE + coinciding)
    with refuses(InputError) as caught:
        load_molecules(tmp_path / "a.xyz", 64)
    assert "line 8" in str(caught.value)
    (tmp_path / "a.xyz").write_text(METHANE + coinciding.replace("-0.2", "-0.17"))
    assert len(load_molecules(tmp_path / "a.xyz", 64).values) == 2


def test_without_limit_all_are_kept(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.xyz").write_text("1\n\nHe 0 0 0\n" + "2\n\nH 0 0 0\nH 0 0 0\n" + chain(100))
    found = load_molecules(tmp_path / "a.xyz", None)
    assert (found.atomic_numbers > 0).sum(1).tolist() == [1, 2, 100]
    assert len(load_raw(tmp_path / "a.xyz", ReadOptions(limit=None)).values) == 3


def test_folder_order(tmp_path: pathlib.Path) -> None:
    for name, text in (("b.xyz", WATER), ("a.mol", record([("C", 0, 0, 1), ("O", 0, 0, 2.1)])), ("c.xyz", METHANE)):
        (tmp_path / name).write_text(text)
    (tmp_path / "README").write_text("no molecule")
    found = load_raw(tmp_path, ReadOptions())
    assert "README" in found.notes[0]
    assert (found.atomic_numbers > 0).sum(1).tolist() == [2, 3, 5]


def test_arrays_are_read_and_checked(tmp_path: pathlib.Path) -> None:
    element, place = np.array([[8, 1, 1], [1, 1, 0]]), np.arange(18.0).reshape(2, 3, 3)
    valid = element > 0
    arrays = {"element": element, "place": place, "valid": valid}
    found = molecules_from_arrays(arrays, "a.npz", 64)
    assert found.atomic_numbers.tolist() == element.tolist()
    assert (found.values[1, 2] == 0).all()
    assert molecules_from_arrays({"element": element, "place": place}, "a.npz", 64).values.tolist() == (
        found.values.tolist()
    )
    left = molecules_from_arrays(arrays, "a.npz", 2)
    assert len(left.values) == 1
    assert len(left.notes) == 1
    np.savez(tmp_path / "a.npz", **arrays)
    assert isinstance(read(str(tmp_path / "a.npz")).modality, Molecules)
    for wrong, row in (
        ({"valid": valid[:, ::-1]}, 2),
        ({"valid": valid & False}, 1),
        ({"valid": valid[:1]}, None),
        ({"valid": valid * 1.0}, None),
        ({"valid": valid | True}, 2),
        ({"element": element * 100}, 1),
        ({"element": element * 1.0}, None),
        ({"place": place[:, :2]}, None),
        ({"place": place.astype(str)}, None),
        ({"place": place * np.nan}, 1),
        ({"place": place * [[[1]], [[np.nan]]]}, 2),
        ({"element": element[:0], "place": place[:0], "valid": valid[:0]}, None),
    ):
        with refuses(InputError, row=row):
            molecules_from_arrays({**arrays, **wrong}, "a.npz", 64)


def test_read_dataset(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(WATER + METHANE + chain(70))
    data = read(str(path))
    assert isinstance(data.modality, Molecules)
    assert len(data) == 2
    assert len(read(str(path), longest=70)) == 3
    reloaded = read(str(path), like=data.modality)
    assert reloaded.modality is data.modality
    assert torch.equal(reloaded.values["place"], data.values["place"])
    long = read(str(path), longest=70).modality
    assert len(read(str(path), like=long)) == 3  # as long as the model's own, not as the default
    with refuses(UsageError, argument="space"):
        read(str(path), space="sphere")


def test_distant_atoms_are_refused(tmp_path: pathlib.Path) -> None:
    """The distance is from the mean of the molecule; its square may overflow."""
    path = tmp_path / "a.xyz"
    for coordinate in ("3e4", "1e300", "-1.7e308"):
        path.write_text(METHANE + WATER.replace("0.763", coordinate, 1))
        with refuses(InputError, file=str(path), place="line 8"):
            read(str(path))
    path.write_text("2\n\nC 1e6 0 0\nO 1000001 0 0\n")
    assert len(read(str(path))) == 1
    path.write_text("2\n\nC 0 0 0\nO 0 0 1e5\n")
    assert len(load_raw(path, ReadOptions(limit=None)).values) == 1  # samples are not checked
    (tmp_path / "b.sdf").write_text(WATER_SDF + "$$$$\n" + record([("O", 0, 0, 0.1), ("H", 0, 0, -30000)]))
    with refuses(InputError, file=str(tmp_path / "b.sdf"), place="line 10"):
        read(str(tmp_path / "b.sdf"))


def test_empty_file_in_a_folder_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.xyz").write_text(WATER)
    for text in ("", "\n\n"):
        (tmp_path / "b.xyz").write_text(text)
        with refuses(InputError, file=str(tmp_path / "b.xyz"), found="none"):
            read(str(tmp_path))


def test_unknown_elements_and_sizes_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.xyz").write_text(WATER)
    (tmp_path / "b.xyz").write_text(WATER + METHANE)
    model = read(str(tmp_path / "a.xyz")).modality
    with refuses(InputError, found="5"):
        read_samples(tmp_path / "b.xyz", model)
    (tmp_path / "b.xyz").write_text(WATER + WATER.replace("O", "S"))
    with refuses(InputError, file=str(tmp_path / "b.xyz"), place="line 6", found="S"):
        read(str(tmp_path / "b.xyz"), like=model)
