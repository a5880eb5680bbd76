"""Private fits that are refused, before anything is written or counted."""

import json
import os
import pathlib

import numpy as np
import pytest

from feller.app.workflows.private import private_statistics
from feller.core.errors import InputError
from tests.app.asked import refuse, run
from tests.app.commands.private.private_fits import (
    DESCRIBED,
    EXTREME,
    LEARNED,
    SCHEMA,
    SEEDED,
    TINY,
    fit,
    held,
    write_table,
)

pytestmark = pytest.mark.usefixtures("unreported")
PRIVATE = (*TINY, "--epsilon", 4, "--out", "r")
PUBLIC = dict.fromkeys(range(50), ("30", "F", "nurse"))


def test_cells_outside_the_schema(tmp_path):
    data = write_table(tmp_path / "far.csv", {3: ("-5", "F", "xylophonist"), 4: EXTREME})
    folder = fit("r", "--epsilon", 4, data=data)
    run("sample", folder, "-n", 200, "--out", "new.csv")
    rows = [line.split(",") for line in pathlib.Path("new.csv").read_text().splitlines()[1:]]
    assert all(0 <= float(row[0]) <= 100 for row in rows)
    assert {row[2] for row in rows} <= {"clerk", "nurse", "smith", "else"}
    (tmp_path / "schema.json").write_text(json.dumps({**SCHEMA, "outside": "refuse"}))
    fields = {"column": "age", "row": 5, "found": "'-5'"}
    refuse("fit", data, *DESCRIBED, "--epsilon", 4, "--out", "s", kind=InputError, **fields)
    assert not pathlib.Path("s").exists()


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--epsilon 4 --delta 0.01", {"argument": "delta", "found": "0.01"}),
        ("--epsilon 4 --delta small", {"found": "'small'"}),
        ("--delta 1e-6", {"argument": "epsilon", "found": "neither"}),
        ("--noise 1.1", {"argument": "noise"}),
        ("--noise 0.3 --stop-at-epsilon 2", {"argument": "noise"}),
        ("--epsilon 4 --recipe points", {"remedy": "Use --recipe auto"}),
        ("--epsilon 4 --longest 8", {"place": "--longest"}),
        ("--epsilon 4 --space sphere", {"place": "--space"}),
        ("--epsilon 4 --clip much", {"found": "'much'"}),
        ("--epsilon 4 --clip 0", {"argument": "clip", "found": "0"}),
        ("--epsilon 4 --train.batch-size 5000", {"argument": "train.batch_size", "found": "5,000"}),
        ("--epsilon 4 --bands 0", {"argument": "bands", "found": "0"}),
        ("--epsilon 4 --bands 1000", {"argument": "bands", "found": "1,000"}),
        ("--bands 4", {"argument": "epsilon", "found": "neither"}),
        ("--epsilon 4 --minutes 1", {"argument": "minutes", "found": "--minutes"}),
    ],
)
def test_refused_options(words, fields, monkeypatch):
    monkeypatch.setattr(private_statistics, "MarginalFitting", None)  # nothing is counted
    steps = () if "--minutes" in words else ("--steps", 8)
    schema = () if "place" in fields else ("--schema", "schema.json")
    refuse("fit", "people.csv", *schema, "--size", "tiny", *steps, *words.split(), "--out", "r", **fields)
    assert not pathlib.Path("r").exists()


def test_smallest_epsilon_is_named():
    error = refuse("fit", "people.csv", *DESCRIBED, "--epsilon", 0.01, "--out", "r")
    assert f"{LEARNED} rows" in str(error)
    assert "at least" in error.remedy


def test_refused_data():
    """Before the names of columns are asked for."""
    pathlib.Path("book.txt").write_text("to be, or not to be; the rest is silence. " * 40)
    pathlib.Path("c.csv").write_text(',material_id,cif\n1,2,"data_NaCl\n_cell_length_a 4"\n')
    np.savez("table.npz", samples=np.array([["a", "b"], ["c", "d"]] * 40), columns=np.array(["one", "two"]))
    for data, found in (("book.txt", "found text"), ("c.csv", "found crystals"), ("example:moons", "rows of numbers")):
        assert found in str(refuse("fit", data, *PRIVATE))
    refuse("fit", "example:digits", *PRIVATE, "--target", "label", remedy="Use another recipe")
    assert "--schema" in refuse("fit", "table.npz", *PRIVATE).remedy
    assert "--schema" in refuse("fit", "people.csv", *PRIVATE, "--recipe", "table-flow").remedy
    assert not pathlib.Path("r").exists()


def test_start_that_was_trained_on_the_private_rows(tmp_path):
    fit("open")
    (tmp_path / "copy.csv").write_bytes((tmp_path / "people.csv").read_bytes())
    for data in ("people.csv", "./people.csv", "copy.csv"):
        refuse("fit", data, *PRIVATE, "--start-from", "open", file="open")
    write_table(tmp_path / "public.csv", n=200, change=PUBLIC)
    fit("public", data="public.csv")
    run("fit", "people.csv", *PRIVATE, "--start-from", "public")
    before = pathlib.Path("r/model.json").read_bytes()
    fit("r", "--resume")
    assert pathlib.Path("r/model.json").read_bytes() == before


def test_start_whose_ancestor_was_trained_on_the_private_rows(tmp_path):
    """By the record of the last run of a chain, or, where that is older, by the folders that it names."""
    write_table(tmp_path / "public.csv", n=200, change=PUBLIC)
    fit("first", "--epsilon", 4)
    run("fit", "public.csv", *TINY, "--start-from", "first", "--out", "second")
    run("fit", "public.csv", *TINY, "--start-from", "second", "--out", "third")
    (tmp_path / "copy.csv").write_bytes((tmp_path / "people.csv").read_bytes())
    for data in ("people.csv", "copy.csv"):
        for start in ("second", "third"):
            refuse("fit", data, *PRIVATE, "--start-from", start, file=start)
    for name in ("second", "third"):
        record = held(tmp_path / name / "recipe.json")
        del record["provenance"]["ancestors"]
        (tmp_path / name / "recipe.json").write_text(json.dumps(record))
    known = refuse("fit", "copy.csv", *PRIVATE, "--start-from", "third", file="third")
    os.rename("first", "elsewhere")
    unknown = refuse("fit", "copy.csv", *PRIVATE, "--start-from", "third", file="third")
    assert unknown.remedy != known.remedy


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
def test_user_code_sees_random_rows_first(tmp_path):
    write_table(tmp_path / "people.csv", change=dict.fromkeys(range(250), ("30", "F", "nurse")))
    (tmp_path / "own.py").write_text(OWN)
    fit("r", *SEEDED, "--recipe", "own.py:honest")
    error = refuse("fit", "people.csv", *DESCRIBED, *SEEDED, "--recipe", "own.py:spoiled", "--out", "s")
    assert "own.py:spoiled" in str(error)
    assert not pathlib.Path("s").exists()


@pytest.mark.slow
def test_exact_edges_of_a_schema_are_noted():
    odd = {**SCHEMA, "columns": {**SCHEMA["columns"], "age": {**SCHEMA["columns"]["age"], "edges": [20, 41.37, 60]}}}
    odd["columns"]["age"]["form"] = {"decimals": 2}
    pathlib.Path("schema.json").write_text(json.dumps(odd))
    run("fit", "people.csv", *DESCRIBED, *SEEDED, "--out", "r")
    assert "41.37" in held(pathlib.Path("r/recipe.json"))["provenance"]["notes"][0]
