"""feller audit: the privacy calculator, runs with and without privacy, and what is refused."""

import json
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from feller.app.workflows.private.leakage_report import read_leakage
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from feller.evaluation.metrics import main_metrics, metric
from tests.app.asked import refuse, run

pytestmark = pytest.mark.usefixtures("here", "unreported")

BY_CHANCE = 0.19  # five standard errors of an area between 120 members and 120 others
SCHEMA = {
    "outside": "clip",
    "columns": {
        "age": {"kind": "numerical", "low": 0, "high": 100, "bins": 10},
        "sex": {"kind": "categorical", "values": ["F", "M"]},
        "job": {"kind": "categorical", "values": ["clerk", "nurse", "smith"]},
    },
}


def people(path, n=1200, seed=0):
    rng = np.random.default_rng(seed)
    jobs = ("clerk", "nurse", "smith")
    rows = [f"{rng.integers(18, 80)},{'FM'[rng.integers(2)]},{jobs[rng.integers(3)]}" for _ in range(n)]
    pathlib.Path(path).write_text("age,sex,job\n" + "\n".join(rows) + "\n")
    pathlib.Path("schema.json").write_text(json.dumps(SCHEMA))


def fit(*words):
    people("people.csv")
    budget = () if "table-marginals" in words else ("--steps", 6)
    run("fit", "people.csv", "--schema", "schema.json", "--size", "tiny", *budget, "--out", "r", *words)


def report():
    return json.loads(pathlib.Path("r/report-audit.json").read_text())


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta", "epsilon", "rdp", "added", "replaced", "error", "guess"),
    [
        (0.01, 1.1, 1000, 1e-5, 1.515370, 1.711770, 0.128510082, 0.362630, 0.571947, 0.179118),
        (1, 10, 100, 1e-5, 4.377178, 4.728507, 1.0, 4.0, 0.00466434, 0.389144),
    ],
)
def test_calculator(rate, noise, steps, delta, epsilon, rdp, added, replaced, error, guess):
    """The vectors of the reference, section 9."""
    found = run("audit", "calculator", "--noise", noise, "--rate", rate, "--steps", steps, "--delta", delta)
    assert epsilon - 1e-6 <= found["epsilon"] <= epsilon + 1e-3
    assert found["epsilon_pld"] == found["epsilon"]
    assert found["epsilon_order2_added"] == pytest.approx(added, rel=1e-8)
    assert found["epsilon_order2"] == pytest.approx(replaced, abs=1e-5)
    assert found["mse_bound"] == pytest.approx(error, rel=1e-4)
    if rate < 1:
        assert found["epsilon_rdp"] == pytest.approx(rdp, rel=1e-3)
    assert guess - 1e-5 <= found["guess_0.1"] <= guess + 1e-4


def test_calculator_for_all_rows_of_a_user():
    plan = ("audit", "calculator", "--noise", 4, "--rate", 1, "--steps", 4)
    one, two = (run(*plan, "--rows-per-user", rows) for rows in (1, 2))
    assert one["epsilon_user"] == one["epsilon"]
    twice = run("audit", "calculator", "--noise", 2, "--rate", 1, "--steps", 4)
    assert two["epsilon_user"] == pytest.approx(twice["epsilon"], rel=2e-3)


@pytest.mark.slow
def test_calculator_chooses_batch_size_and_steps():
    found = run("audit", "calculator", "--epsilon", 4, "--rows", 2000, "--examples", 800)
    assert [(plan["batch_size"], plan["steps"]) for plan in found["plans"]] == [(32, 25), (16, 50)]
    assert {name: found[name] for name in found if name != "plans"} in found["plans"]
    again = run(
        "audit",
        "calculator",
        "--noise",
        found["noise"],
        "--rate",
        found["batch_size"] / 2000,
        "--steps",
        found["steps"],
    )
    assert 4 - 2e-3 <= again["epsilon"] <= 4


def test_calculator_without_a_bound():
    assert run("audit", "calculator", "--noise", 0.03, "--rate", 0.2, "--steps", 1000)["mse_bound"] == 0


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--noise 0 --rate 0.1 --steps 5", {"argument": "noise", "found": "0"}),
        ("--noise 1e-200 --rate 0.1 --steps 5", {"argument": "noise", "expected": "at least 0.001"}),
        ("--noise 1e300 --rate 0.1 --steps 5", {"argument": "noise", "expected": "at most 1e+06"}),
        ("--noise 1 --rate 1.5 --steps 5", {"argument": "rate", "found": "1.5"}),
        ("--noise 1 --rate 0.1 --steps 0", {"argument": "steps", "found": "0"}),
        ("--noise 1 --rate 0.1", {"argument": None}),
        ("--noise 1 --rate 0.1 --steps 5 --delta 2", {"argument": "delta", "found": "2"}),
        ("--noise 1 --rate 0.1 --steps 5 --data example:moons", {"argument": "data"}),
        ("--noise 1 --rate 0.1 --steps 5 --shadows 2", {"argument": "shadows"}),
        ("--noise 1 --rate 0.1 --steps 5 --canaries 40", {"argument": "canaries"}),
        ("--noise 1 --rate 0.1 --steps 5 --rows-per-user 0", {"argument": "rows"}),
        ("--noise 1 --rate 0.1 --steps 5 --rows 100", {"argument": "rows"}),
        ("--epsilon 1 --rows 100", {"argument": "examples"}),
        ("--epsilon 1 --examples 1000", {"argument": "rows"}),
        ("--epsilon 1 --rows 1000 --examples 1000 --steps 5", {"argument": "steps"}),
    ],
)
def test_calculator_refuses(words, fields):
    refuse("audit", "calculator", *words.split(), **fields)


