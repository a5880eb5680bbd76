"""Pictures."""

from feller.data.images import Images
from feller.data.modality import Dataset
from feller.errors import UsageError
from feller.networks.unet import UNet
from feller.objective import Matching
from feller.paths import Affine
from feller.recipes.recipe import Recipe
from feller.sampling import Sampling
from feller.train.optimiser import Training


def images(data: Dataset, size: str) -> Recipe:
    """Straight paths and a U-Net with as many levels as halve the longer side to about 8 pixels."""
    if not isinstance(data.modality, Images):
        raise UsageError("the recipe `images` needs pictures; these data are of another kind, use --recipe auto")
    channels, lr, minutes = {"tiny": (16, 4e-3, 1.0), "small": (32, 3e-3, 10.0), "base": (64, 1e-3, 120.0)}[size]
    side = max(data.modality.height, data.modality.width)
    levels = max(1, min(4, (side - 1).bit_length() - 2))  # 8 -> 1, 16 -> 2, 28 and 32 -> 3, 64 -> 4
    blocks = 4 if levels == 1 else 2 if size == "base" else 1  # the finest level costs most
    return Recipe(
        architecture=UNet(channels=channels, multipliers=(1, 2, 2, 4)[:levels], blocks=blocks, attention=(False,)),
        objective=Matching(Affine(), data.modality.space()),
        train=Training(batch=128 if levels == 1 else 64, lr=lr, minutes=minutes),
        sampling=Sampling("midpoint", 64),
    )
