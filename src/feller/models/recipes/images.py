"""Recipes of images: flows with a U-Net, images with labels, pixel levels as tokens, and image tokenizers."""

from collections.abc import Callable
from dataclasses import replace

from feller.core.errors import UsageError
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers, AsTokens
from feller.data.modality import Dataset
from feller.models.recipes.photographs import MIN_SIDE, photographs
from feller.models.recipes.recipe import Recipe, require_modality
from feller.networks.blocks.leaf_codecs import RealCodec, TokenCodec
from feller.networks.codebook.conv_tokenizer import ConvTokenizer
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.quantizer import Quantizer
from feller.networks.codebook.vq_ema import VectorQuantizerEMA
from feller.networks.image.image_label_net import ImageLabelNet
from feller.networks.image.unet import UNet
from feller.networks.mlp import JointMLP
from feller.networks.network_config import NetworkConfig
from feller.networks.sequence.token_mlp import TokenAdapter, TokenMLP
from feller.paths import Affine, JumpPath, LatticeLevels, LeaveOneOut, MetricPath, Mixture, Path, ProductPath, TokenPath
from feller.paths.discrete.token_distances import LevelDistance
from feller.paths.discrete.token_schedules import KineticOptimal
from feller.paths.time_distributions import LeafTimes
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource, Tokens, TokenSource, UniformSource
from feller.training.augmentation import Augmentation
from feller.training.losses import CrossEntropy, Loss, PerLeafLoss, SquaredError
from feller.training.objective import FlowMatching
from feller.training.objectives.autoencoding import AutoencodingLoss
from feller.training.optimizer import TrainConfig

CHANNELS = {"tiny": 16, "small": 32, "base": 64}
RATES = {"tiny": 4e-3, "small": 3e-3, "base": 1e-3}
PATCH_LEVELS = 3
"""Minimum number of resolution levels of images whose U-Net works on patches of 2 x 2 pixels with twice the channels:
at equal cost of a training step it learns several times faster."""
PATCH_RATES = {"tiny": 3e-3, "small": 1.5e-3, "base": 5e-4}
"""Learning rates of U-Nets on patches."""
SMALL_IMAGE_SIZES = tuple(CHANNELS)
"""Sizes of the U-Net without attention."""
MINUTES = {"tiny": 1.0, "small": 10.0, "base": 120.0}


def images(data: Dataset, size: str) -> Recipe:
    """Return an image recipe: affine flow, with a U-Net that downsamples the longer side to about 8 sites or fewer.

    `size` is the size of the model: "tiny", "small", "base", "large" or "xl". From large on, and from base on for
    images of more than 31 pixels, it is the U-Net with attention of the recipe `photographs`, without augmentation.
    """
    modality = require_modality(data.modality, Images, "images", "images")
    sizes = SMALL_IMAGE_SIZES if max(modality.height, modality.width) < MIN_SIDE else SMALL_IMAGE_SIZES[:2]
    if size not in sizes:
        recipe = photographs(data, size)
        return replace(recipe, train=replace(recipe.train, augmentation=Augmentation()))
    is_single_level, has_patches = _levels(modality) == 1, _levels(modality) >= PATCH_LEVELS
    lr = (PATCH_RATES if has_patches else RATES)[size]
    return Recipe(
        architecture=unet(modality, size),
        objective=FlowMatching(Affine(), modality.space()),
        train=TrainConfig(batch_size=128 if is_single_level else 64, lr=lr, minutes=MINUTES[size]),
        sampling=SamplerConfig("midpoint", 64),
    )


