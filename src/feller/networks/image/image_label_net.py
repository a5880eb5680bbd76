"""A network for pictures, beside one that reads their class: for states of a picture and a label."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, broadcast_time
from feller.core.rng import Rng
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import Conditioning, modulate, zero


@dataclass(frozen=True)
class Captioned(Architecture):
    """Any network for pictures, which sees the label as a condition, and convolutions that read the label.

    The label is a token, [b], and its mask says "not given". What the picture network answers is the picture's answer.
    """

    pictures: Architecture
    symbols: int
    """Classes."""
    image: str = "image"
    """Leaf of the pictures."""
    label: str = "label"
    """Leaf of the label."""
    channels: int = 32
    """Features of each pixel, where the label is read."""

    def __post_init__(self) -> None:
        if min(self.symbols, self.channels) < 1 or self.image == self.label:
            raise UsageError("symbols and channels of 1 or more, and two leaves", self)

    def build(self, shape: State, conditions: dict[str, int], draws: Rng) -> "CaptionedNetwork":
        """Make a network with new weights, for a picture (channels, height, width) and a label ()."""
        shapes = shape if isinstance(shape, dict) else {}
        if shapes.keys() != {self.image, self.label} or len(shapes[self.image]) != 3 or shapes[self.label] != ():
            raise UsageError(f"Captioned expects {self.image} (c, h, w) and {self.label} ()", found=shape)
        if self.label in conditions:
            raise UsageError(f"{self.label} is a leaf of the state, so no condition can be called so")
        pictures = self.pictures.build(
            shapes[self.image], {**conditions, self.label: self.symbols}, draws.fold_in("pictures")
        )
        with weights_from(draws):
            return CaptionedNetwork(self, pictures, shapes[self.image][0], conditions)


class CaptionedNetwork(nn.Module):
    """The network of `Captioned`."""

    def __init__(self, settings: Captioned, pictures: nn.Module, planes: int, conditions: dict[str, int]) -> None:
        super().__init__()
        width, self.settings, self.pictures = settings.channels, settings, pictures
        self.conditioning = Conditioning(conditions, width)
        self.nulls = self.conditioning.nulls
        self.enter = nn.Conv2d(planes, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, stride=2) for _ in range(2))
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))
        self.mix = nn.Linear(width * 16, 4 * width)
        self.leave = zero(nn.Linear(4 * width, settings.symbols))

    def forward(self, x_t: State, t: State, given: Cond) -> State:
        """Answer about both."""
        settings, t = self.settings, broadcast_time(t, x_t)
        picture, label, time = x_t[settings.image], x_t[settings.label], t[settings.image]
        answer = self.pictures(picture, time, {**given, settings.label: label})
        return {settings.image: answer, settings.label: self._read(picture, time, given)}

    def _read(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, "b symbols"]:
        """Return logits of the label, which sees the picture alone."""
        vector = self.conditioning(t, given)
        h = F.silu(self.enter(x))
        for layer, modulation in zip(self.layers, self.modulations, strict=True):
            scale, shift = modulation(vector)[:, :, None, None].chunk(2, 1)
            h = F.silu(modulate(F.group_norm(layer(h), 4), scale, shift))
        return self.leave(F.silu(self.mix(F.adaptive_avg_pool2d(h, 4).flatten(1))))
