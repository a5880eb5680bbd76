"""Symmetric positive definite matrices."""

import math

import pytest
import torch

from feller.core.rng import Rng
from feller.spaces import SPD
from feller.spaces.spd import log_of_sum, root_of_sum, symmetric
from tests.oracle import F64

SPACE = SPD()
EYE = torch.eye(3, dtype=F64)


def matrices(n: int, count: int, seed: int = 0) -> torch.Tensor:
    return SPD(n).sample_base(count, Rng(seed).stream("source")).double()


def tangents(x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return symmetric(Rng(seed).stream("v").normal(x.shape, F64))


def power(x: torch.Tensor, p: float) -> torch.Tensor:
    values, u = torch.linalg.eigh(x)
    return (u * values[..., None, :] ** p) @ u.mT


def test_vectors_of_exp_and_distance() -> None:
    a = torch.tensor([[[2, 0.5], [0.5, 1]]], dtype=F64)
    b = torch.tensor([[[1, -0.3], [-0.3, 3]]], dtype=F64)
    here = torch.tensor([[[1.5930144089, 0.2810631518], [0.2810631518, 1.3291910703]]], dtype=F64)
    torch.testing.assert_close(SPACE.exp(a, 0.3 * SPACE.log(a, b)), here, rtol=0, atol=1e-8)
    assert SPACE.distance(a, b).item() == pytest.approx(1.5426995090, abs=1e-9)


def test_exp_log_and_transport_equal_square_root_formulas() -> None:
    """The textbook's formulas with X^(1/2); ours use Cholesky's factor, and must not differ."""
    space, x, y = SPD(3), matrices(3, 20), matrices(3, 20, 1)
    v, half, back = tangents(x), power(x, 0.5), power(x, -0.5)
    torch.testing.assert_close(space.exp(x, v), half @ torch.linalg.matrix_exp(back @ v @ back) @ half)
    values, u = torch.linalg.eigh(back @ y @ back)
    torch.testing.assert_close(space.log(x, y), half @ (u * values.log()[:, None, :]) @ u.mT @ half)
    turn = half @ power(back @ y @ back, 0.5) @ back
    torch.testing.assert_close(space.transport(x, y, v), turn @ v @ turn.mT)
    torch.testing.assert_close(space.norm(x, v).square(), torch.einsum("bij,bji->b", back @ back @ v, back @ back @ v))


def test_metric_is_affine_invariant() -> None:
    space, x, y = SPD(3), matrices(3, 5), matrices(3, 5, 1)
    a = Rng(0).stream("a").normal((3, 3), F64)
    torch.testing.assert_close(space.distance(a @ x @ a.T, a @ y @ a.T), space.distance(x, y))
    torch.testing.assert_close(space.log(a @ x @ a.T, a @ y @ a.T), a @ space.log(x, y) @ a.T)


def test_derivatives_at_repeated_eigenvalues() -> None:
    """First and second derivatives of log and root, against differences: at 2 I, and where two eigenvalues agree."""
    e = 1e-4
    v, w = tangents(EYE[None].expand(2, 3, 3)), tangents(EYE[None].expand(2, 3, 3), 1)
    x = torch.stack([EYE, torch.diag(torch.tensor([2.0, 2.0, -0.5], dtype=F64))])
    for function in (log_of_sum, root_of_sum):

        def rate(x: torch.Tensor, function: object = function) -> torch.Tensor:
            return torch.func.jvp(function, (x,), (v,))[1]

        slope = (function(x + e * v) - function(x - e * v)) / (2 * e)
        torch.testing.assert_close(rate(x), slope, rtol=1e-6, atol=1e-6)
        bend = (rate(x + e * w) - rate(x - e * w)) / (2 * e)
        torch.testing.assert_close(torch.func.jvp(rate, (x,), (w,))[1], bend, rtol=1e-5, atol=1e-5)
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((function(leaf) * w).sum(), leaf)
        torch.testing.assert_close((gradient * v).sum(), (slope * w).sum(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2])
def test_base_density_integrates_to_one(n: int) -> None:
    """The density integrates to one over the metric's volume, sqrt(2)^k det^(-(n + 1) / 2) dx; k entries off diagonal.

    The grid is in log eigenvalues and the angle of the axes.
    """
    space, r = SPD(n), torch.linspace(-7, 7, 281, dtype=F64)
    if n == 1:
        x = r.exp()[:, None, None]
        total = space.base_log_prob(x).exp().sum() * (r[1] - r[0])
    else:
        a, b, angle = torch.meshgrid(r, r, (torch.arange(4, dtype=F64) + 0.5) * math.pi / 4, indexing="ij")
        u = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).unflatten(-1, (2, 2))
        x = (u * torch.stack([a, b], -1).exp()[..., None, :]) @ u.mT
        lebesgue = (a.exp() - b.exp()).abs() * (a + b).exp()  # dx11 dx12 dx22 for each d a, d b, d angle; a and b swap
        volume = math.sqrt(2) * lebesgue * torch.linalg.det(x) ** -1.5
        density = space.base_log_prob(x.flatten(0, 2)).exp().view(a.shape)
        total = (density * volume).sum() * (r[1] - r[0]) ** 2 * math.pi / 4 / 2
    assert total.item() == pytest.approx(1, abs=3e-4)


def test_base_distances_are_normal() -> None:
    """20,000 matrices: the squared distance from the identity has the mean 6; log det has the variance 3; 1e-6."""
    space = SPD(3)
    x = space.sample_base(20_000, Rng(0).stream("source")).double()
    assert space.distance(EYE.expand(x.shape), x).square().mean().item() == pytest.approx(
        6, abs=5 * math.sqrt(12 / 2e4)
    )
    assert torch.logdet(x).var().item() == pytest.approx(3, abs=5 * 3 * math.sqrt(2 / 2e4))


def test_log_volume_rate() -> None:
    """The rate of -(n + 1) / 2 log det along v."""
    space, x = SPD(3, (2,)), matrices(3, 8).view(4, 2, 3, 3)
    v = tangents(x)
    rate = torch.func.jvp(lambda x: -2 * torch.logdet(x).sum(1), (x,), (v,))[1]
    torch.testing.assert_close(space.log_volume_rate(x, v), rate)


def test_distances_of_near_points_in_float32() -> None:
    """Distances from 1e-7 on keep their digits."""
    x, distance = matrices(3, 100), torch.logspace(-7, 0, 100, dtype=F64)
    x = x.float()
    v = tangents(x)
    v = v / SPD(3).norm(x.double(), v)[:, None, None]
    y = SPD(3).exp(x.double(), distance[:, None, None] * v).float()
    exact = SPD(3).distance(x.double(), y.double())
    assert ((SPD(3).distance(x, y) - exact).abs() <= 1e-5 * exact).all()


def test_projection_makes_eigenvalues_positive() -> None:
    x = torch.tensor([[[1.0, 2.0], [0.0, -1.0]], [[0.0, 0.0], [0.0, 0.0]], [[2.0, 1.0], [1.0, 2.0]]])
    y = SPACE.project(x)
    assert (torch.linalg.eigvalsh(y) > 0).all()
    torch.linalg.cholesky(y)
    assert torch.equal(y, y.mT)
    assert torch.equal(y[2], x[2])
    assert y[0].trace().item() == pytest.approx(math.sqrt(2), abs=1e-4)
