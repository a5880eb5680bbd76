"""What private fits refuse, and before what."""

import json
import os
import pathlib

import numpy as np
import pytest

from feller.app.workflows.private import private_statistics
from tests.app.commands.private.private_fits import (
    EXTREME,
    LEARNED,
    SCHEMA,
    SEEDED,
    TINY,
    fit,
    held,
    refused,
    run,
    write_table,
)


def test_cells_outside_the_schema_are_clipped_or_refused_as_it_says(unreported, capsys, tmp_path):
    data = write_table(tmp_path / "far.csv", {3: ("-5", "F", "xylophonist"), 4: EXTREME})
    folder = fit(capsys, "r", "--epsilon", 4, data=data)
    assert run(capsys, "sample", folder, "-n", 200, "--out", "new.csv")[0] == 0
    rows = [line.split(",") for line in pathlib.Path("new.csv").read_text().splitlines()[1:]]
    assert all(0 <= float(row[0]) <= 100 for row in rows)
    assert {row[2] for row in rows} <= {"clerk", "nurse", "smith", "else"}
    (tmp_path / "schema.json").write_text(json.dumps({**SCHEMA, "outside": "refuse"}))
    told = refused(capsys, data, "--schema", "schema.json", *TINY, "--epsilon", 4, "--out", "s")
    assert "found '-5'" in told
    assert not pathlib.Path("s").exists()


def test_wishes_that_cannot_be_kept_are_refused_before_anything_is_written(capsys, tmp_path):
    table = ("people.csv", "--schema", "schema.json", *TINY, "--out", "r")
    told = refused(capsys, *table, "--epsilon", 0.01)
    assert f"epsilon 0.01 is too small for {LEARNED} rows" in told
    assert "an epsilon of at least" in told
    assert f"between 0 and 1 / {LEARNED}" in refused(capsys, *table, "--epsilon", 4, "--delta", 0.01)
    assert "--delta must be" in refused(capsys, *table, "--epsilon", 4, "--delta", "small")
    assert "--epsilon: expected either" in refused(capsys, *table, "--delta", 1e-6)
    assert "--noise: requires --stop-at-epsilon" in refused(capsys, *table, "--noise", 1.1)
    assert "a single step spends more" in refused(capsys, *table, "--noise", 0.3, "--stop-at-epsilon", 2)
    assert "Use --recipe auto" in refused(capsys, *table, "--epsilon", 4, "--recipe", "points")
    wish = ("--epsilon", 4, *TINY, "--out", "r")
    pathlib.Path("book.txt").write_text("to be, or not to be; the rest is silence. " * 40)
    assert "found text" in refused(capsys, "book.txt", *wish)
    assert "private training supports" in refused(capsys, "example:moons", *wish)
    assert "regressor" in refused(capsys, "example:digits", *wish, "--target", "label")
    np.savez("table.npz", samples=np.array([["a", "b"], ["c", "d"]] * 40), columns=np.array(["one", "two"]))
    assert "Set --schema" in refused(capsys, "table.npz", *wish)
    assert "--longest: not supported" in refused(capsys, "people.csv", *wish, "--longest", 8)
    assert "--space: not supported" in refused(capsys, "people.csv", *wish, "--space", "sphere")
    assert not pathlib.Path("r").exists()


def test_a_model_that_saw_the_rows_is_no_start(unreported, capsys, tmp_path):
    fit(capsys, "open")
    (tmp_path / "copy.csv").write_bytes((tmp_path / "people.csv").read_bytes())
    for data in ("people.csv", "./people.csv", "copy.csv"):
        assert "was trained on the private rows" in refused(
            capsys, data, *TINY, "--epsilon", 4, "--start-from", "open", "--out", "r"
        )
    write_table(tmp_path / "public.csv", n=200, change=dict.fromkeys(range(50), ("30", "F", "nurse")))
    fit(capsys, "public", data="public.csv")
    status, _, err = run(capsys, "fit", "people.csv", *TINY, "--epsilon", 4, "--start-from", "public", "--out", "r")
    assert status == 0, err
    before = pathlib.Path("r/model.json").read_bytes()
    fit(capsys, "r", "--resume")
    assert pathlib.Path("r/model.json").read_bytes() == before


