"""Probability simplex."""

import math

import pytest
import torch

from feller.core.rng import Rng
from feller.spaces import Simplex
from tests.oracle import F64, f64

SPACE = Simplex(2)


def points(n: int, seed: int = 0) -> torch.Tensor:
    x = SPACE.sample_base(n, Rng(seed).stream("source")).double()
    return x / x.sum(1, keepdim=True)


def test_closed_forms() -> None:
    """The distance of Bhattacharyya; between corners, pi; a coin's coordinate is 2 asin(sqrt p)."""
    p, q = points(50), points(50, 1)
    torch.testing.assert_close(SPACE.distance(p, q), 2 * (p * q).sqrt().sum(1).acos())
    corners = torch.eye(3, dtype=F64)
    assert SPACE.distance(corners, corners.roll(1, 0)).tolist() == pytest.approx([math.pi] * 3)
    coin, r = Simplex(1), torch.linspace(0.1, 3, 20, dtype=F64)
    p = torch.stack([(r / 2).sin() ** 2, (r / 2).cos() ** 2], 1)
    start = p[:1].expand(p.shape)
    torch.testing.assert_close(coin.distance(start, p), r - r[0])
    torch.testing.assert_close(coin.exp(start, coin.log(start, p) / 2)[:, 0], ((r + r[0]) / 4).sin() ** 2)


def test_metric_is_fisher_information() -> None:
    p = points(20)
    v = SPACE.to_tangent(p, Rng(0).stream("v").normal((20, 3), F64)) * p.amin(1, keepdim=True)
    e = 1e-4
    divergence = (p * (p / (p + e * v)).log() + e * v).sum(1)
    torch.testing.assert_close(2 * divergence / e**2, SPACE.norm(p, v).square(), rtol=1e-3, atol=0)


def test_values_on_faces_are_finite() -> None:
    """Parts of 0 are allowed: no value is not a number, and ways to a face end there."""
    p, q = f64(0.2, 0.3, 0.5)[None], f64(0, 0, 1)[None]
    torch.testing.assert_close(SPACE.exp(p, SPACE.log(p, q)), q, rtol=0, atol=1e-12)
    for x, y in ((p, q), (q, p), (q, q), (q, q.roll(1, 1))):
        v = SPACE.log(x, y)
        for value in (v, SPACE.exp(x, v), SPACE.norm(x, v), SPACE.transport(x, y, v), SPACE.log_volume_rate(x, v)):
            assert value.isfinite().all()
        leaf = y.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(SPACE.log(x, leaf).sum() + SPACE.distance(x, leaf).sum(), leaf)
        assert gradient.isfinite().all()
    assert SPACE.base_log_prob(q).isfinite().all()


def test_geodesics_are_reflected_at_faces() -> None:
    coin = Simplex(1)
    p = f64(0.5, 0.5)[None]
    v = coin.log(p, f64(1, 0)[None])
    torch.testing.assert_close(coin.exp(p, 1.5 * v), coin.exp(p, 0.5 * v), rtol=0, atol=1e-12)
    y = SPACE.exp(points(200), 20 * SPACE.to_tangent(points(200), Rng(0).stream("v").normal((200, 3), F64)))
    assert (y >= 0).all()
    torch.testing.assert_close(y.sum(1), torch.ones(200, dtype=F64))


def test_base_density_integrates_to_one() -> None:
    """The density is uniform in the flat sense; over the metric's volume it integrates to one."""
    n = 400
    i, j = torch.meshgrid(torch.arange(n, dtype=F64), torch.arange(n, dtype=F64), indexing="ij")
    a, b = (i + 0.5) / n, (j + 0.5) / n
    p = torch.stack([a, (1 - a) * b, (1 - a) * (1 - b)], -1).view(-1, 3)
    volume = (1 - a).view(-1) / p.prod(1).sqrt()  # root of the determinant of the metric, in two of the parts
    total = (SPACE.base_log_prob(p).exp() * volume).mean().item()
    assert total == pytest.approx(1, abs=1e-5)
    eighth = volume.mean().item()
    assert eighth == pytest.approx(4 * 4 * math.pi / 8, rel=5e-2)  # of a sphere of radius 2; the edges are not smooth
    two = Simplex(2, (2,)).base_log_prob(p[:4].view(2, 2, 3))
    torch.testing.assert_close(two, SPACE.base_log_prob(p[:4]).view(2, 2).sum(1))


def test_base_is_uniform() -> None:
    """50,000 points: means 1/3 and second moments of Dirichlet(1, 1, 1); 5 deviations, false alarm 4e-6."""
    x = SPACE.sample_base(50_000, Rng(0).stream("source")).double()
    assert (x.mean(0) - 1 / 3).abs().max() < 5 * math.sqrt(1 / 18 / 5e4)
    assert (x.square().mean(0) - 1 / 6).abs().max() < 5 * math.sqrt((1 / 15 - 1 / 36) / 5e4)


def test_log_volume_rate() -> None:
    """The rate of the log of sqrt det of the metric, sum of -1/2 log p."""
    space, x = Simplex(2, (2,)), points(8).view(4, 2, 3)
    v = space.to_tangent(x, Rng(0).stream("v").normal((4, 2, 3), F64))

    def log_volume(x: torch.Tensor) -> torch.Tensor:
        metric = torch.diag_embed(1 / x[..., :2]) + (1 / x[..., 2])[..., None, None]
        return torch.logdet(metric).sum(1) / 2

    torch.testing.assert_close(space.log_volume_rate(x, v), torch.func.jvp(log_volume, (x,), (v,))[1])


def test_projection_is_the_nearest_point() -> None:
    x = 0.8 * Rng(0).stream("x").normal((40, 3), F64)
    y = SPACE.project(x)
    n = 60
    grid = torch.tensor([[i, j, n - i - j] for i in range(n + 1) for j in range(n + 1 - i)], dtype=F64) / n
    assert ((x - y).norm(dim=1) <= torch.cdist(x, grid).amin(1) + 1e-12).all()
    assert (y >= 0).all()
    torch.testing.assert_close(y.sum(1), torch.ones(40, dtype=F64))


def test_distances_of_near_points_in_float32() -> None:
    """Distances from 1e-6 on keep their digits."""
    p, distance = points(100).float().double(), torch.logspace(-6, -1, 100, dtype=F64)
    v = SPACE.to_tangent(p, Rng(0).stream("v").normal((100, 3), F64)) * p
    v = SPACE.to_tangent(p, v)
    y = SPACE.exp(p, distance[:, None] * v / SPACE.norm(p, v)[:, None]).float()
    exact = SPACE.distance(p, y.double())
    assert ((SPACE.distance(p.float(), y) - exact).abs() / exact).max() < 1e-4
