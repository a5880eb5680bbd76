"""Pictures."""

from feller.data.images import Images
from feller.data.modality import Dataset
from feller.errors import UsageError
from feller.networks.unet import UNet
from feller.recipes.recipe import Recipe
from feller.sampling import Sampling
from feller.train.optimiser import Training


def images(data: Dataset, size: str) -> Recipe:
    """Straight paths and a U-Net; as many levels as halve the longer side to about 8 pixels."""
    if not isinstance(data.modality, Images):
        raise UsageError("the recipe `images` needs pictures; these data are of another kind, use --recipe auto")
    channels, blocks, minutes = {"tiny": (16, 2, 1.0), "small": (32, 2, 10.0), "base": (64, 3, 120.0)}[size]
    side = max(data.modality.height, data.modality.width)
    levels = max(1, min(4, (side - 1).bit_length() - 2))  # 8 -> 1, 16 -> 2, 28 and 32 -> 3, 64 -> 4
    if levels == 1:
        network = UNet(channels=channels, multipliers=(1,), blocks=2 * blocks, attention=(False,))
    else:
        multipliers = (1, 2, 2, 4)[:levels]
        network = UNet(channels=channels, multipliers=multipliers, blocks=blocks, attention=(False,) * levels)
    return Recipe(
        architecture=network,
        train=Training(batch=128, lr=1e-3, minutes=minutes, average=0.999),
        sampling=Sampling("midpoint", 64),
    )
