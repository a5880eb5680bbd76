"""Recipes of images: U-Net flows, images with labels, pixel tokens, and image tokenizers."""

from collections.abc import Callable
from dataclasses import replace

from feller.core.errors import UsageError
from feller.data.images.labelled import Labelled
from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers, AsTokens
from feller.data.modality import Dataset
from feller.models.recipes.recipe import Recipe, need
from feller.networks.architecture import Architecture
from feller.networks.blocks.leaf_codecs import Numbers, Symbols
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.image_tokenizer import Tokenizer
from feller.networks.codebook.quantizer import Quantiser
from feller.networks.codebook.vq_ema import VectorQuantizerEMA
from feller.networks.image.image_label_net import Captioned
from feller.networks.image.unet import UNet
from feller.networks.mlp import Together
from feller.networks.sequence.token_mlp import Embedded, TokenMLP
from feller.paths import Affine, JumpPath, LatticeLevels, LeaveOneOut, MetricPath, Mixture, Path, ProductPath, TokenPath
from feller.paths.discrete.token_distances import LevelDistance
from feller.paths.schedules import KineticOptimal
from feller.paths.time_distributions import LeafTimes
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource, Tokens, TokenSource, UniformSource
from feller.training.losses import CrossEntropy, Loss, PerLeaf, Squared
from feller.training.objective import FlowMatching
from feller.training.objectives.reconstruction import Reconstruction
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
        objective=FlowMatching(Affine(), modality.space()),
        train=Training(batch=128 if one else 64, lr=RATES[size], minutes=MINUTES[size]),
        sampling=SamplerConfig("midpoint", 64),
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


SMALL = 256
"""Numbers of a picture up to which a perceptron sees them all at once, and tells the law of each."""
LABEL = 0.05
"""Weight of the label's loss, which is larger than that of a picture's numbers, and easier."""


def labelled(data: Dataset, size: str) -> Recipe:
    """The label is a token that is hidden and revealed; small pictures flow and jump, larger ones flow.

    In some examples the label or the picture is given, and in some each has a time of its own.
    """
    labelled = data.modality.view(Labelled)
    pictures = data.modality.view(Images) if labelled is None else labelled.pictures
    if pictures is None or not pictures.classes:
        raise UsageError("the recipe `image-label` needs pictures with labels", remedy="Use --recipe auto")
    modality, classes = Labelled(pictures), len(pictures.classes)
    number = pictures.channels * pictures.height * pictures.width
    architecture: Architecture
    path: Path
    loss: Loss
    if number <= SMALL:
        width, minutes = {"tiny": (128, 1.0), "small": (384, 3.0), "base": (768, 20.0)}[size]
        levels = pictures.levels + 1
        architecture = Together({"image": Numbers(ends=levels), "label": Symbols(classes)}, width=width, depth=3)
        path, loss = JumpPath(endpoint_support=LatticeLevels(num_levels=levels), jump_weight=0.0), CrossEntropy()
        training = Training(batch=256, lr=1.5e-3, weight_decay=1e-2, decay=0.9, average=0.995, minutes=minutes)
    else:
        plain = images(data, size)
        architecture, path, loss = Captioned(unet(pictures, size), classes), Affine(), Squared()
        training = plain.train
    return Recipe(
        modality=modality,
        architecture=architecture,
        objective=FlowMatching(
            ProductPath({"image": path, "label": Mixture(source=MaskSource())}),
            modality.space(),
            PerLeaf({"image": loss, "label": CrossEntropy()}, {"label": LABEL}),
            cond_dropout=0.0,
            leaf_times=LeafTimes(observed_prob=0.4, independent_prob=0.3),
        ),
        train=training,
        sampling=SamplerConfig("midpoint", 64),
    )


def levels_mask(data: Dataset, size: str) -> Recipe:
    """Levels are hidden, and revealed a few at a time."""
    return _token_recipe(data, size, "levels-mask", MaskSource(), lambda count: Mixture(KineticOptimal(), MaskSource()))


def levels_uniform(data: Dataset, size: str) -> Recipe:
    """Levels are wrong, and mended a few at a time."""
    source = UniformSource()

    def path(count: int) -> TokenPath:
        return Mixture(KineticOptimal(1 / count), source, parameterization=LeaveOneOut())

    return _token_recipe(data, size, "levels-uniform", source, path)


def levels_metric(data: Dataset, size: str) -> Recipe:
    """Levels move to nearer ones: a gray that is a little wrong is likelier than one that is far off."""
    return _token_recipe(
        data,
        size,
        "levels-metric",
        UniformSource(),
        lambda count: MetricPath(LevelDistance(count), parameterization=LeaveOneOut()),
    )


def _token_recipe(data: Dataset, size: str, name: str, source: TokenSource, path: Callable[[int], TokenPath]) -> Recipe:
    modality = replace(need(data.modality, Images, name, "pictures"), code=AsTokens())
    count, small = modality.levels + 1, data.values[0].numel() <= SMALL
    masked = isinstance(source, MaskSource)
    architecture: Architecture
    if small:
        width, minutes = {"tiny": (128, 1.0), "small": (384, 3.0), "base": (768, 20.0)}[size]
        architecture = TokenMLP(count, masked=masked, width=width)
    else:
        inner, minutes = unet(modality, size), {"tiny": 2.0, "small": 20.0, "base": 240.0}[size]
        architecture = Embedded(inner, count, masked=masked, features=8)
    return Recipe(
        modality=modality,
        architecture=architecture,
        objective=FlowMatching(path(count), Tokens(count, modality.shape, source), CrossEntropy()),
        train=Training(
            batch=256 if small else 64, lr=1.5e-3, weight_decay=1e-2, decay=0.9, average=0.995, minutes=minutes
        ),
        sampling=SamplerConfig("euler", 64),
    )


SIZES = {"tiny": (32, 1, 4e-3, 0.3), "small": (64, 2, 4e-3, 2.0), "base": (128, 3, 2e-3, 20.0)}
"""Features, residual blocks, learning rate and minutes."""
SIDE = 8
"""Codes along the longer side of a picture, at most, where its sides can be halved so often."""


def image_tokenizer(data: Dataset, size: str) -> Recipe:
    """256 codes that need no learning: each of three numbers is rounded to 8, 8 or 4 levels."""
    return _tokenizer(data, size, "image-tokenizer", FSQ())


def image_tokenizer_vq(data: Dataset, size: str) -> Recipe:
    """256 codes whose vectors follow the data."""
    return _tokenizer(data, size, "image-tokenizer-vq", VectorQuantizerEMA())


def usual_tokenizer(height: int, width: int, size: str, quantiser: Quantiser | None = None) -> Tokenizer:
    """Return the network for pictures of a shape."""
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
        objective=Reconstruction(modality.space()),
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
            "the recipe needs pictures with sides that can be halved",
            found=f"{width} x {height}",
            remedy="Bring the longer one to another size, such as --longest"
            f" {2 * SIDE * max(1, round(max(sides) / (2 * SIDE)))}",
        )
    return factor
