"""Columns hidden by noise, rare values and clipped cells: notes before training, samples and reports."""

import csv
import json
import pathlib
import sys
import warnings

import numpy as np
import pytest

from feller.app.workflows.fitting.plan_fit import plan_fit
from feller.app.workflows.fitting.recipe_request import RecipeRequest
from feller.app.workflows.private import table_schema
from feller.app.workflows.private.guarantee_text import timing
from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.private_data import PRIVATE_PACKAGES, data_access
from feller.app.workflows.private.table_schema import (
    capture_warnings,
    clipped_cells_note,
    hidden_columns_note,
    noise_too_large_text,
    rare_values_note,
)
from feller.core.errors import MAX_MESSAGE_LENGTH, InputError
from feller.core.optional_dependency import NotInstalledError
from feller.data.tables.clipped_cells import ClippedCells, KeptWords
from feller.data.tables.column import Boolean
from feller.data.tables.private_schema_search import SchemaSearchResult
from feller.data.tables.private_support import Charge
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import HiddenColumn
from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.marginals.one_way_error import check_budget
from feller.training.engine import get_engine
from tests.app.asked import refuse, run
from tests.records import fit_record

pytestmark = pytest.mark.usefixtures("here")


def write(name, n):
    """Write a table in which no value of `ward` is in a tenth of the rows; noise of some 40 rows hides it."""
    rng = np.random.default_rng(0)
    with open(name, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("smokes", "age", "ward", "home"))
        for i in range(n):
            out.writerow((("yes", "no")[i % 2], rng.integers(32, 64), f"ward {i % 25}", ("town", "land")[i % 3 == 0]))


def test_note_on_hidden_columns():
    schema = Schema((Boolean("a"), HiddenColumn("b"), HiddenColumn("c d")), "clip")
    (note,) = hidden_columns_note(schema, "my people.csv", 500, 0.21)
    for text in ("b, c d", "2 of 3 columns", "500 rows", "feller data schema 'my people.csv' --out schema.json"):
        assert text in note
    assert hidden_columns_note(Schema((Boolean("a"),), "clip"), "x.csv", 500, 0.21) == ()
    names = [f"a column with a rather long name {i}" for i in range(90)]
    text = noise_too_large_text(names, 91, 500, 54.2, "x.csv")
    assert "82 more (90 of 91 columns)" in text
    assert len(text) < MAX_MESSAGE_LENGTH


def test_training_time_of_private_runs_is_hidden():
    ledger = Ledger((GaussianMechanism("counts", 5.0),), 1e-5, 300)
    assert timing({"step": 3, "seconds": 60.0}, ledger) == {"steps": 3}
    assert timing({"step": 3, "seconds": 2.5}, None) == {"steps": 3, "seconds": 2.5}


def test_table_hidden_by_noise_is_refused():
    """60 rows at epsilon 1: only the kinds of the columns are counted and paid for."""
    write("few.csv", 60)
    words = ("--epsilon", 1, "--out", "r", "--unsafe-seed", 0)
    text = str(refuse("fit", "few.csv", *words, kind=InputError))
    for part in ("smokes, age, ward, home (4 of 4 columns)", "feller data schema few.csv", "spent epsilon"):
        assert part in text
    kept = pathlib.Path("r/spent/1/ledger.json")
    assert [one["label"] for one in json.loads(kept.read_text())["events"]] == ["kinds of the columns"]
    assert not pathlib.Path("r/model.json").exists()


@pytest.mark.parametrize("package", PRIVATE_PACKAGES)
def test_missing_package_costs_no_budget(monkeypatch, package):
    write("some.csv", 60)
    monkeypatch.setitem(sys.modules, package, None)
    refuse("fit", "some.csv", "--epsilon", 1, "--out", "r", kind=NotInstalledError)
    assert not pathlib.Path("r").exists()


