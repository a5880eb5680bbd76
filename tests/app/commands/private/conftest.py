"""Private fits in a folder of their own, with the same noise for the same plan."""

import functools
import json
import pathlib

import pytest

from feller.app.workflows.private import plan_dp_sgd
from tests.app.commands.private.private_fits import SCHEMA, write_table

CALIBRATED = functools.cache(plan_dp_sgd.calibrate)
"""The same noise for the same plan, which takes a second to find."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan_dp_sgd, "calibrate", CALIBRATED)
    monkeypatch.setattr("feller.app.workflows.private.private_data._salt", lambda wish: "open-1")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    write_table(tmp_path / "people.csv")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit without a report, which is for the owner of the rows and takes longest."""
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
