"""Geodesic and premetric paths: vectors of the reference, finite differences."""

import math

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import Geodesic, Premetric
from feller.paths.schedules import Cosine, Polynomial
from feller.spaces import SO3, SPD, Manifold, Poincare, Simplex, Sphere, Torus
from feller.training.objective import FlowMatching
from tests.errors import refuses
from tests.oracle import F64, close, f64

SPACES = [Sphere(2), Sphere(5), Torus((3,)), SO3(), SO3((4,)), Poincare(2), SPD(2), Simplex(3)]


def ends(space: Manifold, n: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(space.project(space.sample_base(n, Rng(0).stream(end)).double()) for end in ("x_0", "x_1"))


@pytest.mark.parametrize(
    ("x_1", "x_t", "v"),
    [
        ((0, 0.6, 0.8), (0.8910065242, 0.2723942998, 0.3631923998), (-0.7131266094, 0.8397538652, 1.1196718203)),
        ((0.6, 0.64, 0.48), (0.9615544615, 0.2196914456, 0.1647685842), (-0.2546485337, 0.7133158832, 0.5349869124)),
    ],
)
def test_sphere_vectors(x_1, x_t, v):
    x_0, x_1, t = f64(1.0, 0.0, 0.0)[None], torch.tensor([x_1], dtype=F64), f64(0.3)
    path = Geodesic(Sphere(2))
    found = path.sample(x_0, x_1, t)
    close(found, torch.tensor([x_t], dtype=F64), 1e-9)
    velocity = path.target(found, x_0, x_1, t)
    close(velocity, torch.tensor([v], dtype=F64), 1e-9)
    close(velocity.norm(), Sphere(2).distance(x_0, x_1)[0], 1e-12)


def test_torus_vector():
    path = Geodesic(Torus((1,)))
    close(path.sample(f64(6.2)[None], f64(0.1)[None], f64(0.3)), f64(6.2549555922)[None], 1e-10)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_target_is_the_closed_form_and_the_time_derivative(space):
    """alpha' / (1 - alpha) log(x_t, x_1), and the derivative of the sample."""
    (x_0, x_1), t, h = ends(space), torch.linspace(0.1, 0.9, 7, dtype=F64), 1e-6
    path = Geodesic(space, Polynomial(2.0))
    x_t = path.sample(x_0, x_1, t)
    target = path.target(x_t, x_0, x_1, t)
    padded = t.reshape(-1, *(1,) * (x_0.ndim - 1))
    close(target, 2 * padded / (1 - padded**2) * space.log(x_t, x_1), 1e-8)
    later, earlier = (space.log(x_t, path.sample(x_0, x_1, t + s)) for s in (h, -h))
    close(target, (later - earlier) / (2 * h), 1e-7)
    close(space.norm(x_t, target), 2 * t * space.distance(x_0, x_1), 1e-8)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_target_is_accurate_in_float32_near_the_data(space):
    """In float32 at t = 1 - 1e-5 the closed form has lost them."""
    x_0, x_1 = ends(space)
    t = torch.full((7,), 1 - 1e-5, dtype=F64)
    path = Geodesic(space)
    truth = path.target(path.sample(x_0, x_1, t), x_0, x_1, t)
    short = [x.float() for x in (x_0, x_1, t)]
    ours = path.target(path.sample(*short), *short)
    assert (ours - truth).abs().max() < 1e-4 * max(1.0, truth.abs().max())


@pytest.mark.parametrize("space", [Sphere(2), Torus((3,)), SO3(), Poincare(2)], ids=str)
def test_premetric_path_with_geodesic_distance_is_the_geodesic(space):
    (x_0, x_1), t = ends(space), torch.linspace(0.0, 1.0, 7, dtype=F64)
    x_t = Premetric(space, steps=64).sample(x_0, x_1, t)
    close(x_t, Geodesic(space).sample(x_0, x_1, t), 3e-4)
    inside = (t > 0) & (t < 1)
    target = Premetric(space).target(x_t, x_0, x_1, t)[inside]
    near = Geodesic(space).target(Geodesic(space).sample(x_0, x_1, t), x_0, x_1, t)[inside]
    close(target, near, 1e-2)


def test_the_velocity_is_tangent():
    x = ends(Sphere(2))[0]
    velocity = Geodesic(Sphere(2)).characteristics(torch.ones_like(x), x, torch.rand(len(x), dtype=F64)).velocity
    close((velocity * x).sum(1), torch.zeros(len(x), dtype=F64), 1e-15)


def test_antipodes_follow_one_geodesic():
    x_0 = f64(0.0, 0.0, 1.0)[None]
    path = Geodesic(Sphere(2))
    x_t = path.sample(x_0, -x_0, f64(0.5))
    close((x_t * x_0).sum(), f64(0.0).squeeze(), 1e-12)
    close(path.target(x_t, x_0, -x_0, f64(0.5)).norm(), f64(math.pi).squeeze(), 1e-12)


def test_schedules_that_do_not_sum_to_one_are_refused():
    for kind in (Geodesic, Premetric):
        with refuses(UsageError, found="Cosine()"):
            kind(Sphere(2), Cosine())


def test_flow_matching_examples_lie_on_the_manifold():
    space = Sphere(2)
    example = FlowMatching(Geodesic(space), space).draw({"x_1": ends(space, 64)[1].float()}, Rng(0))
    assert space.constraint_error(example["x_t"]).max() < 1e-6
    assert (example["target"] * example["x_t"]).sum(1).abs().max() < 1e-5
