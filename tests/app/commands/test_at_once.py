"""Wrong arguments are refused before torch is loaded."""

import json
import pathlib
import subprocess
import sys

import pytest

from feller.core.errors import InputError, UsageError
from tests.app.asked import run

ALONE = """
import json, sys
from feller.app import cli
for words in sys.argv[1:]:
    try:
        cli.run(words.split())
        found = {}
    except (cli.InputError, cli.UsageError) as error:
        found = {"kind": type(error).__name__, "file": error.file, "found": error.found, "remedy": error.remedy}
    print("found", json.dumps({**found, "torch": "torch" in sys.modules}))
"""
RUN = {"kind": InputError, "file": "nowhere", "found": "none"}
HERE = {"kind": InputError, "file": "."}
AT_ONCE = {
    "fit nowhere.csv": {"kind": InputError, "file": "nowhere.csv", "found": "none"},
    "fit ./nowhere/ --json": RUN,
    "fit toys:moons": {"kind": InputError},
    "fit example:digitz": {"found": "'digitz'"},
    "fit example:digits/tset": {"found": "'tset'"},
    "fit here.csv --epsilonn 1": {"found": "--epsilonn", "remedy": "Did you mean --epsilon? See feller fit --help"},
    "fit here.csv --steps x": {"found": "'x'"},
    "fit here.csv --start-from nowhere": RUN,
    "sample runz": {"kind": InputError, "file": "runz"},
    "sample .": HERE,
    "serve .": HERE,
    "sample my-ru": {"kind": InputError, "file": "my-ru", "remedy": "Did you mean 'my-run'? available: my-run"},
    "sample": {"kind": InputError, "found": "none", "remedy": "Create a run with: feller fit DATA"},
    "steer --reward x": {"kind": InputError, "found": "none"},
    "sample my-run --nffe 3": {"found": "--nffe"},
    "sample my-run --code nowhere.py": {"kind": InputError, "found": "none"},
    "evaluate my-run --data nowhere": RUN,
    "tune --resume --out my-ru": {"kind": InputError, "file": "my-ru", "found": "none"},
    "tune nowhere --reward x": RUN,
    "tune my-run --reward x --rankk 3": {"found": "--rankk"},
    "bridge here.csv nowhere.csv": {"kind": InputError, "file": "nowhere.csv", "found": "none"},
    "bridge here.csv here.csv --nois 3": {"found": "--nois"},
    "audit nowhere": RUN,
    "audit": {"kind": InputError, "found": "none"},
    "data nowhere.csv": {"kind": InputError, "file": "nowhere.csv", "found": "none"},
    "data example:moon": {"found": "'moon'"},
    "data schema nowhere.csv": {"kind": InputError, "file": "nowhere.csv"},
    "import x.py:f --data nowhere": RUN,
    "export my-run": {},
    "cite nowhere": RUN,
}


@pytest.fixture
def folder(here):
    pathlib.Path("here.csv").write_text("x,y\n1,2\n")
    for name in ("runz", "my-run"):
        pathlib.Path(name).mkdir()
    for name in ("model.json", "recipe.json"):
        pathlib.Path("my-run", name).write_text("{}")


def alone(*commands):
    """Return the fields of the error of each command in one new process, and whether torch is loaded after it."""
    done = subprocess.run([sys.executable, "-c", ALONE, *commands], capture_output=True, text=True, check=True)
    return [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("found ")]


def test_wrong_arguments_load_no_torch(folder):
    for (words, known), found in zip(AT_ONCE.items(), alone(*AT_ONCE), strict=True):
        fields = {"kind": UsageError, **known}
        assert {name: found[name] for name in fields} == {**fields, "kind": fields["kind"].__name__}, words
        assert not found["torch"], words


def test_list_of_examples_loads_no_torch(folder):
    assert alone("data") == [{"torch": False}]


@pytest.mark.slow
def test_fields_of_recipes_are_no_wrong_arguments(folder):
    """Their names are read from files; the fields of a field are checked with the recipe."""
    words = ("--size", "tiny", "--steps", 1, "--held-out", 0.2, "--sampling.nfe", 2)
    run("fit", "example:moons", *words, "--out", "r")
    assert json.loads(pathlib.Path("r/recipe.json").read_text())["recipe"]["held_out"] == 0.2