def unet(modality: Images, size: str) -> UNet:
    """Return a U-Net configuration whose number of levels suits the image size; from 17 pixels on, it has patches.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    levels = _levels(modality)
    blocks = 4 if levels == 1 else 2 if size == "base" else 1  # the finest level costs most
    patch = 2 if levels >= PATCH_LEVELS else 1
    channels = patch * CHANNELS[size]
    return UNet(channels=channels, multipliers=(1, 2, 2, 4)[:levels], blocks=blocks, attention=(False,), patch=patch)


def _levels(modality: Images) -> int:
    """Return the number of resolution levels of a U-Net, by the longer side: 8 -> 1, 16 -> 2, 28, 32 -> 3, 64 -> 4."""
    side = max(modality.height, modality.width)
    return max(1, min(4, (side - 1).bit_length() - 2))


MAX_JOINT_NUMBERS = 256
"""Maximum number of pixel values per image for networks that process all pixel values jointly and predict a
distribution for each value."""
LABEL_LOSS_WEIGHT = 0.05
"""Weight of the label loss; it is small, since the label loss is larger than the loss per pixel value and easier to
minimise."""


def image_label(data: Dataset, size: str) -> Recipe:
    """Return a recipe for images with labels: a mask source for the label, and a flow for the image.

    `size` is the size of the model: "tiny", "small" or "base".

    For small images, the process of the image also has jumps. In some training examples the label or the image is
    observed; in others, label and image have independent times.
    """
    labelled = data.modality.view(LabelledImages)
    image_modality = data.modality.view(Images) if labelled is None else labelled.images
    if image_modality is None or not image_modality.classes:
        raise UsageError("the recipe `image-label` needs images with labels", remedy="Use --recipe auto")
    modality, classes = LabelledImages(image_modality), len(image_modality.classes)
    num_values = image_modality.channels * image_modality.height * image_modality.width
    architecture: NetworkConfig
    path: Path
    loss: Loss
    if num_values <= MAX_JOINT_NUMBERS:
        width, minutes = {"tiny": (128, 1.0), "small": (384, 3.0), "base": (768, 20.0)}[size]
        levels = image_modality.levels + 1
        architecture = JointMLP(
            {"image": RealCodec(num_bins=levels), "label": TokenCodec(classes)}, width=width, depth=3
        )
        path, loss = JumpPath(endpoint_support=LatticeLevels(num_levels=levels), jump_weight=0.0), CrossEntropy()
        training = TrainConfig(
            batch_size=256, lr=1.5e-3, weight_decay=1e-2, lr_decay_fraction=0.9, ema_decay=0.995, minutes=minutes
        )
    else:
        image_recipe = images(data, size)
        architecture, path, loss = ImageLabelNet(unet(image_modality, size), classes), Affine(), SquaredError()
        training = image_recipe.train
    return Recipe(
        modality=modality,
        architecture=architecture,
        objective=FlowMatching(
            ProductPath({"image": path, "label": Mixture(source=MaskSource())}),
            modality.space(),
            PerLeafLoss({"image": loss, "label": CrossEntropy()}, {"label": LABEL_LOSS_WEIGHT}),
            cond_dropout=0.0,
            leaf_times=LeafTimes(observed_prob=0.4, independent_prob=0.3),
        ),
        train=training,
        sampling=SamplerConfig("midpoint", 64),
    )


def levels_mask(data: Dataset, size: str) -> Recipe:
    """Return a recipe for pixel levels as tokens, with a mask source.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    return _token_recipe(data, size, "levels-mask", MaskSource(), lambda count: Mixture(KineticOptimal(), MaskSource()))


def levels_uniform(data: Dataset, size: str) -> Recipe:
    """Return a recipe for pixel levels as tokens, with a uniform source: sampling can correct wrong levels.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    source = UniformSource()

    def path(count: int) -> TokenPath:
        return Mixture(KineticOptimal(1 / count), source, parameterization=LeaveOneOut())

    return _token_recipe(data, size, "levels-uniform", source, path)


def levels_metric(data: Dataset, size: str) -> Recipe:
    """Return a recipe for pixel levels as tokens, with a metric path: jumps to similar grey levels are more likely.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    return _token_recipe(
        data,
        size,
        "levels-metric",
        UniformSource(),
        lambda count: MetricPath(LevelDistance(count), parameterization=LeaveOneOut()),
    )


