"""Rotary position embeddings."""

import math

import torch

from feller.core.rng import Rng
from feller.networks.blocks.relative_positions import apply_rotary, rotary_cos_sin


def test_rotary_formula() -> None:
    x = torch.tensor([1.0, 0.5, 0.0, -2.0], dtype=torch.float64).expand(1, 1, 3, 4)
    y = apply_rotary(x, rotary_cos_sin(5, 3, 4, x))
    for row in range(3):
        for pair, speed in enumerate((1.0, 0.01)):
            a, b = x[0, 0, row, pair].item(), x[0, 0, row, pair + 2].item()
            cosine, sine = math.cos((5 + row) * speed), math.sin((5 + row) * speed)
            torch.testing.assert_close(y[0, 0, row, pair].item(), a * cosine - b * sine)
            torch.testing.assert_close(y[0, 0, row, pair + 2].item(), a * sine + b * cosine)


def test_products_depend_on_the_relative_position() -> None:
    draw = Rng(0).stream("x")
    query, key = draw.normal((2, 3, 7, 8), torch.float64), draw.normal((2, 3, 7, 8), torch.float64)

    def products(first: int) -> torch.Tensor:
        by = rotary_cos_sin(first, 7, 8, query)
        return apply_rotary(query, by) @ apply_rotary(key, by).mT

    torch.testing.assert_close(products(0), products(40))
    assert (products(0) - query @ key.mT).abs().max() > 0.1
    torch.testing.assert_close(products(0).diagonal(0, 2, 3), (query @ key.mT).diagonal(0, 2, 3))
