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
        ("schema example:adult --schema b.json", {"remedy": "Leave it out"}),
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
