"""Sphere."""

import math

import pytest
import torch

from feller.core.rng import Rng
from feller.spaces import Sphere
from tests.oracle import F64, f64

GLOBE = Sphere()


def pairs(angles: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pairs of points at given distances, in float64."""
    draw = Rng(seed).stream("points")
    x = GLOBE.project(draw.normal((len(angles), 3), F64))
    v = GLOBE.to_tangent(x, draw.normal((len(angles), 3), F64))
    return x, GLOBE.exp(x, angles[:, None] * v / v.norm(dim=1, keepdim=True))


def test_log_in_float32() -> None:
    """The norm of log, from the same rounded points, is that of float64 to 1e-5 from 1e-7 to near the antipode."""
    small = torch.logspace(-7, math.log10(math.pi / 2), 400, dtype=F64)
    angles = torch.cat([small, math.pi - torch.logspace(-4, 0, 100, dtype=F64)])
    x, y = (z.float() for z in pairs(angles))
    exact = GLOBE.log(x.double(), y.double())
    rounded = GLOBE.log(x, y).double()
    assert ((rounded.norm(dim=1) - exact.norm(dim=1)).abs() / exact.norm(dim=1)).max() < 1e-6
    assert ((rounded - exact).norm(dim=1) / exact.norm(dim=1)).max() < 1e-5
    truth = torch.atan2(torch.linalg.cross(x.double(), y.double()).norm(dim=1), (x.double() * y.double()).sum(1))
    assert ((GLOBE.distance(x, y) - truth).abs() / truth).max() < 1e-6


def test_base_is_uniform() -> None:
    """90,000 points of S^2: each coordinate is uniform on [-1, 1]; bounds of 5 deviations, false alarm 4e-6."""
    x = GLOBE.sample_base(90_000, Rng(0).stream("source")).double()
    assert x.shape == (90_000, 3)
    assert (x.mean(0)).abs().max() < 5 * math.sqrt(1 / 3 / 90_000)
    assert (x.square().mean(0) - 1 / 3).abs().max() < 5 * math.sqrt(4 / 45 / 90_000)
    assert (x.T @ x / 90_000).triu(1).abs().max() < 5 * math.sqrt(1 / 15 / 90_000)


@pytest.mark.parametrize(("n", "area"), [(1, 2 * math.pi), (2, 4 * math.pi), (3, 2 * math.pi**2)])
def test_area(n: int, area: float) -> None:
    space = Sphere(n, (2,))
    assert space.base_log_prob(torch.zeros(3, 2, n + 1)).tolist() == pytest.approx([-2 * math.log(area)] * 3)
    assert space.dimension == 2 * n


def test_transport_turns_in_the_plane() -> None:
    """From the pole to the equator along a meridian: what points along it turns down, what points east stays."""
    pole, equator = f64(0, 0, 1)[None], f64(1, 0, 0)[None]
    torch.testing.assert_close(GLOBE.transport(pole, equator, f64(2, 3, 0)[None]), f64(0, 3, -2)[None])


def test_log_of_antipodes_and_projection_of_the_origin() -> None:
    for n in (1, 2, 4):
        space = Sphere(n)
        x = torch.cat([torch.eye(n + 1, dtype=F64), space.sample_base(5, Rng(0).stream("x")).double()])
        x = space.project(x)
        v = space.log(x, -x)
        assert v.norm(dim=1).tolist() == pytest.approx([math.pi] * len(x), abs=1e-9)
        assert (v * x).sum(1).abs().max() < 1e-12
        torch.testing.assert_close(space.exp(x, v), -x, rtol=0, atol=1e-9)
        assert torch.equal(v, space.log(x, -x))
    assert GLOBE.project(torch.zeros(1, 3)).tolist() == [[1, 0, 0]]


def test_divergence_of_a_projected_field() -> None:
    """On S^2, the tangent part of a constant a has the divergence -2 <a, x>: the trace along the tangent space."""
    a, x = f64(0.3, -0.7, 0.2), f64(0.6, 0.64, 0.48)[None]
    jacobian = torch.func.jacrev(lambda x: GLOBE.to_tangent(x, a.expand(x.shape))[0])(x)[:, 0]
    frame = torch.linalg.svd(torch.eye(3, dtype=F64) - x.T @ x)[0][:, :2]
    total = torch.trace(frame.T @ jacobian @ frame) + GLOBE.log_volume_rate(x, GLOBE.to_tangent(x, a[None]))[0]
    assert total.item() == pytest.approx(-2 * (a * x).sum().item(), abs=1e-12)
    assert total.item() == pytest.approx(0.344, abs=1e-12)
