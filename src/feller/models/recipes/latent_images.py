"""Recipes of large images: an autoencoder, and a flow of its latents."""

from dataclasses import dataclass, replace

from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers
from feller.data.modality import Dataset
from feller.models.recipes.image_sizes import IMAGE_SIZES, sized_dit, sized_unet
from feller.models.recipes.recipe import LatentAuxNetworks, Recipe, require_modality
from feller.networks.image.autoencoder import ConvAutoencoder
from feller.networks.image.latent_bottlenecks import GaussianLatents
from feller.networks.image.latent_pixels import AsLatents
from feller.networks.image.patch_discriminator import AdversarialAutoencoder
from feller.networks.network_config import NetworkConfig
from feller.paths import Affine
from feller.sampling.sampler_config import SamplerConfig
from feller.training.augmentation import Augmentation
from feller.training.objective import FlowMatching
from feller.training.objectives.adversarial_autoencoding import AdversarialAutoencoding
from feller.training.optimizer import TrainConfig


@dataclass(frozen=True)
class AutoencoderSize:
    """Size of an autoencoder, and its training."""

    width: int
    """Features per latent."""
    blocks: int
    lr: float
    steps: int
    """Number of training steps before the flow."""


AUTOENCODER_SIZES = {
    "tiny": AutoencoderSize(32, 1, 4e-3, 1000),
    "small": AutoencoderSize(64, 1, 2e-3, 5000),
    "base": AutoencoderSize(128, 2, 1e-3, 30_000),
    "large": AutoencoderSize(256, 2, 5e-4, 100_000),
    "xl": AutoencoderSize(512, 2, 3e-4, 200_000),
}
BATCH_SIZE = 32
MIN_LATENT_SIDE, MAX_FACTOR = 16, 8
"""Minimum number of latents along the longer side if the factor is more than 2, and the largest factor."""


def latent_images(data: Dataset, size: str) -> Recipe:
    """Return a recipe for larger images: affine flow of the latents of an autoencoder, with a U-Net with attention.

    `size` is the size of the model: "tiny", "small", "base", "large" or "xl".
    """
    modality, (rows, columns) = _latents(data, size, "latent-images")
    network = replace(sized_unet(rows, columns, size), augmentation_features=0)
    return _flow(modality, network, IMAGE_SIZES[size].training(rows, columns, IMAGE_SIZES[size].unet_lr), size)


def latent_images_dit(data: Dataset, size: str) -> Recipe:
    """Return a recipe for larger images: affine flow of the latents of an autoencoder, with a diffusion transformer.

    `size` is the size of the model: "tiny", "small", "base", "large" or "xl".
    """
    modality, (rows, columns) = _latents(data, size, "latent-images-dit")
    network = replace(sized_dit(rows, columns, size), augmentation_features=0)
    return _flow(modality, network, IMAGE_SIZES[size].training(rows, columns, IMAGE_SIZES[size].dit_lr), size)


def _latents(data: Dataset, size: str, name: str) -> tuple[Images, tuple[int, int]]:
    """Return the modality of images as latents, of a new autoencoder unless the data have one; and their grid."""
    images = require_modality(data.modality, Images, name, "images")
    if not isinstance(images.code, AsLatents):
        images = with_autoencoder(images, size)
    config = images.code.config if isinstance(images.code, AsLatents) else default_autoencoder(images, size)
    _, rows, columns = config.latent_shape(images.shape)
    return images, (rows, columns)


def _flow(modality: Images, network: NetworkConfig, training: TrainConfig, size: str) -> Recipe:
    """Return the recipe of a flow of latents; mirrored latents are no latents of a mirrored image."""
    return Recipe(
        modality=modality,
        architecture=network,
        objective=FlowMatching(Affine(), modality.space()),
        aux_networks=auxiliary_settings(size),
        train=replace(training, augmentation=Augmentation()),
        sampling=SamplerConfig("midpoint", 64),
    )


def image_autoencoder(data: Dataset, size: str) -> Recipe:
    """Return a recipe of an autoencoder of images with a patch discriminator: the first stage of latent flows.

    `size` is the size of the autoencoder: "tiny", "small", "base", "large" or "xl".
    """
    images = require_modality(data.modality, Images, "image-autoencoder", "images")
    modality = replace(images, classes=(), code=AsNumbers(), selected_conditions={})
    return Recipe(
        modality=modality,
        architecture=AdversarialAutoencoder(default_autoencoder(modality, size)),
        objective=AdversarialAutoencoding(modality.space()),
        train=autoencoder_training(size, minutes=IMAGE_SIZES[size].minutes),
    )


def with_autoencoder(images: Images, size: str) -> Images:
    """Return a modality of images whose states are latents of a new autoencoder of the given size."""
    return replace(images, code=AsLatents(default_autoencoder(images, size), images.shape))


def default_autoencoder(images: Images, size: str) -> ConvAutoencoder:
    """Return the default configuration of the autoencoder of images.

    Its factor is the largest power of 2 up to 8 that leaves at least 16 latents along the longer side, and at least 2.
    """
    factor = MAX_FACTOR
    while factor > 2 and max(images.height, images.width) < MIN_LATENT_SIDE * factor:
        factor //= 2
    settings = AUTOENCODER_SIZES[size]
    return ConvAutoencoder(factor, settings.width, settings.blocks, GaussianLatents())


def auxiliary_settings(size: str) -> LatentAuxNetworks:
    """Return the default settings of the autoencoder of a latent flow of the given size."""
    return LatentAuxNetworks(autoencoder_training(size, steps=AUTOENCODER_SIZES[size].steps))


def autoencoder_training(size: str, *, steps: int | None = None, minutes: float | None = None) -> TrainConfig:
    """Return the training settings of an autoencoder."""
    return TrainConfig(
        batch_size=BATCH_SIZE,
        lr=AUTOENCODER_SIZES[size].lr,
        lr_decay_fraction=0.5,
        ema_decay=0.99,
        steps=steps,
        minutes=minutes,
    )
