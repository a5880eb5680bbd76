"""Obstacles: the table of the reference, distances by brute force, and how shapes combine."""

import math

import pytest
import torch
from torch import Tensor

from feller.control.bridges.costs import check
from feller.control.bridges.costs.obstacles import (
    Box,
    Disc,
    Ellipse,
    Indicator,
    Neck,
    Quadric,
    Shape,
    SignedDistance,
    Smooth,
)
from feller.core.errors import UsageError
from feller.core.rng import Draws
from tests.oracle import F64, close, f64

X = 3 * Draws(0).at("x").normal((500, 2), F64)
T = torch.zeros(500, dtype=F64)


def nearest(edge: Tensor, x: Tensor) -> Tensor:
    return torch.cdist(x, edge).amin(1)


TURN = torch.linspace(0, 2 * math.pi, 20_001, dtype=F64)
CIRCLE = torch.stack([TURN.cos(), TURN.sin()], 1)
SIDE = torch.linspace(-1, 1, 5_001, dtype=F64)
SQUARE = torch.cat([torch.stack(torch.broadcast_tensors(*p), 1) for p in [(SIDE, f64(s)) for s in (-1, 1)]] + [
    torch.stack(torch.broadcast_tensors(*p), 1) for p in [(f64(s), SIDE) for s in (-1, 1)]
])  # fmt: skip


def test_distances_are_exact_for_discs_and_boxes() -> None:
    disc = Disc((1.0, -0.5), 1.5)
    close(disc.level(X).abs(), nearest(1.5 * CIRCLE + f64(1.0, -0.5), X).tolist(), 1e-4)
    box = Box((-1.0, 0.0), (2.0, 5.0))
    close(box.level(X).abs(), nearest(SQUARE * f64(1.5, 2.5) + f64(0.5, 2.5), X).tolist(), 1e-4)
    assert torch.equal(box.inside(X), ((f64(-1, 0) < X) & (f64(2, 5) > X)).all(1))
    assert torch.equal(disc.inside(X), (X - f64(1, -0.5)).norm(dim=1) < 1.5)
    close(Disc((0.0, 0.0, 0.0), 1.0).level(f64(0, 3, 4)[None]), [4.0], 1e-12)


@pytest.mark.parametrize(
    ("shape", "edge"),
    [
        (Ellipse((1.0, 0.0), (2.0, 0.7)), CIRCLE * f64(2.0, 0.7) + f64(1.0, 0.0)),
        (Neck(0.6, 5**0.5), torch.stack([SIDE * 3, (0.36 + 45 * SIDE.square()).sqrt()], 1)),
    ],
)
def test_levels_are_distances_near_the_edge(shape: Shape, edge: Tensor) -> None:
    close(shape.level(edge), torch.zeros(len(edge)).tolist(), 1e-9)
    for offset in (0.01, -0.01):
        x = edge[500:-500:50].clone().requires_grad_()
        (normal,) = torch.autograd.grad(shape.level(x).sum(), x)
        close(normal.norm(dim=1), torch.ones(len(x)).tolist(), 1e-6)
        beside = x.detach() + offset * normal
        close(shape.level(beside).abs(), nearest(edge, beside).tolist(), 6e-4)
        assert bool((shape.level(beside).sign() == math.copysign(1, offset)).all())


def test_levels_in_the_middle() -> None:
    centre = torch.zeros(1, 2, dtype=F64, requires_grad=True)
    for shape, depth in ((Ellipse((0.0, 0.0), (2.0, 0.7)), -0.7), (Disc((0.0, 0.0), 2.0), -2.0), (Neck(0.6, 2.0), 0.6)):
        level = shape.level(centre)
        close(level, [depth], 1e-9)
        assert torch.isfinite(torch.autograd.grad(level.sum(), centre)[0]).all()


def test_shapes_combine() -> None:
    a, b = Disc((0.0, 0.0), 2.0), Box((-1.0, -1.0), (4.0, 1.0))
    in_a, in_b = a.inside(X), b.inside(X)
    assert torch.equal((a | b).inside(X), in_a | in_b)
    assert torch.equal((a & b).inside(X), in_a & in_b)
    assert torch.equal((a & ~b).inside(X), in_a & ~in_b)
    assert ~~a is a
    own = SignedDistance(lambda x: x[..., 0] - 1)
    close((own & a).level(X), torch.maximum(X[:, 0] - 1, a.level(X)).tolist(), 1e-12)


def test_a_smooth_edge_and_a_sharp_one() -> None:
    disc = Disc((0.0, 0.0), 2.0)
    smooth, sharp = Smooth(disc, 10.0, 0.5), Indicator(disc, 10.0)
    x = f64(0, 1, 2, 3)[:, None] * f64(0.6, 0.8)
    close(smooth(x, T[:4]), [10 * math.log1p(math.exp((2 - r) / 0.5)) for r in range(4)], 1e-9)
    close(sharp(x, T[:4]), [10.0, 10.0, 0.0, 0.0], 1e-12)
    assert smooth.differentiable
    assert not check(sharp, X, T).differentiable
    (slope,) = torch.autograd.grad(smooth(y := x.clone().requires_grad_(), T[:4]).sum(), y)
    away = (smooth(x + 1e-6 * f64(0.6, 0.8), T[:4]) - smooth(x - 1e-6 * f64(0.6, 0.8), T[:4])) / 2e-6
    close((slope @ f64(0.6, 0.8))[1:], away[1:].tolist(), 1e-5)
    (inside,) = (2.0 * sharp).obstacles
    assert torch.equal(inside(X), disc.inside(X))
    assert len((smooth + sharp).obstacles) == 2


def test_a_sum_over_ellipses_is_the_formula() -> None:
    cost = Smooth(Quadric((20.0, 1.0), (5.0, 6.0), 90.0), 2.0)
    wanted = 2 * torch.log1p(torch.exp(90 - 20 * (X[:, 0] - 5) ** 2 - (X[:, 1] - 6) ** 2))
    close(cost(X, T), wanted.tolist(), 1e-8)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="radius of a disc to be above 0, got -1"):
        Disc((0.0, 0.0), -1.0)
    with pytest.raises(UsageError, match="in 3 dimensions cannot hold states of 2"):
        Disc((0.0, 0.0, 0.0), 1.0).level(X)
    with pytest.raises(UsageError, match="extent of a box"):
        Box((0.0, 0.0), (1.0, 0.0))
    with pytest.raises(UsageError, match="as many numbers"):
        Ellipse((0.0, 0.0), (1.0,))
    with pytest.raises(UsageError, match="width of an edge"):
        Smooth(Disc((0.0,), 1.0), 1.0, 0.0)
