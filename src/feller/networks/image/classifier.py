"""Small convolutional image classifier."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.network_config import NetworkConfig, seeded_init

FEATURE_DIM = 32
"""Dimension of the feature vector of an image."""


class ImageClassifier(nn.Module):
    """Convolutional image classifier: convolutions to a 4 x 4 grid, then a feature vector, then one logit per class.

    The stride of the first layer leaves at most 16 pixels per side, so large images cost little more than small images.
    Any image size is supported, by adaptive pooling.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, rng: Rng) -> None:
        super().__init__()
        channels, height, width = shape
        with seeded_init(rng):
            stride_h, stride_w = -(-height // 16), -(-width // 16)
            self.conv_in = nn.Conv2d(channels, 16, (stride_h + 2, stride_w + 2), (stride_h, stride_w), padding=1)
            self.layers = nn.ModuleList([nn.Conv2d(16, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, 2, 1)])
            self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in (16, 32, 32))
            self.fc = nn.Linear(32 * 4 * 4, FEATURE_DIM)
            self.head = nn.Linear(FEATURE_DIM, classes)

    def features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """Return the feature vector of each image, the input of the output layer."""
        for layer, norm in zip((self.conv_in, *self.layers), self.norms, strict=True):
            x = F.silu(norm(layer(x)))
        return F.silu(self.fc(F.adaptive_avg_pool2d(x, 4).flatten(1)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Return the class logits of each image."""
        return self.head(self.features(x))


@dataclass(frozen=True)
class ConvClassifier(NetworkConfig):
    """Configuration of an `ImageClassifier` called as network(x_t, t, cond), with logits [b, classes] as outputs."""

    num_classes: int
    """Number of classes."""

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "ConvClassifierNetwork":
        if not isinstance(shape, tuple) or len(shape) != 3 or conditions:
            raise UsageError(
                "ConvClassifier expects images (c, h, w) without conditions", found=f"{shape}, {conditions}"
            )
        channels, height, width = shape
        return ConvClassifierNetwork(ImageClassifier((channels, height, width), self.num_classes, rng))


class ConvClassifierNetwork(nn.Module):
    """Image classifier as a network of (x_t, t, cond), configured by `ConvClassifier`."""

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.null_values: dict[str, int] = {}

    def forward(self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b k"]:
        """Return the class logits of each image; the time is ignored."""
        return self.classifier(x_t)
