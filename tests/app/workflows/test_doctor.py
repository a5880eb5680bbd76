"""feller doctor: versions, extras and the folder."""

import fcntl
import importlib.metadata
import os
import shutil

import pytest

from feller.app.workflows import doctor
from tests.app.asked import refuse, run


@pytest.fixture
def installed(monkeypatch):
    """Return a function that changes versions of packages; None for a missing one."""

    def change(**versions):
        real = importlib.metadata.version

        def version(package):
            if (found := versions.get(package, "")) is None:
                raise importlib.metadata.PackageNotFoundError(package)
            return found or real(package)

        monkeypatch.setattr(importlib.metadata, "version", version)

    return change


def test_sound_installation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run("doctor")
    assert found["broken"] == {}
    assert found["folder"]["locks"] is True
    assert found["speed"]["gflops"] > 0
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert list(tmp_path.iterdir()) == []


def test_missing_and_outdated_packages(tmp_path, installed):
    installed(scipy=None, rich="0.1", rdkit=None)
    found = doctor.diagnose(tmp_path)
    assert found["broken"].keys() == {"scipy", "rich"}
    assert "0.1" in found["broken"]["rich"]
    assert found["folder"]["writes"] is True
    assert found["extras"]["molecules"]["missing"] == ["rdkit"]
    assert any("feller[molecules]" in line for line in doctor.lines(found))


def test_folder_without_locks_or_space(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", lambda *args: None)
        assert doctor.diagnose(tmp_path)["broken"].keys() == {"folder"}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    assert doctor.diagnose(tmp_path)["broken"].keys() == {"folder"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_folder_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    assert "folder" in doctor.diagnose(tmp_path)["broken"]


def test_estimate_of_a_size():
    found = run("doctor", "--size", "tiny", "--shape", "1x16x16")
    larger = run("doctor", "--size", "tiny", "--shape", "1x32x16")
    assert larger["flops_per_example"] > 1.5 * found["flops_per_example"]
    assert found["static_gib"] == pytest.approx(20 * found["parameters"] / 2**30)
    assert found["examples"] is None
    assert found["activations_gib"]["fp32_checkpointed"] < found["activations_gib"]["fp32"]
    hours = {name: device["hours_per_million"] for name, device in found["devices"].items()}
    assert hours["T4"] / hours["H100"] == pytest.approx(989 / 65)
    assert run("doctor", "example:digits", "--size", "tiny")["examples"] == 1437
    for words, argument in ((("--shape", "1x16"), "shape"), (("--shape", "1x16x16", "example:moons"), "shape")):
        refuse("doctor", "--size", "tiny", *words, argument=argument)
    refuse("doctor", "--shape", "1x16x16", argument="shape")
