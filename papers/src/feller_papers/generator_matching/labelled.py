"""A residual network for a picture and its label, which enters every block: as classes do elsewhere."""

import math
from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F

from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import Conditioning, zero_init
from feller.networks.blocks.leaf_codecs import RealCodec
from feller.networks.mlp import ResidualMLPBlock
from feller.networks.network_config import NetworkConfig, seeded_init


@dataclass(frozen=True)
class LabelledMLP(NetworkConfig):
    """Answers for the leaves `image` and `label`: logits of the ends of pixels, and of classes."""

    classes: int
    """Of the label, whose mask is the symbol after them."""
    ends: int
    """Candidates of each pixel."""
    width: int = 384
    """Features of each layer."""
    depth: int = 3
    """Residual blocks."""

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "LabelledMLPNetwork":
        """Make a network with new weights."""
        with seeded_init(rng):
            return LabelledMLPNetwork(self, shape["image"])


class LabelledMLPNetwork(nn.Module):
    """Network of a `LabelledMLP` config."""

    nulls: dict[str, int] = {}  # noqa: RUF012 - nothing to be without

    def __init__(self, settings: LabelledMLP, shape: tuple[int, ...]) -> None:
        super().__init__()
        width, inner, self.seen = settings.width, settings.width // 4, RealCodec(num_bins=settings.ends)
        pixels = math.prod(shape)
        self.sizes = [pixels * settings.ends, settings.classes]
        self.conditioning = Conditioning({"label": settings.classes}, inner, times=2)
        self.enter = nn.Linear(self.seen.feature_dim(shape), width)
        self.blocks = nn.ModuleList(ResidualMLPBlock(width, inner) for _ in range(settings.depth))
        self.leave = zero_init(nn.Linear(width, sum(self.sizes)))

    def forward(self, x_t: State, t: State, given: Cond) -> State:
        """Return logits of both leaves."""
        image = x_t["image"][:, None]
        vector = self.conditioning(t, {"label": x_t["label"]})
        h = self.enter(self.seen.encode(image, t["image"])[:, 0])
        for block in self.blocks:
            h = block(h, vector)
        pixels, label = self.leave(F.silu(F.layer_norm(h, h.shape[1:]))).split(self.sizes, 1)
        return {"image": self.seen.decode(pixels[:, None], image)[:, 0], "label": label}
