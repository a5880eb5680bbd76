"""Pictures."""

from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.models.recipes.recipe import Recipe, need
from feller.networks.image.unet import UNet
from feller.paths import Affine
from feller.sampling.sampler_config import Sampling
from feller.training.objective import Matching
from feller.training.optimizer import Training

CHANNELS = {"tiny": 16, "small": 32, "base": 64}
RATES = {"tiny": 4e-3, "small": 3e-3, "base": 1e-3}
MINUTES = {"tiny": 1.0, "small": 10.0, "base": 120.0}


def images(data: Dataset, size: str) -> Recipe:
    """Straight paths and a U-Net with as many levels as halve the longer side to about 8 pixels."""
    modality = need(data.modality, Images, "images", "pictures")
    one = _levels(modality) == 1
    return Recipe(
        architecture=unet(modality, size),
        objective=Matching(Affine(), modality.space()),
        train=Training(batch=128 if one else 64, lr=RATES[size], minutes=MINUTES[size]),
        sampling=Sampling("midpoint", 64),
    )


def unet(modality: Images, size: str) -> UNet:
    """Return a network with as many levels as suit the pictures."""
    levels = _levels(modality)
    blocks = 4 if levels == 1 else 2 if size == "base" else 1  # the finest level costs most
    return UNet(channels=CHANNELS[size], multipliers=(1, 2, 2, 4)[:levels], blocks=blocks, attention=(False,))


def _levels(modality: Images) -> int:
    """8 -> 1, 16 -> 2, 28 and 32 -> 3, 64 -> 4."""
    side = max(modality.height, modality.width)
    return max(1, min(4, (side - 1).bit_length() - 2))
