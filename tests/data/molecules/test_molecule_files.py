"""Molecules in XYZ files, and molecule datasets from files, folders and arrays."""

import gzip
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
from feller.data.molecules.xyz import read_xyz, xyz_text
from tests.data.molecules.test_sdf import HYDROXIDE, record
from tests.data.molecules.test_sdf import WATER as WATER_SDF
from tests.errors import refuses

WATER = "3\nwater\nO 0.0 0.0 0.119\nH 0.0 0.763 -0.477\nH 0.0 -0.763 -0.477\n"
METHANE = "5\n\nC 0 0 0\nH .63 .63 .63\nH -.63 -.63 .63\nH -.63 .63 -.63\nH .63 -.63 -.63\n"


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


def read_text(tmp_path: pathlib.Path, text: str, name: str = "a.xyz") -> list[Molecule]:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return list(read_xyz(path))


@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.gz"])
def test_several_blocks(tmp_path: pathlib.Path, name: str) -> None:
    water, methane = read_text(tmp_path, WATER + "\n" + METHANE + "\n\n", name)
    assert water.atomic_numbers.tolist() == [8, 1, 1]
    np.testing.assert_array_equal(water.positions, [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])
    assert methane.atomic_numbers.tolist() == [6, 1, 1, 1, 1]
    assert methane.positions[2].tolist() == [-0.63, -0.63, 0.63]
    assert (water.name, methane.name) == (f"{name}: line 1", f"{name}: line 7")


def test_line_ends_and_encodings(tmp_path: pathlib.Path) -> None:
    """The last byte of the letter Å in UTF-8 would alone end a line."""
    text = WATER.replace("water", "in Å").replace("\n", "\r\n")
    molecules = read_text(tmp_path, "\ufeff" + text + text)
    assert [molecule.atomic_numbers.tolist() for molecule in molecules] == [[8, 1, 1]] * 2


def test_element_notations(tmp_path: pathlib.Path) -> None:
    (molecule,) = read_text(tmp_path, "5\n\n17 0 0 0\nCL 2 0 0\nbr 4 0 0\nD 6 0 0\nT 8 0 0\n")
    assert molecule.atomic_numbers.tolist() == [17, 17, 35, 1, 1]


def test_extended_xyz_columns(tmp_path: pathlib.Path) -> None:
    text = '2\nLattice="9 0 0 0 9 0 0 0 9" Properties=id:I:1:pos:R:3:species:S:1:forces:R:3 pbc="F F F"\n'
    (molecule,) = read_text(tmp_path, text + "7 0.5 1 2 O 9 9 9\n8 3 4 5 H 9 9 9\n")
    assert molecule.atomic_numbers.tolist() == [8, 1]
    assert molecule.positions.tolist() == [[0.5, 1, 2], [3, 4, 5]]


def test_qm9_format(tmp_path: pathlib.Path) -> None:
    """Charges follow the coordinates; frequencies, SMILES and InChI follow the atoms; powers of ten are `*^`."""
    text = (
        "2\ngdb 7\t157.7\t0.02\nO\t 0.5\t 1.5*^-6\t 2\t-0.53\nH\t1\t2\t3\t0.1\n1341.3\t1341.3\nO\tO\nInChI=1S/H2O\t1S\n"
    )
    first, second = read_text(tmp_path, text + text)
    assert first.atomic_numbers.tolist() == second.atomic_numbers.tolist() == [8, 1]
    assert first.positions.tolist() == [[0.5, 1.5e-6, 2], [1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        (WATER + WATER.rsplit("\n", 2)[0], 6, "2 before the end of the file"),
        (WATER + "3\nwater", 6, "0 before the end of the file"),
        (WATER + "H 0 0 0\n", 6, "'H 0 0 0'"),
        (WATER + "0\n\n", 6, "'0'"),
        (WATER + "-1\n\n", 6, "'-1'"),
        *((WATER + f"1\n\n{symbol} 0 0 0\n", 8, f"'{symbol}'") for symbol in ("Xx", "0", "119", "C1")),
        *((WATER + f"1\n\nC 0 {rest}\n", 8, f"'C 0 {rest}'") for rest in ("0", "0 x", "nan 0", "-inf 0", "4_0 0")),
        (WATER + 5000 * "9" + "\n\nC 0 0 0\n", 6, None),
        (WATER + f"1\n\n{5000 * '1'} 0 0 0\n", 8, None),
        (WATER.replace("water", f"Properties=species:S:{5000 * '1'}:pos:R:3"), 2, None),
        (WATER.replace("water", "Properties=species:S:x"), 2, "'Properties=species:S:x'"),
        (WATER.replace("water", "Properties=pos:R:3:id:I:1"), 2, "'Properties=pos:R:3:id:I:1'"),
    ],
)
def test_damage_is_refused_with_its_line(tmp_path: pathlib.Path, text: str, line: int, found: str | None) -> None:
    with refuses(InputError, file=str(tmp_path / "a.xyz"), place=f"line {line}") as caught:
        read_text(tmp_path, text)
    assert found in (None, caught.value.found)
    assert len(str(caught.value)) < 400


def test_xyz_round_trip(tmp_path: pathlib.Path) -> None:
    molecules = [Molecule("", np.array([8, 1, 17]), np.array([[0.1234567, -2, 3], [1e-7, 0, 0], [-123.4, 5, 6]]))] * 2
    reloaded = read_text(tmp_path, xyz_text(molecules))
    assert [molecule.atomic_numbers.tolist() for molecule in reloaded] == [[8, 1, 17]] * 2
    np.testing.assert_allclose(reloaded[1].positions, molecules[1].positions, atol=5.1e-7)
