"""Where tests of the application work, and how fits are quick."""

import pytest


@pytest.fixture(autouse=True)
def quick(aligned_once, briefly_rehearsed):
    """Fit in short time."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return an empty folder to work in, in which keys and what is spent are kept, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def unreported(monkeypatch):
    """Fit without a report, which is tested elsewhere and takes longest."""
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
