"""Solvers on manifolds."""

import functools
import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import append_dims
from feller.core.rng import Rng
from feller.paths import Affine, Geodesic
from feller.paths import ProductPath as ProductPath
from feller.paths.processes import Characteristics, superpose
from feller.paths.time_distributions import linear_grid
from feller.sampling import RK4, DormandPrince, Euler, ExactDivergence, Heun, Midpoint, Solver, log_prob, simulate
from feller.spaces import SO3, SPD, Euclidean, Manifold, Poincare, Product, Simplex, Sphere, Torus
from tests.errors import refuses
from tests.oracle import F64

SPACES = [Sphere(2), Torus((2,)), SO3(), SO3((3,)), Poincare(2), SPD(2), Simplex(2)]
ORDERS = [(Euler, 1), (Midpoint, 2), (Heun, 2), (RK4, 4)]


def field(space: Manifold) -> tuple[Tensor, object]:
    """Return states and a smooth vector field towards two points in turn, which follows no geodesic."""
    x, one, other = (
        space.project(space.sample_base(4, Rng(0).stream(name)).double()) for name in ("x", "one", "other")
    )
    one, other = (space.exp(x, space.log(x, place) / 2) for place in (one, other))  # far from where ways split

    def process(x: Tensor, t: Tensor) -> Characteristics:
        turn = append_dims((2 * t).sin().to(x.dtype), x)
        return Characteristics(velocity=turn * space.log(x, one.to(x)) + (1 - turn) * space.log(x, other.to(x)) / 2)

    return x, process


@functools.cache
def end(space: Manifold) -> Tensor:
    """Return the states at t = 0.5: 32 steps of RK4."""
    x, process = field(space)
    return simulate(process, x, linear_grid(32, 0.0, 0.5), RK4(space), Rng(0))


@pytest.mark.parametrize(("solver", "order"), ORDERS)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_order_on_manifolds(space: Manifold, solver: type, order: int) -> None:
    """From t = 0 to 0.5."""
    x, process = field(space)
    errors = [
        space.distance(simulate(process, x, linear_grid(n, 0.0, 0.5), solver(space), Rng(0)), end(space)).max().item()
        for n in (4, 8)
    ]
    assert errors[1] < 1e-11 or math.log2(errors[0] / errors[1]) > order - 0.25


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_adaptive_steps_keep_their_tolerance(space: Manifold) -> None:
    x, process = field(space)
    for each in (False, True):
        solver = DormandPrince(space=space, rtol=1e-6, atol=1e-6, per_example=each)
        assert space.distance(simulate(process, x, [0.0, 0.5], solver, Rng(0)), end(space)).max() < 1e-4


@pytest.mark.parametrize("solver", [Euler, Midpoint, Heun, RK4])
def test_geodesics_are_followed_exactly(solver: type) -> None:
    space, x = Sphere(2), torch.tensor([[1.0, 0.0, 0.0]], dtype=F64)
    spin = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=F64)
    last = simulate(lambda x, t: Characteristics(velocity=x @ spin.T), x, [0.0, 1.0], solver(space), Rng(0))
    assert (last - torch.tensor([[math.cos(1), math.sin(1), 0.0]], dtype=F64)).abs().max() < 1e-12


@pytest.mark.parametrize(
    "solver", [Euler(Sphere(2)), Midpoint(Sphere(2)), RK4(Sphere(2)), DormandPrince(space=Sphere(2))]
)
def test_backward_and_forward_return_to_the_start(solver: object) -> None:
    x, process = field(Sphere(2))
    there = simulate(process, x, linear_grid(16, 0.2, 0.9), solver, Rng(0))
    back = simulate(process, there, linear_grid(16, 0.9, 0.2), solver, Rng(0))
    assert Sphere(2).distance(back, x).max() < (0.1 if isinstance(solver, Euler) else 1e-3)


def test_leaves_of_a_product_use_their_own_spaces() -> None:
    space = Product({"turn": SO3(), "place": Euclidean((3,))})
    (turn, rotate), (place, move) = field(SO3()), field(Euclidean((3,)))
    both = simulate(
        lambda x, t: {"turn": rotate(x["turn"], t), "place": move(x["place"], t)},
        {"turn": turn, "place": place},
        linear_grid(16),
        RK4(space),
        Rng(0),
    )
    assert torch.equal(both["turn"], simulate(rotate, turn, linear_grid(16), RK4(SO3()), Rng(0)))
    assert torch.equal(both["place"], simulate(move, place, linear_grid(16), RK4(), Rng(0)))


def test_gradients_go_through_the_steps() -> None:
    x, process = field(SO3())

    def value(scale: Tensor) -> Tensor:
        def scaled(x: Tensor, t: Tensor) -> Characteristics:
            return process(x, t) * scale

        return simulate(scaled, x, linear_grid(4), RK4(SO3()), Rng(0))[:, 0, 1].sum()

    scale = torch.ones(len(x), dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(scale), scale)
    h = 1e-5
    assert abs(slope.sum().item() - ((value(scale + h) - value(scale - h)) / (2 * h)).item()) < 1e-7


def test_noise_on_a_curved_space_is_refused() -> None:
    x = Sphere(2).sample_base(2, Rng(0).stream("x"))
    noisy = Characteristics(velocity=torch.zeros_like(x), diffusion=torch.ones(2, 1))
    with refuses(ValueError, found="Sphere"):
        simulate(lambda x, t: noisy, x, [0.0, 1.0], Euler(Sphere(2)), Rng(0))


@pytest.mark.parametrize("solver", [Euler, Midpoint, Heun, RK4, DormandPrince], ids=lambda solver: solver.__name__)
def test_euclidean_solvers_on_manifolds_are_refused(solver: type[Solver]) -> None:
    """A solver without the path's space left the sphere by 0.01; a leaf, a mixture and a density are looked at, too."""
    space = Sphere()
    x_0 = space.sample_base(8, Rng(0).stream("x")).double()
    process = Geodesic(space).process(lambda x, t, given: x.roll(1, -1), {})
    with refuses(UsageError, argument="solver"):
        simulate(process, x_0, linear_grid(4), solver(), Rng(0))
    with pytest.raises(UsageError):
        simulate(superpose((0.5, process), (0.5, process)), x_0, linear_grid(4), solver(), Rng(0))
    with pytest.raises(UsageError):
        log_prob(process, x_0, linear_grid(4, 1.0, 0.0), solver(), Rng(0), divergence=ExactDivergence())
    pair = ProductPath({"a": Geodesic(space), "b": Affine()}).process(lambda x, t, given: x, {})
    both = {"a": x_0, "b": x_0}
    with pytest.raises(UsageError):
        simulate(pair, both, linear_grid(4), solver(), Rng(0))
    spaces = Product({"a": space, "b": Euclidean((3,))})
    end = simulate(pair, both, linear_grid(4), solver(spaces), Rng(0))
    torch.testing.assert_close(end["a"].norm(dim=-1), torch.ones(8, dtype=F64), rtol=0, atol=1e-12)
