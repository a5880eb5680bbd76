"""Recipes of image tokenizers and of images as tokens."""

import pathlib
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from feller.app.cli import main
from feller.app.modalities.registration import find_recipe
from feller.core.errors import UsageError
from feller.core.run_folder import open_run
from feller.core.safetensors_io import load_tensors
from feller.core.serialization import from_dict, to_dict
from feller.data.images.pixel_codes import AsTokens
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.models.recipes.images import (
    image_tokenizer,
    image_tokenizer_vq,
    images,
    levels_mask,
    levels_metric,
    levels_uniform,
)
from feller.models.recipes.recipe import USUAL_SIZES, Recipe
from feller.networks import FSQ, VectorQuantizerEMA
from feller.paths import LeaveOneOut, MetricPath, Mixture, Posterior
from feller.spaces import MaskSource, UniformSource
from feller.training.objective import FlowMatching
from feller.training.objectives.autoencoding import AutoencodingLoss
from tests.errors import refuses

DIGITS = read("example:digits")


def sized(height: int, width: int) -> Dataset:
    values = torch.zeros(4, 1, height, width, dtype=torch.uint8)
    return Dataset(values, {}, replace(DIGITS.modality, height=height, width=width, classes=()))


@pytest.mark.parametrize("build", [image_tokenizer, image_tokenizer_vq])
@pytest.mark.parametrize("size", USUAL_SIZES)
def test_default_codebook(build, size: str) -> None:
    recipe = build(DIGITS, size)
    assert recipe.architecture.quantizer.codebook_size == 256
    assert isinstance(recipe.architecture.quantizer, FSQ if build is image_tokenizer else VectorQuantizerEMA)
    assert recipe.model_spec(DIGITS.with_modality(recipe.modality)).frequencies == {}  # labels tell it nothing
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    tokens = DIGITS.with_modality(replace(DIGITS.modality, code=AsTokens()))
    assert build(tokens, size) == recipe


@pytest.mark.parametrize(
    ("height", "width", "factor"),
    [(8, 8, 2), (16, 16, 2), (28, 28, 4), (32, 32, 4), (64, 64, 8), (32, 64, 8), (30, 30, 2), (36, 64, 4), (2, 2, 2)],
)
def test_downsampling_factor(height: int, width: int, factor: int) -> None:
    assert image_tokenizer(sized(height, width), "tiny").architecture.factor == factor


def test_odd_sizes_are_refused() -> None:
    for height, width in ((31, 31), (8, 9)):
        with refuses(UsageError, found=f"{width} x {height}"):
            image_tokenizer(sized(height, width), "tiny")
    assert find_recipe("auto", DIGITS, "tiny")[0] == "images"


@pytest.mark.parametrize(
    "name", ["image-tokenizer", "image-tokenizer-vq", "levels-mask", "levels-uniform", "levels-metric", "photographs"]
)
def test_interrupted_and_resumed_run_is_bit_exact(name: str, tmp_path: pathlib.Path, monkeypatch) -> None:
    """Six steps in one go, and with Ctrl-C in the third; flows are also sampled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    flow = not name.startswith("image-tokenizer")
    objective = FlowMatching if flow else AutoencodingLoss
    words = ["fit", "example:digits", "--recipe", name, "--size", "tiny", "--steps", "6"]
    words += ["--sampling.nfe", "2", "--train.batch-size", "32"] if flow else []
    words += ["--architecture.dropout", "0.2"] if name == "photographs" else []
    assert main([*words, "--out", "whole"]) == 0
    loss, calls = objective.loss, []

    def stopped(self, network, example):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return loss(self, network, example)

    monkeypatch.setattr(objective, "loss", stopped)
    assert main([*words, "--out", "paused"]) == 130
    assert len(calls) < 6
    monkeypatch.setattr(objective, "loss", loss)
    assert main(["fit", "--resume", "--out", "paused"]) == 0
    for file in ("weights", "ema_weights"):
        whole, paused = (load_tensors(getattr(open_run(run), file))[0] for run in ("whole", "paused"))
        assert whole.keys() == paused.keys()
        assert all(torch.equal(whole[key], paused[key]) for key in whole)
        assert ("codebook.cluster_size" in whole) == (name == "image-tokenizer-vq")
    if flow:
        assert main(["sample", "paused", "-n", "5", "--given", "label=4", "--guidance", "2", "--out", "new.npz"]) == 0
        file = np.load("new.npz")
        assert file["samples"].shape == (5, 8, 8)
        assert file["samples"].max() <= 16
        assert set(file["labels"]) == {4}


@pytest.mark.parametrize(
    ("build", "path", "source", "answer"),
    [
        (levels_mask, Mixture, MaskSource(), Posterior()),
        (levels_uniform, Mixture, UniformSource(), LeaveOneOut()),
        (levels_metric, MetricPath, UniformSource(), LeaveOneOut()),
    ],
)
def test_path_and_source_of_levels(build, path, source, answer) -> None:
    recipe = build(read("example:digits"), "tiny")
    assert isinstance(recipe.objective.path, path)
    assert recipe.objective.path.parameterization == answer
    assert recipe.objective.space.source == source
    assert recipe.objective.space.vocab_size == 17
    assert getattr(recipe.objective.path, "source", source) == source
    assert from_dict(Recipe, to_dict(recipe)) == recipe


def test_architecture_of_large_images() -> None:
    data = read("example:digits")
    large = type(data)(data.values.repeat(1, 1, 4, 4), data.given, replace(data.modality, height=32, width=32))
    assert type(levels_mask(large, "tiny").architecture).__name__ == "TokenAdapter"
    assert type(levels_mask(data, "tiny").architecture).__name__ == "TokenMLP"


@pytest.mark.parametrize(
    ("side", "patch", "channels"), [(8, 1, 32), (16, 1, 32), (17, 2, 64), (28, 2, 64), (32, 2, 64), (64, 2, 64)]
)
def test_unet_works_on_patches_from_three_levels_on(side: int, patch: int, channels: int) -> None:
    recipe = images(sized(side, side), "small")
    assert (recipe.architecture.patch, recipe.architecture.channels) == (patch, channels)
    assert from_dict(Recipe, to_dict(recipe)) == recipe
