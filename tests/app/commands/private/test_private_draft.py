"""Notes on a draft of a schema, for the owner only."""

import json
import pathlib

import pytest

from feller.app.workflows.private.table_schema import owner_notes, owner_warnings
from feller.app.workflows.run_config import read_fit_record
from feller.core.errors import InputError
from feller.core.run_folder import open_run
from feller.data.loading.dataset_reader import read
from feller.data.tables.schema import read_schema, write_schema
from tests.app.commands.private.private_fits import SCHEMA, SEEDED, fit, write_table
from tests.errors import refuses
from tests.records import fit_record


def drafted(values, *, draft):
    """Write a schema with these jobs."""
    job = {"kind": "categorical", "values": values, "other": "else"}
    mark = {"draft": True} if draft else {}
    columns = {**SCHEMA["columns"], "job": job}  # pyrefly: ignore
    pathlib.Path("schema.json").write_text(json.dumps({**SCHEMA, **mark, "columns": columns}))


@pytest.mark.usefixtures("unreported")
def test_draft_and_rare_values_are_noted_before_training(capsys):
    write_table(pathlib.Path("people.csv"), {7: ("50", "F", "falconer")})
    drafted(["clerk", "nurse", "smith", "falconer"], draft=True)
    fit("r", *SEEDED, "--steps", "2")
    err, rare = capsys.readouterr().err, "job: 'falconer' (1)"
    assert err.count(rare) == err.count("still a draft") == 1
    assert err.index(rare) < err.index("training examples")
    for name in ("recipe.json", "model.json", "ledger.json"):
        assert rare not in pathlib.Path("r", name).read_text()
    asked, model = read_fit_record(open_run("r")), read("people.csv", schema="schema.json")
    public, first, second = owner_notes(asked, model)
    assert "'clerk', 'nurse', 'smith', 'falconer'" in public
    assert "from 0 to 100" in public
    assert (first, second) == tuple(owner_warnings(asked, model))


def test_reviewed_schema_has_no_notes():
    write_table(pathlib.Path("people.csv"), {7: ("50", "F", "falconer")})
    drafted(["clerk", "nurse", "smith"], draft=False)
    asked = fit_record(data="people.csv", recipe="table", size="tiny", seed=0, schema="schema.json")
    data = read("people.csv", schema="schema.json")
    assert not [*owner_warnings(asked, data)]
    assert owner_notes(asked, data) == ()  # nothing is private


def test_draft_is_a_mark_of_the_file_and_not_of_the_schema(tmp_path):
    drafted(["clerk"], draft=True)
    marked = read_schema(pathlib.Path("schema.json"))
    drafted(["clerk"], draft=False)
    assert read_schema(pathlib.Path("schema.json")) == marked
    write_schema(marked, tmp_path / "s.json", draft=True)
    assert json.loads((tmp_path / "s.json").read_text())["draft"] is True
    assert read_schema(tmp_path / "s.json") == marked


@pytest.mark.parametrize("part", [{"draft": 1}, {"version": 3}, {"version": "x"}])
def test_refused_marks(part):
    pathlib.Path("schema.json").write_text(json.dumps({**SCHEMA, **part}))
    with refuses(InputError):
        read_schema(pathlib.Path("schema.json"))
