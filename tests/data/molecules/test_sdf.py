"""Molecules in SDF and MOL files."""

import gzip
import pathlib
import sys

import numpy as np
import pytest
from rdkit import Chem

from feller.core.errors import InputError, UsageError
from feller.data.molecules.molecule import Molecule
from feller.data.molecules.sdf import read_sdf, sdf_text
from tests.errors import refuses

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
def test_several_records(tmp_path: pathlib.Path, name: str) -> None:
    text = WATER if name == "a.mol" else WATER + "> <energy>\n-76.4\n\n$$$$\n"
    molecules = read(tmp_path, text if name == "a.mol" else text.replace("\n", "\r\n") + text, name)
    assert [molecule.atomic_numbers.tolist() for molecule in molecules] == [[8, 1, 1]] * (1 if name == "a.mol" else 2)
    assert molecules[-1].positions.tolist() == [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]]
    assert molecules[0].name == f"{name}: line 1"
    assert name == "a.mol" or molecules[1].name == f"{name}: line 13"
    assert not molecules[0].charge
    assert not molecules[0].is_2d


def test_charges_and_drawings_are_marked(tmp_path: pathlib.Path) -> None:
    """Formal charges that sum to zero are no charge; a planar molecule is not a drawing."""
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
def test_damaged_records_are_refused(tmp_path: pathlib.Path, damaged: str) -> None:
    with refuses(InputError, file=str(tmp_path / "a.sdf"), place="line 10"):
        read(tmp_path, WATER + "$$$$\n" + damaged)


def test_sdf_round_trip_with_inferred_bonds(tmp_path: pathlib.Path) -> None:
    """Ethene gets a double bond; distant atoms get none but are written and read."""
    distant = Molecule("", np.array([8, 8, 1]), np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0.12345]]))
    text, unbonded = sdf_text([ETHENE, distant])
    assert unbonded == 1
    first, second = (Chem.MolFromMolBlock(block, removeHs=False) for block in text.split("$$$$\n")[:2])
    assert Chem.MolToSmiles(Chem.RemoveHs(first)) == "C=C"
    assert first.GetConformer().Is3D()
    assert second.GetNumBonds() == 0
    flat = Molecule("", ETHENE.atomic_numbers, ETHENE.positions[:, [1, 2, 0]])
    assert not read(tmp_path, sdf_text([flat])[0])[0].is_2d
    for molecule, reloaded in zip((ETHENE, distant), read(tmp_path, text), strict=True):
        assert reloaded.atomic_numbers.tolist() == molecule.atomic_numbers.tolist()
        np.testing.assert_allclose(reloaded.positions, molecule.positions, atol=6e-5)
        assert not reloaded.charge
        assert not reloaded.is_2d


def test_missing_rdkit_names_the_extra(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(UsageError, match="molecules"):
        read(tmp_path, WATER)
