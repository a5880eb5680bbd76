"""Private fits in a folder of their own, with the same noise for the same plan."""

import functools
import json

import pytest

from feller.app.workflows.private import plan_dp_sgd
from tests.app.commands.private.private_fits import SCHEMA, write_table

CALIBRATED = functools.cache(plan_dp_sgd.calibrate)
"""The same noise for the same plan, which takes a second to find."""


@pytest.fixture(autouse=True)
def elsewhere(here, monkeypatch):
    monkeypatch.setattr(plan_dp_sgd, "calibrate", CALIBRATED)
    monkeypatch.setattr("feller.app.workflows.private.private_data._salt", lambda wish: "open-1")
    write_table(here / "people.csv")
    (here / "schema.json").write_text(json.dumps(SCHEMA))
