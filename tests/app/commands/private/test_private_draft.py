"""A schema that nobody went through is told of before anything is spent, and to nobody but the owner."""

import json
import pathlib

import pytest

from feller.app.workflows.private.table_schema import beware, owner_notes
from feller.app.workflows.run_config import read_fit_record
from feller.core.errors import InputError
from feller.core.run_folder import open_run
from feller.data.loading.dataset_reader import read
from feller.data.tables.schema import read_schema, write_schema
from tests.app.commands.private.private_fits import ALONE, SCHEMA, SEEDED, TINY, run, write_table
from tests.records import fit_record

DRAFT = "schema.json is still a draft"
FEW = "in only one or two rows"


def drafted(values: list[str], *, draft: bool) -> None:
    """Write a schema with these jobs."""
    job = {"kind": "categorical", "values": values, "other": "else"}
    columns = {**SCHEMA["columns"], "job": job}  # pyrefly: ignore
    mark = {"draft": True} if draft else {}
    pathlib.Path("schema.json").write_text(json.dumps({**SCHEMA, **mark, "columns": columns}))


@pytest.mark.usefixtures("unreported")
def test_a_draft_and_a_word_of_one_row_are_told_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(pathlib.Path("people.csv"), {7: ("50", "F", "falconer")})
    drafted(["clerk", "nurse", "smith", "falconer"], draft=True)
    status, _, err = run(
        capsys, "fit", "people.csv", "--schema", "schema.json", *TINY, *ALONE, *SEEDED, "--out", "r", "--steps", "2"
    )
    assert status == 0, err
    assert err.count(DRAFT) == 1
    assert err.count(FEW) == 1
    assert "job: 'falconer' (1)" in err
    assert err.index(FEW) < err.index("training examples")
    for name in ("recipe.json", "model.json", "ledger.json"):
        assert FEW not in pathlib.Path("r", name).read_text()
    asked, model = read_fit_record(open_run("r")), read("people.csv", schema="schema.json")
    public, first, second = owner_notes(asked, model)
    assert "job: 4 words, 'clerk', 'nurse', 'smith', 'falconer'" in public
    assert "age: from 0 to 100, 4 edges between" in public
    assert (first, second) == tuple(beware(asked, model))


def test_what_was_gone_through_is_told_of_no_more() -> None:
    write_table(pathlib.Path("people.csv"), {7: ("50", "F", "falconer")})
    drafted(["clerk", "nurse", "smith"], draft=False)
    asked = fit_record(data="people.csv", recipe="table", size="tiny", seed=0, schema="schema.json")
    assert not [*beware(asked, read("people.csv", schema="schema.json"))]
    assert owner_notes(asked, read("people.csv", schema="schema.json")) == ()  # nothing is private


def test_the_mark_is_of_the_file_and_not_of_what_it_says(tmp_path: pathlib.Path) -> None:
    drafted(["clerk"], draft=True)
    marked = read_schema(pathlib.Path("schema.json"))
    drafted(["clerk"], draft=False)
    assert read_schema(pathlib.Path("schema.json")) == marked
    write_schema(marked, tmp_path / "s.json", draft=True)
    assert json.loads((tmp_path / "s.json").read_text())["draft"] is True
    assert read_schema(tmp_path / "s.json") == marked


@pytest.mark.parametrize(
    ("part", "said"),
    [({"draft": 1}, "found 1"), ({"version": 3}, "version 3 is newer"), ({"version": "x"}, "version: expected")],
)
def test_wrong_marks(part: dict[str, object], said: str) -> None:
    pathlib.Path("schema.json").write_text(json.dumps({**SCHEMA, **part}))
    with pytest.raises(InputError, match=said):
        read_schema(pathlib.Path("schema.json"))