def test_numbers_of_the_calculator_are_documented():
    text = (pathlib.Path(__file__).parents[3] / "docs/reference/commands.md").read_text()
    found = run("audit", "calculator", "--noise", 1.1, "--rate", 0.01, "--steps", 10)
    assert [name for name in found if f"`{name}`" not in text] == []


def test_older_names_of_numbers_have_the_same_labels():
    for name in ("epsilon_2", "epsilon_2_added"):
        newer = name.replace("_2", "_order2")
        numbers = {name: 0.3, newer: 0.3, "mse_bound": 0.5}
        assert metric(name, numbers) == metric(newer, numbers)
        assert main_metrics(numbers) == ["mse_bound"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["table", "table-marginals", "table-flow"])
def test_private_table(recipe):
    fit("--recipe", recipe, "--epsilon", 3)
    found = run("audit", "r")
    assert 2.5 < found["epsilon"] <= 3
    assert 0 < found["mse_bound"] < 1
    assert 0.1 < found["guess_0.1"] < 1
    for way in ("loss", "nearness", "density"):
        assert found[f"{way}_auc"] == pytest.approx(0.5, abs=BY_CHANCE)
        assert found[f"{way}_epsilon"] <= found["epsilon"]
    tables = report()["tables"]
    assert len(tables["Membership attacks"]) == 3
    columns = tables["Cells guessed from the rest of the row"]
    assert [row["column"] for row in columns] == ["age", "sex", "job"]
    for row in columns:
        tried = row["most frequent value"] if recipe == "table-flow" else row["unseen rows"]
        assert tried <= row["training rows, bound"] <= 1
        assert (row["unseen rows"] is None) == (recipe == "table-flow")
    assert found["report"] == "r/report-audit.html"


@pytest.mark.slow
def test_run_without_privacy():
    fit()
    found = run("audit", "r")
    assert {"epsilon", "mse_bound"}.isdisjoint(found)
    assert found["loss_auc"] == pytest.approx(0.5, abs=BY_CHANCE)
    assert "WITHOUT privacy" in report()["promise"]


def test_copies():
    rng = np.random.default_rng(0)
    np.savetxt("few.csv", rng.normal(size=(400, 2)), delimiter=",", header="x,y", comments="")
    run("fit", "few.csv", "--size", "tiny", "--steps", 5, "--out", "r")
    found = run("audit", "r")
    assert found["copies"] == 0
    assert found["nearest_ratio"] > 0.5


@pytest.mark.slow
def test_other_data_and_changed_ledgers_are_refused():
    fit("--epsilon", 3)
    people("others.csv", seed=1)
    assert "others.csv" in str(refuse("audit", "r", "--data", "others.csv", kind=InputError))
    ledger = pathlib.Path("r/ledger.json")
    kept, fields = json.loads(ledger.read_text()), {"kind": InputError, "file": "r/ledger.json"}
    assert kept["table"].count("-") == 1
    ledger.write_text(json.dumps({**kept, "n": kept["n"] - 1}))
    refuse("audit", "r", **fields)
    ledger.write_text(json.dumps({**kept, "table": kept["table"][:-1] + "x"}))
    for words in (("audit", "r"), ("fit", "--resume", "--out", "r")):
        refuse(*words, kind=InputError)
    ledger.unlink()
    refuse("audit", "r", **fields)
    refuse("audit", "r", "--noise", 1)


@pytest.mark.slow
def test_fisher_information_of_rows():
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        pathlib.Path("photos", name).mkdir(parents=True)
        for i in range(60):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"photos/{name}/{i}.png")
    words = ("--size", "tiny", "--epsilon", 8, "--train.batch-size", 32, "--unsafe-seed", 1, "--steps", 4)
    run("fit", "photos", *words, "--audit", "fisher=7", "--out", "r")
    run("fit", "photos", *words, "--out", "plain")
    watched, plain = (load_tensors(pathlib.Path(out) / "weights.safetensors")[0] for out in ("r", "plain"))
    assert all(torch.equal(watched[name], plain[name]) for name in plain)  # measuring changes nothing
    told = read_leakage(Run(pathlib.Path("r")))
    assert (told.leakage.steps, told.leakage.dim, len(told.rows)) == (4, 64, 7)
    assert (told.leakage.eta2 > 0).all()
    found = run("audit", "r")
    assert found["fisher_rows"] == 7
    assert found["fisher_least"] == pytest.approx(1 / told.leakage.eta2.max().item(), rel=1e-6)
    assert found["fisher_with_prior"] < found["spread"]
    errors = [row["least error"] for row in report()["tables"]["Most exposed rows"]]
    assert errors == sorted(errors)
    assert not pathlib.Path("plain/exposure.safetensors").exists()


@pytest.mark.slow
def test_fisher_information_is_refused():
    people("people.csv")
    words = ("fit", "people.csv", "--schema", "schema.json", "--size", "tiny", "--steps", 4, "--out", "r")
    for more, fields in (
        ("--epsilon 3 --audit fisher=8", {"argument": "audit"}),
        ("--audit fisher=8", {}),
        ("--epsilon 3 --audit fisher", {"argument": "audit", "found": "fisher"}),
        ("--epsilon 3 --recipe table-flow --audit fisher=8000", {"argument": "audit"}),
    ):
        refuse(*words, *more.split(), **fields)
        assert not pathlib.Path("r/recipe.json").exists()


def test_regressor_has_loss_attacks_only():
    run(
        "fit",
        "example:digits",
        "--recipe",
        "regressor",
        "--target",
        "label",
        "--steps",
        2,
        "--size",
        "tiny",
        "--out",
        "t",
    )
    found = run("audit", "t")
    assert found["loss_auc"] == pytest.approx(0.5, abs=BY_CHANCE)
    assert "copies" not in found
