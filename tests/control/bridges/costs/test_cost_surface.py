"""Surfaces of point clouds: least-squares planes, projections, cost of height."""

import numpy as np
import pytest
import torch

from feller.control.bridges.costs.surface_cost import PointCloudSurface, SurfaceCost
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from tests.errors import refuses
from tests.oracle import F64, close, f64

T = torch.zeros(1, dtype=F64)
PLACES = 6 * Rng(0).stream("places").uniform((6000, 2), F64) - 3
X = 4 * Rng(0).stream("x").uniform((200, 3), F64) - 2


def hills(places: torch.Tensor) -> torch.Tensor:
    return 0.8 * (2 * places[:, 0]).sin() * (2 * places[:, 1]).cos()


def on(heights: torch.Tensor, places: torch.Tensor = PLACES) -> np.ndarray:
    return torch.cat([places, heights[:, None]], 1).numpy()


@pytest.mark.parametrize("sharpness", [0.0, 3.0])
def test_plane(sharpness: float) -> None:
    flat = PointCloudSurface(on(0.5 * PLACES[:, 0] - 2 * PLACES[:, 1] + 1), sharpness=sharpness)
    heights = 0.5 * X[:, 0] - 2 * X[:, 1] + 1
    close(flat.planes(X), torch.stack([0 * heights + 0.5, 0 * heights - 2, heights], 1).tolist(), 1e-6)
    projected = flat.project(X)
    normal = f64(0.5, -2, -1) / f64(0.5, -2, -1).norm()
    away = (X - torch.stack([X[:, 0], X[:, 1], heights], 1)) @ normal
    close(projected, (X - away[:, None] * normal).tolist(), 1e-6)
    close(flat.project(projected), projected.tolist(), 1e-6)
    close(SurfaceCost(flat)(X, T), away.square().tolist(), 1e-6)
    close(SurfaceCost(flat, 2.0, 0.5)(X, T), (away.square() + 2 * (2 * projected[:, 2]).exp()).tolist(), 1e-4)


def test_planes_are_least_squares_fits() -> None:
    """Against lstsq on the nearest 20 of a rough surface."""
    cloud = on(Rng(0).stream("z").normal((6000,), F64))
    found = PointCloudSurface(cloud).planes(X[:5])
    for x, plane in zip(X[:5].numpy(), found, strict=True):
        near = cloud[np.argsort(((cloud - x) ** 2).sum(1))[:20]]
        a, b, c = np.linalg.lstsq(np.column_stack([near[:, :2], np.ones(20)]), near[:, 2], rcond=None)[0]
        close(plane, [a, b, a * x[0] + b * x[1] + c], 1e-6)


def test_sharper_planes_follow_a_bent_surface() -> None:
    places = X[:, :2]
    errors = []
    for sharpness in (0.0, 5.0):
        surface = PointCloudSurface(on(hills(PLACES)), sharpness=sharpness)
        lifted = torch.cat([places, hills(places)[:, None] + 0.1], 1)
        found = surface.project(lifted)
        errors.append((found[:, 2] - hills(found[:, :2])).square().mean().sqrt().item())
    assert errors[0] < 0.03
    assert errors[1] < 0.6 * errors[0]


def test_gradient_of_surface_cost() -> None:
    surface = PointCloudSurface(on(hills(PLACES)))
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(SurfaceCost(surface, 3.0)(x, T).sum(), x)
    above, normal = surface.height_above(X)
    length = normal.square().sum(1, keepdim=True)
    level = 3 * surface.project(X)[:, 2:].exp()
    up = f64(0, 0, 1) + normal / length  # how the height of the projection moves with the state
    close(slope, (-2 * above[:, None] * normal / length + level * up).tolist(), 1e-9)


def test_large_coordinates() -> None:
    far = f64(584_445.0, 5_176_257.0, 640.0)
    cloud = on(hills(PLACES))
    near, moved = PointCloudSurface(cloud).planes(X), PointCloudSurface(cloud + far.numpy()).planes(X + far)
    close(moved - f64(0, 0, 640), near.tolist(), 1e-5)


def test_float32_and_batch_axes() -> None:
    surface = PointCloudSurface(on(hills(PLACES)))
    cost = 5.0 * SurfaceCost(surface, 1.0)
    close(cost(X.float().reshape(4, 50, 3), T.float()).double(), cost(X, T).reshape(4, 50).tolist(), 1e-3)


def test_invalid_surfaces() -> None:
    cloud = on(hills(PLACES))
    with refuses(InputError, found="[6000, 2]"):
        PointCloudSurface(cloud[:, :2])
    with refuses(InputError, found="7"):
        PointCloudSurface(cloud[:7])
    with refuses(InputError):
        PointCloudSurface(cloud * np.nan)
    with refuses(UsageError, argument="neighbours", found="2"):
        PointCloudSurface(cloud, 2)
    with refuses(UsageError, found="2 entries"):
        SurfaceCost(PointCloudSurface(cloud))(X[:, :2], T)
    line = np.stack([np.arange(30.0), np.arange(30.0), np.zeros(30)], 1)
    assert torch.isfinite(PointCloudSurface(line).project(X)).all()
