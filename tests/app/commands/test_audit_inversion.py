"""feller audit, where rows are read from private gradients, and of data of every kind."""

import json
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from feller.app.workflows.auditing.gradient_inversion import GradientInversion
from feller.app.workflows.fine_tuned_run import read_recipe
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.run_config import read_fit_record, reread_data, train_test_split
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.models.model import load_model
from tests.app.commands.asked import run_json as run

ROWS = 6
"""That are attacked, so that tests are quick."""


@pytest.fixture(autouse=True)
def few(here: pathlib.Path, unreported: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.app.workflows.auditing.gradient_inversion.ROWS", ROWS)
    for name, few in (("NOISES", 2), ("STARTS", 1)):
        monkeypatch.setattr(f"feller.app.workflows.auditing.gradient_inversion.{name}", few)


def pictures(folder: str, n: int = 80) -> None:
    rng = np.random.default_rng(0)
    pathlib.Path(folder).mkdir()
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).save(f"{folder}/{i}.png")


@pytest.mark.slow
def test_pictures_are_read_from_gradients_beside_what_bounds_it(capsys) -> None:
    pictures("photos")
    words = ("--size", "tiny", "--epsilon", 8, "--train.batch-size", 16, "--unsafe-seed", 1, "--steps", 3, "--out", "r")
    status, _, err = run(capsys, "fit", "photos", *words, "--audit", "fisher=9")
    assert status == 0, err
    status, found, err = run(capsys, "audit", "r")
    assert status == 0, err
    assert found["inversion_below"] == 0
    assert found["inversion_rows"] == ROWS
    assert found["inversion_steps"] == 1  # 3 steps hold a row with a chance of about 0.2 each
    for way in ("inversion", "inversion_step"):
        assert 0 < found[f"{way}_bound"] <= found["inversion_spread"]
        assert found[f"{way}_error"] > found[f"{way}_bound"] - 4 * found["inversion_doubt"]
    assert found["inversion_unbiased"] > found["inversion_unbiased_bound"]
    assert "Alarm" not in err
    page = json.loads(pathlib.Path("r/report-audit.json").read_text())
    rows = page["tables"]["Rows that are read from gradients"]
    assert rows[0]["row"] == "mean"
    assert rows[0]["all steps"] == pytest.approx(found["inversion_error"])
    assert len(rows) == ROWS + 1
    html = pathlib.Path("r/report-audit.html").read_text()
    assert html.count("<img") == 3  # the bounds, the most and least exposed rows, and what is read of rows


@pytest.mark.slow
def test_a_row_meets_the_same_alone_and_beside_others(capsys) -> None:
    pictures("photos", 40)
    words = ("--size", "tiny", "--epsilon", 8, "--train.batch-size", 16, "--unsafe-seed", 1, "--steps", 2, "--out", "r")
    status, _, err = run(capsys, "fit", "photos", *words)
    assert status == 0, err
    place = Run(pathlib.Path("r"))
    asked, network = read_fit_record(place), load_model(place, file=place.weights).network
    train, _ = train_test_split(asked, reread_data(asked, None))
    planned = asked.provenance.private
    assert isinstance(planned, Guarantee)
    attack = GradientInversion(network, read_recipe(place).objective, train, torch.tensor([3, 8, 20]), planned, Rng(0))
    together = attack.add_gaussian(2)(attack.rows)
    assert (together.unflatten(1, (2, -1)).norm(dim=2) < attack.clip * (1 + 1e-4)).all()
    for i in range(3):
        alone = attack.add_gaussian(2, i)(attack.rows[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-3)
    assert (together[0] - together[1]).norm() > 0.1 * together[0].norm()


@pytest.mark.slow
def test_numbers_of_a_table_are_read_and_symbols_are_not(capsys) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal(50, 9):.1f},{rng.integers(18, 80)},{'FM'[rng.integers(2)]}" for _ in range(400)]
    pathlib.Path("people.csv").write_text("weight,age,sex\n" + "\n".join(rows) + "\n")
    columns = {
        "weight": {"kind": "numerical", "low": 0, "high": 100, "bins": 20},
        "age": {"kind": "numerical", "low": 0, "high": 100, "bins": 20},
        "sex": {"kind": "categorical", "values": ["F", "M"]},
    }
    pathlib.Path("schema.json").write_text(json.dumps({"outside": "clip", "columns": columns}))
    common = ("--schema", "schema.json", "--size", "tiny", "--epsilon", 3, "--steps", 5)
    for recipe in ("table-flow", "table"):
        status, _, err = run(capsys, "fit", "people.csv", *common, "--recipe", recipe, "--out", recipe)
        assert status == 0, err
        status, found, err = run(capsys, "audit", recipe)
        assert status == 0, err
        if recipe == "table":
            assert "gradient inversion skipped: the model encodes rows as tokens" in err
            assert "inversion_error" not in found
        else:
            assert found["inversion_below"] == 0
            assert found["inversion_bound"] <= found["inversion_spread"]


@pytest.mark.slow
def test_a_clip_norm_that_adapts_is_followed(capsys) -> None:
    pictures("photos", 40)
    words = ("--size", "tiny", "--epsilon", 8, "--train.batch-size", 16, "--unsafe-seed", 1, "--steps", 3, "--out", "r")
    status, _, err = run(capsys, "fit", "photos", *words, "--clip", "adaptive")
    assert status == 0, err
    status, found, err = run(capsys, "audit", "r")
    assert status == 0, err
    assert found["inversion_below"] == 0
