"""Recipes of latents of images: factors of the autoencoder, and sizes of the networks."""

import pytest

from feller.app.modalities.registration import find_recipe
from feller.models.cost_estimate import images_of_shape
from feller.models.recipes.image_sizes import IMAGE_SIZE_NAMES
from feller.networks.network_config import count_parameters


@pytest.mark.parametrize(
    ("height", "width", "latents"),
    [(32, 32, (16, 16)), (50, 39, (25, 20)), (64, 64, (16, 16)), (128, 96, (16, 12)), (256, 256, (32, 32))],
)
def test_grid_of_latents(height: int, width: int, latents: tuple[int, int]) -> None:
    for name in ("latent-images", "latent-images-dit"):
        _, recipe = find_recipe(name, images_of_shape(3, height, width), "tiny")
        assert recipe.objective.space.shape == (4, *latents)
        assert not recipe.train.augmentation.is_on


@pytest.mark.parametrize("size", IMAGE_SIZE_NAMES)
def test_flows_of_latents_have_about_the_weights_of_flows_of_pixels(size: str) -> None:
    data = images_of_shape(3, 64, 64)
    counts = []
    for name in ("photographs", "latent-images"):
        _, recipe = find_recipe(name, data, size)
        pixels_or_latents = data if recipe.modality is None else data.with_modality(recipe.modality)
        counts.append(count_parameters(recipe.model_spec(pixels_or_latents).build_on_meta()))
    assert 0.75 < counts[1] / counts[0] < 1.25
    _, recipe = find_recipe("image-autoencoder", data, size)
    assert count_parameters(recipe.model_spec(data).build_on_meta()) < max(counts[0], 10**6)