def _token_recipe(data: Dataset, size: str, name: str, source: TokenSource, path: Callable[[int], TokenPath]) -> Recipe:
    modality = replace(require_modality(data.modality, Images, name, "images"), code=AsTokens())
    count, is_small = modality.levels + 1, data.values[0].numel() <= MAX_JOINT_NUMBERS
    has_mask = isinstance(source, MaskSource)
    architecture: NetworkConfig
    if is_small:
        width, minutes = {"tiny": (128, 1.0), "small": (384, 3.0), "base": (768, 20.0)}[size]
        architecture = TokenMLP(count, has_mask=has_mask, width=width)
    else:
        inner, minutes = unet(modality, size), {"tiny": 2.0, "small": 20.0, "base": 240.0}[size]
        architecture = TokenAdapter(inner, count, has_mask=has_mask, embed_dim=8)
    return Recipe(
        modality=modality,
        architecture=architecture,
        objective=FlowMatching(path(count), Tokens(count, modality.shape, source), CrossEntropy()),
        train=TrainConfig(
            batch_size=256 if is_small else 64,
            lr=1.5e-3,
            weight_decay=1e-2,
            lr_decay_fraction=0.9,
            ema_decay=0.995,
            minutes=minutes,
        ),
        sampling=SamplerConfig("euler", 64),
    )


TOKENIZER_SIZES = {"tiny": (32, 1, 4e-3, 0.3), "small": (64, 2, 4e-3, 2.0), "base": (128, 3, 2e-3, 20.0)}
"""For each size: number of channels, number of residual blocks, learning rate, and minutes of training."""
MAX_GRID_SIDE = 8
"""Maximum number of codes along the longer side of an image, if the downsampling factor divides both sides."""


def image_tokenizer(data: Dataset, size: str) -> Recipe:
    """Return an image tokenizer recipe with 256 codes from finite scalar quantisation (levels 8, 8, 4).

    `size` is the size of the model: "tiny", "small" or "base".
    """
    return _tokenizer(data, size, "image-tokenizer", FSQ())


def image_tokenizer_vq(data: Dataset, size: str) -> Recipe:
    """Return an image tokenizer recipe with 256 codes from vector quantisation with EMA updates.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    return _tokenizer(data, size, "image-tokenizer-vq", VectorQuantizerEMA())


def default_tokenizer(height: int, width: int, size: str, quantizer: Quantizer | None = None) -> ConvTokenizer:
    """Return the default configuration of the tokenizer network for images of height x width pixels.

    `size` is the size of the tokenizer: "tiny", "small" or "base".
    """
    features, blocks, *_ = TOKENIZER_SIZES[size]
    return ConvTokenizer(_factor(height, width), features, blocks, FSQ() if quantizer is None else quantizer)


def tokenizer_training(size: str, *, steps: int | None = None, minutes: float | None = None) -> TrainConfig:
    """Return the training settings of the image tokenizer.

    `size` is the size of the tokenizer: "tiny", "small" or "base".
    """
    return TrainConfig(
        batch_size=32, lr=TOKENIZER_SIZES[size][2], lr_decay_fraction=0.7, ema_decay=0.99, steps=steps, minutes=minutes
    )


def _tokenizer(data: Dataset, size: str, name: str, quantizer: Quantizer) -> Recipe:
    pixels = data.modality.image_values(data.values)
    if pixels is None:
        image_modality = require_modality(data.modality, Images, name, "images, or documents with images")
    else:
        _, channels, height, width = pixels.shape
        image_modality = Images(height, width, channels)
    modality = replace(image_modality, classes=(), code=AsNumbers())
    return Recipe(
        modality=modality,
        architecture=default_tokenizer(modality.height, modality.width, size, quantizer),
        objective=AutoencodingLoss(modality.space()),
        train=tokenizer_training(size, minutes=TOKENIZER_SIZES[size][3]),
    )


def _factor(height: int, width: int) -> int:
    """Return the downsampling factor of an image tokenizer: 8 and 16 pixels -> 2, 28 and 32 -> 4, 64 -> 8.

    It is smaller if a side is not divisible by it.
    """
    sides = height, width
    factor = 2
    while max(sides) > MAX_GRID_SIDE * factor and not any(side % (2 * factor) for side in sides):
        factor *= 2
    if any(side % factor for side in sides):
        raise UsageError(
            "the recipe needs images with even height and width",
            found=f"{width} x {height}",
            remedy="Resize the longer side, for example with --longest"
            f" {2 * MAX_GRID_SIDE * max(1, round(max(sides) / (2 * MAX_GRID_SIDE)))}",
        )
    return factor
