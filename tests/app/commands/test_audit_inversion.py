"""feller audit: gradient inversion of private runs."""

import json
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from feller.app.workflows.auditing.gradient_inversion import GradientInversion
from feller.app.workflows.fine_tuned_run import read_recipe
from feller.app.workflows.run_config import read_fit_record, reread_data, train_test_split
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.models.model import load_model
from tests.app.asked import run

pytestmark = pytest.mark.slow
ROWS = 6
"""Number of attacked rows."""


@pytest.fixture(autouse=True)
def few(here, unreported, monkeypatch):
    for name, few in (("ROWS", ROWS), ("NOISES", 2), ("STARTS", 1)):
        monkeypatch.setattr(f"feller.app.workflows.auditing.gradient_inversion.{name}", few)


def fit_images(*words, n=40):
    rng = np.random.default_rng(0)
    pathlib.Path("photos").mkdir()
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).save(f"photos/{i}.png")
    private = ("--epsilon", 8, "--train.batch-size", 16, "--unsafe-seed", 1)
    run("fit", "photos", "--size", "tiny", *private, *words, "--out", "r")


def test_errors_are_above_their_bounds():
    fit_images("--steps", 3, "--audit", "fisher=9", n=80)
    found = run("audit", "r")
    assert found["inversion_below"] == 0
    assert found["inversion_rows"] == ROWS
    assert found["inversion_steps"] == 1  # 3 steps hold a row with a chance of about 0.2 each
    for way in ("inversion", "inversion_step"):
        assert 0 < found[f"{way}_bound"] <= found["inversion_spread"]
        assert found[f"{way}_error"] > found[f"{way}_bound"] - 4 * found["inversion_doubt"]
    assert found["inversion_unbiased"] > found["inversion_unbiased_bound"]
    page = json.loads(pathlib.Path("r/report-audit.json").read_text())
    rows = page["tables"]["Rows that are read from gradients"]
    assert rows[0]["row"] == "mean"
    assert rows[0]["all steps"] == pytest.approx(found["inversion_error"])
    assert len(rows) == ROWS + 1
    html = pathlib.Path("r/report-audit.html").read_text()
    assert html.count("<img") == 3  # the bounds, the most and least exposed rows, and the reconstructions


def test_gradients_of_a_row_do_not_depend_on_the_batch():
    fit_images("--steps", 2)
    place = Run(pathlib.Path("r"))
    record, network = read_fit_record(place), load_model(place, file=place.weights).network
    train, _ = train_test_split(record, reread_data(record, None))
    planned = record.provenance.private
    attack = GradientInversion(network, read_recipe(place).objective, train, torch.tensor([3, 8, 20]), planned, Rng(0))
    together = attack.add_gaussian(2)(attack.rows)
    assert (together.unflatten(1, (2, -1)).norm(dim=2) < attack.clip * (1 + 1e-4)).all()
    for i in range(3):
        alone = attack.add_gaussian(2, i)(attack.rows[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-3)
    assert (together[0] - together[1]).norm() > 0.1 * together[0].norm()


@pytest.mark.parametrize("recipe", ["table-flow", "table"])
def test_numbers_of_a_table_and_not_tokens(recipe):
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal(50, 9):.1f},{rng.integers(18, 80)},{'FM'[rng.integers(2)]}" for _ in range(400)]
    pathlib.Path("people.csv").write_text("weight,age,sex\n" + "\n".join(rows) + "\n")
    number = {"kind": "numerical", "low": 0, "high": 100, "bins": 20}
    columns = {"weight": number, "age": number, "sex": {"kind": "categorical", "values": ["F", "M"]}}
    pathlib.Path("schema.json").write_text(json.dumps({"outside": "clip", "columns": columns}))
    words = ("--schema", "schema.json", "--size", "tiny", "--epsilon", 3, "--steps", 5, "--recipe", recipe)
    run("fit", "people.csv", *words, "--out", "r")
    found = run("audit", "r")
    assert ("inversion_error" in found) == (recipe == "table-flow")
    if recipe == "table-flow":
        assert found["inversion_below"] == 0
        assert found["inversion_bound"] <= found["inversion_spread"]


def test_adaptive_clipping():
    fit_images("--steps", 3, "--clip", "adaptive")
    assert run("audit", "r")["inversion_below"] == 0
