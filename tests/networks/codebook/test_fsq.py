"""Finite scalar quantisation: codes, vectors, straight-through gradients."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.quantizer import Quantizer
from tests.errors import refuses
from tests.oracle import F64, close

LEVELS = [(8, 8, 4), (3,), (5, 4), (7, 3, 6, 5)]


def bound(z: np.ndarray, level: int) -> np.ndarray:
    """Return the bounded number before rounding, by the formula of the paper."""
    half, step = (level - 1) / 2, 0.0 if level % 2 else 0.5
    return half * np.tanh(z + math.atanh(step / half)) - step


def places(level: int) -> list[int]:
    """Return the integer levels."""
    return [*range(-(level // 2), level - level // 2)]


def reaching(point: tuple[int, ...], levels: tuple[int, ...]) -> list[float]:
    """Return the inverse of the bound, infinite at its ends."""
    found = []
    for place, level in zip(point, levels, strict=True):
        half, step = (level - 1) / 2, 0.0 if level % 2 else 0.5
        share = (place + step) / half
        end = math.inf if abs(share) >= 1 else math.atanh(share)
        found.append(math.copysign(end, share) - math.atanh(step / half))
    return found


@pytest.mark.parametrize("levels", LEVELS)
def test_codes_enumerate_the_grid(levels: tuple[int, ...]) -> None:
    """The code is the point in mixed radix, its first number counting ones; from code to vector and back is exact."""
    grid, points = FSQ(levels).build(), list(itertools.product(*(places(level) for level in levels)))
    z = torch.tensor([reaching(point, levels) for point in points], dtype=F64)
    expected = []
    for point in points:
        code, unit = 0, 1
        for place, level in zip(point, levels, strict=True):
            code, unit = code + unit * (place + level // 2), unit * level
        expected.append(code)
    assert sorted(expected) == list(range(FSQ(levels).codebook_size))
    assert grid.encode(z).tolist() == expected
    scale = torch.tensor([level // 2 for level in levels])
    close(grid.decode(torch.tensor(expected)), (torch.tensor(points) / scale).tolist(), 1e-7)


def test_code_vectors_of_a_small_grid() -> None:
    vectors = FSQ((3, 4)).build().decode(torch.arange(12))
    assert vectors[:, 0].tolist() == 4 * [-1.0, 0.0, 1.0]
    assert vectors[:, 1].tolist() == [*3 * [-1.0], *3 * [-0.5], *3 * [0.0], *3 * [0.5]]


@pytest.mark.parametrize("levels", LEVELS)
def test_zero_is_a_code_vector(levels: tuple[int, ...]) -> None:
    grid = FSQ(levels).build()
    zero = torch.zeros(1, 1, len(levels))
    assert grid(zero)[0].abs().max() < 1e-6
    assert grid.decode(grid.encode(zero)).abs().max() == 0


@pytest.mark.parametrize("level", [3, 4, 5, 8])
def test_values_are_rounded_after_the_bound(level: int) -> None:
    z = np.concatenate([np.linspace(-6, 6, 4001), [-1e4, 1e4]])
    expected = np.round(bound(z, level))
    grid = FSQ((level,)).build()
    found, apart = grid(torch.from_numpy(z)[:, None, None])
    close(found[:, 0, 0] * (level // 2), expected.tolist(), 1e-12)
    assert sorted({*expected}) == places(level)
    assert torch.equal(grid.encode(torch.from_numpy(z)[:, None]), torch.from_numpy(expected + level // 2).long())
    assert apart.tolist() == len(z) * [0.0]


def test_quantised_vectors_equal_decoded_codes() -> None:
    grid, z = FSQ((8, 5, 3)).build(), 2 * Rng(0).stream("z").normal((50, 7, 3))
    close(grid(z)[0], grid.decode(grid.encode(z)).tolist(), 1e-6)
    assert grid.encode(z).shape == (50, 7)
    assert len(grid.encode(z).unique()) > 80
    assert grid.encode(z.bfloat16()).dtype == torch.int64
    assert grid(z.bfloat16())[0].dtype == torch.float32  # a bound in 8 bits would round twice


@pytest.mark.parametrize("levels", [(8, 8, 4), (5, 3, 6)])
def test_straight_through_gradient_is_that_of_the_bound(levels: tuple[int, ...]) -> None:
    grid, h = FSQ(levels).build(), 1e-6
    z = Rng(0).stream("z").normal((20, 4, 3), F64).requires_grad_()
    weight = Rng(0).stream("weight").normal((20, 4, 3), F64)
    (grid(z)[0] * weight).sum().backward()
    x = z.detach().numpy()
    for i, level in enumerate(levels):
        slope = (bound(x[..., i] + h, level) - bound(x[..., i] - h, level)) / (2 * h) / (level // 2)
        close(z.grad[..., i], (weight[..., i] * torch.from_numpy(slope)).tolist(), 1e-8)


def test_records_and_settings_out_of_range() -> None:
    assert from_dict(Quantizer, json.loads(json.dumps(to_dict(FSQ((5, 4)))))) == FSQ((5, 4))
    assert (FSQ().codebook_size, FSQ().code_dim, FSQ().updates_from_batch) == (256, 3, False)
    for wrong in ((), (2, 8), (1024, 1024, 4096)):
        with refuses(UsageError, found=str(wrong)):
            FSQ(wrong)
