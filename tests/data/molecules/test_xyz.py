"""Molecules in XYZ files."""

import gzip
import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.molecules.molecule import Molecule
from feller.data.molecules.xyz import read_xyz, xyz_text
from tests.errors import refuses

WATER = "3\nwater\nO 0.0 0.0 0.119\nH 0.0 0.763 -0.477\nH 0.0 -0.763 -0.477\n"
METHANE = "5\n\nC 0 0 0\nH .63 .63 .63\nH -.63 -.63 .63\nH -.63 .63 -.63\nH .63 -.63 -.63\n"


def read(tmp_path: pathlib.Path, text: str, name: str = "a.xyz") -> list[Molecule]:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return list(read_xyz(path))


@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.gz"])
def test_several_blocks(tmp_path: pathlib.Path, name: str) -> None:
    water, methane = read(tmp_path, WATER + "\n" + METHANE + "\n\n", name)
    assert water.atomic_numbers.tolist() == [8, 1, 1]
    np.testing.assert_array_equal(water.positions, [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])
    assert methane.atomic_numbers.tolist() == [6, 1, 1, 1, 1]
    assert methane.positions[2].tolist() == [-0.63, -0.63, 0.63]
    assert (water.name, methane.name) == (f"{name}: line 1", f"{name}: line 7")


def test_line_ends_and_encodings(tmp_path: pathlib.Path) -> None:
    """The last byte of the letter Å in UTF-8 would alone end a line."""
    text = WATER.replace("water", "in Å").replace("\n", "\r\n")
    molecules = read(tmp_path, "\ufeff" + text + text)
    assert [molecule.atomic_numbers.tolist() for molecule in molecules] == [[8, 1, 1]] * 2


def test_element_notations(tmp_path: pathlib.Path) -> None:
    (molecule,) = read(tmp_path, "5\n\n17 0 0 0\nCL 2 0 0\nbr 4 0 0\nD 6 0 0\nT 8 0 0\n")
    assert molecule.atomic_numbers.tolist() == [17, 17, 35, 1, 1]


def test_extended_xyz_columns(tmp_path: pathlib.Path) -> None:
    text = '2\nLattice="9 0 0 0 9 0 0 0 9" Properties=id:I:1:pos:R:3:species:S:1:forces:R:3 pbc="F F F"\n'
    (molecule,) = read(tmp_path, text + "7 0.5 1 2 O 9 9 9\n8 3 4 5 H 9 9 9\n")
    assert molecule.atomic_numbers.tolist() == [8, 1]
    assert molecule.positions.tolist() == [[0.5, 1, 2], [3, 4, 5]]


def test_qm9_format(tmp_path: pathlib.Path) -> None:
    """Charges follow the coordinates; frequencies, SMILES and InChI follow the atoms; powers of ten are `*^`."""
    text = (
        "2\ngdb 7\t157.7\t0.02\nO\t 0.5\t 1.5*^-6\t 2\t-0.53\nH\t1\t2\t3\t0.1\n1341.3\t1341.3\nO\tO\nInChI=1S/H2O\t1S\n"
    )
    first, second = read(tmp_path, text + text)
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
        read(tmp_path, text)
    assert found in (None, caught.value.found)
    assert len(str(caught.value)) < 400


def test_xyz_round_trip(tmp_path: pathlib.Path) -> None:
    molecules = [Molecule("", np.array([8, 1, 17]), np.array([[0.1234567, -2, 3], [1e-7, 0, 0], [-123.4, 5, 6]]))] * 2
    reloaded = read(tmp_path, xyz_text(molecules))
    assert [molecule.atomic_numbers.tolist() for molecule in reloaded] == [[8, 1, 17]] * 2
    np.testing.assert_allclose(reloaded[1].positions, molecules[1].positions, atol=5.1e-7)
