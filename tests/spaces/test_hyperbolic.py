"""Hyperbolic space."""

import math

import pytest
import torch

from feller.core.rng import Rng
from feller.spaces import Poincare
from tests.oracle import F64, f64

SPACE = Poincare()


def test_vectors_of_exp_log_and_distance() -> None:
    a, b = f64(0.1, 0.2)[None], f64(-0.4, 0.5)[None]
    way = SPACE.log(a, b)
    torch.testing.assert_close(way[0], f64(-0.62576635, 0.26678055), rtol=0, atol=1e-8)
    assert SPACE.distance(a, b).item() == pytest.approx(1.4321289748, abs=1e-9)
    torch.testing.assert_close(SPACE.exp(a, 0.3 * way)[0], f64(-0.0812759, 0.2876370), rtol=0, atol=1e-7)


def test_exp_log_and_transport_equal_moebius_formulas() -> None:
    """The textbook's formulas, with their differences of near numbers, where they are harmless."""

    def add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        xx, yy, xy = (x * x).sum(1, True), (y * y).sum(1, True), (x * y).sum(1, True)
        return ((1 + 2 * xy + yy) * x + (1 - xx) * y) / (1 + 2 * xy + xx * yy)

    def gyrate(u: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return add(-add(u, v), add(u, add(v, w)))

    space = Poincare(3)
    x, y = (space.sample_base(50, Rng(0).stream(name)).double() for name in "xy")
    v = 1e-3 * Rng(0).stream("v").normal((50, 3), F64)
    scale, m = 2 / (1 - x.square().sum(1, True)), add(-x, y)
    size = m.norm(dim=1, keepdim=True)
    torch.testing.assert_close(space.log(x, y), 2 / scale * size.atanh() * m / size)
    torch.testing.assert_close(space.distance(x, y), 2 * size.atanh()[:, 0])
    u = Rng(0).stream("u").normal((50, 3), F64)
    norm = u.norm(dim=1, keepdim=True)
    torch.testing.assert_close(space.exp(x, u), add(x, (scale * norm / 2).tanh() * u / norm))
    ratio = (1 - y.square().sum(1, True)) * scale / 2
    torch.testing.assert_close(space.transport(x, y, v), ratio * gyrate(y, -x, v), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_base_density_integrates_to_one(n: int) -> None:
    """The density integrates to one over the metric's volume, by shells from the centre."""
    space = Poincare(n)
    r = (torch.arange(20_000, dtype=F64) + 0.5) / 20_000
    x = torch.nn.functional.pad(r[:, None], (0, n - 1))
    area = {1: 2.0, 2: 2 * math.pi, 3: 4 * math.pi}[n]
    volume = (2 / (1 - r**2)) ** n * area * r ** (n - 1)
    assert ((space.base_log_prob(x).exp() * volume).sum() / 20_000).item() == pytest.approx(1, abs=1e-5)


def test_base_distances_are_normal() -> None:
    """30,000 points of 3 dimensions: squared distances from the centre have the mean 3; 5 deviations, 6e-7."""
    space = Poincare(3)
    x = space.sample_base(30_000, Rng(0).stream("source")).double()
    square = space.distance(torch.zeros_like(x), x).square()
    assert square.mean().item() == pytest.approx(3, abs=5 * math.sqrt(6 / 30_000))


def test_log_volume_rate() -> None:
    """The rate of n log(2 / (1 - |x|^2)) along v."""
    space = Poincare(3, (2,))
    x, v = space.sample_base(4, Rng(0).stream("x")).double(), Rng(0).stream("v").normal((4, 2, 3), F64)
    rate = torch.func.jvp(lambda x: 3 * (2 / (1 - x.square().sum(-1))).log().sum(1), (x,), (v,))[1]
    torch.testing.assert_close(space.log_volume_rate(x, v), rate)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exp_stays_inside_the_ball(dtype: torch.dtype) -> None:
    x = torch.tensor([[0.0, 0.0], [0.9, 0.1], [-0.5, 0.5]], dtype=dtype)
    v = torch.tensor([[1e6, 0.0], [30.0, 40.0], [1e3, 0.0]], dtype=dtype)
    y = SPACE.exp(x, v)
    assert (y.norm(dim=1) < 1).all()
    assert SPACE.log(x, y).isfinite().all()
    assert SPACE.distance(x, y).isfinite().all()
    assert SPACE.project(torch.tensor([[3.0, 4.0]], dtype=dtype)).norm() < 1


def test_distances_of_near_points_in_float32() -> None:
    """From the same rounded points, distances from 1e-7 on keep their digits, also far from the centre."""
    distance = torch.logspace(-7, 0, 200, dtype=F64)
    x = (0.99 * torch.nn.functional.normalize(Rng(0).stream("x").normal((200, 2), F64))).float()
    v = torch.nn.functional.normalize(Rng(0).stream("v").normal((200, 2), F64))
    v = (distance / SPACE.norm(x.double(), v))[:, None] * v
    y = SPACE.exp(x.double(), v).float()
    exact = SPACE.distance(x.double(), y.double())
    assert ((SPACE.distance(x, y) - exact).abs() <= 1e-4 * exact).all()
    assert ((SPACE.norm(x, SPACE.log(x, y)) - exact).abs() <= 1e-4 * exact).all()
