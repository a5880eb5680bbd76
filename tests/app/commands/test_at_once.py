"""Wrong words are answered before what takes long is loaded: the command ends without torch."""

import json
import pathlib
import subprocess
import sys

import pytest

ALONE = """
import sys
from feller.app.cli import main
status = main(sys.argv[1:])
print(status, "torch" in sys.modules)
"""
AT_ONCE = [
    ("fit nowhere.csv", 1, "nowhere.csv: expected a file or a folder; found none"),
    ("fit ./nowhere/ --json", 1, "nowhere: expected a file or a folder; found none"),
    ("fit toys:moons", 1, "Did you mean 'moons'?"),
    ("fit example:digitz", 2, "found 'digitz'"),
    ("fit example:digits/tset", 2, "found 'tset'"),
    ("fit here.csv --epsilonn 1", 2, "found --epsilonn. Did you mean --epsilon?"),
    ("fit here.csv --steps x", 2, "--steps: expected a whole number; found 'x'. See feller fit --help"),
    ("fit here.csv --start-from nowhere", 1, "--start-from, nowhere: expected a run folder; found none"),
    ("sample no-such-run", 1, "no-such-run: expected a run folder; found none"),
    ("sample runz", 1, "runz: is not a run folder: model.json is missing"),
    ("sample .", 1, ".: is not a run folder: model.json is missing. Choose a run in it: my-run"),
    ("serve .", 1, ".: is not a run folder: model.json is missing. Choose a run in it: my-run"),
    ("sample my-ru", 1, "my-ru: expected a run folder; found none. Did you mean 'my-run'?"),
    ("sample", 1, "expected a run under runs/; found none. Create a run with: feller fit DATA"),
    ("steer --reward x", 1, "expected a run under runs/; found none"),
    ("sample my-run --nffe 3", 2, "found --nffe. Did you mean --nfe?"),
    ("sample my-run --code nowhere.py", 1, "nowhere.py: expected a Python file; found none"),
    ("evaluate my-run --data nowhere", 1, "--data, nowhere: expected a file or a folder; found none"),
    ("tune --resume --out my-ru", 1, "my-ru: expected a run to resume; found none. Omit --resume to start a run"),
    ("tune nowhere --reward x", 1, "nowhere: expected a run folder; found none"),
    ("tune my-run --reward x --rankk 3", 2, "found --rankk. Did you mean --rank?"),
    ("bridge here.csv nowhere.csv", 1, "nowhere.csv: expected a file or a folder; found none"),
    ("bridge here.csv here.csv --nois 3", 2, "found --nois. Did you mean --noise?"),
    ("audit nowhere", 1, "nowhere: expected a run folder; found none"),
    ("audit", 1, "expected a run under runs/; found none"),
    ("data nowhere.csv", 1, "nowhere.csv: expected a file or a folder; found none"),
    ("data my-run", 1, "my-run: expected data; found a run folder"),
    ("data example:moon", 2, "found 'moon'"),
    ("data schema nowhere.csv", 1, "nowhere.csv"),
    ("import x.py:f --data nowhere", 1, "--data, nowhere: expected a file or a folder; found none"),
    ("export my-run", 2, "--to: expected torch-export, onnx or huggingface"),
    ("cite nowhere", 1, "nowhere: expected a run folder; found none"),
]


@pytest.fixture
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("here.csv").write_text("x,y\n1,2\n")
    for name in ("runz", "my-run"):
        pathlib.Path(name).mkdir()
    for name in ("model.json", "recipe.json"):
        pathlib.Path("my-run", name).write_text("{}")


def alone(words: str) -> tuple[int, bool, str]:
    """Run a command in a process of its own; return its status, whether torch was loaded, and what it said."""
    ran = subprocess.run([sys.executable, "-c", ALONE, *words.split()], capture_output=True, text=True, check=True)
    status, loaded = ran.stdout.splitlines()[-1].split()
    return int(status), loaded == "True", ran.stderr


@pytest.mark.parametrize(("words", "status", "told"), AT_ONCE, ids=[words for words, _, _ in AT_ONCE])
def test_wrong_words_load_nothing(here: None, words: str, status: int, told: str) -> None:
    found, loaded, said = alone(words)
    assert found == status
    assert said.startswith("feller: ")
    assert told in said
    assert said.count("\n") == 1
    assert not loaded


def test_a_list_of_examples_loads_nothing(here: None) -> None:
    status, loaded, said = alone("data")
    assert (status, loaded) == (0, False)
    assert "1,437 + 360 handwritten digits" in said


@pytest.mark.slow
def test_fields_of_recipes_are_no_wrong_words(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    """They are known by their files alone; what is behind a dot is looked at with the recipe."""
    from feller.app.cli import main

    words = ("fit", "example:moons", "--size", "tiny", "--steps", "1", "--held-out", "0.2", "--sampling.nfe", "2")
    assert main([*words, "--out", "r", "--json"]) == 0
    assert json.loads(pathlib.Path("r/recipe.json").read_text())["recipe"]["held_out"] == 0.2
