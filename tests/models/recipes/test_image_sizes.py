"""Sizes of image networks, and the recipes that have them."""

import pathlib
from dataclasses import replace

import pytest
import torch
from PIL import Image

from feller.app.config import FitConfig
from feller.app.modalities.registration import find_recipe
from feller.app.workflows.run_config import FitRecord, Provenance
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.models.recipes.image_sizes import IMAGE_SIZES, sized_dit, sized_unet
from feller.models.recipes.recipe import SIZES, Recipe
from feller.models.recipes.registry import RECIPES, SCALABLE_RECIPES
from feller.networks import count_parameters
from feller.networks.network_config import meta_init
from tests.errors import refuses

MILLIONS = {"tiny": 0.5, "small": 3, "base": 30, "large": 130, "xl": 450}


def pictures(height: int, width: int, channels: int = 3) -> Dataset:
    values = torch.zeros(2, channels, height, width, dtype=torch.uint8)
    return Dataset(values, {}, Images(height, width, channels))


@pytest.mark.parametrize("recipe", ["photographs", "images-dit"])
@pytest.mark.parametrize("size", SIZES)
def test_number_of_weights(recipe: str, size: str) -> None:
    """Within a fifth of the nominal number, at each side; built on the device meta, without memory."""
    for side in {32, 64, IMAGE_SIZES[size].limit}:
        data = pictures(side, side)
        settings = RECIPES[recipe](data, size)
        assert from_dict(Recipe, to_dict(settings)) == settings
        with meta_init():
            network = settings.model_spec(data).build(Rng(0))
        assert {weight.device.type for weight in network.parameters()} == {"meta"}
        assert count_parameters(network) / 1e6 == pytest.approx(MILLIONS[size], rel=0.2)


def test_levels_and_patches_follow_the_sides() -> None:
    """The coarsest level has 4 to 8 pixels along the longer side; attention sees a limited number of positions."""
    for height, width in ((4, 4), (8, 8), (9, 16), (28, 28), (32, 32), (48, 64), (65, 20), (100, 128), (256, 256)):
        for size, settings in IMAGE_SIZES.items():
            unet, dit = sized_unet(height, width, size), sized_dit(height, width, size)
            levels = len(unet.multipliers)
            assert (3 < max(height, width) / 2 ** (levels - 1) <= 8) or max(height, width) < 5
            assert unet.multipliers[-2:] == settings.unet.multipliers[-2:][-levels:]
            assert unet.attention[0] is False
            sites = [-(-height // 2**level) * -(-width // 2**level) for level in range(levels)]
            assert [*unet.attention[1:]] == [count <= settings.max_sites for count in sites[1:]]
            patches = -(-height // dit.patch) * -(-width // dit.patch)
            assert patches <= settings.max_patches
            assert dit.patch == 2 or 4 * patches > settings.max_patches
            training = settings.training(height, width, 1e-3)
            assert (training.micro_batch or training.batch_size) * height * width <= settings.batch_size * 64**2


def test_recipe_of_colour_pictures() -> None:
    for data, size, name in (
        (pictures(32, 32), "base", "photographs"),
        (pictures(40, 96), "large", "photographs"),
        (pictures(40, 96), "small", "images"),
        (pictures(31, 64), "base", "images"),
        (pictures(64, 64, 1), "base", "images"),
    ):
        assert find_recipe("auto", data, size)[0] == name


def test_networks_of_small_grey_images() -> None:
    """Weights for 8 x 8 and 28 x 28 grey images."""
    for side, numbers in ((8, (32_849, 127_137, 500_033)), (28, (457_796, 1_816_708, 12_423_428))):
        for size, number in zip(SIZES[:3], numbers, strict=True):
            data = pictures(side, side, 1)
            with meta_init():
                network = RECIPES["images"](data, size).model_spec(data).build(Rng(0))
            assert count_parameters(network) == number
    for size, side in (("large", 8), ("base", 32)):
        plain, augmented = (RECIPES[name](pictures(side, side, 1), size) for name in ("images", "photographs"))
        assert replace(plain, train=replace(plain.train, augmentation=augmented.train.augmentation)) == augmented
        assert augmented.train.augmentation.is_on
        assert not plain.train.augmentation.is_on


def test_other_recipes_refuse_the_large_sizes() -> None:
    points = read("example:moons")
    for size in SIZES[3:]:
        with refuses(UsageError, argument="size", found=repr(size)) as refused:
            find_recipe("auto", points, size)
        assert all(size in str(refused.value) for size in SIZES[:3])
        for recipe in SCALABLE_RECIPES:
            assert find_recipe(recipe, pictures(32, 32), size)[0] == recipe
    with refuses(UsageError, argument="size", found="'huge'"):
        find_recipe("photographs", pictures(32, 32), "huge")


def test_default_limit_of_the_sides(tmp_path: pathlib.Path) -> None:
    for i in range(3):
        Image.new("RGB", (300, 90), (80 * i, 0, 0)).save(tmp_path / f"{i}.png")
    for recipe, size, side in (
        ("auto", "", 64),
        ("auto", "tiny", 64),
        ("auto", "base", 128),
        ("images-dit", "large", 256),
        ("photographs", "xl", 300),
        ("levels-mask", "base", 64),
    ):
        record = FitRecord(config=FitConfig(), provenance=Provenance(recipe=recipe, size=size))
        assert read(tmp_path, **record.how_read).values.shape == (3, 3, round(side * 0.3), side)
    assert read(tmp_path, longest=200, max_side=128).values.shape == (3, 3, 60, 200)


@pytest.mark.parametrize("recipe", ["photographs", "images-dit"])
def test_any_sides(recipe: str) -> None:
    """Sides that levels or patches do not divide: the note says the sides inside, and the output has the shape."""
    for height, width, inside in ((33, 45, True), (48, 32, False), (70, 70, True)):
        config = RECIPES[recipe](pictures(height, width), "tiny").architecture
        shape = (3, height, width)
        output = config.build(shape, {}, Rng(0))(torch.zeros(2, *shape), torch.zeros(2), {})
        assert output.shape == (2, *shape)
        factor = config.patch if recipe == "images-dit" else 2 ** (len(config.multipliers) - 1)
        notes = config.notes(shape)
        assert len(notes) == inside
        if inside:
            padded = f"{-(-width // factor) * factor}x{-(-height // factor) * factor}"
            assert padded in notes[0]


def test_networks_on_meta_leave_others_alone() -> None:
    settings = replace(sized_unet(8, 8, "tiny"), channels=8)
    with meta_init():
        settings.build((3, 8, 8), {}, Rng(0))
    assert next(settings.build((3, 8, 8), {}, Rng(0)).parameters()).device.type == "cpu"
