"""feller fit --recipe logistic-private: output perturbation, its audit, and user recipes fitted in closed form."""

import json
import pathlib

import numpy as np
import pytest

from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.run_config import read_fit_record, reread_data, train_test_split
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.data.loading.targets import read_with_target
from feller.models.model import load_model
from tests.app.asked import refuse, run

TABLE = ("--schema", "s.json", "--recipe", "logistic-private", "--target", "y", "--epsilon", 1)
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a folder with a private run of images, one of a table, and one without privacy."""
    folder = tmp_path_factory.mktemp("linear")
    for name, words in {
        "digits": ("example:digits", "--target", "label=0,1", "--epsilon", 4),
        "open": ("example:digits", "--target", "label=0,1"),
        "people": ("example:adult", "--target", "income", "--epsilon", 1),
    }.items():
        run("fit", *words, "--recipe", "logistic-private", "--out", folder / name)
    return folder


@pytest.fixture
def tables(here):
    """Write a recipe, tables and points into the current folder."""
    pathlib.Path("own.py").write_text(OWN)
    pathlib.Path("s.json").write_text(json.dumps(SCHEMA))
    rng = np.random.default_rng(0)
    y, a = rng.integers(0, 2, 120), rng.integers(0, 3, 120)
    cells = [f"{('no', 'yes')[i]},{'uvw'[j]}" for i, j in zip(y, a, strict=True)]
    pathlib.Path("t.csv").write_text("\n".join(["y,a", *cells]) + "\n")
    pathlib.Path("same.csv").write_text("\n".join(["y,a", *(f"{cell[:-1]}u" for cell in cells)]) + "\n")
    np.savez("p.npz", samples=rng.normal(size=(120, 3)) + 1000, labels=y, classes=np.array(["neg", "pos"]))


@pytest.mark.slow
def test_ledger_has_one_gaussian_mechanism(runs):
    for name, epsilon in {"digits": 4.0, "people": 1.0}.items():
        ledger = ledger_of(Run(runs / name))
        assert len(ledger.events) == 1
        assert 0.99 * epsilon <= ledger.epsilon() <= epsilon
        assert ledger.epsilon("rdp") > ledger.epsilon()
    assert ledger_of(Run(runs / "open")) is None


@pytest.mark.slow
def test_accuracy_at_epsilon_1(runs):
    found = run("evaluate", runs / "people")
    assert found["auc"] > 0.88
    assert found["accuracy"] > found["accuracy_constant"] + 0.06
    assert "(1.000, 1e-05)-differential privacy" in (runs / "people" / "report.html").read_text()


def test_only_seeded_fits_are_repeatable(runs):
    words = ("fit", "example:digits", "--target", "label=0,1", "--epsilon", 4, "--recipe", "logistic-private")
    for name, seed in (("a", ("--unsafe-seed", 0)), ("b", ("--unsafe-seed", 0)), ("c", ())):
        run(*words, *seed, "--out", runs / name)
    a, b, c, first = ((runs / name / "average.safetensors").read_bytes() for name in ("a", "b", "c", "digits"))
    assert a == b
    assert len({a, c, first}) == 3


@pytest.mark.slow
def test_audit(runs):
    found = run("audit", runs / "people")
    assert found["fisher_rows"] == found["rows_protected"] == 32_561
    assert found["fisher_least"] > found["spread"] >= found["fisher_with_prior"] > 0
    assert found["rebuilt_below"] == 0
    assert found["rebuilt_error_known"] > found["fisher_with_prior"]
    assert abs(found["loss_auc"] - 0.5) < 0.1  # 4 standard errors of 300 members against 300 others
    assert (runs / "people" / "report-audit.html").is_file()


def test_audit_without_privacy_reconstructs_rows(runs):
    found = run("audit", runs / "open")
    assert found["rebuilt_error"] < 1e-10
    assert "mse_bound" not in found


def test_target_and_held_out_rows(runs):
    folder = Run(runs / "digits")
    learned, other = train_test_split(
        record := read_fit_record(folder), reread_data(record, load_model(folder).spec.modality)
    )
    assert (len(learned), len(other)) == (287, 73)
    target = learned.target
    assert target.classes == ("0", "1")
    assert len(read_with_target("example:digits/test", learned.modality, target)) == 73


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("example:digits --epsilon 1", {}),
        ("example:digits --target label --epsilon 1", {}),
        ("example:moons --target x --epsilon 1", {}),
        ("example:adult --target race --epsilon 1", {"found": "5 classes"}),
        ("example:adult --target age --epsilon 1", {"found": "'age'"}),
        ("example:adult --target income --epsilon 1 --steps 5", {}),
        ("example:adult --target income --noise 1 --stop-at-epsilon 1", {"argument": "noise"}),
        ("example:adult --target income --epsilon 0", {"argument": "epsilon", "found": "0"}),
    ],
)
def test_refused_fits(words, fields, tmp_path):
    refuse("fit", *words.split(), "--recipe", "logistic-private", "--out", tmp_path / "r", **fields)
    assert not (tmp_path / "r").exists()


def test_fit_is_not_resumed(runs):
    assert "already fitted" in str(refuse("fit", "--resume", "--out", runs / "digits"))


def test_audit_of_moved_data(here):
    """Known by the fingerprint, target included; other rows are refused."""
    columns = {
        "job": {"kind": "categorical", "values": ["clerk", "nurse"]},
        "pay": {"kind": "categorical", "values": ["low", "high"]},
    }
    pathlib.Path("schema.json").write_text(json.dumps({"columns": columns}))
    rows = [f"{('clerk', 'nurse')[i % 2]},{('low', 'high')[i % 3 % 2]}" for i in range(400)]
    for name, some in (("a", rows), ("b", rows), ("c", [*rows[:-1], "clerk,high"])):
        pathlib.Path(f"{name}.csv").write_text("job,pay\n" + "\n".join(some) + "\n")
    words = ("--schema", "schema.json", "--recipe", "logistic-private", "--target", "pay", "--epsilon", 3)
    run("fit", "a.csv", *words, "--out", "r")
    assert run("audit", "r", "--data", "b.csv", "--show", 2)["noise_held"] > 0
    refuse("audit", "r", "--data", "c.csv", kind=InputError, remedy="Use all rows of the fit, in the same order")


@pytest.mark.usefixtures("tables")
def test_standardised_numbers_are_refused():
    """The model would store means and standard deviations of columns without noise."""
    refuse("fit", "p.npz", "--recipe", "own.py:points", "--target", "label", "--epsilon", 1, "--out", "r")
    assert not pathlib.Path("r").exists()


@pytest.mark.usefixtures("tables")
def test_user_recipe_sees_the_target():
    words = ("--schema", "s.json", "--recipe", "own.py:table", "--target", "y", "--epsilon", 1)
    assert run("fit", "t.csv", *words, "--out", "r")["rows_protected"] > 90


@pytest.mark.usefixtures("tables")
def test_only_trained_models_are_resumed():
    """The same network may be fitted in closed form or by steps."""
    pictures, labels = np.arange(60 * 16, dtype=np.uint8).reshape(60, 4, 4), np.arange(60) % 2
    np.savez("q.npz", samples=pictures, labels=labels, classes=np.array(["neg", "pos"]))
    run("fit", "q.npz", "--recipe", "own.py:learned", "--target", "label", "--steps", 2, "--out", "r")
    run("fit", "t.csv", *TABLE, "--out", "closed")
    for folder, is_resumed in (("r", True), ("closed", False)):
        steps = json.loads(pathlib.Path(folder, "report.json").read_text())["next_steps"]
        assert any("--resume" in step for step, _ in steps) == is_resumed


@pytest.mark.usefixtures("tables")
def test_fisher_information_needs_training_steps():
    refuse("fit", "t.csv", *TABLE, "--audit", "fisher=8", "--out", "r", argument="audit")


@pytest.mark.usefixtures("tables")
def test_audit_of_equal_rows():
    run("fit", "same.csv", *TABLE, "--out", "r")
    found = run("audit", "r")
    assert found["spread"] == found["fisher_with_prior"] == 0
