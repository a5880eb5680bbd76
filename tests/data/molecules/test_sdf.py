"""Molecules in SDF files: records, charges, drawings, damage; bonds that are found when written."""

import gzip
import pathlib
import sys

import numpy as np
import pytest
from rdkit import Chem

from feller.core.errors import InputError, UsageError
from feller.data.molecules.molecule import Molecule
from feller.data.molecules.sdf import read_sdf, sdf_text

ETHENE = Molecule(
    "",
    np.array([6, 6, 1, 1, 1, 1]),
    np.array(
        [[0, 0, 0.667], [0, 0, -0.667], [0, 0.923, 1.238], [0, -0.923, 1.238], [0, 0.923, -1.238], [0, -0.923, -1.238]]
    ),
)


def record(atoms: list[tuple[str, float, float, float]], *more: str, dimension: str = "3D", title: str = "x") -> str:
    lines = [f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0" for symbol, x, y, z in atoms]
    head = [title, f"  feller  0101200000{dimension}", "", f"{len(atoms):3d}  0  0  0  0  0  0  0  0  0999 V2000"]
    return "\n".join([*head, *lines, *more, "M  END", ""])


WATER = record([("O", 0, 0, 0.119), ("H", 0, 0.763, -0.477), ("H", 0, -0.763, -0.477)])
HYDROXIDE = record([("O", 0, 0, 0.1), ("H", 0, 0, 1.1)], "M  CHG  1   1  -1")
NITRO = record([("N", 0, 0, 0.1), ("O", 0, 0, 1.1), ("O", 0, 1, 0.1)], "M  CHG  2   1   1   2  -1")


def read(tmp_path: pathlib.Path, text: str, name: str = "a.sdf") -> list[Molecule]:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return list(read_sdf(path))


@pytest.mark.parametrize("name", ["a.sdf", "a.sdf.gz", "a.mol"])
def test_records_follow_each_other(tmp_path: pathlib.Path, name: str) -> None:
    one = WATER if name == "a.mol" else WATER + "> <energy>\n-76.4\n\n$$$$\n"
    found = read(tmp_path, one if name == "a.mol" else one.replace("\n", "\r\n") + one, name)
    assert [molecule.atomic_numbers.tolist() for molecule in found] == [[8, 1, 1]] * (1 if name == "a.mol" else 2)
    assert found[-1].positions.tolist() == [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]]
    assert found[0].name == f"{name}: line 1"
    assert name == "a.mol" or found[1].name == f"{name}: line 13"
    assert not found[0].charge
    assert not found[0].is_2d


def test_charges_and_drawings_are_known(tmp_path: pathlib.Path) -> None:
    """Charges of single atoms that add up to nothing are no charge; a planar molecule is no drawing."""
    flat = [("C", 0, 0, 0), ("C", 1.5, 0, 0), ("O", 2, 1, 0)]
    texts = [HYDROXIDE, NITRO, record(flat, dimension="2D"), record(flat, dimension="  "), record(flat)]
    found = read(tmp_path, "$$$$\n".join(texts) + "$$$$\n")
    assert [molecule.charge for molecule in found] == [-1, 0, 0, 0, 0]
    assert [molecule.is_2d for molecule in found] == [False, False, True, True, False]


@pytest.mark.parametrize(
    "damaged",
    [
        "\n".join(WATER.split("\n")[:6]),
        WATER.replace("0.7630", "0.7x30", 1),
        WATER.replace(" O  ", " Xx ", 1),
        WATER.replace(" O  ", " *  ", 1),
        WATER.replace(" O  ", " R# ", 1),
        WATER.replace("    0.7630", "       nan", 1),
        WATER.replace("  3  0", "  0  0", 1),
        "nothing\n",
    ],
)
def test_damaged_record_is_named(tmp_path: pathlib.Path, damaged: str) -> None:
    with pytest.raises(InputError, match=r"a\.sdf, line 10: ") as error:
        read(tmp_path, WATER + "$$$$\n" + damaged)
    assert "\n" not in str(error.value)


def test_bonds_are_found_or_left_out_and_counted(tmp_path: pathlib.Path) -> None:
    """Ethene has a double bond; of atoms far apart none is found, but they are written and read all the same."""
    odd = Molecule("", np.array([8, 8, 1]), np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0.12345]]))
    text, without = sdf_text([ETHENE, odd])
    assert without == 1
    first, second = (Chem.MolFromMolBlock(block, removeHs=False) for block in text.split("$$$$\n")[:2])
    assert Chem.MolToSmiles(Chem.RemoveHs(first)) == "C=C"
    assert first.GetConformer().Is3D()
    assert second.GetNumBonds() == 0
    for own, back in zip((ETHENE, odd), read(tmp_path, text), strict=True):
        assert back.atomic_numbers.tolist() == own.atomic_numbers.tolist()
        np.testing.assert_allclose(back.positions, own.positions, atol=6e-5)
        assert not back.charge
        assert not back.is_2d


def test_planar_samples_are_no_drawings(tmp_path: pathlib.Path) -> None:
    flat = Molecule("", ETHENE.atomic_numbers, ETHENE.positions[:, [1, 2, 0]])
    assert (flat.positions[:, 2] == 0).all()
    (back,) = read(tmp_path, sdf_text([flat])[0])
    assert not back.is_2d


def test_missing_rdkit_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(UsageError, match=r"feller\[molecules\]"):
        read(tmp_path, WATER)
