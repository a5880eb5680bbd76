"""Recipes of a person's own that look at private rows at once, and tables at the edge of what can be."""

import json
import pathlib

import numpy as np
import pytest

from feller.app.cli import main

OWN = """
from feller.data.modality import Target
from feller.networks.linear_classifier import LinearClassifier, PixelFeatures
from feller.training.objectives.output_perturbation import OutputPerturbation
from feller.models.recipes.tables import logistic_private
from feller.models.recipes.recipe import Recipe
from feller.training.objectives.regression import Regression


def learned(data, size):
    return Recipe(
        architecture=LinearClassifier(PixelFeatures((1, 4, 4), 1.0)),
        objective=Regression(data.target, data.modality.space()),
    )


def points(data, size):
    about, features = Target(("label",), classes=("neg", "pos")), PixelFeatures((3,), 1.0)
    return Recipe(
        architecture=LinearClassifier(features), objective=OutputPerturbation(about, data.modality.space(), features)
    )


def table(data, size):
    assert len(data.targets(data.target)) == len(data)
    return logistic_private(data, size)
"""
SCHEMA = {
    "unit": "row",
    "outside": "refuse",
    "columns": {
        "y": {"kind": "categorical", "values": ["no", "yes"]},
        "a": {"kind": "categorical", "values": ["u", "v", "w"]},
    },
}


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder with a recipe, a table and points."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("own.py").write_text(OWN)
    pathlib.Path("s.json").write_text(json.dumps(SCHEMA))
    rng = np.random.default_rng(0)
    y, a = rng.integers(0, 2, 120), rng.integers(0, 3, 120)
    cells = [f"{('no', 'yes')[i]},{'uvw'[j]}" for i, j in zip(y, a, strict=True)]
    pathlib.Path("t.csv").write_text("\n".join(["y,a", *cells]) + "\n")
    pathlib.Path("same.csv").write_text("\n".join(["y,a", *(f"{cell[:-1]}u" for cell in cells)]) + "\n")
    np.savez("p.npz", samples=rng.normal(size=(120, 3)) + 1000, labels=y, classes=np.array(["neg", "pos"]))
    return tmp_path


def test_numbers_that_are_scaled_by_the_rows_are_refused(place, capsys):
    """The model would tell means and deviations of columns exactly."""
    words = ["fit", "p.npz", "--recipe", "own.py:points", "--target", "label", "--epsilon", "1", "--out", "r"]
    assert main(words) == 2
    assert "statistics of the rows without noise" in capsys.readouterr().err
    assert not pathlib.Path("r").exists()


def test_a_recipe_of_ones_own_sees_what_is_asked_for(place: pathlib.Path) -> None:
    words = ["fit", "t.csv", "--schema", "s.json", "--recipe", "own.py:table", "--target", "y", "--epsilon", "1"]
    assert main([*words, "--out", "r"]) == 0
    assert json.loads(pathlib.Path("r/report.json").read_text())["numbers"]["rows_protected"] > 90


def test_steps_make_a_training_whatever_they_train(place: pathlib.Path) -> None:
    """A page of a look at all rows has no steps to go on with, that of the same network trained by steps has."""
    pictures, labels = np.arange(60 * 16, dtype=np.uint8).reshape(60, 4, 4), np.arange(60) % 2
    np.savez("q.npz", samples=pictures, labels=labels, classes=np.array(["neg", "pos"]))
    words = ["fit", "q.npz", "--recipe", "own.py:learned", "--target", "label", "--steps", "2"]
    assert main([*words, "--out", "r"]) == 0
    assert "--resume" in pathlib.Path("r/report.html").read_text()
    table = ["fit", "t.csv", "--schema", "s.json", "--recipe", "logistic-private", "--target", "y", "--epsilon", "1"]
    assert main([*table, "--out", "found"]) == 0
    assert "--resume" not in pathlib.Path("found/report.html").read_text()


def test_nothing_is_watched_step_by_step(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "t.csv", "--schema", "s.json", "--recipe", "logistic-private", "--target", "y", "--epsilon", "1"]
    assert main([*words, "--audit", "fisher=8", "--out", "r"]) == 2
    assert "no training steps to track" in capsys.readouterr().err


def test_rows_that_are_all_alike_can_be_audited(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "same.csv", "--schema", "s.json", "--recipe", "logistic-private", "--target", "y", "--epsilon", "1"]
    assert main([*words, "--out", "r"]) == 0
    capsys.readouterr()
    assert main(["audit", "r", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["spread"] == found["fisher_with_prior"] == 0
