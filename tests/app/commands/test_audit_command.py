"""feller audit: what a plan promises, what a run spent and shows, and what is refused."""

import json
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from feller.app.workflows.private.leakage_report import read_leakage
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from feller.evaluation.metrics import main_metrics, metric
from tests.app.commands.asked import run_json as run

pytestmark = pytest.mark.usefixtures("here", "unreported")

BY_CHANCE = 0.19  # five standard errors of an area between 120 members and 120 others


def calculator(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict, str]:
    return run(capsys, "audit", "calculator", *words)


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta", "epsilon", "rdp", "added", "replaced", "error", "guess"),
    [
        (0.01, 1.1, 1000, 1e-5, 1.515370, 1.711770, 0.128510082, 0.362630, 0.571947, 0.179118),
        (0.004, 1.0, 5000, 1e-5, 1.510867, 1.699072, 0.137460657, 0.371641, 0.555418, None),
        (1, 10, 100, 1e-5, 4.377178, 4.728507, 1.0, 4.0, 0.00466434, 0.389144),
    ],
)
def test_a_plan(capsys, rate, noise, steps, delta, epsilon, rdp, added, replaced, error, guess) -> None:
    """The vectors of the reference, section 9."""
    status, found, err = calculator(capsys, "--noise", noise, "--rate", rate, "--steps", steps, "--delta", delta)
    assert status == 0, err
    assert epsilon - 1e-6 <= found["epsilon"] <= epsilon + 1e-3
    assert found["epsilon_pld"] == found["epsilon"]
    assert found["epsilon_order2_added"] == pytest.approx(added, rel=1e-8)
    assert found["epsilon_order2"] == pytest.approx(replaced, abs=1e-5)
    assert found["mse_bound"] == pytest.approx(error, rel=1e-4)
    if rate < 1:
        assert found["epsilon_rdp"] == pytest.approx(rdp, rel=1e-3)
    if guess:
        assert guess - 1e-5 <= found["guess_0.1"] <= guess + 1e-4


def test_a_plan_that_promises_nothing_is_said_in_words(capsys) -> None:
    status, found, err = calculator(capsys, "--noise", 0.03, "--rate", 0.2, "--steps", 1000)
    assert status == 0
    assert found["mse_bound"] == 0
    assert "has no lower bound" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--noise", 0, "--rate", 0.1, "--steps", 5), "--noise: expected above 0"),
        (("--noise", 1e-200, "--rate", 0.1, "--steps", 5), "--noise: expected at least 0.001"),
        (("--noise", 1, "--rate", 1.5, "--steps", 5), "above 0 and at most 1; found 1.5"),
        (("--noise", 1, "--rate", 0.1, "--steps", 0), "--steps: expected at least 1"),
        (("--noise", 1, "--rate", 0.1), "expected --noise, --rate and --steps"),
        (("--noise", 1, "--rate", 0.1, "--steps", 5, "--delta", 2), "delta"),
        (
            ("--noise", 1, "--rate", 0.1, "--steps", 5, "--data", "example:moons"),
            "--data: applies only to the audit of a run",
        ),
    ],
)
def test_wrong_plans(capsys, words: tuple, said: str) -> None:
    status, _, err = calculator(capsys, *words)
    assert status == 2
    assert said in err
    assert "Traceback" not in err


def people(path: str, n: int = 1200, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        f"{rng.integers(18, 80)},{'FM'[rng.integers(2)]},{('clerk', 'nurse', 'smith')[rng.integers(3)]}"
        for _ in range(n)
    ]
    pathlib.Path(path).write_text("age,sex,job\n" + "\n".join(rows) + "\n")


SCHEMA = {
    "outside": "clip",
    "columns": {
        "age": {"kind": "numerical", "low": 0, "high": 100, "bins": 10},
        "sex": {"kind": "categorical", "values": ["F", "M"]},
        "job": {"kind": "categorical", "values": ["clerk", "nurse", "smith"]},
    },
}


