"""The recipes of tokenisers: cells that suit the pictures, records, and bit for bit the same after a stop."""

import pathlib
import signal
from dataclasses import replace

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
from feller.models.recipes.images import image_tokenizer, image_tokenizer_vq
from feller.models.recipes.recipe import SIZES, Recipe
from feller.networks import FSQ, VectorQuantizerEMA
from feller.training.objectives.autoencoding import AutoencodingLoss

DIGITS = read("example:digits")


def sized(height: int, width: int) -> Dataset:
    values = torch.zeros(4, 1, height, width, dtype=torch.uint8)
    return Dataset(values, {}, replace(DIGITS.modality, height=height, width=width, classes=()))


@pytest.mark.parametrize("build", [image_tokenizer, image_tokenizer_vq])
@pytest.mark.parametrize("size", SIZES)
def test_256_codes_by_default(build, size: str) -> None:
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
def test_cells_make_about_eight_codes_a_side(height: int, width: int, factor: int) -> None:
    assert image_tokenizer(sized(height, width), "tiny").architecture.factor == factor


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(UsageError, match="even height and width"):
        image_tokenizer(sized(31, 31), "tiny")
    with pytest.raises(UsageError, match="found 9 x 8"):
        image_tokenizer(sized(8, 9), "tiny")
    with pytest.raises(UsageError, match="image-tokenizer-vq` needs images"):
        image_tokenizer_vq(read("example:moons"), "tiny")
    assert find_recipe("auto", DIGITS, "tiny")[0] == "images"


@pytest.mark.parametrize("name", ["image-tokenizer", "image-tokenizer-vq"])
def test_a_stop_changes_nothing(name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps in one go, and with Ctrl-C in the third: the same weights, and codebook, bit for bit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    words = ["fit", "example:digits", "--recipe", name, "--size", "tiny", "--steps", "6", "--out"]
    assert main([*words, "whole"]) == 0
    loss, calls = AutoencodingLoss.loss, []

    def stopped(self, network, example):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return loss(self, network, example)

    monkeypatch.setattr(AutoencodingLoss, "loss", stopped)
    assert main([*words, "paused"]) == 130
    assert len(calls) < 6
    monkeypatch.setattr(AutoencodingLoss, "loss", loss)
    assert main(["fit", "--resume", "--out", "paused"]) == 0
    for file in ("weights", "ema_weights"):
        whole, paused = (load_tensors(getattr(open_run(run), file))[0] for run in ("whole", "paused"))
        assert whole.keys() == paused.keys()
        assert all(torch.equal(whole[key], paused[key]) for key in whole)
        assert ("codebook.cluster_size" in whole) == (name == "image-tokenizer-vq")
