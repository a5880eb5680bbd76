"""Joint network for an image and its label."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, broadcast_time
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning, modulate, zero_init
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.training_inputs import AUGMENTATION, DROPOUT


@dataclass(frozen=True)
class ImageLabelNet(NetworkConfig):
    """Joint network: an image network conditioned on the label token, and a CNN that predicts the label.

    The state is a dict of an image and a label token, [b]. The image network sees the label token as a condition; a
    masked label is the null value of this condition.
    """

    image_network: NetworkConfig
    num_classes: int
    """Number of classes."""
    image: str = "image"
    """Name of the state component (leaf) that holds the images."""
    label: str = "label"
    """Name of the state component (leaf) that holds the label tokens."""
    channels: int = 32
    """Number of channels of the CNN that predicts the label."""

    def __post_init__(self) -> None:
        if min(self.num_classes, self.channels) < 1 or self.image == self.label:
            raise UsageError("num_classes and channels of at least 1, and two different leaf names", self)

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "ImageLabelNetwork":
        shapes = shape if isinstance(shape, dict) else {}
        if shapes.keys() != {self.image, self.label} or len(shapes[self.image]) != 3 or shapes[self.label] != ():
            raise UsageError(f"ImageLabelNet expects {self.image} (c, h, w) and {self.label} ()", found=shape)
        if self.label in conditions:
            raise UsageError(f"{self.label} is a leaf of the state and cannot be the name of a condition")
        image_network = self.image_network.build(
            shapes[self.image], {**conditions, self.label: self.num_classes}, rng.fold_in("pictures")
        )
        with seeded_init(rng):
            return ImageLabelNetwork(self, image_network, shapes[self.image][0], conditions)


class ImageLabelNetwork(nn.Module):
    """Joint network for an image and its label, configured by `ImageLabelNet`."""

    def __init__(
        self, config: ImageLabelNet, image_network: nn.Module, channels: int, conditions: ConditionTypes
    ) -> None:
        super().__init__()
        width, self.config, self.image_network = config.channels, config, image_network
        self.conditioning = Conditioning(conditions, width)
        self.null_values = self.conditioning.null_values
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, stride=2) for _ in range(2))
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))
        self.mix = nn.Linear(width * 16, 4 * width)
        self.head = zero_init(nn.Linear(4 * width, config.num_classes))

    def forward(self, x_t: State, t: State, cond: Cond) -> State:
        """Return a dict with the image network's output for the image, and the class logits of the label."""
        config, t = self.config, broadcast_time(t, x_t)
        image, label, time = x_t[config.image], x_t[config.label], t[config.image]
        image_output = self.image_network(image, time, {**cond, config.label: label})
        rest = {name: value for name, value in cond.items() if name not in (AUGMENTATION, DROPOUT)}
        return {config.image: image_output, config.label: self._read(image, time, rest)}

    def _read(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b symbols"]:
        """Return the logits of the image's label."""
        vector = self.conditioning(t, cond)
        h = F.silu(self.conv_in(x))
        for layer, modulation in zip(self.layers, self.modulations, strict=True):
            scale, shift = modulation(vector)[:, :, None, None].chunk(2, 1)
            h = F.silu(modulate(F.group_norm(layer(h), 4), scale, shift))
        return self.head(F.silu(self.mix(F.adaptive_avg_pool2d(h, 4).flatten(1))))