def fitted(capsys, *words: object) -> None:
    people("people.csv")
    pathlib.Path("schema.json").write_text(json.dumps(SCHEMA))
    budget = () if "table-marginals" in words else ("--steps", 6)
    asked = ("fit", "people.csv", "--schema", "schema.json", "--size", "tiny", *budget, "--out", "r", *words)
    status, _, err = run(capsys, *asked)
    assert status == 0, err


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["table", "table-marginals", "table-flow"])
def test_a_private_table(capsys, recipe: str) -> None:
    fitted(capsys, "--recipe", recipe, "--epsilon", 3)
    status, found, err = run(capsys, "audit", "r")
    assert status == 0, err
    assert 2.5 < found["epsilon"] <= 3
    assert 0 < found["mse_bound"] < 1
    assert 0.1 < found["guess_0.1"] < 1
    for way in ("loss", "nearness", "density"):
        assert found[f"{way}_auc"] == pytest.approx(0.5, abs=BY_CHANCE)
        assert found[f"{way}_epsilon"] <= found["epsilon"]
    page = json.loads(pathlib.Path("r/report-audit.json").read_text())
    assert len(page["tables"]["Membership attacks"]) == 3
    columns = page["tables"]["Cells guessed from the rest of the row"]
    assert [row["column"] for row in columns] == ["age", "sex", "job"]
    for row in columns:
        tried = row["most frequent value"] if recipe == "table-flow" else row["unseen rows"]
        assert tried <= row["training rows, bound"] <= 1
        assert (row["unseen rows"] is None) == (recipe == "table-flow")
    assert "report-audit.html" in found["report"]


@pytest.mark.slow
def test_a_model_without_privacy_is_said_to_have_none(capsys) -> None:
    fitted(capsys)
    status, found, err = run(capsys, "audit", "r")
    assert status == 0, err
    assert "WITHOUT privacy" in err
    assert "epsilon" not in found
    assert "mse_bound" not in found
    assert found["loss_auc"] == pytest.approx(0.5, abs=BY_CHANCE)
    assert "WITHOUT privacy" in json.loads(pathlib.Path("r/report-audit.json").read_text())["promise"]


def test_copies_are_an_alarm(capsys) -> None:
    """A model of ten points that was trained long draws them again, more or less."""
    rng = np.random.default_rng(0)
    np.savetxt("few.csv", rng.normal(size=(400, 2)), delimiter=",", header="x,y", comments="")
    status, _, err = run(capsys, "fit", "few.csv", "--size", "tiny", "--steps", 5, "--out", "r")
    assert status == 0, err
    status, found, err = run(capsys, "audit", "r")
    assert status == 0, err
    assert found["copies"] == 0
    assert found["nearest_ratio"] > 0.5


@pytest.mark.slow
def test_ledgers_and_data_of_others(capsys) -> None:
    fitted(capsys, "--epsilon", 3)
    people("others.csv", seed=1)
    status, _, err = run(capsys, "audit", "r", "--data", "others.csv")
    assert status == 1
    assert "others.csv is not the training data" in err
    ledger = pathlib.Path("r/ledger.json")
    kept = json.loads(ledger.read_text())
    ledger.write_text(json.dumps({**kept, "n": kept["n"] - 1}))
    status, _, err = run(capsys, "audit", "r")
    assert status == 1
    assert "belongs to another run" in err
    assert kept["table"].count("-") == 1
    ledger.write_text(json.dumps({**kept, "table": kept["table"][:-1] + "x"}))
    for words in (("audit", "r"), ("fit", "--resume", "--out", "r")):
        status, _, err = run(capsys, *words)
        assert status == 1
        assert "expected a table with hash" in err
    ledger.unlink()
    status, _, err = run(capsys, "audit", "r")
    assert status == 1
    assert "ledger.json: is missing" in err
    status, _, err = run(capsys, "audit", "r", "--noise", 1)
    assert status == 2
    assert "belongs to `feller audit calculator`" in err


