"""U-Net for grids of one, two or three dimensions."""

import pytest
import torch

from feller.core.rng import Rng
from feller.networks import UNetND
from feller.networks.grid.unet_nd import GridNorm
from tests.networks.checks import perturb_weights

F64 = torch.float64


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_translation(rank: int) -> None:
    """Far from the ends, a shift by the coarsest step shifts the prediction."""
    settings = UNetND(channels=4, multipliers=(1, 1), attention=(False,))
    shape = (80, *(1,) * (rank - 1), 1)
    network = perturb_weights(settings.build(shape, {}, Rng(0)))
    for module in network.modules():
        if isinstance(module, GridNorm):  # a norm over the whole grid would see the ends
            module.forward = lambda x, inside: x  # type: ignore[method-assign]
    x_t, t = torch.zeros(1, *shape, dtype=F64), torch.tensor([0.3], dtype=F64)
    x_t[0, 38:41] = 1
    background = network(torch.zeros_like(x_t), t, {})
    change, moved = (network(x, t, {}) - background for x in (x_t, x_t.roll(2, 1)))
    assert change.any()
    torch.testing.assert_close(moved[:, 8:72], change.roll(2, 1)[:, 8:72])
