"""Rotations and rigid motions."""

import math

import pytest
import torch

from feller.core.rng import Rng
from feller.spaces import SO3, se3
from feller.spaces.rotations import from_quaternion, hat, rotation, to_quaternion, vee
from tests.oracle import F64, f64

SPACE = SO3()
EYE = torch.eye(3, dtype=F64)


def axes(n: int, seed: int = 0) -> torch.Tensor:
    w = Rng(seed).stream("axes").normal((n, 3), F64)
    return w / w.norm(dim=1, keepdim=True)


def test_vectors_of_exp_log_and_distance() -> None:
    a, b = rotation(f64(0.2, -0.1, 0.4)[None]), rotation(f64(-0.5, 0.9, 0.3)[None])
    way = SPACE.log(a, b)
    torch.testing.assert_close(vee(a.mT @ way)[0], f64(-0.47920043, 1.11027403, -0.13187474), rtol=0, atol=1e-8)
    assert SPACE.distance(a, b).item() == pytest.approx(1.2164425220, abs=1e-9)
    here = vee(SPACE.log(EYE[None], SPACE.exp(a, 0.3 * way)))[0]
    torch.testing.assert_close(here, f64(-0.00804526, 0.20221509, 0.38029441), rtol=0, atol=1e-8)


def test_exp_is_the_matrix_exponential() -> None:
    w = 2 * axes(20) * torch.linspace(0, 2, 20, dtype=F64)[:, None]
    torch.testing.assert_close(rotation(w), torch.linalg.matrix_exp(hat(w)), rtol=0, atol=1e-13)
    x = rotation(axes(20, 1))
    torch.testing.assert_close(SPACE.exp(x, x @ hat(w)), x @ torch.linalg.matrix_exp(hat(w)), rtol=0, atol=1e-13)


def test_hat_is_the_cross_product() -> None:
    w, u = f64(1, 2, 3), f64(-2, 0.5, 1)
    torch.testing.assert_close(hat(w) @ u, torch.linalg.cross(w, u))
    torch.testing.assert_close(vee(hat(w)), w)


def test_log_in_float32() -> None:
    """From the same rounded matrices, log is that of float64 to 1e-5, from 1e-7 to pi."""
    angles = torch.cat([torch.logspace(-7, 0, 300, dtype=F64), math.pi - torch.logspace(-4, 0, 100, dtype=F64)])
    x = rotation(3 * axes(400)).float()
    y = (x.double() @ rotation(angles[:, None] * axes(400, 1))).float()
    exact, rounded = SPACE.log(x.double(), y.double()), SPACE.log(x, y).double()
    size = SPACE.norm(x.double(), exact)
    assert ((SPACE.norm(x.double(), rounded) - size).abs() / size).max() < 1e-5
    assert (SPACE.norm(x.double(), rounded - exact) / size).max() < 1e-5
    assert ((SPACE.distance(x, y) - size).abs() / size).max() < 1e-5
    large = angles > 1e-3
    torch.testing.assert_close(size[large], angles[large], rtol=1e-4, atol=0)


def test_log_of_half_turns() -> None:
    w = torch.cat([EYE, -EYE, axes(10), f64(1, 1, 0)[None] / math.sqrt(2)])
    x = rotation(axes(len(w), 1))
    for angle in (math.pi, math.pi - 1e-9, math.pi - 1e-5):
        y = x @ rotation(angle * w)
        way = SPACE.log(x, y)
        assert SPACE.norm(x, way).tolist() == pytest.approx([angle] * len(w), abs=1e-7)
        torch.testing.assert_close(SPACE.exp(x, way), y, rtol=0, atol=1e-7)
        assert torch.func.jvp(lambda y: SPACE.log(x, y), (y,), (y @ hat(w),))[1].isfinite().all()


def test_quaternion_conversions() -> None:
    q = Rng(0).stream("q").normal((200, 4), F64)
    q = torch.cat([q, EYE.new_tensor([[0, 1, 1e-3, 0], [1e-4, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])])
    q = q / q.norm(dim=1, keepdim=True)
    back = to_quaternion(from_quaternion(q) - EYE)
    assert (back[:, 0] >= 0).all()
    torch.testing.assert_close((back * q).sum(1).abs(), torch.ones(len(q), dtype=F64))


def test_base_is_uniform() -> None:
    """50,000 rotations: the angle has the density (1 - cos) / pi; axes' and entries' moments; false alarm 1e-5."""
    x = SPACE.sample_base(50_000, Rng(0).stream("source")).double()
    angle = SPACE.distance(EYE.expand(x.shape), x)
    assert angle.mean().item() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=5 * 0.65 / math.sqrt(5e4))
    assert torch.trace(x.mean(0)).item() == pytest.approx(0, abs=5 / math.sqrt(5e4))
    assert (x.mean(0)).abs().max() < 5 * math.sqrt(1 / 3 / 5e4)
    assert (x.square().mean(0) - 1 / 3).abs().max() < 5 * math.sqrt(4 / 45 / 5e4)


