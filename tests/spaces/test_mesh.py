"""Triangle meshes."""

import math

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.spaces import Mesh
from feller.spaces.surface import biharmonic, laplacian
from tests.errors import numbers, refuses
from tests.spaces.solids import CUBE_FACES, CUBE_POINTS, sphere, torus

F64 = torch.float64
CUBE = Mesh(CUBE_POINTS, CUBE_FACES)
BALL = sphere(4)


def points(mesh: Mesh, n: int, seed: int = 0) -> torch.Tensor:
    return mesh.project(mesh.sample_base(n, Rng(seed).stream("source")).double())


def directions(mesh: Mesh, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    v = mesh.to_tangent(x, Rng(seed).stream("direction").normal(x.shape, F64))
    return v / v.norm(dim=1, keepdim=True)


def test_area() -> None:
    x = torch.zeros(2, 3, dtype=F64)
    assert CUBE.base_log_prob(x).tolist() == pytest.approx([-math.log(6)] * 2, abs=1e-14)
    assert math.exp(-BALL.base_log_prob(x)[0].item()) == pytest.approx(4 * math.pi, rel=6e-3)
    assert math.exp(-torus(60, 30).base_log_prob(x)[0].item()) == pytest.approx(4 * math.pi**2 * 0.4, rel=6e-3)


def test_base_is_uniform() -> None:
    """60,000 points: each side, the centre, and the spread on one side; 5 deviations, false alarm 7e-6."""
    x = CUBE.sample_base(60_000, Rng(0).stream("source")).double()
    sides = torch.stack([(x[:, i] - end).abs() < 1e-6 for i in range(3) for end in (0, 1)]).double()
    assert (sides.mean(1) - 1 / 6).abs().max() < 5 * math.sqrt(5 / 36 / 60_000)
    assert (x.mean(0) - 0.5).abs().max() < 5 * 0.34 / math.sqrt(60_000)
    bottom = x[x[:, 2].abs() < 1e-6][:, :2]
    assert (bottom.var(0) - 1 / 12).abs().max() < 5 * math.sqrt(1 / 180 / len(bottom))


def test_geodesics_on_a_cube_unfold_it() -> None:
    """Straight around a cube is 4 long; over an edge at an angle, the strip of sides is a plane."""
    x = torch.tensor([[0.3, 0.0, 0.4], [0.3, 0.0, 0.4], [0.3, 0.0, 0.4]], dtype=F64)
    v = torch.tensor([[4.0, 0.0, 0.0], [0.0, 0.0, 4.0], [1.2, 0.0, 0.3]], dtype=F64)
    expected = torch.tensor([[0.3, 0.0, 0.4], [0.3, 0.0, 0.4], [1.0, 0.5, 0.7]], dtype=F64)
    torch.testing.assert_close(CUBE.exp(x, v), expected, rtol=0, atol=1e-12)


def test_geodesics_add_up() -> None:
    x = torch.tensor([[0.3, 0.0, 0.4]], dtype=F64)
    v = torch.tensor([[0.5, 0.0, 0.11]], dtype=F64)
    middle = CUBE.exp(x, v)
    torch.testing.assert_close(CUBE.exp(middle, v), CUBE.exp(x, 2 * v), rtol=0, atol=1e-12)


def test_geodesics_through_corners_stay_on_the_surface() -> None:
    x = torch.tensor([[0.5, 0.0, 0.5], [0.5, 0.0, 0.5], [0.0, 0.0, 0.0]], dtype=F64)
    v = torch.tensor([[1.0, 0.0, 1.0], [0.5, 0.0, 0.5], [-1.0, 0.0, -1.0]], dtype=F64)
    y = CUBE.exp(x, v)
    assert CUBE.constraint_error(y).max() < 1e-12
    torch.testing.assert_close(y[1], torch.ones(3, dtype=F64).index_fill(0, torch.tensor([1]), 0.0))


def test_geodesics_on_a_fine_sphere_are_great_circles() -> None:
    errors = []
    for level in (3, 4):
        mesh = sphere(level)
        x = points(mesh, 400)
        v = directions(mesh, x)
        r = x.norm(dim=1, keepdim=True)
        u, w = x / r, v - (v * x).sum(1, keepdim=True) * x / r**2
        w = w / w.norm(dim=1, keepdim=True)
        great = math.cos(1.5) * u + math.sin(1.5) * w
        errors.append((mesh.exp(x, 1.5 * v) - great).norm(dim=1).mean().item())
    assert errors[1] < 0.01
    assert errors[0] / errors[1] > 2.5


def test_geodesics_have_a_limit_of_crossings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.spaces.surface.MAX_CROSSINGS", 50)
    with refuses(ValueError):
        CUBE.exp(torch.tensor([[0.3, 0.0, 0.4]]), torch.tensor([[40.0, 0.0, 30.0]]))


def test_projection_is_the_nearest_point() -> None:
    mesh = torus(12, 8)
    x = 1.2 * Rng(1).stream("x").normal((50, 3), F64)
    near = mesh.project(x)
    dense = points(mesh, 40_000)
    away = torch.cdist(x, dense).amin(1)
    ours = (near - x).norm(dim=1)
    assert (ours <= away + 1e-12).all()
    assert (ours >= away - 0.05).all()
    torch.testing.assert_close(mesh.project(near), near, rtol=0, atol=1e-12)
    e, v = 1e-6, Rng(2).stream("v").normal((50, 3), F64)
    slope = (mesh.project(x + e * v) - mesh.project(x - e * v)) / (2 * e)
    rate = torch.func.jvp(mesh.project, (x,), (v,))[1]
    assert (rate - slope).norm(dim=1).median() < 1e-8


def test_laplacian_eigenfunctions_of_the_sphere() -> None:
    """On the unit sphere, the coordinates are eigenfunctions with the eigenvalue 2, three times; then 6, five times."""
    vertices, faces = (np.array(table) for table in (BALL.vertices, BALL.faces))
    stiffness, mass = laplacian(vertices, faces)
    assert mass.sum() == pytest.approx(4 * math.pi, rel=6e-3)
    assert np.abs(stiffness @ np.ones(len(vertices))).max() < 1e-12
    ratio = (vertices * (stiffness @ vertices)).sum(0) / (mass[:, None] * vertices**2).sum(0)
    assert ratio == pytest.approx([2, 2, 2], rel=6e-3)
    places = biharmonic(vertices, faces, 8)
    size = np.sqrt((mass[:, None] * places**2).sum(0))
    assert size == pytest.approx([1 / 2] * 3 + [1 / 6] * 5, rel=2e-2)


@pytest.mark.parametrize("level", [3, 4])
def test_biharmonic_distance_on_the_sphere(level: int) -> None:
    """d^2 = sum over l of (2 l + 1) / (2 pi) (1 - P_l(cos angle)) / (l (l + 1))^2, up to l = 9 for 99 functions."""
    mesh = sphere(level) if level < 4 else BALL
    mesh = Mesh(mesh.vertices, mesh.faces, 99)
    x, y = points(mesh, 300), points(mesh, 300, seed=1)
    cosine = (x * y).sum(1) / x.norm(dim=1) / y.norm(dim=1)
    series = sum(
        (2 * n + 1) / (2 * math.pi) * (1 - torch.special.legendre_polynomial_p(cosine, n)) / (n * (n + 1)) ** 2
        for n in range(1, 10)
    )
    torch.testing.assert_close(mesh.distance(x, y), series.sqrt(), rtol=0.07 * 4.0 ** (3 - level), atol=5e-3)
    order = mesh.distance(x, y)[cosine.argsort(descending=True)]
    assert (order.diff() > -0.02).all()


def test_log_decreases_the_distance() -> None:
    """d falls by itself within a time of 1: the derivative of d along log is -d."""
    x, y = points(BALL, 200), points(BALL, 200, seed=1)
    v, e = BALL.log(x, y), 1e-6
    rate = (BALL.distance(x + e * v, y) - BALL.distance(x, y)) / e
    near = BALL.distance(x, y) < 0.45  # beyond, the step would be longer than any way on the surface, and is cut
    assert (rate / BALL.distance(x, y) + 1)[near].abs().max() < 1e-4
    assert near.sum() > 120
    assert v.norm(dim=1).max() < 2.5 * math.pi
    towards = y - (x * y).sum(1, keepdim=True) * x / x.square().sum(1, keepdim=True)
    assert torch.cosine_similarity(v, towards)[near].quantile(0.05) > 0.95
    assert (BALL.to_tangent(x, v) - v).abs().max() < 1e-9
    assert not BALL.log(x, x).any()


def test_log_is_finite_at_antipodes() -> None:
    x = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], dtype=F64)
    v = BALL.log(x, -x)
    assert v.isfinite().all()
    assert (v.norm(dim=1) < 3 * 2 * math.pi).all()


