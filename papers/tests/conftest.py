"""Functions of both distributions are checked as those of the tests of feller are."""

import importlib.metadata
import pathlib
import tomllib
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest
import tests.shapes  # noqa: F401 (before feller, whose functions it has checked)

PROJECT = pathlib.Path(__file__).parent.parent / "pyproject.toml"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare the entry points of pyproject.toml, whether or not the distribution is installed."""
    groups = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]
    declared = EntryPoints(
        EntryPoint(name, value, group) for group, entries in groups.items() for name, value in entries.items()
    )
    known = importlib.metadata.entry_points

    def entry_points(**wanted: Any) -> EntryPoints:
        others = [entry for entry in known(**wanted) if entry not in declared]
        return EntryPoints([*others, *declared.select(**wanted)])

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
