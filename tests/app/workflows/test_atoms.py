"""From a table of crystals to CIF files that pymatgen reads, and from molecules to XYZ files; wrong wishes are told."""

import json
import pathlib

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from feller.app.cli import main
from feller.data.loading.dataset_reader import read

SHORT = ["--size", "tiny", "--steps", "3", "--sampling.nfe", "4"]


@pytest.fixture(scope="module")
def crystals(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a run that was fitted to a table of CIF."""
    folder = tmp_path_factory.mktemp("crystals")
    data = read("example:perovskites")
    first = data.subset(torch.arange(40))
    data.modality.write(first.values, first.given, folder / "crystals.csv")
    assert main(["fit", str(folder / "crystals.csv"), "--out", str(folder / "run"), *SHORT]) == 0
    return folder / "run"


@pytest.mark.slow
def test_files_are_crystals(crystals: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert main(["sample", str(crystals), "-n", "20", "--out", str(tmp_path / "cifs")]) == 0
    files = sorted((tmp_path / "cifs").glob("*.cif"))
    assert len(files) == 20
    assert (tmp_path / "cifs" / "grid.png").is_file()
    for file in files:
        assert len(Structure.from_file(str(file))) == 5


def test_a_formula_and_a_cell_can_be_given(crystals: pathlib.Path, tmp_path: pathlib.Path) -> None:
    elements, formula = ("Ca", "Ti", "O"), "CaTiO3"
    words = ["sample", str(crystals), "-n", "3", "--given", f"element={formula}", "lattice=4,4,5,90,90,90"]
    assert main([*words, "--out", str(tmp_path / "x")]) == 0
    files = list((tmp_path / "x").glob("*.cif"))
    assert len(files) == 3
    for file in files:
        crystal = Structure.from_file(str(file))
        counts = {element.symbol: n for element, n in crystal.composition.items()}
        assert counts == dict(zip(elements, (1, 1, 3), strict=True))
        assert crystal.lattice.abc == pytest.approx((4, 4, 5), abs=1e-3)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ("element=Xx", "element"),
        ("place=0,0,0", "place"),
        ("colour=red", "colour"),
        ("lattice=4,4", "lattice"),
        ("atoms=7", "atoms"),
    ],
)
def test_wrong_wishes(crystals: pathlib.Path, wish: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(crystals), "-n", "1", "--given", wish]) == 2
    assert told in capsys.readouterr().err


def test_jumps_need_a_model_that_has_them(crystals: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(crystals), "-n", "1", "--superpose", "jump=0.5"]) == 2
    assert "does not superpose a flow and jumps" in capsys.readouterr().err
    for wrong in ("jump", "jump=x", "jump=2", "flow=1"):
        assert main(["sample", str(crystals), "-n", "1", "--superpose", wrong]) == 2


@pytest.mark.slow
def test_molecules(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["fit", "example:molecules", "--out", run, *SHORT]) == 0
    assert main(["sample", run, "-n", "4", "--out", str(tmp_path / "m.npz")]) == 0
    arrays = np.load(tmp_path / "m.npz")
    assert arrays["element"].shape == arrays["valid"].shape == arrays["place"].shape[:2]
    assert (
        main(["sample", run, "-n", "2", "--given", "element=C4H8O2", "--out", str(tmp_path / "butyric.xyz"), "--json"])
        == 0
    )
    assert (tmp_path / "butyric.xyz").read_text().split("\n")[0] == "14"
    capsys.readouterr()
    assert main(["evaluate", run, "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 <= numbers["atom_stability"] <= 1
    assert numbers["atom_stability_floor"] > 0.9
