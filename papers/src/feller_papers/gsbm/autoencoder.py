"""Autoencoder whose latent codes lie on a sphere."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import check_number
from feller.core.rng import Rng
from feller.networks.network_config import seeded_init


@dataclass(frozen=True)
class Autoencoder:
    """Config of an MLP autoencoder of flattened states.

    Codes lie on the sphere of radius sqrt(numbers), so that spherical interpolation of codes gives codes.
    """

    width: int = 256
    """Features per hidden layer."""
    numbers: int = 16
    """Dimension of a code."""

    def __post_init__(self) -> None:
        check_number("width", self.width, ge=1)
        check_number("numbers", self.numbers, ge=2)

    def build(self, shape: tuple[int, ...], rng: Rng) -> "AutoencoderNetwork":
        """Return a network with initial weights."""
        with seeded_init(rng):
            return AutoencoderNetwork(self, shape)


class AutoencoderNetwork(nn.Module):
    """Network of an `Autoencoder` config."""

    def __init__(self, config: Autoencoder, shape: tuple[int, ...]) -> None:
        super().__init__()
        size, width, numbers = math.prod(shape), config.width, config.numbers
        self.encoder = _mlp(size, width, numbers)
        self.decoder = _mlp(numbers, width, size)

    def encode(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n z"]:
        """Return the codes of states."""
        return on_sphere(self.encoder(x))

    def decode(self, z: Float[Tensor, "n z"]) -> Float[Tensor, "n d"]:
        """Return the decoded states."""
        return self.decoder(z)

    def forward(self, x: Float[Tensor, " n *d"], noise: Tensor | float = 0.0) -> Float[Tensor, " n *d"]:
        """Return reconstructions from codes with noise added on the sphere."""
        return self.decode(on_sphere(self.encode(x.flatten(1)) + noise)).reshape(x.shape)


def on_sphere(z: Float[Tensor, "n z"]) -> Float[Tensor, "n z"]:
    """Return vectors scaled to a mean square of 1."""
    return F.normalize(z) * math.sqrt(z.shape[1])


def _mlp(in_features: int, width: int, out_features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, out_features)
    )