def test_steps_along_log_reach_the_target() -> None:
    """Euler steps of 1/n of what is left come to y, as far as the triangles let them."""
    x, y = points(BALL, 100), points(BALL, 100, seed=1)
    for left in range(50, 0, -1):
        x = BALL.exp(x, BALL.log(x, y) / left)
    assert (x - y).norm(dim=1).quantile(0.9) < 0.1


def test_invalid_surfaces_are_refused() -> None:
    flipped = (CUBE_FACES[0][::-1], *CUBE_FACES[1:])
    far = tuple((x + 3, y, z) for x, y, z in CUBE_POINTS)
    other = tuple((a + 8, b + 8, c + 8) for a, b, c in CUBE_FACES)
    for vertices, faces, counts in (
        (CUBE_POINTS, CUBE_FACES[1:], ["3"]),
        (CUBE_POINTS, (*CUBE_FACES, CUBE_FACES[0]), ["3"]),
        (CUBE_POINTS, flipped, ["3"]),
        (CUBE_POINTS + far, CUBE_FACES + other, ["2"]),
        ((*CUBE_POINTS, (5.0, 5.0, 5.0)), CUBE_FACES, ["1", "8"]),
        (CUBE_POINTS[:7], CUBE_FACES, ["2", "4", "6", "7", "0", "6"]),
        (CUBE_POINTS, ((0, 1, 1), *CUBE_FACES[1:]), ["1", "0"]),
        ((*CUBE_POINTS[:7], (1.0, 1.0, math.nan)), CUBE_FACES, ["7"]),
        (CUBE_POINTS, (), ["8", "3", "0"]),
    ):
        with refuses(InputError) as caught:
            Mesh(vertices, faces)
        assert numbers(caught.value.found or caught.value.message)[: len(counts)] == counts