def test_a_model_whose_beginnings_saw_the_rows_is_no_start(unreported, capsys, tmp_path):
    """Of a chain all links count, by the record of the last, or, where that is older, by the folders that it names."""
    wish = (*TINY, "--epsilon", 4, "--out", "r")
    write_table(tmp_path / "public.csv", n=200, change=dict.fromkeys(range(50), ("30", "F", "nurse")))
    fit(capsys, "first", "--epsilon", 4)
    assert run(capsys, "fit", "public.csv", *TINY, "--start-from", "first", "--out", "second")[0] == 0
    assert run(capsys, "fit", "public.csv", *TINY, "--start-from", "second", "--out", "third")[0] == 0
    (tmp_path / "copy.csv").write_bytes((tmp_path / "people.csv").read_bytes())
    for data in ("people.csv", "copy.csv"):
        for start in ("second", "third"):
            assert "was trained on the private rows" in refused(capsys, data, *wish, "--start-from", start)
    for name in ("second", "third"):
        record = held(tmp_path / name / "recipe.json")
        del record["provenance"]["ancestors"]
        (tmp_path / name / "recipe.json").write_text(json.dumps(record))
    assert "was trained on the private rows" in refused(capsys, "copy.csv", *wish, "--start-from", "third")
    os.rename("first", "elsewhere")
    assert "was trained on the training data of first" in refused(capsys, "copy.csv", *wish, "--start-from", "third")


OWN = """
from dataclasses import dataclass, replace
from feller.app.modalities.registration import find_recipe
from feller.training.objectives.next_token_prediction import RowLikelihood

def honest(data, size):
    assert len(data) == 300 and data.values[:, 0].bincount().max() < 150, "these are the rows themselves"
    return find_recipe("table", data, size)[1]

@dataclass(frozen=True)
class Centred(RowLikelihood):
    def loss(self, network, example):
        each = super().loss(network, example)
        return each - each.mean()

def spoiled(data, size):
    recipe = find_recipe("table", data, size)[1]
    return replace(recipe, objective=Centred(recipe.objective.space))
"""


@pytest.mark.slow
def test_code_of_ones_own_sees_random_rows_first(unreported, capsys, tmp_path):
    write_table(tmp_path / "people.csv", change=dict.fromkeys(range(250), ("30", "F", "nurse")))
    (tmp_path / "own.py").write_text(OWN)
    fit(capsys, "r", *SEEDED, "--recipe", "own.py:honest")
    words = ("people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--recipe", "own.py:spoiled", "--out", "s")
    told = refused(capsys, *words)
    assert "does not support the recipe own.py:spoiled: replacing row 1" in told
    assert not pathlib.Path("s").exists()


@pytest.mark.slow
def test_a_schema_that_betrays_people_is_told_of(capsys: pytest.CaptureFixture[str], unreported: None) -> None:
    odd = {**SCHEMA, "columns": {**SCHEMA["columns"], "age": {**SCHEMA["columns"]["age"], "edges": [20, 41.37, 60]}}}
    odd["columns"]["age"]["form"] = {"decimals": 2}
    pathlib.Path("schema.json").write_text(json.dumps(odd))
    status, _, err = run(capsys, "fit", "people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--out", "r")
    assert status == 0, err
    assert "column 'age' has 41.37 among its bounds and edges" in err
    assert "41.37" in held(pathlib.Path("r") / "recipe.json")["provenance"]["notes"][0]


def test_wrong_clips(capsys: pytest.CaptureFixture[str]) -> None:
    assert "or adaptive; found 'much'" in refused(
        capsys, "people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--clip", "much"
    )
    assert "--clip: expected above 0" in refused(
        capsys, "people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--clip", "0"
    )


def test_plans_that_fail_are_refused_before_rows_are_counted(capsys, monkeypatch):
    monkeypatch.setattr(private_statistics, "MarginalFitting", None)
    start = ("people.csv", "--schema", "schema.json", "--size", "tiny")
    assert "--train.batch-size: expected at most" in refused(capsys, *start, "--epsilon", 4, "--train.batch-size", 5000)
    assert "--minutes: expected --steps" in refused(capsys, *start, "--epsilon", 4, "--minutes", 1)
    assert "a single step spends more" in refused(capsys, *start, "--noise", 0.05, "--stop-at-epsilon", 2)
    asked = ("people.csv", "--recipe", "table-flow", "--size", "tiny", "--epsilon", 4)
    assert "set --schema" in refused(capsys, *asked)
    assert not pathlib.Path("runs").exists()


def test_what_private_training_takes_is_said_before_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody hears of minutes, or of the names of columns, who gave a text, or crystals in a table."""
    pathlib.Path("book.txt").write_text("All the world's a stage.\n" * 50)
    pathlib.Path("c.csv").write_text(',material_id,cif\n1,2,"data_NaCl\n_cell_length_a 4"\n')
    for data, what in (("book.txt", "text"), ("c.csv", "crystals")):
        told = refused(capsys, data, "--epsilon", 4)
        assert told.startswith("feller: private training supports tables")
        assert f"found {what}" in told
