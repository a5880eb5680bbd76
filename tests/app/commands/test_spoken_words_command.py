"""feller data spoken-words."""

import json
import pathlib

import pytest

from feller.app.cli import main


@pytest.mark.slow
def test_its_folder_is_copied_and_read(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speech"
    assert main(["data", "example:spoken-words", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == len([*out.iterdir()])
    assert main(["data", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 174
    assert main(["data", "spoken-words", "--out", str(out)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_it_takes_no_other_flags(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "spoken-words", "--out", str(tmp_path / "x"), "--longest", "5"]) == 2
    assert "feller data spoken-words does not take --longest" in capsys.readouterr().err
    assert main(["data", "moons", "--out", str(tmp_path / "x")]) == 2
    assert "has no folder" in capsys.readouterr().err
