"""Recipes of images that scale: a U-Net with attention, and a diffusion transformer."""

from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.models.recipes.image_sizes import IMAGE_SIZES, sized_dit, sized_unet
from feller.models.recipes.recipe import Recipe, require_modality
from feller.networks.network_config import NetworkConfig
from feller.paths import Affine
from feller.sampling.sampler_config import SamplerConfig
from feller.training.objective import FlowMatching

MIN_SIDE = 32
"""Shorter side in pixels from which colour pictures count as photographs."""


def photographs(data: Dataset, size: str) -> Recipe:
    """Return a recipe for photographs: affine flow, with a U-Net that has attention at its coarser levels.

    `size` is the size of the model: "tiny", "small", "base", "large" or "xl".
    """
    modality = require_modality(data.modality, Images, "photographs", "images")
    return _flow(modality, sized_unet(modality.height, modality.width, size), size, IMAGE_SIZES[size].unet_lr)


def images_dit(data: Dataset, size: str) -> Recipe:
    """Return a recipe for images: affine flow, with a diffusion transformer.

    `size` is the size of the model: "tiny", "small", "base", "large" or "xl".
    """
    modality = require_modality(data.modality, Images, "images-dit", "images")
    return _flow(modality, sized_dit(modality.height, modality.width, size), size, IMAGE_SIZES[size].dit_lr)


def _flow(modality: Images, architecture: NetworkConfig, size: str, lr: float) -> Recipe:
    """Return the recipe of an affine flow of pixels with the given network."""
    return Recipe(
        architecture=architecture,
        objective=FlowMatching(Affine(), modality.space()),
        train=IMAGE_SIZES[size].training(modality.height, modality.width, lr),
        sampling=SamplerConfig("midpoint", 64),
    )


SIZES_OF_IMAGES = ("tiny", "small")
"""Sizes for which the recipe `images` is the default: on a processor it reaches a lower loss in the same time."""


def default_image_recipe(data: Dataset, size: str) -> str:
    """Return the name of the default recipe for images.

    It is `photographs` for colour pictures of at least 32 x 32 pixels and models of size "base" or larger.
    """
    images = data.modality.view(Images)
    is_photograph = images is not None and images.channels == 3 and min(images.height, images.width) >= MIN_SIDE
    return "photographs" if is_photograph and size not in SIZES_OF_IMAGES else "images"
