"""Exports: the Hugging Face folder, weights that are being replaced, and exports older than their run."""

import itertools
import json
import pathlib

import numpy as np
import pytest
import torch

import feller
from feller.app.config import ExportConfig
from feller.app.workflows.export import export
from feller.app.workflows.hugging_face import TRIES, read_stable, stale_exports
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.core.serialization import to_dict, write_json
from feller.core.user_code import fingerprint
from feller.models.model import load_model
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.accounting.ledger import Ledger
from tests.app import asked
from tests.errors import refuses
from tests.models.export.untrained import as_run, untrained
from tests.safety.specimen_runs import copied


def hub(run, out):
    return export(run, ExportConfig(to="huggingface", out=str(out)))


@pytest.fixture
def run(tmp_path):
    model, recipe = untrained("example:digits", "images")
    run = as_run(tmp_path / "run", model, recipe, "example:digits")
    numbers = {"fd_cnn": 1.25, "steps": 7, "seconds": 3.0, "compared_with": "held out"}
    report = {"numbers": numbers, "explanations": {"fd_cnn": "Less is better."}, "verdict": "The digits are good."}
    write_json(run.path / "report.json", report)
    return run


def test_hugging_face_folder_is_a_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, config = hub(run, "hub")
    names = ["README.md", "config.json", "model.json", "model.safetensors", "recipe.json", "state.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert config["library_name"] == "feller"
    for place, out in (("run", "a.npz"), ("hub", "b.npz")):
        asked.run("sample", place, "-n", 3, "--nfe", 4, "--given", "label=7", "--out", out)
    assert np.array_equal(np.load("a.npz")["samples"], np.load("b.npz")["samples"])
    hub(run, "hub")  # replaces its own export


def test_model_card(run, tmp_path):
    card = (hub(run, tmp_path / "hub")[0] / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: feller")
    row, license = "| `fd_cnn` | 1.25 | Less is better. |", "BSD-3-Clause"
    for text in (license, "The digits are good.", row, "feller sample THIS_FOLDER", "@misc{lipman2024", "`label`: 10"):
        assert text in card


def test_hugging_face_folder_contains_no_local_paths(run, tmp_path):
    record = run.read_record(run.recipe)
    record["config"] |= {"data": "/home/someone/secret/people.csv", "schema": "/home/someone/schema.json"}
    record["provenance"]["shards"] = {"/home/someone.tar": "0a1b2c3d"}
    record["provenance"]["ancestors"] = [{"data": "/home/someone/older.csv", "fingerprint": "", "keyed": False}]
    run.write_record(run.recipe, record)
    folder, _ = hub(run, tmp_path / "hub")
    for file in folder.iterdir():
        assert b"/home/someone" not in file.read_bytes()
    assert "people.csv" in (folder / "README.md").read_text()


def test_model_card_of_a_private_run_has_no_metrics(run, tmp_path):
    record = run.read_record(run.recipe)
    private = {"epsilon": 2.0, "delta": 1e-5, "n": 100, "sigma": 1.0, "clip": 1.0, "batch": 10, "steps": 5}
    record["provenance"]["private"] = private
    run.write_record(run.recipe, record)
    ledger = Ledger((PoissonSubsampledGaussian("training", 1.0, 0.1, 5),), 1e-5, 100)
    run.write_record(run.ledger, to_dict(ledger))
    (run.path / "exposure.safetensors").write_bytes(b"x")
    folder, _ = hub(run, tmp_path / "hub")
    card = (folder / "README.md").read_text()
    assert "fd_cnn" not in card
    assert "The digits" not in card
    assert "total: epsilon" in card
    assert {"exposure.safetensors", "report.json"}.isdisjoint(path.name for path in folder.iterdir())


def test_folders_of_others_are_kept(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps({"library_name": "other"}))
    with refuses(InputError, file=str(tmp_path / "mine")):
        hub(run, tmp_path / "mine")
    with refuses(UsageError, argument="guidance"):
        export(run, ExportConfig(to="huggingface", out=str(tmp_path / "hub"), guidance="2"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["config.json"]


def test_ema_weights_of_a_run_are_those_of_feller(run):
    (run.path / "model.safetensors").write_bytes(b"not ours")
    assert run.ema_weights.name == "average.safetensors"
    assert torch.isfinite(torch.as_tensor(feller.load_model(run).sample(1, rng=Rng(0)).numpy().astype(float))).all()


def trained_on(run, step):
    save_tensors(run.ema_weights, {name: one + 1 for name, one in load_tensors(run.ema_weights)[0].items()})
    write_json(run.progress, {"step": step, "seconds": 1.0})


@pytest.mark.portable
def test_export_names_its_weights(tmp_path, monkeypatch):
    run, read = copied(tmp_path / "r"), itertools.count()
    before = fingerprint(run.ema_weights)

    def loading(run):
        model = load_model(run)
        if next(read) == 0:
            trained_on(run, 50)
        return model

    def writing(answer, place):
        place.write_bytes(b"")
        trained_on(run, 60)

    monkeypatch.setattr("feller.app.workflows.export.load_model", loading)
    monkeypatch.setattr("feller.app.workflows.export.WRITERS", {"torch-export": (".pt2", writing)})
    _, record = export(run, ExportConfig(to="torch-export"))
    assert next(read) == 2
    assert record["step"] == 50
    assert record["weights"] not in (before, fingerprint(run.ema_weights))


@pytest.mark.portable
def test_folder_has_weights_and_counters_of_one_step(tmp_path, monkeypatch):
    run, read = copied(tmp_path / "r"), itertools.count()

    def loading(file):
        found = load_tensors(file)
        if next(read) == 0:
            trained_on(run, 50)
        return found

    monkeypatch.setattr("feller.app.workflows.hugging_face.load_tensors", loading)
    folder, _ = export(run, ExportConfig(to="huggingface"))
    assert next(read) == 2
    assert fingerprint(folder / "model.safetensors") == fingerprint(run.ema_weights)
    assert (folder / "state.json").read_bytes() == run.progress.read_bytes()


@pytest.mark.portable
def test_weights_that_change_at_every_read(tmp_path):
    run, read = copied(tmp_path / "r"), itertools.count(100)
    with refuses(InputError, remedy="Wait until its fit is done"):
        read_stable(run, lambda: trained_on(run, next(read)))
    assert next(read) == 100 + TRIES


@pytest.mark.portable
def test_run_without_weights(tmp_path):
    run = copied(tmp_path / "r")
    run.ema_weights.unlink()
    with refuses(InputError, file=str(run.path)):
        export(run, ExportConfig(to="torch-export"))
    with refuses(InputError, file=str(run.ema_weights), found="none"):
        export(run, ExportConfig(to="huggingface"))


def test_resumed_run_notes_older_exports(here, unreported, capsys):
    asked.run("fit", "example:moons", "--size", "tiny", "--steps", 2, "--out", "run")
    run = Run(pathlib.Path("run"))
    _, record = export(run, ExportConfig(to="torch-export", guidance="1"))
    export(run, ExportConfig(to="huggingface"))
    assert record["step"] == 2
    capsys.readouterr()
    for steps, is_stale in ((2, False), (4, True)):
        asked.run("fit", "--resume", "--out", "run", "--steps", steps)
        err = capsys.readouterr().err
        for name in ("run/export.pt2", "run/huggingface"):
            assert (name in err) is is_stale
    assert "feller export run --to torch-export" in err
    asked.run("export", "run", "--to", "huggingface")
    assert [line.split()[0] for line in stale_exports(run)] == ["run/export.pt2"]
    pathlib.Path("run/export.pt2.json").write_text("{")
    assert [*stale_exports(run)] == []