def test_hidden_column_is_left_out(capsys):
    write("some.csv", 700)
    words = ("--epsilon", 2, "--unsafe-seed", 0, "--recipe", "table-marginals", "--report", "full")
    numbers = run("fit", "some.csv", *words, "--out", "r")
    err, ward = capsys.readouterr().err, "ward (1 of 4 columns)"
    assert err.index(ward) < err.index("writing to r")
    assert (numbers["left_out"], numbers["empty_real"]) == ("ward", 0)
    assert "seconds" not in numbers
    page = json.loads(pathlib.Path("r/report.json").read_text())
    assert page["verdict"].startswith("Poor: ")
    assert any(caution.endswith("ward") for caution in page["cautions"])
    assert any(note.startswith(ward) for note in page["notes"])
    kept = json.loads(pathlib.Path("r/model.json").read_text())["modality"]["schema"]["columns"]
    assert (kept[2]["is"], kept[2]["name"]) == ("HiddenColumn", "ward")
    run("sample", "r", "-n", 40, "--out", "made.csv")
    with open("made.csv") as file:
        assert csv.DictReader(file).fieldnames == ["smokes", "age", "home"]
    run("evaluate", "r", "--samples", "made.csv")
    pathlib.Path("part.csv").write_text("ward,smokes\nward 3,yes\n")
    fields = {"kind": InputError, "file": "part.csv", "remedy": "Remove the column"}
    refuse("sample", "r", "--complete", "part.csv", "--out", "whole.csv", **fields)


def test_notes_depend_on_the_noisy_schema_only(monkeypatch):
    """Two tables with the same names and number of rows."""
    found = [Boolean(name, *words, missing="") for name, words in (("smokes", ("yes", "no")), ("home", ("a", "b")))]
    schema = Schema((found[0], HiddenColumn("age"), HiddenColumn("ward"), found[1]), "clip")
    domain = SchemaSearchResult(schema, (Charge("kinds of the columns", 20.0),), (), ())
    monkeypatch.setattr(table_schema, "search_schema", lambda *given: domain)
    private = PrivacyConfig(epsilon=2.0, unsafe_seed=0)
    record = fit_record(data="t.csv", recipe="table-marginals", size="tiny", seed=0)
    notes = []
    for row in ("yes,40,ward 3,a", ",,,"):
        pathlib.Path("t.csv").write_text("smokes,age,ward,home\n" + f"{row}\n" * 700)
        request = RecipeRequest(name="table-marginals", size="tiny")
        notes.append(plan_fit(record, data_access(private, get_engine()), request).record.provenance.notes)
    assert notes[0] == notes[1]
    assert "age, ward" in notes[0][0]


def test_note_on_rare_values():
    """The largest share first."""
    kept = [KeptWords("sex", 2, "OTHER", 0.06, 40.2, 0.021), KeptWords("city", 1, "OTHER", 0.412, 40.2, 0.021)]
    (note,) = rare_values_note(kept)
    assert note.index("city: 1 ") < note.index("41% ± 3%") < note.index("sex: 2 ") < note.index("6% ± 3%")
    assert rare_values_note([]) == ()


def test_note_on_clipped_cells():
    cells = [ClippedCells("age", "0", "64", 0.04, 0.01), ClippedCells("wealth", "0", "2", 0.283, 0.01)]
    (note,) = clipped_cells_note(cells, "my people.csv")
    assert "wealth: 0 to 2, about 28% ± 1% outside; age: 0 to 64, about 4% ± 1% outside" in note
    assert "feller data schema 'my people.csv' --out schema.json" in note
    assert clipped_cells_note([], "x.csv") == ()


def test_own_warnings_are_captured():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with capture_warnings() as captured:
            check_budget(0.5, 1e-5, (10, 10), 1000)
    assert len(captured) == 1
    with pytest.warns(UserWarning, match="of another"), capture_warnings() as captured:
        warnings.warn("of another", stacklevel=1)
    assert captured == []
