"""Runs shared by tests of several commands."""

import pytest

from tests.app.asked import run


def fitted(folder, data, steps):
    """Fit a tiny model."""
    run("fit", data, "--size", "tiny", "--steps", steps, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("runs") / "digits", "example:digits", 30)


@pytest.fixture(scope="session")
def moons(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("runs") / "moons", "example:moons", 200)


@pytest.fixture(scope="session")
def molecules(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("runs") / "molecules", "example:molecules", 2)
