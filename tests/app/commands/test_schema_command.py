"""feller data schema."""

import json
import pathlib

import pytest

from feller.app.cli import main


def test_a_table_is_described_and_read_by_that(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = tmp_path / "people.csv", tmp_path / "schema.json"
    table.write_text("id,age,mail\n" + "".join(f"{i},{20 + i % 40},u{i % 3}@x.org\n" for i in range(60)))
    assert main(["data", "schema", str(table), "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["columns"] == {"id": "identifier", "age": "numerical", "mail": "categorical"}
    assert said["rows"] == 60
    assert any("mail" in warning for warning in said["warnings"])
    assert main(["data", str(table), "--schema", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == "2"
    assert main(["data", "schema", str(table), "--out", str(out)]) == 1
    assert "already exists" in capsys.readouterr().err


def test_an_example_has_its_own(tmp_path: pathlib.Path) -> None:
    assert main(["data", "schema", "example:adult", "--out", str(tmp_path / "s.json")]) == 0
    assert '"education-num"' in (tmp_path / "s.json").read_text()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["schema"], 2, "expected an input: feller data schema FILE"),
        (["schema", "nowhere.csv"], 1, "nowhere.csv"),
        (["schema", "example:digits"], 2, "not a table with a schema"),
        (["adult", "--out", "x.json"], 2, "spoken-words"),
        (["schema", "example:adult", "--schema", "b.json"], 2, "does not take --schema"),
    ],
)
def test_wrong_use(words, status, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == status
    assert said in capsys.readouterr().err
