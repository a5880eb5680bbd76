"""feller data scenes."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from feller.app.cli import main
from feller.data.examples.example_files import PAIRS


def test_scenes_are_written(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert main(["data", "scenes", "--out", str(out), "-n", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    counts = {"pairs": 40, "instructions": 40, "memory": 4, "tail": 2, "pairs-held-out": 4, "instructions-held-out": 4}
    assert found == {"out": str(out), **counts, "creatures": 20, "creatures_of_the_tail": 1}
    assert sorted(path.name for path in out.iterdir()) == sorted([*counts, "overview.png"])
    assert len(list((out / "pairs").glob("*.png"))) == len(list((out / "pairs").glob("*.txt"))) == 40
    assert np.asarray(Image.open(out / "pairs" / "0001.png")).shape == (16, 16, 3)
    lines = [json.loads(line) for line in (out / "instructions" / "documents.jsonl").read_text().splitlines()]
    assert len(lines) == 40
    named = [item["image"] for line in lines for item in line["document"] if isinstance(item, dict) and "image" in item]
    assert sorted(named) == sorted(f"pictures/{path.name}" for path in (out / "instructions" / "pictures").iterdir())
    assert main(["data", "scenes", "--out", str(out)]) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["scenes", "-n", "5"],
        ["scenes", "-n", str(PAIRS + 1)],
        ["scenes", "--longest", "20"],
        ["scenes", "example:moons"],
        ["scenes", "--space", "sphere"],
        ["digits", "-n", "1"],
    ],
)
def test_wrong_use(words: list[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == 2
    assert not list(tmp_path.iterdir())
