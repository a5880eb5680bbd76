"""Obstacles and image walls: signed distances, set operations, orientation, files."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from feller.control.bridges.costs import check
from feller.control.bridges.costs.obstacles import (
    Box,
    Disc,
    Ellipse,
    Indicator,
    Neck,
    ObstacleShape,
    Quadric,
    SignedDistance,
    SoftObstacle,
)
from feller.control.bridges.costs.walls import ImageWalls, read_grey
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from tests.errors import refuses
from tests.oracle import F64, close, f64

X = 3 * Rng(0).stream("x").normal((500, 2), F64)
T = torch.zeros(500, dtype=F64)


def nearest(edge: Tensor, x: Tensor) -> Tensor:
    return torch.cdist(x, edge).amin(1)


TURN = torch.linspace(0, 2 * math.pi, 20_001, dtype=F64)
CIRCLE = torch.stack([TURN.cos(), TURN.sin()], 1)
SIDE = torch.linspace(-1, 1, 5_001, dtype=F64)
SQUARE = torch.cat([torch.stack(torch.broadcast_tensors(*p), 1) for p in [(SIDE, f64(s)) for s in (-1, 1)]] + [
    torch.stack(torch.broadcast_tensors(*p), 1) for p in [(f64(s), SIDE) for s in (-1, 1)]
])  # fmt: skip


def test_level_of_discs_and_boxes() -> None:
    disc = Disc((1.0, -0.5), 1.5)
    close(disc.level(X).abs(), nearest(1.5 * CIRCLE + f64(1.0, -0.5), X).tolist(), 1e-4)
    box = Box((-1.0, 0.0), (2.0, 5.0))
    close(box.level(X).abs(), nearest(SQUARE * f64(1.5, 2.5) + f64(0.5, 2.5), X).tolist(), 1e-4)
    assert torch.equal(box.contains(X), ((f64(-1, 0) < X) & (f64(2, 5) > X)).all(1))
    assert torch.equal(disc.contains(X), (X - f64(1, -0.5)).norm(dim=1) < 1.5)
    close(Disc((0.0, 0.0, 0.0), 1.0).level(f64(0, 3, 4)[None]), [4.0], 1e-12)


@pytest.mark.parametrize(
    ("shape", "edge"),
    [
        (Ellipse((1.0, 0.0), (2.0, 0.7)), CIRCLE * f64(2.0, 0.7) + f64(1.0, 0.0)),
        (Neck(0.6, 5**0.5), torch.stack([SIDE * 3, (0.36 + 45 * SIDE.square()).sqrt()], 1)),
    ],
)
def test_level_of_ellipses_and_necks_near_the_edge(shape: ObstacleShape, edge: Tensor) -> None:
    close(shape.level(edge), torch.zeros(len(edge)).tolist(), 1e-9)
    for offset in (0.01, -0.01):
        x = edge[500:-500:50].clone().requires_grad_()
        (normal,) = torch.autograd.grad(shape.level(x).sum(), x)
        close(normal.norm(dim=1), torch.ones(len(x)).tolist(), 1e-6)
        beside = x.detach() + offset * normal
        close(shape.level(beside).abs(), nearest(edge, beside).tolist(), 6e-4)
        assert bool((shape.level(beside).sign() == math.copysign(1, offset)).all())


def test_level_at_the_centre() -> None:
    centre = torch.zeros(1, 2, dtype=F64, requires_grad=True)
    for shape, depth in ((Ellipse((0.0, 0.0), (2.0, 0.7)), -0.7), (Disc((0.0, 0.0), 2.0), -2.0), (Neck(0.6, 2.0), 0.6)):
        level = shape.level(centre)
        close(level, [depth], 1e-9)
        assert torch.isfinite(torch.autograd.grad(level.sum(), centre)[0]).all()


def test_union_intersection_complement() -> None:
    a, b = Disc((0.0, 0.0), 2.0), Box((-1.0, -1.0), (4.0, 1.0))
    in_a, in_b = a.contains(X), b.contains(X)
    assert torch.equal((a | b).contains(X), in_a | in_b)
    assert torch.equal((a & b).contains(X), in_a & in_b)
    assert torch.equal((a & ~b).contains(X), in_a & ~in_b)
    assert ~~a is a
    own = SignedDistance(lambda x: x[..., 0] - 1)
    close((own & a).level(X), torch.maximum(X[:, 0] - 1, a.level(X)).tolist(), 1e-12)


def test_soft_obstacle_and_indicator() -> None:
    disc = Disc((0.0, 0.0), 2.0)
    smooth, sharp = SoftObstacle(disc, 10.0, 0.5), Indicator(disc, 10.0)
    x = f64(0, 1, 2, 3)[:, None] * f64(0.6, 0.8)
    close(smooth(x, T[:4]), [10 * math.log1p(math.exp((2 - r) / 0.5)) for r in range(4)], 1e-9)
    close(sharp(x, T[:4]), [10.0, 10.0, 0.0, 0.0], 1e-12)
    assert smooth.differentiable
    assert not check(sharp, X, T).differentiable
    (slope,) = torch.autograd.grad(smooth(y := x.clone().requires_grad_(), T[:4]).sum(), y)
    away = (smooth(x + 1e-6 * f64(0.6, 0.8), T[:4]) - smooth(x - 1e-6 * f64(0.6, 0.8), T[:4])) / 2e-6
    close((slope @ f64(0.6, 0.8))[1:], away[1:].tolist(), 1e-5)
    (inside,) = (2.0 * sharp).obstacles
    assert torch.equal(inside(X), disc.contains(X))
    assert len((smooth + sharp).obstacles) == 2


def test_soft_obstacle_of_a_quadric() -> None:
    cost = SoftObstacle(Quadric((20.0, 1.0), (5.0, 6.0), 90.0), 2.0)
    wanted = 2 * torch.log1p(torch.exp(90 - 20 * (X[:, 0] - 5) ** 2 - (X[:, 1] - 6) ** 2))
    close(cost(X, T), wanted.tolist(), 1e-8)


def test_invalid_shapes() -> None:
    for argument, found, make in (
        ("the radius of a disc", "-1", lambda: Disc((0.0, 0.0), -1.0)),
        ("the extent of a box", "0", lambda: Box((0.0, 0.0), (1.0, 0.0))),
        ("the width of an edge", "0", lambda: SoftObstacle(Disc((0.0,), 1.0), 1.0, 0.0)),
    ):
        with refuses(UsageError, argument=argument, found=found):
            make()
    for make in (lambda: Disc((0.0, 0.0, 0.0), 1.0).level(X), lambda: Ellipse((0.0, 0.0), (1.0,))):
        with refuses(UsageError):
            make()


def drawn(inside, h: int, w: int) -> np.ndarray:
    """Draw a set of points of the plane, pixels being units; rows from the top."""
    x, y = np.meshgrid(np.arange(w) + 0.5, np.arange(h)[::-1] + 0.5)
    return np.where(inside(torch.tensor(np.stack([x, y], -1))).numpy(), 0.0, 1.0)


def test_image_walls_orientation() -> None:
    """A box whose edges lie between pixels, off the middle both ways: exact along its sides, y upwards."""
    box = Box((20.0, 5.0), (30.0, 9.0))
    picture = ImageWalls.from_image(drawn(box.contains, 40, 60))
    x = f64(25, 7, 25, 4.2, 25, 9.7, 18, 7, 31.1, 6.9, 10, 30, 40, 30, 22, 30.4).reshape(-1, 2)
    wanted = [-2.0, 0.8, 0.7, 2.0, 1.1, 10.0, 10.0, 9.6]  # in the last three the frame is the nearest wall
    close(picture.level(x), wanted, 1e-5)


def test_image_walls_distances_by_brute_force() -> None:
    grey = Rng(0).stream("grey").uniform((9, 11), F64).numpy()
    picture = ImageWalls.from_image(grey, (0.0, 22.0, 0.0, 9.0))
    rows, columns = np.nonzero(np.pad(grey[::-1] < 0.5, 1, constant_values=True))
    middles = torch.tensor(np.stack([2 * columns - 1.0, rows - 0.5], 1))  # of the walls
    nodes = torch.cartesian_prod(torch.arange(23, dtype=F64), torch.arange(19, dtype=F64) / 2)
    away = ((nodes[:, None] - middles).abs() - f64(1, 0.5)).clamp(min=0).norm(dim=2).amin(1)
    close(picture.level(nodes).clamp(min=0), away.tolist(), 1e-5)
    assert 50 < int((away > 0).sum()) < 350


def test_image_walls_frame() -> None:
    wall = drawn(Box((0.0, 0.0), (30.0, 60.0)).contains, 60, 100)  # the left part
    picture = ImageWalls.from_image(wall, (-1.0, 1.0, 10.0, 40.0))  # pixels are 0.02 wide and 0.5 tall
    x = f64(-0.3, 25, -0.5, 25, 0.1, 10.3, 0.1, 9.5, 0.9, 25, 4, 25, 0.4, 60).reshape(-1, 2)
    close(picture.level(x), [0.1, -0.1, 0.3, -0.5, 0.1, -3.0, -20.0], 1e-4)
    y = f64(-2.0, -1.0)[None].requires_grad_()
    (slope,) = torch.autograd.grad(picture.level(y).sum(), y)
    close(slope, [[(1.01 - 0.02) / 11.0, 1.0]], 0.1)  # it grows towards the frame
    assert picture.contains(f64(1.5, 20, -1.2, 20, 0, 9.9, 0, 41).reshape(-1, 2)).all()


def test_image_walls_gradients() -> None:
    picture = ImageWalls.from_image(drawn(Disc((6.0, 5.0), 3.0).contains, 12, 14))
    x = (f64(7.0, 6.0) + 6 * Rng(0).stream("x").normal((60, 2), F64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: picture.level(x), (x,))
    assert torch.isfinite(SoftObstacle(picture, 1.0)(1e6 * x, torch.zeros(60))).all()


def test_read_grey(tmp_path) -> None:
    colours = np.zeros((3, 4, 4), dtype=np.uint8)
    colours[0, 0] = (0, 0, 0, 255)  # black
    colours[0, 1] = (0, 0, 0, 0)  # black, but not there
    colours[1, :] = (255, 255, 255, 255)
    colours[2, 3] = (200, 0, 0, 255)  # a dark red
    Image.fromarray(colours).save(tmp_path / "room.png")
    grey = read_grey(tmp_path / "room.png")
    assert (grey < 0.5).tolist() == [[True, False, False, False], 4 * [False], [False, False, False, True]]
    with refuses(InputError, found="no such file"):
        read_grey(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with refuses(InputError, file=str(tmp_path / "text.png")):
        read_grey(tmp_path / "text.png")


def test_invalid_walls() -> None:
    for grey in (np.ones((4, 4)), np.zeros((4, 4))):
        with refuses(InputError):
            ImageWalls.from_image(grey)
    with refuses(UsageError):
        ImageWalls.from_image(np.eye(4), (1.0, 0.0, 0.0, 1.0))
    with refuses(UsageError, found="3"):
        ImageWalls.from_image(np.eye(4)).level(torch.zeros(5, 3))
