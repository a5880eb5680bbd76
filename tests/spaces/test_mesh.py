"""Surfaces of triangles."""

import math

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.spaces import Mesh, Space
from feller.spaces.surface import biharmonic, laplacian
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


def test_reference_is_uniform() -> None:
    """60,000 points: each side, the centre, and the spread on one side; 5 deviations, false alarm 7e-6."""
    x = CUBE.sample_base(60_000, Rng(0).stream("source")).double()
    sides = torch.stack([(x[:, i] - end).abs() < 1e-6 for i in range(3) for end in (0, 1)]).double()
    assert (sides.mean(1) - 1 / 6).abs().max() < 5 * math.sqrt(5 / 36 / 60_000)
    assert (x.mean(0) - 0.5).abs().max() < 5 * 0.34 / math.sqrt(60_000)
    bottom = x[x[:, 2].abs() < 1e-6][:, :2]
    assert (bottom.var(0) - 1 / 12).abs().max() < 5 * math.sqrt(1 / 180 / len(bottom))


def test_walk_on_a_cube_unfolds_it() -> None:
    """Straight around a cube is 4 long; over an edge at an angle, the strip of sides is a plane."""
    x = torch.tensor([[0.3, 0.0, 0.4], [0.3, 0.0, 0.4], [0.3, 0.0, 0.4]], dtype=F64)
    v = torch.tensor([[4.0, 0.0, 0.0], [0.0, 0.0, 4.0], [1.2, 0.0, 0.3]], dtype=F64)
    expected = torch.tensor([[0.3, 0.0, 0.4], [0.3, 0.0, 0.4], [1.0, 0.5, 0.7]], dtype=F64)
    torch.testing.assert_close(CUBE.exp(x, v), expected, rtol=0, atol=1e-12)


def test_walk_turns_back() -> None:
    """Twice half of a closed geodesic in thirds, in any direction: walks add up."""
    x = torch.tensor([[0.3, 0.0, 0.4]], dtype=F64)
    v = torch.tensor([[0.5, 0.0, 0.11]], dtype=F64)
    middle = CUBE.exp(x, v)
    torch.testing.assert_close(CUBE.exp(middle, v), CUBE.exp(x, 2 * v), rtol=0, atol=1e-12)


def test_walk_through_a_corner_ends_on_the_surface() -> None:
    """Along the diagonal of a square, exactly into corners of the cube."""
    x = torch.tensor([[0.5, 0.0, 0.5], [0.5, 0.0, 0.5], [0.0, 0.0, 0.0]], dtype=F64)
    v = torch.tensor([[1.0, 0.0, 1.0], [0.5, 0.0, 0.5], [-1.0, 0.0, -1.0]], dtype=F64)
    y = CUBE.exp(x, v)
    assert CUBE.constraint_error(y).max() < 1e-12
    torch.testing.assert_close(y[1], torch.ones(3, dtype=F64).index_fill(0, torch.tensor([1]), 0.0))


def test_walks_on_a_fine_sphere_are_great_circles() -> None:
    """The error is that of the triangles: a quarter when their sides are halved."""
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


def test_walk_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.spaces.surface.MAX_CROSSINGS", 50)
    with pytest.raises(ValueError, match="edges without ending"):
        CUBE.exp(torch.tensor([[0.3, 0.0, 0.4]]), torch.tensor([[40.0, 0.0, 30.0]]))


def test_nearest_point_is_the_nearest_of_all_triangles() -> None:
    """Against a dense sampling of the surface, near it and far from it."""
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


def test_laplacian_of_linear_functions_is_the_mean_curvature() -> None:
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
def test_distance_on_the_sphere_is_the_series_of_legendre(level: int) -> None:
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


def test_log_goes_down_the_distance_at_its_own_rate() -> None:
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


def test_steps_along_log_arrive() -> None:
    """Euler steps of 1/n of what is left come to y, as far as the triangles let them."""
    x, y = points(BALL, 100), points(BALL, 100, seed=1)
    for left in range(50, 0, -1):
        x = BALL.exp(x, BALL.log(x, y) / left)
    assert (x - y).norm(dim=1).quantile(0.9) < 0.1


def test_surfaces_that_are_not_one() -> None:
    flipped = (CUBE_FACES[0][::-1], *CUBE_FACES[1:])
    far = tuple((x + 3, y, z) for x, y, z in CUBE_POINTS)
    other = tuple((a + 8, b + 8, c + 8) for a, b, c in CUBE_FACES)
    for vertices, faces, message in (
        (CUBE_POINTS, CUBE_FACES[1:], r"3 boundary edges, such as the edge between vertices"),
        (CUBE_POINTS, (*CUBE_FACES, CUBE_FACES[0]), r"edges with more"),
        (CUBE_POINTS, flipped, r"3 edges between triangles of opposite orientation"),
        (CUBE_POINTS + far, CUBE_FACES + other, "expected one connected surface; found 2"),
        ((*CUBE_POINTS, (5.0, 5.0, 5.0)), CUBE_FACES, r"1 vertices belong to no triangle, such as vertex 8"),
        (CUBE_POINTS[:7], CUBE_FACES, r"valid indices are 0 to 6"),
        (CUBE_POINTS, ((0, 1, 1), *CUBE_FACES[1:]), r"1 degenerate triangles, such as triangle 0"),
        ((*CUBE_POINTS[:7], (1.0, 1.0, math.nan)), CUBE_FACES, r"vertex 7 has a non-finite coordinate"),
        (CUBE_POINTS, (), r"expected vertices \[v, 3\] and triangles"),
    ):
        with pytest.raises(InputError, match=message):
            Mesh(vertices, faces)


def test_record_holds_it() -> None:
    again = from_dict(Space, to_dict(CUBE))
    assert again == CUBE
    assert again != Mesh(CUBE_POINTS, CUBE_FACES, 5)
    assert again.distance(points(CUBE, 3), points(CUBE, 3, 1)).shape == (3,)
