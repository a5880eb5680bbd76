"""Crystals and molecules: from a table of CIF to CIF files that pymatgen reads, and XYZ files."""

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from feller.data.loading.dataset_reader import read
from tests.app.asked import refuse, run

SHORT = ("--size", "tiny", "--steps", 3, "--sampling.nfe", 4)


@pytest.fixture(scope="module")
def crystals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crystals")
    first = read("example:perovskites").subset(torch.arange(40))
    first.modality.write(first.values, first.given, folder / "crystals.csv")
    run("fit", folder / "crystals.csv", "--out", folder / "run", *SHORT)
    return folder / "run"


@pytest.mark.slow
def test_files_of_crystals(crystals, tmp_path):
    run("sample", crystals, "-n", 20, "--out", tmp_path / "cifs")
    files = sorted((tmp_path / "cifs").glob("*.cif"))
    assert len(files) == 20
    assert (tmp_path / "cifs" / "grid.png").is_file()
    assert {len(Structure.from_file(str(file))) for file in files} == {5}


def test_given_formula_and_lattice(crystals, tmp_path):
    run("sample", crystals, "-n", 3, "--given", "element=CaTiO3", "lattice=4,4,5,90,90,90", "--out", tmp_path / "x")
    files = list((tmp_path / "x").glob("*.cif"))
    assert len(files) == 3
    for file in files:
        crystal = Structure.from_file(str(file))
        assert {element.symbol: n for element, n in crystal.composition.items()} == {"Ca": 1, "Ti": 1, "O": 3}
        assert crystal.lattice.abc == pytest.approx((4, 4, 5), abs=1e-3)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--given element=Xx", {}),
        ("--given place=0,0,0", {"argument": "given", "found": "'place'"}),
        ("--given lattice=4,4", {"found": "'4,4'"}),
        ("--given atoms=7", {"argument": "atoms", "found": "'7'"}),
        ("--superpose jump=0.5", {"remedy": "Omit the jump weight"}),
        ("--superpose jump", {"argument": "superpose", "found": "'jump'"}),
        ("--superpose jump=x", {"argument": "superpose", "found": "'jump=x'"}),
        ("--superpose jump=2", {"argument": "superpose", "found": "'jump=2'"}),
        ("--superpose flow=1", {"argument": "superpose", "found": "'flow=1'"}),
    ],
)
def test_refused_samples(crystals, words, fields):
    refuse("sample", crystals, "-n", 1, *words.split(), **fields)


@pytest.mark.slow
def test_molecules(tmp_path):
    folder = tmp_path / "run"
    run("fit", "example:molecules", "--out", folder, *SHORT)
    run("sample", folder, "-n", 4, "--out", tmp_path / "m.npz")
    arrays = np.load(tmp_path / "m.npz")
    assert arrays["element"].shape == arrays["valid"].shape == arrays["place"].shape[:2]
    run("sample", folder, "-n", 2, "--given", "element=C4H8O2", "--out", tmp_path / "butyric.xyz")
    assert (tmp_path / "butyric.xyz").read_text().split("\n")[0] == "14"
    numbers = run("evaluate", folder)
    assert 0 <= numbers["atom_stability"] <= 1
    assert numbers["atom_stability_floor"] > 0.9
