"""Molecules in XYZ files: blocks, columns, isotopes, the form of QM9, damage with its line."""

import gzip
import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.molecules.molecule import Molecule
from feller.data.molecules.xyz import read_xyz, xyz_text

WATER = "3\nwater\nO 0.0 0.0 0.119\nH 0.0 0.763 -0.477\nH 0.0 -0.763 -0.477\n"
METHANE = "5\n\nC 0 0 0\nH .63 .63 .63\nH -.63 -.63 .63\nH -.63 .63 -.63\nH .63 -.63 -.63\n"


def read(tmp_path: pathlib.Path, text: str, name: str = "a.xyz") -> list[Molecule]:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return list(read_xyz(path))


@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.gz"])
def test_blocks_follow_each_other(tmp_path: pathlib.Path, name: str) -> None:
    water, methane = read(tmp_path, WATER + "\n" + METHANE + "\n\n", name)
    assert water.atomic_numbers.tolist() == [8, 1, 1]
    np.testing.assert_array_equal(water.positions, [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])
    assert methane.atomic_numbers.tolist() == [6, 1, 1, 1, 1]
    assert methane.positions[2].tolist() == [-0.63, -0.63, 0.63]
    assert (water.name, methane.name) == (f"{name}: line 1", f"{name}: line 7")


def test_other_line_ends_and_letters_are_read(tmp_path: pathlib.Path) -> None:
    """In UTF-8 the letter Å ends with a byte that, alone, would end a line."""
    text = WATER.replace("water", "in Å").replace("\n", "\r\n")
    assert [molecule.atomic_numbers.tolist() for molecule in read(tmp_path, text + text)] == [[8, 1, 1]] * 2


def test_numbers_isotopes_and_odd_cases_are_elements(tmp_path: pathlib.Path) -> None:
    (molecule,) = read(tmp_path, "5\n\n17 0 0 0\nCL 2 0 0\nbr 4 0 0\nD 6 0 0\nT 8 0 0\n")
    assert molecule.atomic_numbers.tolist() == [17, 17, 35, 1, 1]


def test_columns_of_extended_files(tmp_path: pathlib.Path) -> None:
    text = '2\nLattice="9 0 0 0 9 0 0 0 9" Properties=id:I:1:pos:R:3:species:S:1:forces:R:3 pbc="F F F"\n'
    (molecule,) = read(tmp_path, text + "7 0.5 1 2 O 9 9 9\n8 3 4 5 H 9 9 9\n")
    assert molecule.atomic_numbers.tolist() == [8, 1]
    assert molecule.positions.tolist() == [[0.5, 1, 2], [3, 4, 5]]


def test_files_of_qm9_have_lines_of_their_own(tmp_path: pathlib.Path) -> None:
    """Frequencies, SMILES and InChI follow the atoms; charges stand behind them; powers of ten are Mathematica's."""
    own = (
        "2\ngdb 7\t157.7\t0.02\nO\t 0.5\t 1.5*^-6\t 2\t-0.53\nH\t1\t2\t3\t0.1\n1341.3\t1341.3\nO\tO\nInChI=1S/H2O\t1S\n"
    )
    first, second = read(tmp_path, own + own)
    assert first.atomic_numbers.tolist() == second.atomic_numbers.tolist() == [8, 1]
    assert first.positions.tolist() == [[0.5, 1.5e-6, 2], [1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (WATER + WATER.rsplit("\n", 2)[0], r"line 6: .*3 atoms.*found 2 before the end"),
        (WATER + "3\nwater", r"line 6: .*3 atoms.*found 0 before the end"),
        (WATER + "H 0 0 0\n", r"line 6: expected the number of atoms.*'H 0 0 0'"),
        (WATER + "0\n\n", r"line 6: expected the number of atoms.*'0'"),
        (WATER + "-1\n\n", r"line 6: expected the number of atoms"),
        (WATER + "1\n\nXx 0 0 0\n", r"line 8: .*chemical element.*'Xx'"),
        (WATER + "1\n\n0 0 0 0\n", r"line 8: .*chemical element.*'0'"),
        (WATER + "1\n\n119 0 0 0\n", r"line 8: .*chemical element.*'119'"),
        (WATER + "1\n\nC1 0 0 0\n", r"line 8: .*chemical element.*'C1'"),
        (WATER + "1\n\nC 0 0\n", r"line 8: expected a symbol and three numbers.*'C 0 0'"),
        (WATER + "1\n\nC 0 0 x\n", r"line 8: expected a symbol and three numbers"),
        (WATER + "1\n\nC 0 nan 0\n", r"line 8: expected a symbol and three numbers"),
        (WATER + "1\n\nC 0 -inf 0\n", r"line 8: expected a symbol and three numbers"),
        (WATER + "1\n\nC 0 4_0 0\n", r"line 8: expected a symbol and three numbers"),
        (WATER + 5000 * "9" + "\n\nC 0 0 0\n", r"line 6: expected the number of atoms.*'9{60}'"),
        (WATER + f"1\n\n{5000 * '1'} 0 0 0\n", r"line 8: .*found '1{39}"),
        (WATER.replace("water", f"Properties=species:S:{5000 * '1'}:pos:R:3"), r"line 2: expected Properties="),
        (WATER.replace("water", "Properties=species:S:x"), r"line 2: expected Properties="),
        (WATER.replace("water", "Properties=pos:R:3:id:I:1"), r"line 2: expected Properties="),
    ],
)
def test_damage_is_named_with_its_line(tmp_path: pathlib.Path, text: str, match: str) -> None:
    with pytest.raises(InputError, match=r"a\.xyz, " + match) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_text_is_read_back(tmp_path: pathlib.Path) -> None:
    molecules = [Molecule("", np.array([8, 1, 17]), np.array([[0.1234567, -2, 3], [1e-7, 0, 0], [-123.4, 5, 6]]))] * 2
    back = read(tmp_path, xyz_text(molecules))
    assert [molecule.atomic_numbers.tolist() for molecule in back] == [[8, 1, 17]] * 2
    np.testing.assert_allclose(back[1].positions, molecules[1].positions, atol=5.1e-7)


def test_mark_of_utf8_is_left_aside(tmp_path: pathlib.Path) -> None:
    assert [molecule.atomic_numbers.tolist() for molecule in read(tmp_path, "\ufeff" + WATER)] == [[8, 1, 1]]