def test_volume_of_the_metric() -> None:
    """The volume in exponential coordinates is (2 - 2 cos) / angle^2, over the ball of radius pi: 8 pi^2 together."""
    r = (torch.arange(4000, dtype=F64) + 0.5) * math.pi / 4000
    total = (4 * math.pi * (2 - 2 * r.cos())).sum() * math.pi / 4000
    density = SO3((2,)).base_log_prob(torch.zeros(1, 2, 3, 3, dtype=F64))
    assert density.item() == pytest.approx(-2 * math.log(total.item()), abs=1e-6)
    w, e = f64(0.7, -1.2, 0.4), 1e-5
    frame = torch.stack([(rotation(w + e * d) - rotation(w - e * d)) / (2 * e) for d in EYE])
    gram = (frame.flatten(1) @ frame.flatten(1).T) / 2
    assert torch.linalg.det(gram).sqrt().item() == pytest.approx(((2 - 2 * w.norm().cos()) / w.norm() ** 2).item())


def test_transport_is_parallel() -> None:
    """Against small steps of projection to the next tangent space, whose limit is the transport of Levi-Civita."""
    x, w, u = rotation(axes(3)), 1.7 * axes(3, 1), axes(3, 2)
    errors = []
    for n in (200, 400):
        v = x @ hat(u)
        for i in range(1, n + 1):
            v = SPACE.to_tangent(x @ rotation(i / n * w), v)
        errors.append((v - SPACE.transport(x, x @ rotation(w), x @ hat(u))).abs().max().item())
    assert errors[1] < 5e-3
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)


def test_projection_is_the_nearest_rotation() -> None:
    x = Rng(0).stream("x").normal((30, 3, 3), F64)
    y = SPACE.project(x)
    assert SPACE.constraint_error(y).max() < 1e-12
    torch.testing.assert_close(torch.linalg.det(y), torch.ones(30, dtype=F64))
    for u in axes(20):
        assert ((x - y @ rotation(0.1 * u)).flatten(1).norm(dim=1) > (x - y).flatten(1).norm(dim=1)).all()
    v, e = Rng(0).stream("v").normal((30, 3, 3), F64), 1e-6
    for point in (x[torch.linalg.det(x) > 0.1], rotation(axes(5)), x[torch.linalg.det(x) < -0.1]):
        d = v[: len(point)]
        slope = (SPACE.project(point + e * d) - SPACE.project(point - e * d)) / (2 * e)
        torch.testing.assert_close(torch.func.jvp(SPACE.project, (point,), (d,))[1], slope, rtol=1e-5, atol=1e-6)
        leaf = point.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((SPACE.project(leaf) * d.flip(0)).sum(), leaf)
        torch.testing.assert_close((gradient * d).sum(), (slope * d.flip(0)).sum(), rtol=1e-5, atol=1e-5)


def test_ambiguous_projections() -> None:
    flip = torch.diag(f64(1, 1, -1))
    bad = torch.stack([flip, torch.zeros(3, 3, dtype=F64), torch.diag(f64(2, 0.5, -0.5)), -EYE])
    assert SPACE.is_ambiguous(bad).all()
    assert SPACE.project(bad).isfinite().all()
    assert SPACE.constraint_error(SPACE.project(bad)).max() < 1e-12
    good = torch.stack([EYE, torch.diag(f64(2, 0.5, -0.4)), torch.diag(f64(1, 0.1, 0))])
    assert not SPACE.is_ambiguous(good).any()
    assert SO3((2,)).is_ambiguous(torch.stack([EYE, flip, EYE, EYE]).view(2, 2, 3, 3)).tolist() == [True, False]


def test_se3() -> None:
    space = se3((4,))
    x = space.sample_base(5, Rng(0).stream("source"))
    assert x["rotation"].shape == (5, 4, 3, 3)
    assert x["position"].shape == (5, 4, 3)
    assert space.dimension == 24
