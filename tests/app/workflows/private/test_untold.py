"""Columns that noise hides are told before training, left out of all rows, and never praised."""

import csv
import json
import pathlib
from dataclasses import replace

import numpy as np
import pytest

from feller.app.cli import main
from feller.app.workflows.fitting.plan_fit import RecipeRequest, plan_fit
from feller.app.workflows.private import table_schema
from feller.app.workflows.private.guarantee_text import timing
from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.private_data import data_access
from feller.app.workflows.private.table_schema import (
    clipped_cells_note,
    hidden_columns_note,
    noise_too_large_text,
    rare_values_note,
)
from feller.core.errors import MAX_MESSAGE_LENGTH
from feller.data.tables.clipped_cells import ClippedCells, KeptWords
from feller.data.tables.column import Boolean
from feller.data.tables.private_support import Charge
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import HiddenColumn
from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from feller.training.engine import get_engine
from tests.records import fit_record

pytestmark = pytest.mark.usefixtures("here")


def write(name: str, n: int) -> None:
    """A table of which noise of some 40 rows tells three columns of four: no word of `ward` is in a tenth of them."""
    rng = np.random.default_rng(0)
    with open(name, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("smokes", "age", "ward", "home"))
        for i in range(n):
            out.writerow((("yes", "no")[i % 2], rng.integers(32, 64), f"ward {i % 25}", ("town", "land")[i % 3 == 0]))


def test_the_line_follows_from_the_schema_alone() -> None:
    schema = Schema((Boolean("a"), HiddenColumn("b"), HiddenColumn("c d")), "clip")
    (line,) = hidden_columns_note(schema, "my people.csv", 500, 0.21)
    assert "b, c d" in line
    assert "2 of 3 columns" in line
    assert "500 rows" in line
    assert "feller data schema 'my people.csv' --out schema.json" in line
    assert hidden_columns_note(Schema((Boolean("a"),), "clip"), "x.csv", 500, 0.21) == ()


def test_many_columns_are_told_in_a_line_that_is_not_cut() -> None:
    names = [f"a column with a rather long name {i}" for i in range(90)]
    told = noise_too_large_text(names, 91, 500, 54.2, "x.csv")
    assert "and 82 more (90 of 91 columns)" in told
    assert len(told) < MAX_MESSAGE_LENGTH


def test_a_private_run_tells_no_time_and_others_do() -> None:
    ledger = Ledger((GaussianMechanism("counts", 5.0),), 1e-5, 300)
    assert timing({"step": 3, "seconds": 60.0}, ledger) == {"steps": 3}
    assert timing({"step": 3, "seconds": 2.5}, None) == {"steps": 3, "seconds": 2.5}


def test_a_table_that_noise_hides_is_refused_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    """60 rows at epsilon 1: each count is off by about as many; the kinds are all that is looked at and paid for."""
    write("few.csv", 60)
    assert main(["fit", "few.csv", "--epsilon", "1", "--out", "r", "--unsafe-seed", "0"]) == 1
    err = capsys.readouterr().err
    assert "smokes, age, ward, home (4 of 4 columns)" in err
    assert "feller data schema few.csv --out schema.json" in err
    assert "search spent epsilon" in err
    kept = pathlib.Path("r/spent/1/ledger.json")
    assert [one["label"] for one in json.loads(kept.read_text())["events"]] == ["kinds of the columns"]
    assert not pathlib.Path("r/model.json").exists()


def test_a_hidden_column_is_told_left_out_and_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    write("some.csv", 700)
    words = ["--epsilon", "2", "--unsafe-seed", "0", "--recipe", "table-marginals", "--out", "r", "--json"]
    assert main(["fit", "some.csv", *words, "--report", "full"]) == 0
    out, err = capsys.readouterr()
    numbers = json.loads(out.splitlines()[-1])
    assert err.index("ward (1 of 4 columns) excluded") < err.index("writing to r")
    assert numbers["left_out"] == "ward"
    assert numbers["empty_real"] == 0
    assert "seconds" not in numbers
    page = json.loads(pathlib.Path("r/report.json").read_text())
    assert page["verdict"].startswith("Poor: ")
    assert any(caution.endswith("ward") for caution in page["cautions"])
    assert any(note.startswith("ward (1 of 4 columns)") for note in page["notes"])
    kept = json.loads(pathlib.Path("r/model.json").read_text())["modality"]["schema"]["columns"]
    assert [(one["is"], one["name"]) for one in kept][2] == ("HiddenColumn", "ward")
    assert main(["sample", "r", "-n", "40", "--out", "made.csv"]) == 0
    with open("made.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["smokes", "age", "home"]
    assert main(["evaluate", "r", "--samples", "made.csv"]) == 0
    pathlib.Path("part.csv").write_text("ward,smokes\nward 3,yes\n")
    capsys.readouterr()
    assert main(["sample", "r", "--complete", "part.csv", "--out", "whole.csv"]) == 1
    assert "the values of 'ward' were hidden by noise" in capsys.readouterr().err


def test_what_is_told_follows_from_what_was_found_whatever_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables that have nothing in common but names and number of rows, and one noisy schema for both."""
    hidden = Schema(
        (Boolean("smokes", "yes", "no"), HiddenColumn("age"), HiddenColumn("ward"), Boolean("home", "a", "b")), "clip"
    )
    found = tuple(replace(column, missing="") if isinstance(column, Boolean) else column for column in hidden.columns)
    domain = (replace(hidden, columns=found), (Charge("kinds of the columns", 20.0),), (), ())
    monkeypatch.setattr(table_schema, "search_schema", lambda *given: domain)
    wish, wanted = (
        PrivacyConfig(epsilon=2.0, unsafe_seed=0),
        fit_record(data="t.csv", recipe="table-marginals", size="tiny", seed=0),
    )
    told = []
    for row in ("yes,40,ward 3,a", ",,,"):
        pathlib.Path("t.csv").write_text("smokes,age,ward,home\n" + f"{row}\n" * 700)
        request = RecipeRequest(name=wanted.provenance.recipe, size="tiny")
        told.append(plan_fit(wanted, data_access(wish, get_engine()), request).record.provenance.notes)
    assert told[0] == told[1]
    assert "age, ward" in told[0][0]


def test_merged_words_are_told_the_largest_share_first() -> None:
    told = rare_values_note([KeptWords("sex", 2, "OTHER", None, 40.2), KeptWords("city", 1, "OTHER", 0.412, 40.2)])
    assert told == (
        "values in fewer than about 40 rows are merged into OTHER; city: 1 value kept, all others (about 41% of the"
        " cells) merged; sex: 2 values kept, fraction of the others hidden by noise",
    )
    assert rare_values_note([]) == ()


def test_bounds_that_leave_much_out_are_told_with_a_way_out() -> None:
    (told,) = clipped_cells_note(
        [ClippedCells("age", "0", "64", 0.04), ClippedCells("wealth", "0", "2", 0.283)], "my people.csv"
    )
    assert "wealth: 0 to 2, about 28% outside; age: 0 to 64, about 4% outside. Describe the columns" in told
    assert "feller data schema 'my people.csv' --out schema.json" in told
    assert clipped_cells_note([], "x.csv") == ()
