"""The network for vectors."""

import torch
from torch import nn
from torch.nn import functional as F

from feller.draws import Draws
from feller.networks import MLP, parameters
from feller.networks.conditioning import fourier


def test_it_is_that_of_the_formula() -> None:
    network = MLP(width=8, depth=2, frequencies=3).build((2,), {"label": 4}, Draws(0)).double()
    draw = Draws(1).at("weights")
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.3 * draw.normal(weight.shape, torch.float64)
    x_t, t = draw.normal((5, 2), torch.float64), draw.uniform((5,), torch.float64)
    given = {"label": draw.integers(5, (5,))}

    def centred(h: torch.Tensor) -> torch.Tensor:
        return (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, correction=0) + 1e-5).sqrt()

    h = network.enter(torch.cat([x_t, fourier(x_t[:, 0], 3), fourier(x_t[:, 1], 3)], 1))
    for block in network.blocks:
        modulation, first, second = (part for part in block.children() if isinstance(part, nn.Linear))
        numbers = modulation(network.conditioning(t, given))
        h = h + second(F.silu(first(centred(h) * (1 + numbers[:, :8]) + numbers[:, 8:])))
    torch.testing.assert_close(network(x_t, t, given), network.leave(F.silu(centred(h))))


def test_size() -> None:
    """Conditioning at a quarter of the width, then the layers at full width."""
    network = MLP(width=256, depth=4).build((2,), {}, Draws(0))
    conditioning = (18 * 64 + 64) + (64 * 64 + 64)
    block = (64 * 512 + 512) + 2 * (256 * 256 + 256)
    assert parameters(network) == conditioning + (2 * 256 + 256) + 4 * block + (256 * 2 + 2)
