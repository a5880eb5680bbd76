"""Networks that write pictures as a few whole numbers, for models of texts and pictures."""

from dataclasses import replace

from feller.core.errors import UsageError
from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers
from feller.data.modality import Dataset
from feller.models.recipes.recipe import Recipe, need
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.image_tokenizer import Tokenizer
from feller.networks.codebook.quantizer import Quantiser
from feller.networks.codebook.vq_ema import EMA
from feller.paths.codes import Codes
from feller.training.objectives.reconstruction import Reconstruction
from feller.training.optimizer import Training

SIZES = {"tiny": (32, 1, 4e-3, 0.3), "small": (64, 2, 4e-3, 2.0), "base": (128, 3, 2e-3, 20.0)}
"""Features, residual blocks, learning rate and minutes."""
SIDE = 8
"""Codes along the longer side of a picture, at most, where its sides can be halved so often."""


def image_tokenizer(data: Dataset, size: str) -> Recipe:
    """256 codes that need no learning: each of three numbers is rounded to 8, 8 or 4 levels.

    Raises:
        UsageError: If the data are no pictures, or their sides cannot be halved.
    """
    return _tokenizer(data, size, "image-tokenizer", FSQ())


def image_tokenizer_vq(data: Dataset, size: str) -> Recipe:
    """256 codes whose vectors follow the data.

    Raises:
        UsageError: If the data are no pictures, or their sides cannot be halved.
    """
    return _tokenizer(data, size, "image-tokenizer-vq", EMA())


def usual_tokenizer(height: int, width: int, size: str, quantiser: Quantiser | None = None) -> Tokenizer:
    """Return the network for pictures of a shape.

    Raises:
        UsageError: If their sides cannot be halved.
    """
    features, blocks, *_ = SIZES[size]
    return Tokenizer(_factor(height, width), features, blocks, FSQ() if quantiser is None else quantiser)


def tokenizer_training(size: str, *, steps: int | None = None, minutes: float | None = None) -> Training:
    """Return how the network is trained."""
    return Training(batch=32, lr=SIZES[size][2], decay=0.7, average=0.99, steps=steps, minutes=minutes)


def _tokenizer(data: Dataset, size: str, name: str, quantiser: Quantiser) -> Recipe:
    inside = data.modality.picture_values(data.values)
    if inside is None:
        kind = need(data.modality, Images, name, "pictures, or documents with some")
    else:
        _, channels, height, width = inside.shape
        kind = Images(height, width, channels)
    modality = replace(kind, classes=(), code=AsNumbers())
    return Recipe(
        modality=modality,
        architecture=usual_tokenizer(modality.height, modality.width, size, quantiser),
        objective=Reconstruction(Codes(), modality.space()),
        train=tokenizer_training(size, minutes=SIZES[size][3]),
    )


def _factor(height: int, width: int) -> int:
    """Return how often sides are divided: 8 and 16 -> 2, 28 and 32 -> 4, 64 -> 8, where they can be."""
    sides = height, width
    factor = 2
    while max(sides) > SIDE * factor and not any(side % (2 * factor) for side in sides):
        factor *= 2
    if any(side % factor for side in sides):
        raise UsageError(
            f"the recipe needs pictures with sides that can be halved, got {width} x {height}; bring"
            f" the longer one to another size, such as --longest {2 * SIDE * max(1, round(max(sides) / (2 * SIDE)))}"
        )
    return factor
