"""Network that writes a state as a short code on a sphere, and reads it back."""

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
    """Two layers to the code and two back, for states that are flattened.

    Codes lie on the sphere of radius sqrt(numbers), so that what turns one into another stays among codes.
    """

    width: int = 256
    """Features of each layer."""
    numbers: int = 16
    """Of a code."""

    def __post_init__(self) -> None:
        check_number("width", self.width, ge=1)
        check_number("numbers", self.numbers, ge=2)

    def build(self, shape: tuple[int, ...], draws: Rng) -> "Coder":
        """Make a network with new weights."""
        with seeded_init(draws):
            return Coder(self, shape)


class Coder(nn.Module):
    """The network of `Autoencoder`."""

    def __init__(self, settings: Autoencoder, shape: tuple[int, ...]) -> None:
        super().__init__()
        size, width, numbers = math.prod(shape), settings.width, settings.numbers
        self.writes = _layers(size, width, numbers)
        self.reads = _layers(numbers, width, size)

    def encode(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n z"]:
        """Return codes."""
        return on_sphere(self.writes(x))

    def decode(self, z: Float[Tensor, "n z"]) -> Float[Tensor, "n d"]:
        """Return the states of codes."""
        return self.reads(z)

    def forward(self, x: Float[Tensor, " n *d"], noise: Tensor | float = 0.0) -> Float[Tensor, " n *d"]:
        """Return what is read from the codes, moved by noise along the sphere."""
        return self.decode(on_sphere(self.encode(x.flatten(1)) + noise)).reshape(x.shape)


def on_sphere(z: Float[Tensor, "n z"]) -> Float[Tensor, "n z"]:
    """Bring vectors to a mean square of 1."""
    return F.normalize(z) * math.sqrt(z.shape[1])


def _layers(enter: int, width: int, leave: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(enter, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, leave)
    )
