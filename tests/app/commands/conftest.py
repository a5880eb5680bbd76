"""Runs that several commands are tried on."""

import pathlib

import pytest

from feller.app.cli import main


def fitted(folder: pathlib.Path, data: object, steps: int) -> pathlib.Path:
    """Fit a tiny model."""
    assert main(["fit", str(data), "--size", "tiny", "--steps", str(steps), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return fitted(tmp_path_factory.mktemp("runs") / "digits", "example:digits", 30)


@pytest.fixture(scope="session")
def moons(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return fitted(tmp_path_factory.mktemp("runs") / "moons", "example:moons", 200)


@pytest.fixture(scope="session")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return fitted(tmp_path_factory.mktemp("runs") / "molecules", "example:molecules", 2)