def pictures(folder: str, n: int = 120) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        pathlib.Path(folder, name).mkdir(parents=True)
        for i in range(n // 2):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"{folder}/{name}/{i}.png")


@pytest.mark.slow
def test_rows_that_are_watched(capsys) -> None:
    pictures("photos")
    words = ("--size", "tiny", "--epsilon", 8, "--train.batch-size", 32, "--unsafe-seed", 1)
    for out, audit in (("r", ("--audit", "fisher=7")), ("plain", ())):
        status, _, err = run(capsys, "fit", "photos", *words, "--steps", 4, *audit, "--out", out)
        assert status == 0, err
    watched, plain = (load_tensors(pathlib.Path(out) / "weights.safetensors")[0] for out in ("r", "plain"))
    assert all(torch.equal(watched[name], plain[name]) for name in plain)  # a watch changes nothing
    told = read_leakage(Run(pathlib.Path("r")))
    assert told is not None
    assert (told.leakage.steps, told.leakage.dim, len(told.rows)) == (4, 64, 7)
    assert (told.leakage.eta2 > 0).all()
    status, found, err = run(capsys, "audit", "r")
    assert status == 0, err
    assert found["fisher_rows"] == 7
    assert found["fisher_least"] == pytest.approx(1 / told.leakage.eta2.max().item(), rel=1e-6)
    assert found["fisher_with_prior"] < found["spread"]
    page = json.loads(pathlib.Path("r/report-audit.json").read_text())
    rows = page["tables"]["Most exposed rows"]
    assert [row["least error"] for row in rows] == sorted(row["least error"] for row in rows)
    assert not (pathlib.Path("plain") / "exposure.safetensors").exists()


@pytest.mark.slow
def test_what_cannot_be_watched(capsys) -> None:
    people("people.csv")
    pathlib.Path("schema.json").write_text(json.dumps(SCHEMA))
    asked = ("fit", "people.csv", "--schema", "schema.json", "--size", "tiny", "--steps", 4, "--out", "r")
    for words, said in (
        (("--epsilon", 3, "--audit", "fisher=8"), "Omit --audit"),
        (("--audit", "fisher=8"), "requires --epsilon"),
        (("--epsilon", 3, "--audit", "fisher"), "--audit: expected fisher=ROWS"),
        (("--epsilon", 3, "--recipe", "table-flow", "--audit", "fisher=8000"), "fisher=ROWS with 1 to"),
    ):
        status, _, err = run(capsys, *asked, *words)
        assert status == 2, err
        assert said in err
        assert not pathlib.Path("r/recipe.json").exists()


def test_a_regressor_is_asked_by_its_losses_alone(capsys) -> None:
    words = ("fit", "example:digits", "--recipe", "regressor", "--target", "label", "--steps", 2, "--size", "tiny")
    status, _, err = run(capsys, *words, "--out", "t")
    assert status == 0, err
    status, found, err = run(capsys, "audit", "t")
    assert status == 0, err
    assert found["loss_auc"] == pytest.approx(0.5, abs=BY_CHANCE)
    assert "copies" not in found
    assert "copies are not measured" in err


def test_numbers_of_a_plan_are_on_the_page_of_commands(capsys) -> None:
    _, found, _ = calculator(capsys, "--noise", 1.1, "--rate", 0.01, "--steps", 10)
    text = (pathlib.Path(__file__).parents[3] / "docs/reference/commands.md").read_text()
    assert [name for name in found if f"`{name}`" not in text] == []


def test_reports_with_the_older_names_are_labelled_alike() -> None:
    for name in ("epsilon_2", "epsilon_2_added"):
        newer = name.replace("_2", "_order2")
        numbers = {name: 0.3, newer: 0.3, "mse_bound": 0.5}
        assert metric(name, numbers) == metric(newer, numbers)
        assert main_metrics(numbers) == ["mse_bound"]
