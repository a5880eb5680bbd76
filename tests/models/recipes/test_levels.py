"""Pictures as symbols: each recipe learns, draws levels, and goes on bit for bit after a stop."""

import pathlib
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from feller.app.cli import main
from feller.core.errors import UsageError
from feller.core.run_folder import open_run
from feller.core.safetensors_io import load_tensors
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.dataset_reader import read
from feller.models.recipes.images import levels_mask, levels_metric, levels_uniform
from feller.models.recipes.recipe import Recipe
from feller.paths import LeaveOneOut, MetricPath, Mixture, Posterior
from feller.spaces import MaskSource, UniformSource
from feller.training.objective import FlowMatching

NAMES = ("levels-mask", "levels-uniform", "levels-metric")
TINY = ("--size", "tiny", "--sampling.nfe", "2", "--train.batch-size", "32")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("build", "path", "source", "answer"),
    [
        (levels_mask, Mixture, MaskSource(), Posterior()),
        (levels_uniform, Mixture, UniformSource(), LeaveOneOut()),
        (levels_metric, MetricPath, UniformSource(), LeaveOneOut()),
    ],
)
def test_path_and_space_have_one_source(build, path, source, answer) -> None:
    recipe = build(read("example:digits"), "tiny")
    assert isinstance(recipe.objective.path, path)
    assert recipe.objective.path.parameterization == answer
    assert recipe.objective.space.source == source
    assert recipe.objective.space.vocab_size == 17
    assert getattr(recipe.objective.path, "source", source) == source
    assert from_dict(Recipe, to_dict(recipe)) == recipe


def test_large_pictures_go_through_a_unet() -> None:
    data = read("example:digits")
    large = type(data)(data.values.repeat(1, 1, 4, 4), data.given, replace(data.modality, height=32, width=32))
    assert type(levels_mask(large, "tiny").architecture).__name__ == "TokenAdapter"
    assert type(levels_mask(data, "tiny").architecture).__name__ == "TokenMLP"


@pytest.mark.parametrize("name", NAMES)
def test_a_stop_changes_nothing(name: str, monkeypatch) -> None:
    """Six steps in one go, and with Ctrl-C in the third: the same weights, and samples that are levels; no judge."""
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    words = ["fit", "example:digits", "--recipe", name, *TINY, "--steps", "6", "--out"]
    assert main([*words, "whole"]) == 0
    loss, calls = FlowMatching.loss, []

    def stopped(self, network, example):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return loss(self, network, example)

    monkeypatch.setattr(FlowMatching, "loss", stopped)
    assert main([*words, "paused"]) == 130
    assert len(calls) < 6
    monkeypatch.setattr(FlowMatching, "loss", loss)
    assert main(["fit", "--resume", "--out", "paused"]) == 0
    for file in ("weights", "ema_weights"):
        whole, paused = (load_tensors(getattr(open_run(run), file))[0] for run in ("whole", "paused"))
        assert all(torch.equal(whole[key], paused[key]) for key in whole)
    assert main(["sample", "paused", "-n", "5", "--given", "label=4", "--guidance", "2", "--out", "new.npz"]) == 0
    file = np.load("new.npz")
    assert file["samples"].shape == (5, 8, 8)
    assert file["samples"].max() <= 16
    assert set(file["labels"]) == {4}


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(UsageError, match="levels-mask` needs images"):
        levels_mask(read("example:moons"), "tiny")
    assert not list(pathlib.Path().iterdir())
