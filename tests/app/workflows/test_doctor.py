"""What the doctor finds, and that it says so where something is broken."""

import importlib.metadata
import json
import os

import pytest

from feller.app.cli import main
from feller.app.workflows import doctor


def test_all_is_well_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert found["broken"] == {}
    assert found["folder"]["locks"] is True
    assert found["speed"]["gflops"] > 0
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert "all required parts work" in err
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_or_too_old_is_broken_and_the_rest_is_still_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    real = importlib.metadata.version

    def version(package):
        if package == "scipy":
            raise importlib.metadata.PackageNotFoundError(package)
        return "0.1" if package == "rich" else real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["broken"].keys() == {"scipy", "rich"}
    assert "0.1 is installed" in found["broken"]["rich"]
    assert found["folder"]["writes"] is True


def test_missing_extras_are_named_and_break_nothing(monkeypatch):
    real = importlib.metadata.version

    def version(package):
        if package == "rdkit":
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = doctor.diagnose()
    assert found["extras"]["molecules"]["missing"] == ["rdkit"]
    assert "rdkit" not in found["broken"]
    assert any("pip install 'feller[molecules]'" in line for line in doctor.lines(found))


def test_a_folder_without_locks_or_room_is_broken(tmp_path, monkeypatch):
    import fcntl
    import shutil

    monkeypatch.setattr(fcntl, "flock", lambda *args: None)
    assert "not support locks" in doctor.diagnose(tmp_path)["broken"]["folder"]
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    assert "0 MB are free" in doctor.diagnose(tmp_path)["broken"]["folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_to_is_broken(tmp_path):
    tmp_path.chmod(0o500)
    assert "folder" in doctor.diagnose(tmp_path)["broken"]
