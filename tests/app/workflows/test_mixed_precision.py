"""Fits, resumed fits and samples of each kind of data in bfloat16, on the CPU."""

import json
import math
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
FLOAT32_SAMPLES = {"speech": ("--text", "to be", "--out", "said.wav"), "documents": ("-n", "2", "--out", "samples")}
"""Options of models that sample in float32, by name of the fit."""
QUICK = ("points",)


@pytest.fixture(autouse=True)
def quickly(here: pathlib.Path, unreported: None) -> None:
    """Fit in an empty folder, without a report."""


def cases() -> list[object]:
    names = [name for name in FITS if name not in WITHOUT_PRECISION]
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", cases())
def test_fit_resume_and_sample(here: pathlib.Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights and optimizer states stay float32 and finite, and samples can be written."""
    materials(here)
    assert main([*FITS[name], "--train.precision", "bf16", "--out", "run", "--seed", "3"]) == 0, capsys.readouterr().err
    assert main(["fit", "--resume", "--out", "run", "--steps", "6"]) == 0, capsys.readouterr().err
    run = Run(here / "run")
    assert json.loads(run.recipe.read_text())["recipe"]["train"]["precision"] == "bf16"
    saved = {**load_tensors(run.state)[0], **load_tensors(run.weights)[0], **load_tensors(run.ema_weights)[0]}
    assert all(value.dtype not in (torch.bfloat16, torch.float16) for value in saved.values())
    assert all(value.isfinite().all() for value in saved.values() if value.is_floating_point())
    losses = [json.loads(line)["loss"] for line in run.metrics.read_text().splitlines() if "loss" in line]
    assert len(losses) >= 2
    assert all(map(math.isfinite, losses))
    if name not in WITHOUT_SAMPLES:
        options = FLOAT32_SAMPLES.get(name, ("-n", "2", "--precision", "bf16", "--out", "samples"))
        assert main(["sample", "run", *options]) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_steered_samples(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    materials(here)
    assert main([*FITS["points"], "--out", "run", "--seed", "3"]) == 0, capsys.readouterr().err
    rows = {}
    for precision in ("fp32", "bf16", "fp8"):
        words = ("steer", "run", "--reward", "reward.py:right", "-n", "3", "--steps", "2", "--out", f"{precision}.npz")
        status = main([*words, "--precision", precision])
        assert status == (2 if precision == "fp8" else 0), capsys.readouterr().err
        if status == 0:
            with np.load(f"{precision}.npz") as file:
                rows[precision] = torch.from_numpy(file["samples"])
    assert not torch.equal(rows["bf16"], rows["fp32"])
    assert rows["bf16"].isfinite().all()
    assert not pathlib.Path("fp8.npz").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tune", "bridge"])
def test_tuned_models_and_bridges(here: pathlib.Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    materials(here)
    precision = ("--train.precision", "bf16", "--seed", "3")
    if kind == "tune":
        assert main([*FAMILIES["points"], "--out", "points", *precision]) == 0
    words = FAMILIES["tuned"] if kind == "tune" else (*BRIDGE, "--train.batch-size", "13")
    assert main([*words, *precision, "--out", "run"]) == 0, capsys.readouterr().err
