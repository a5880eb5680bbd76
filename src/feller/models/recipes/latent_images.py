"""Recipes of large images: an autoencoder, and a flow of its latents."""

from dataclasses import dataclass, replace

from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers
from feller.data.modality import Dataset
from feller.models.recipes.recipe import LatentAuxNetworks, Recipe, require_modality
from feller.networks.image.autoencoder import ConvAutoencoder
from feller.networks.image.latent_bottlenecks import GaussianLatents
from feller.networks.image.latent_pixels import AsLatents
from feller.networks.image.patch_discriminator import AdversarialAutoencoder
from feller.networks.image.unet import UNet
from feller.paths import Affine
from feller.sampling.sampler_config import SamplerConfig
from feller.training.objective import FlowMatching
from feller.training.objectives.adversarial_autoencoding import AdversarialAutoencoding
from feller.training.optimizer import TrainConfig


@dataclass(frozen=True)
class LatentSize:
    """Size of a latent flow: its U-Net and its autoencoder, and the length of their training."""

    channels: int
    """Channels of the U-Net at the resolution of the latents."""
    blocks: int
    """Residual blocks of the U-Net per level."""
    lr: float
    minutes: float
    width: int
    """Features of the autoencoder per latent."""
    autoencoder_blocks: int
    autoencoder_steps: int
    latent_channels: int = 4


SIZES = {
    "tiny": LatentSize(24, 1, 4e-3, 1.0, width=32, autoencoder_blocks=1, autoencoder_steps=500),
    "small": LatentSize(48, 1, 2e-3, 10.0, width=64, autoencoder_blocks=1, autoencoder_steps=3000),
    "base": LatentSize(128, 1, 1e-3, 120.0, width=128, autoencoder_blocks=2, autoencoder_steps=30_000),
}
BATCH_SIZE, AUTOENCODER_BATCH_SIZE = 128, 32
MIN_LATENT_SIDE = 16
"""Minimum number of latents along the longer side, if the factor is more than 2."""
MAX_FACTOR = 8


def latent_images(data: Dataset, size: str) -> Recipe:
    """Return a recipe for large images: affine flow of the latents of an autoencoder, which is trained first.

    `size` is the size of the model, such as "tiny", "small" or "base".
    """
    images, settings = require_modality(data.modality, Images, "latent-images", "images"), SIZES[size]
    modality = images if isinstance(images.code, AsLatents) else with_autoencoder(images, size)
    return Recipe(
        modality=modality,
        architecture=UNet(
            channels=settings.channels,
            multipliers=(1, 2, 2),
            blocks=settings.blocks,
            attention=(False, True),
        ),
        objective=FlowMatching(Affine(), modality.space()),
        aux_networks=auxiliary_settings(size),
        train=TrainConfig(batch_size=BATCH_SIZE, lr=settings.lr, minutes=settings.minutes),
        sampling=SamplerConfig("midpoint", 64),
    )


def image_autoencoder(data: Dataset, size: str) -> Recipe:
    """Return a recipe of an autoencoder of images with a patch discriminator: the first stage of latent flows.

    `size` is the size of the autoencoder, such as "tiny", "small" or "base".
    """
    images = require_modality(data.modality, Images, "image-autoencoder", "images")
    modality = replace(images, classes=(), code=AsNumbers(), selected_conditions={})
    return Recipe(
        modality=modality,
        architecture=AdversarialAutoencoder(default_autoencoder(modality, size)),
        objective=AdversarialAutoencoding(modality.space()),
        train=autoencoder_training(size, minutes=SIZES[size].minutes),
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
    settings = SIZES[size]
    return ConvAutoencoder(
        factor, settings.width, settings.autoencoder_blocks, GaussianLatents(settings.latent_channels)
    )


def auxiliary_settings(size: str) -> LatentAuxNetworks:
    """Return the default settings of the autoencoder of a latent flow of the given size."""
    return LatentAuxNetworks(autoencoder_training(size, steps=SIZES[size].autoencoder_steps))


def autoencoder_training(size: str, *, steps: int | None = None, minutes: float | None = None) -> TrainConfig:
    """Return the training settings of an autoencoder."""
    return TrainConfig(
        batch_size=AUTOENCODER_BATCH_SIZE,
        lr=2e-3 if size in ("tiny", "small") else 1e-3,
        lr_decay_fraction=0.5,
        ema_decay=0.99,
        steps=steps,
        minutes=minutes,
    )
