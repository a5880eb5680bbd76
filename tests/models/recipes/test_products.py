"""Recipes for data of several parts: crystals, molecules, labelled images."""

import pathlib
from dataclasses import replace

import pytest
import torch

from feller.app.modalities.registration import find_recipe
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.crystals.modality import Crystals
from feller.data.images.labelled_images import LabelledImages
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Dataset
from feller.data.molecules.modality import Molecules
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.sampling.sampler_config import SamplerConfig
from tests.errors import refuses
from tests.models.recipes.trained import trained

FEW = SamplerConfig("midpoint", 8)


def fitted(name: str, data: Dataset, steps: int, batch: int) -> tuple[Recipe, Model]:
    """Return a recipe that survives its record, and a model that was trained for some steps."""
    _, recipe = find_recipe(name, data, "tiny")
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    small = replace(recipe, sampling=FEW, train=replace(recipe.train, batch_size=batch, warmup=5, ema_decay=0.9))
    return recipe, trained(small, data, steps)


@pytest.mark.parametrize(("name", "kind"), [("perovskites", Crystals), ("molecules", Molecules)])
def test_sample_and_write(name: str, kind: type, tmp_path: pathlib.Path) -> None:
    data = read(f"example:{name}").subset(torch.arange(64))
    recipe, model = fitted("auto", data, 15, 16)
    assert isinstance(data.modality, kind)
    assert isinstance(recipe, Recipe)
    drawn = model.sample_dataset(4, rng=Rng(1))
    valid = drawn.given["valid"]["element"]
    assert set(valid.sum(1).tolist()) <= set(data.given["valid"]["element"].sum(1).tolist())
    drawn.modality.write(drawn.values, drawn.given, tmp_path / "out")
    values, _ = read_samples(tmp_path / "out", drawn.modality)
    assert torch.equal(values["element"][valid], drawn.values["element"][valid])


def test_crystals_given_elements_or_lattice() -> None:
    data = read("example:perovskites").subset(torch.arange(64))
    _, model = fitted("auto", data, 5, 16)
    elements = data.modality.elements
    wanted = [elements[i] for i in (0, 1, 2, 2, 2)]
    given, fixed = model.parse_conditions(3, {"element": ",".join(wanted)}, Rng(0))
    drawn = model.sample_dataset(3, given=given, clamped=fixed, rng=Rng(1))
    assert [[elements[i] for i in row] for row in drawn.values["element"].tolist()] == [wanted] * 3
    given, fixed = model.parse_conditions(3, {"lattice": "4,4,5,90,90,90"}, Rng(0))
    drawn = model.sample_dataset(3, given=given, clamped=fixed, rng=Rng(1))
    expected = torch.tensor([4.0, 4, 5, 90, 90, 90], dtype=torch.float64).expand(3, 6)
    torch.testing.assert_close(drawn.values["lattice"], expected, rtol=1e-4, atol=1e-4)


def test_images_with_labels() -> None:
    data = read("example:digits").subset(torch.arange(200))
    recipe, model = fitted("image-label", data, 10, 32)
    assert isinstance(recipe.modality, LabelledImages)
    assert model.spec.conditionable == ("image", "label")
    drawn = model.sample_dataset(5, rng=Rng(1))
    assert drawn.values["image"].shape == (5, 1, 8, 8)
    assert drawn.values["label"].max() < 10
    given, fixed = model.parse_conditions(5, {"label": "3"}, Rng(0))
    assert model.sample_dataset(5, given=given, clamped=fixed).values["label"].tolist() == [3] * 5
    jumping = model.sample_dataset(5, sampling=replace(FEW, jump_weight=1.0), rng=Rng(1))
    assert not torch.equal(jumping.values["image"], drawn.values["image"])


def test_unknown_conditions() -> None:
    data = read("example:digits").subset(torch.arange(50))
    _, model = fitted("image-label", data, 2, 16)
    with refuses(UsageError, argument="given", found="'colour'"):
        model.parse_conditions(1, {"colour": "red"}, Rng(0))
    plain = read("example:moons").subset(torch.arange(50))
    _, model = fitted("auto", plain, 2, 16)
    with refuses(UsageError, argument="given", found="'element'"):
        model.parse_conditions(1, {"element": "C"}, Rng(0))
