"""Fits, resumed fits and samples of each kind of data in bfloat16, on the CPU, next to those in float32."""

import json
import pathlib

import numpy as np
import pytest
import torch

from feller.app.cli import main
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from tests.app.workflows.families import BRIDGE, FAMILIES, TINY, materials

MORE: dict[str, tuple[str, ...]] = {
    "text": ("fit", "words.txt", *TINY),
    "molecules": ("fit", "example:molecules", *TINY),
    "backbones": ("fit", "example:backbones", *TINY),
    "proteins": ("fit", "example:proteins", *TINY),
    "numeric-table": ("fit", "people.csv", "--recipe", "table-flow", *TINY),
}
FITS = {**{name: words for name, words in FAMILIES.items() if words[0] == "fit"}, **MORE}
WITHOUT_SAMPLES = ("regressor", "codebook")
WITHOUT_PRECISION = ("found", "private")
"""A graphical model has no neural network, and clipped gradients need float32."""
FLOAT32_SAMPLES = {"speech": ("--text", "to be"), "documents": ("-n", "2")}
"""Options of models that sample in float32, by name of the fit."""
QUICK = ("points",)
STEPS, HALF = "6", "3"
TRAINING = ("--train.lr-decay-fraction", "0", "--seed", "3")
"""The learning rate of a step does not depend on the length of the fit."""
RATE, RATES = "1e-2", {"codebook": "1e-3"}
"""Learning rates that move the weights in a few steps; larger ones let rounding decide which code is nearest."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder with files of every kind."""
    folder = tmp_path_factory.mktemp("data")
    materials(folder)
    return folder


@pytest.fixture(autouse=True)
def quickly(here: pathlib.Path, unreported: None, data: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit where the files are, without a report, and record the loss of every step."""
    monkeypatch.chdir(data)
    monkeypatch.setattr("feller.app.workflows.bridge.report_bridge", lambda *_: {})
    monkeypatch.setattr("feller.app.workflows.tune.evaluate", lambda run, **others: {})
    monkeypatch.setattr("feller.training.trainer.LOG_EVERY", 1)


def cases() -> list[object]:
    names = [name for name in FITS if name not in WITHOUT_PRECISION]
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


def fit(name: str, steps: str, precision: str, run: Run) -> None:
    """Fit for another number of steps."""
    words, rate = FITS[name], RATES.get(name, RATE)
    place = words.index("--steps")
    words = (*words[:place], *words[place + 2 :], "--steps", steps, "--train.precision", precision, *TRAINING)
    assert main([*words, "--train.lr", rate, "--out", str(run.path)]) == 0


def losses(run: Run) -> torch.Tensor:
    rows = map(json.loads, run.metrics.read_text().splitlines())
    return torch.tensor([row["loss"] for row in rows if "loss" in row], dtype=torch.float64)


def tensors(run: Run) -> dict[str, torch.Tensor]:
    return {**load_tensors(run.state)[0], **load_tensors(run.weights)[0], **load_tensors(run.ema_weights)[0]}


@pytest.mark.parametrize("name", cases())
def test_fit_resume_and_sample(here: pathlib.Path, name: str) -> None:
    """Losses follow float32 within 2 %, a resumed fit equals an uninterrupted one, and weights stay float32."""
    whole, parts, exact = (Run(here / folder) for folder in ("whole", "parts", "exact"))
    fit(name, STEPS, "fp32", exact)
    fit(name, STEPS, "bf16", whole)
    fit(name, HALF, "bf16", parts)
    assert main(["fit", "--resume", "--out", str(parts.path), "--steps", STEPS]) == 0
    assert json.loads(parts.recipe.read_text())["recipe"]["train"]["precision"] == "bf16"
    assert len(losses(whole)) == int(STEPS)
    assert not torch.equal(losses(whole), losses(exact))
    torch.testing.assert_close(losses(whole), losses(exact), rtol=0.02, atol=0)
    torch.testing.assert_close(losses(parts), losses(whole), rtol=0, atol=0)
    saved, resumed = tensors(whole), tensors(parts)
    assert saved.keys() == resumed.keys()
    for key, value in saved.items():
        assert torch.equal(value, resumed[key]), key
        assert value.dtype not in (torch.bfloat16, torch.float16)
        assert value.isfinite().all()
    if name not in WITHOUT_SAMPLES:
        out = str(here / ("said.wav" if name == "speech" else "samples"))
        options = FLOAT32_SAMPLES.get(name, ("-n", "2", "--precision", "bf16"))
        assert main(["sample", str(whole.path), *options, "--out", out]) == 0


@pytest.mark.slow
def test_steered_samples(here: pathlib.Path) -> None:
    assert main([*FITS["points"], "--out", str(here / "run"), "--seed", "3"]) == 0
    rows = {}
    for precision, status in (("fp32", 0), ("bf16", 0), ("fp8", 2)):
        out = here / f"{precision}.npz"
        words = ("--reward", "reward.py:right", "-n", "3", "--steps", "2", "--precision", precision, "--out", str(out))
        assert main(["steer", str(here / "run"), *words]) == status
        assert out.exists() == (status == 0)
        if out.exists():
            with np.load(out) as file:
                rows[precision] = torch.from_numpy(file["samples"])
    assert not torch.equal(rows["bf16"], rows["fp32"])
    assert rows["bf16"].isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tuned", "bridge"])
def test_tuned_models_and_bridges(here: pathlib.Path, kind: str) -> None:
    precision = ("--train.precision", "bf16", "--seed", "3")
    words = (*BRIDGE, "--train.batch-size", "13")
    if kind == "tuned":
        base = str(here / "points")
        assert main([*FAMILIES["points"], "--out", base, *precision]) == 0
        words = ("tune", base, *FAMILIES["tuned"][2:])
    assert main([*words, *precision, "--out", str(here / "run")]) == 0
