"""Diffusion transformer for images."""

import math

import torch
from torch import nn

from feller.core.rng import Rng
from feller.networks import DiT
from feller.networks.blocks.conditioning import zero_init
from feller.networks.image.dit import DiTBlock, sincos_positions


def test_positions() -> None:
    table = sincos_positions(3, 2, 8, torch.zeros((), dtype=torch.float64))
    assert table.shape == (6, 8)
    for row in range(3):
        for column in range(2):
            wanted = [f(place * w) for place in (row, column) for f in (math.sin, math.cos) for w in (1.0, 0.01)]
            torch.testing.assert_close(table[2 * row + column], torch.tensor(wanted, dtype=torch.float64))


def test_a_new_block_is_the_identity() -> None:
    torch.manual_seed(0)
    h = torch.randn(2, 5, 8)
    assert torch.equal(DiTBlock(8, 2)(h, torch.randn(2, 8)), h)


def test_block_formula() -> None:
    torch.manual_seed(0)
    block = DiTBlock(8, 2).double()
    nn.init.normal_(block.modulation.weight)
    h, vector = torch.randn(3, 5, 8, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)

    def centred(h: torch.Tensor) -> torch.Tensor:
        return (h - h.mean(2, keepdim=True)) / (h.var(2, keepdim=True, correction=0) + 1e-5).sqrt()

    scale, shift, gate, scale_2, shift_2, gate_2 = block.modulation(vector)[:, None].split(8, 2)
    q, k, v = block.qkv(centred(h) * (1 + scale) + shift).split(8, 2)
    heads = [(q[..., i] @ k[..., i].mT / 2).softmax(2) @ v[..., i] for i in (slice(0, 4), slice(4, 8))]
    wanted = h + gate * block.proj(torch.cat(heads, 2))
    inner = block.fc1(centred(wanted) * (1 + scale_2) + shift_2)
    wanted = wanted + gate_2 * block.fc2(nn.functional.gelu(inner, approximate="tanh"))
    torch.testing.assert_close(block(h, vector), wanted)


def test_patches_are_unfolded_in_place() -> None:
    """With the identity in place of all layers between, what comes out is what went in."""
    network = DiT(patch=2, width=12, depth=1, heads=1).build((3, 5, 7), {}, Rng(0)).double()
    with torch.no_grad():
        for layer in (network.embed, network.head):
            nn.init.eye_(zero_init(layer).weight)
    x_t = Rng(0).stream("x").normal((2, 3, 5, 7), torch.float64)
    seen = []
    network.head.register_forward_pre_hook(lambda layer, inputs: seen[0] - sincos_positions(3, 4, 12, x_t))
    network.blocks[0].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    torch.testing.assert_close(network(x_t, torch.ones(2, dtype=torch.float64), {}), x_t)


def test_patches_hold_neighbouring_pixels() -> None:
    network = DiT(patch=2, width=8, depth=1, heads=1).build((1, 4, 4), {}, Rng(0))
    nn.init.ones_(zero_init(network.embed).weight)
    seen = []
    network.embed.register_forward_hook(lambda layer, inputs, output: seen.append(output[0, :, 0]))
    network(torch.arange(16.0).reshape(1, 1, 4, 4), torch.ones(1), {})
    assert seen[0].tolist() == [0 + 1 + 4 + 5, 2 + 3 + 6 + 7, 8 + 9 + 12 + 13, 10 + 11 + 14 + 15]
