"""A damaged value in a stranger's recipe.json is refused by one line that names the file and the key."""

import json
import pathlib
from typing import Any

import pytest

from feller.app.workflows.run_config import read_fit_record, read_import_conventions, read_train_config
from feller.core.errors import InputError
from feller.core.run_folder import Run
from tests.records import fit_record

DAMAGE = {
    "config": [],
    "config.data": ["a.csv"],
    "config.seed": "zero",
    "config.unknown": 1,
    "config.epsilon": {},
    "config.held_out": True,
    "provenance": [],
    "provenance.recipe": 3,
    "provenance.held_out": 1.5,
    "provenance.private": {"epsilon": 1},
    "provenance.ancestors": [{"data": 1}],
    "provenance.shards": ["one"],
    "provenance.fields": 7,
    "provenance.unknown": 1,
}
TOO_LONG = "a" * 300
"""Name that no file system holds, so that even the search for it fails."""


def damaged(folder: pathlib.Path, key: str, value: object, **more: object) -> Run:
    """Return a run whose recipe.json has another value at a key such as config.seed."""
    content: dict[str, Any] = {**json.loads(json.dumps(fit_record().content)), **more}
    run = Run(folder)
    run.write_record(run.recipe, content)
    content, (*outer, last) = json.loads(run.recipe.read_text()), key.split(".")
    inner = content
    for name in outer:
        inner = inner[name]
    inner[last] = value
    run.recipe.write_text(json.dumps(content))
    return run


def assert_names(error: pytest.ExceptionInfo[InputError], run: Run, key: str) -> None:
    line = str(error.value)
    assert len(line.splitlines()) == 1
    assert error.value.file == str(run.recipe)
    assert all(name in line for name in key.split("."))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *DAMAGE.items(),
        *((key, None) for key in ("config", "provenance")),
        *((key, TOO_LONG) for key in ("config.data", "provenance.test")),
    ],
)
def test_a_damaged_value_of_a_fit_names_file_and_key(tmp_path: pathlib.Path, key: str, value: object) -> None:
    run = damaged(tmp_path, key, value)
    with pytest.raises(InputError) as error:
        read_fit_record(run)
    assert_names(error, run, key)


@pytest.mark.parametrize(("key", "value"), [("provenance", 1), ("provenance.recipe", None)])
def test_so_does_one_of_a_network_that_was_imported(tmp_path: pathlib.Path, key: str, value: object) -> None:
    run = damaged(tmp_path, key, value, brought={})
    with pytest.raises(InputError) as error:
        read_fit_record(run)
    assert_names(error, run, key)


@pytest.mark.parametrize(("key", "value"), [("brought", 1), ("brought.times", ["a", 1]), ("brought.null", "x")])
def test_so_do_its_conventions(tmp_path: pathlib.Path, key: str, value: object) -> None:
    run = damaged(tmp_path, key, value, brought={})
    with pytest.raises(InputError) as error:
        read_import_conventions(run)
    assert_names(error, run, key)


@pytest.mark.parametrize(("key", "value"), [("recipe.train", []), ("recipe.train.lr", "x"), ("recipe.train.odd", 1)])
def test_so_does_the_training(tmp_path: pathlib.Path, key: str, value: object) -> None:
    run = damaged(tmp_path, key, value, recipe={"train": {}})
    with pytest.raises(InputError) as error:
        read_train_config(run)
    assert_names(error, run, key)
