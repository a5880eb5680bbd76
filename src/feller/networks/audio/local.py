"""What a network over frames sees of a state as of a picture."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.networks.blocks.conditioning import fourier, zero

OCTAVES = 8
"""Of the time."""


class Local(nn.Module):
    """Two convolutions over frames and bands that add to the answer of a network; zero until they have learned.

    The noise in a state is as wide as the state, so that a network with few features for each frame can hardly carry
    it. Most of it can be told from the nearest frames and bands, once the time says how much there is: that is done
    here, and the features of the network are left to what needs more context.
    """

    def __init__(self, bands: int, channels: int) -> None:
        """Make convolutions with so many channels between them."""
        super().__init__()
        self.first = nn.Conv2d(2, channels, 5, padding=2)
        self.clock = nn.Linear(2 * OCTAVES, 2 * channels)
        self.second = zero(nn.Conv2d(channels, 1, 3, padding=1))
        self.share = zero(nn.Linear(2 * OCTAVES, bands))

    def forward(
        self,
        x_t: Float[Tensor, "b n bands"],
        context: Float[Tensor, "b n bands"],
        t: Float[Tensor, " b"],
        valid: Bool[Tensor, "b n"] | None,
    ) -> Float[Tensor, "b n bands"]:
        """Return what is added; state and context are zero where frames are padding."""
        times = fourier(t.to(x_t.dtype), OCTAVES)
        scale, shift = self.clock(times)[:, :, None, None].chunk(2, 1)
        seen = F.gelu(self.first(torch.stack([x_t, context], 1)) * (1 + scale) + shift, approximate="tanh")
        if valid is not None:
            seen = torch.where(valid[:, None, :, None], seen, 0.0)
        return self.second(seen)[:, 0] + self.share(times)[:, None] * x_t
