"""A folder in the layout of the hub: what it holds, what it does not tell, and that it opens again."""

import json
import pathlib

import numpy as np
import pytest
import torch

import feller
from feller.app.cli import main
from feller.app.config import ExportConfig
from feller.app.workflows.export import export
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import to_dict, write_json
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.accounting.ledger import Ledger
from tests.errors import refuses
from tests.models.export.untrained import as_run, untrained


@pytest.fixture
def run(tmp_path):
    model, recipe = untrained("example:digits", "images")
    run = as_run(tmp_path / "run", model, recipe, "example:digits")
    numbers = {"fd_cnn": 1.25, "steps": 7, "seconds": 3.0, "compared_with": "held out"}
    told = {"numbers": numbers, "explanations": {"fd_cnn": "Less is better."}, "verdict": "The digits are good."}
    write_json(run.path / "report.json", told)
    return run


def test_it_opens_again_and_draws_the_same(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, config = export(run, ExportConfig(to="huggingface", out="hub"))
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
        "model.json",
        "recipe.json",
        "state.json",
    }
    assert config["library_name"] == "feller"
    for place, out in (("run", "a.npz"), ("hub", "b.npz")):
        assert main(["sample", place, "-n", "3", "--nfe", "4", "--given", "label=7", "--out", out]) == 0
    assert np.array_equal(np.load("a.npz")["samples"], np.load("b.npz")["samples"])
    assert main(["export", "run", "--to", "huggingface", "--out", "hub"]) == 0  # over what was written before
    capsys.readouterr()


def test_the_card_says_what_how_good_and_what_to_cite(run, tmp_path):
    folder, _ = export(run, ExportConfig(to="huggingface", out=str(tmp_path / "hub")))
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: feller")
    assert "BSD-3-Clause (scikit-learn); the UCI set is CC BY 4.0" in card
    assert "The digits are good." in card
    assert "| `fd_cnn` | 1.25 | Less is better. |" in card
    assert "feller sample THIS_FOLDER" in card
    assert "@misc{lipman2024" in card
    assert "`label`: 10 values" in card


def test_it_tells_nobody_where_files_lie(run, tmp_path):
    record = run.read_record(run.recipe)
    record["config"] |= {"data": "/home/someone/secret/people.csv", "schema": "/home/someone/schema.json"}
    record["provenance"]["shards"] = {"/home/someone.tar": "0a1b2c3d"}
    record["provenance"]["ancestors"] = [{"data": "/home/someone/older.csv", "fingerprint": "", "keyed": False}]
    run.write_record(run.recipe, record)
    folder, _ = export(run, ExportConfig(to="huggingface", out=str(tmp_path / "hub")))
    for file in folder.iterdir():
        assert b"/home/someone" not in file.read_bytes()
    assert "people.csv" in (folder / "README.md").read_text()
    assert "unknown to feller" in (folder / "README.md").read_text()


def test_of_a_private_run_no_figure_of_its_rows_is_told(run, tmp_path):
    record = run.read_record(run.recipe)
    private = {"epsilon": 2.0, "delta": 1e-5, "n": 100, "sigma": 1.0, "clip": 1.0, "batch": 10, "steps": 5}
    record["provenance"]["private"] = {**private}
    run.write_record(run.recipe, record)
    ledger = Ledger((PoissonSubsampledGaussian("training", 1.0, 0.1, 5),), 1e-5, 100)
    run.write_record(run.ledger, to_dict(ledger))
    (run.path / "exposure.safetensors").write_bytes(b"x")
    folder, _ = export(run, ExportConfig(to="huggingface", out=str(tmp_path / "hub")))
    card = (folder / "README.md").read_text()
    assert "fd_cnn" not in card
    assert "The digits" not in card
    assert "all together: epsilon" in card
    assert not (folder / "exposure.safetensors").exists()
    assert not (folder / "report.json").exists()


def test_other_peoples_files_stay(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps({"library_name": "other"}))
    with pytest.raises(InputError, match="was not written by feller"):
        export(run, ExportConfig(to="huggingface", out=str(tmp_path / "mine")))
    with refuses(UsageError, argument="guidance"):
        export(run, ExportConfig(to="huggingface", out=str(tmp_path / "hub"), guidance="2"))
    assert [path.name for path in pathlib.Path(tmp_path / "mine").iterdir()] == ["config.json"]


def test_our_own_average_comes_before_a_file_of_their_name(run):
    (run.path / "model.safetensors").write_bytes(b"not ours")
    assert run.ema_weights.name == "average.safetensors"
    assert torch.isfinite(torch.as_tensor(feller.load_model(run).sample(1, rng=Rng(0)).numpy().astype(float))).all()
