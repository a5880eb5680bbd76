"""Compiled training equals eager training."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.networks.mlp import MLP
from feller.paths import Affine
from feller.spaces import Euclidean
from feller.training.engine import get_engine
from feller.training.objectives.maximum_likelihood import MaximumLikelihood
from feller.training.optimizer import TrainConfig
from feller.training.parallelize import check_parallelize
from tests.errors import refuses
from tests.training.shared import NETWORKS, TRAINING, kept, learned, save

ROOT = pathlib.Path(__file__).parents[2]


def compiled(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_compiled_training_equals_eager_training(tmp_path: pathlib.Path, kind: str) -> None:
    done = compiled("-m", "tests.training.compiled", str(tmp_path), kind)
    assert done.returncode == 0, done.stderr
    name, graphs = done.stdout.split()
    assert name == type(NETWORKS[kind][0]()).__name__
    assert int(graphs) >= 1  # it was compiled indeed
    torch.set_default_dtype(torch.float64)
    try:
        (tmp_path / "eager").mkdir()
        save(Run(tmp_path / "eager"), learned(kind, TRAINING), writes=True)
    finally:
        torch.set_default_dtype(torch.float32)
    ours, expected = kept(Run(tmp_path)), kept(Run(tmp_path / "eager"))
    assert ours.keys() == expected.keys()
    for part, value in expected.items():
        torch.testing.assert_close(ours[part], value, rtol=1e-5, atol=1e-6, msg=lambda text, part=part: part + text)


@pytest.mark.slow
def test_fits_and_samples_on_the_command_line(tmp_path: pathlib.Path) -> None:
    fit = ("-m", "feller", "fit", "example:moons", "--size", "tiny", "--steps", "5", "--sampling.nfe", "4")
    run = tmp_path / "run"
    done = compiled(*fit, "--train.compile", "--out", str(run))
    assert done.returncode == 0, done.stderr
    drawn = []
    for name, more in (("plain", ()), ("compiled", ("--compile",))):
        place = tmp_path / f"{name}.npz"
        words = ("sample", str(run), "-n", "30", "--out", str(place), *more)
        done = compiled("-m", "feller", *words)
        assert done.returncode == 0, done.stderr
        with np.load(place) as file:
            drawn.append(torch.from_numpy(file["samples"]))
    torch.testing.assert_close(*drawn, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_missing_compiler_is_refused_before_writing(tmp_path: pathlib.Path) -> None:
    fit = ("-m", "feller", "fit", "example:moons", "--size", "tiny", "--steps", "5", "--train.compile")
    environment = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = compiled(*fit, "--out", str(tmp_path / "run"), **environment)
    assert done.returncode == 2
    assert "C++ compiler" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("training", [TrainConfig(compile=True), TrainConfig(fsdp=True)])
def test_objectives_with_simulations_are_refused(training: TrainConfig) -> None:
    objective = MaximumLikelihood(Affine(), Euclidean((2,)))
    with refuses(UsageError):
        check_parallelize(training, objective, MLP(width=8, depth=1), get_engine())
