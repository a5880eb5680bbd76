"""Torus."""

import math

import pytest
import torch

from feller.core.rng import Rng
from feller.spaces import Torus
from tests.oracle import f64

CIRCLE = Torus()


def test_log_is_the_angle_of_the_complex_ratio() -> None:
    x, y = (torch.remainder(7 * Rng(0).stream(name).normal((500, 3), torch.float64), 2 * math.pi) for name in "xy")
    way = Torus((3,)).log(x, y)
    torch.testing.assert_close(way, torch.atan2(torch.sin(y - x), torch.cos(y - x)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_angles_stay_below_a_turn(dtype: torch.dtype) -> None:
    """Angles stay below 2 pi however rounding falls, and ways below pi."""
    turn, tiny = 2 * math.pi, torch.finfo(dtype).eps
    x = torch.tensor([0.0, 0.0, 1.0, turn - 8 * tiny, 3.0], dtype=dtype)[:, None]
    v = torch.tensor([-1e-9, -1e-30, -1.0, 8 * tiny, 4 * turn - 3.0], dtype=dtype)[:, None]
    y = CIRCLE.exp(x, v)
    assert (y >= 0).all()
    assert (y < torch.tensor(turn, dtype=dtype)).all()
    half = torch.tensor(math.pi, dtype=dtype).view(1, 1)
    assert CIRCLE.log(torch.zeros_like(half), half) == -half
    assert CIRCLE.log(half, torch.zeros_like(half)) == -half
    assert CIRCLE.log(torch.zeros_like(half), half.nextafter(torch.zeros_like(half))) > 3


def test_small_differences_in_float32() -> None:
    x = f64(0.5, 1e-9, 3.0)[:, None].float()
    y = x + torch.tensor([[1e-7], [1e-15], [4e-7]])
    torch.testing.assert_close(CIRCLE.log(x, y), y - x, rtol=0, atol=0)


def test_base_is_uniform() -> None:
    """100,000 angles: the first four circular moments are zero, 5 deviations, false alarm 5e-6."""
    x = Torus((10,)).sample_base(10_000, Rng(0).stream("source")).double()
    assert ((x >= 0) & (x < 2 * math.pi)).all()
    for k in range(1, 5):
        assert max(abs((k * x).cos().mean().item()), abs((k * x).sin().mean().item())) < 5 * math.sqrt(0.5 / 1e5)
    assert Torus((2, 3)).base_log_prob(torch.zeros(4, 2, 3)).tolist() == pytest.approx([-6 * math.log(2 * math.pi)] * 4)


def test_distance_is_the_norm_of_all_angles() -> None:
    x, y = f64(0.1, 6.2)[None], f64(6.2, 0.1)[None]
    assert Torus((2,)).distance(x, y).item() == pytest.approx(0.1831853072 * math.sqrt(2), abs=1e-8)
