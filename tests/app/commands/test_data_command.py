"""feller data: schemas, and folders of examples."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from feller.core.errors import InputError
from feller.data.examples.example_files import PAIRS
from tests.app.asked import refuse, run


def test_schema_of_a_table(tmp_path):
    table, out = tmp_path / "people.csv", tmp_path / "schema.json"
    table.write_text("id,age,mail\n" + "".join(f"{i},{20 + i % 40},u{i % 3}@x.org\n" for i in range(60)))
    found = run("data", "schema", table, "--out", out)
    assert found["columns"] == {"id": "identifier", "age": "numerical", "mail": "categorical"}
    assert found["rows"] == 60
    assert any("mail" in warning for warning in found["warnings"])
    assert run("data", table, "--schema", out)["shape"] == "2"
    refuse("data", "schema", table, "--out", out, kind=InputError, file=str(out))


def test_edits_of_a_schema(tmp_path):
    table, first, second = tmp_path / "people.csv", tmp_path / "first.json", tmp_path / "second.json"
    rows = [f"{i},{1 + i % 9},{20 + i % 40},{'rare' if i < 3 else 'ab'[i % 2]},{'TF'[i % 2]}" for i in range(60)]
    table.write_text("\n".join(["id,Region,age,job,left", *rows]) + "\n")
    words = ("--rare", 20, "--drop", "id", "--codes", "Region", "--clip", "--public", "Region", "--target", "left")
    found = run("data", "schema", table, "--out", first, *words)
    assert found["columns"]["id"] == "skip"
    content = json.loads(first.read_text())
    assert (content["draft"], content["outside"], content["target"], content["public"]) == (
        True,
        "clip",
        "left",
        ["Region"],
    )
    assert content["columns"]["Region"] == {"kind": "categorical", "values": [str(i) for i in range(1, 10)]}
    assert content["columns"]["job"] == {"kind": "categorical", "values": ["a", "b"], "other": "OTHER"}
    assert not any("Region" in warning for warning in found["warnings"])
    assert any("job" in note for note in found["notes"])
    del content["draft"]
    first.write_text(json.dumps(content))
    run("data", "schema", table, "--schema", first, "--identifier", "Region", "--text", "job", "--out", second)
    edited = json.loads(second.read_text())
    assert [column["kind"] for column in edited["columns"].values()] == [
        "skip",
        "identifier",
        "numerical",
        "text",
        "boolean",
    ]
    assert (edited.get("draft"), edited["outside"], edited["target"]) == (None, "clip", "left")
    assert run("data", table, "--schema", second)["shape"] == "2"


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--drop jop", {"kind": InputError, "argument": "drop", "remedy": "Did you mean 'job'?"}),
        ("--public jop", {"kind": InputError, "argument": "public", "remedy": "Did you mean 'job'?"}),
        ("--target jop", {"kind": InputError, "argument": "target"}),
        ("--target id", {"kind": InputError, "argument": "target"}),
        ("--drop job --text job", {"argument": "text"}),
        ("--drop job --target job", {"kind": InputError, "argument": "drop"}),
        ("--rare 0", {"argument": "rare"}),
        ("--schema none.json", {"kind": InputError, "file": "none.json"}),
    ],
)
def test_refused_edits(words, fields, here):
    table = here / "people.csv"
    table.write_text("id,job\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(60)))
    refuse("data", "schema", table, *words.split(), **fields)
    assert [path.name for path in here.iterdir() if path.name != "home"] == ["people.csv"]


def test_schema_of_an_example(tmp_path):
    run("data", "schema", "example:adult", "--out", tmp_path / "s.json")
    assert "education-num" in json.loads((tmp_path / "s.json").read_text())["columns"]


def test_scenes(tmp_path):
    out = tmp_path / "demo"
    counts = {"pairs": 40, "instructions": 40, "memory": 4, "tail": 2, "pairs-held-out": 4, "instructions-held-out": 4}
    found = run("data", "scenes", "--out", out, "-n", 40)
    assert found == {"out": str(out), **counts, "creatures": 20, "creatures_of_the_tail": 1}
    assert sorted(path.name for path in out.iterdir()) == sorted([*counts, "overview.png"])
    assert len(list((out / "pairs").glob("*.png"))) == len(list((out / "pairs").glob("*.txt"))) == 40
    assert np.asarray(Image.open(out / "pairs" / "0001.png")).shape == (16, 16, 3)
    lines = [json.loads(line) for line in (out / "instructions" / "documents.jsonl").read_text().splitlines()]
    assert len(lines) == 40
    named = [item["image"] for line in lines for item in line["document"] if isinstance(item, dict) and "image" in item]
    assert sorted(named) == sorted(f"pictures/{path.name}" for path in (out / "instructions" / "pictures").iterdir())
    refuse("data", "scenes", "--out", out, kind=InputError, file=str(out))


@pytest.mark.slow
def test_spoken_words(tmp_path):
    out = tmp_path / "speech"
    assert run("data", "example:spoken-words", "--out", out)["files"] == len([*out.iterdir()])
    assert run("data", out)["examples"] == 174
    refuse("data", "spoken-words", "--out", out)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("schema", {"expected": "an input: feller data schema FILE --out schema.json"}),
        ("schema nowhere.csv", {"kind": InputError, "file": "nowhere.csv", "found": "none"}),
        ("schema example:digits", {"file": "example:digits"}),
        ("schema example:adult --schema b.json", {"kind": InputError, "file": "b.json"}),
        ("digits --rare 5", {"remedy": "Leave it out"}),
        ("adult --out x.json", {}),
        ("moons --out x", {}),
        ("spoken-words --out x --longest 5", {"remedy": "Leave it out"}),
        ("scenes -n 5", {"found": "5"}),
        (f"scenes -n {PAIRS + 1}", {"found": f"{PAIRS + 1}"}),
        ("scenes --longest 20", {"remedy": "Leave it out"}),
        ("scenes --space sphere", {"remedy": "Leave it out"}),
        ("scenes example:moons", {"remedy": "Leave it out"}),
        ("digits -n 1", {"remedy": "Leave it out"}),
    ],
)
def test_refused_arguments(words, fields, here):
    refuse("data", *words.split(), **fields)
    assert not list(pathlib.Path().iterdir())
