"""What stands in the place of a file of a run, and has no end or no beginning, is refused before it is read."""

import json
import os
import pathlib

import pytest

from feller.app.cli import main
from feller.core import serialization
from feller.core.errors import InputError
from feller.core.serialization import read_json
from tests.safety.specimen_runs import copied, untrained

pytestmark = pytest.mark.portable


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_a_pipe_a_folder_or_a_device(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], make) -> None:
    run = copied(tmp_path / "r")
    run.recipe.unlink()
    make(run.recipe)
    for words in (["sample", str(run.path), "-n", "2", "--out", str(tmp_path / "a.csv")], ["cite", str(run.path)]):
        assert main(words) == 1
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert told.startswith(
            f"feller: {run.recipe}: expected a regular file; found a folder, a pipe or a device. If the run"
        )


def test_json_that_no_memory_should_hold(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "MAX_JSON_BYTES", 2**20)
    path = tmp_path / "a.json"
    path.write_text(json.dumps("a" * (2**20 - 2)))
    assert len(read_json(path)) == 2**20 - 2
    path.write_text(json.dumps("a" * (2**20 - 1)))
    with pytest.raises(InputError, match="is larger than 1 MiB, as no file of ours is"):
        read_json(path)


def test_states_that_are_not_those_of_the_data(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = untrained("table-flow", tmp_path / "r")
    content = json.loads(run.model.read_text())
    content["space"]["leaf_spaces"]["numbers"]["shape"] = []
    run.model.write_text(json.dumps(content))
    (run.path / "recipe.json").write_bytes((copied(tmp_path / "s").recipe).read_bytes())
    assert main(["sample", str(run.path), "-n", "2", "--out", str(tmp_path / "a.csv")]) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{run.model}: the record is damaged: its space has states of numbers [] and words [" in told
    assert "have states of numbers [1] and words [" in told


@pytest.mark.parametrize("size", [10**12, 10**30])
def test_networks_that_no_memory_holds(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], size: int) -> None:
    run = copied(tmp_path / "r")
    content = json.loads(run.model.read_text())
    content["architecture"]["width"] = size
    run.model.write_text(json.dumps(content))
    assert main(["sample", str(run.path), "-n", "2", "--out", str(tmp_path / "a.csv")]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith(f"feller: {run.model}: ")
    assert str(run.ema_weights) in told[-1]


def test_states_that_no_memory_holds(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(tmp_path / "r")
    content = json.loads(run.model.read_text())
    content["space"]["shape"] = [10**12, 10**12]
    run.model.write_text(json.dumps(content))
    assert main(["sample", str(run.path), "-n", "2", "--out", str(tmp_path / "a.csv")]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith(f"feller: {run.model}: ")
    assert "memory" in told[-1]
