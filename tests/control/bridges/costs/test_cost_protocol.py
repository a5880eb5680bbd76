"""State costs: sums, custom functions, checks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from feller.control.bridges.costs import CustomCost, PopulationDensity, Scaled, StateCost, Sum, Zero, check
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from tests.errors import refuses
from tests.oracle import F64, close, f64

X = Rng(0).stream("x").normal((3, 5, 2), F64)
T = f64(0.1, 0.5, 0.9)[:, None]
CROWD = PopulationDensity(X.flip(1), X, 0.5)


def bowl(x: Tensor, t: Tensor) -> Tensor:
    return t * x.square().sum(1)


def herd(x: Tensor, t: Tensor, population: PopulationDensity) -> Tensor:
    return t * (x - population.samples).square().sum(-1)


def test_sums_and_multiples() -> None:
    total = 2.0 * CustomCost(bowl) + CustomCost(herd) * 3.0 + Zero()
    assert isinstance(total, Sum)
    assert len(total.terms) == 3
    own = T * X.square().sum(-1)
    others = T * (X - X.flip(1)).square().sum(-1)
    close(total(X, T, CROWD), (2 * own + 3 * others).tolist(), 1e-12)
    assert total.needs_population
    assert total.differentiable
    assert not CustomCost(bowl).needs_population
    assert total.obstacles == ()


def test_custom_cost_gets_rows() -> None:
    seen = []

    def look(x: Tensor, t: Tensor) -> Tensor:
        seen.append((x.shape, t.shape))
        return x[..., 0].flatten(1).sum(1) if x.ndim > 2 else x[:, 0]

    close(CustomCost(look)(X, T), X[..., 0].tolist(), 1e-12)
    close(CustomCost(look)(X[0, 0], T[0, 0]), X[0, 0, 0].item(), 1e-12)
    close(CustomCost(look, shape=(2, 1))(X, T), X.sum(-1).tolist(), 1e-12)
    assert seen == [((15, 2), (15,)), ((1, 2), (1,)), ((15, 2, 1), (15,))]


def test_bind_pairs() -> None:
    class Ends(StateCost):
        def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
            raise AssertionError

        def bind_pairs(self, x_0: Tensor, x_1: Tensor) -> StateCost:
            return CustomCost(lambda x, t: (x_1 - x_0).sum() + 0 * x[:, 0])

    bound = (2.0 * Ends() + Zero()).bind_pairs(torch.zeros(4, 2), torch.ones(4, 2))
    close(bound(X, T), (16 * torch.ones(3, 5)).tolist(), 1e-12)
    one = CustomCost(bowl)
    assert one.bind_pairs(X[0], X[1]) is one


@pytest.mark.parametrize(
    "flat",
    [
        lambda x, t: 1500 * (x[:, 0] > 0),
        lambda x, t: torch.where(x[:, 0] > 0, 1500.0, 0 * x[:, 0]),
        lambda x, t: np.linalg.norm(x, axis=1),
        lambda x, t: x.detach().norm(dim=1),
    ],
)
def test_functions_without_gradient(flat) -> None:
    cost = check(2.0 * CustomCost(flat) + CustomCost(bowl), X, T)
    assert not cost.differentiable
    wanted = torch.as_tensor(flat(X.flatten(0, 1), T)).reshape(3, 5) * 2 + T * X.square().sum(-1)
    close(cost(X.clone().requires_grad_(), T).detach(), wanted.tolist(), 1e-12)


def test_constants_are_differentiable() -> None:
    assert check(Zero(), X, T).differentiable
    assert check(CustomCost(lambda x, t: 0 * x[:, 0]), X, T).differentiable
    assert check(CustomCost(bowl), X, T) == CustomCost(bowl)


def test_values_and_gradients_that_are_not_finite() -> None:
    def hole(x: Tensor, t: Tensor) -> Tensor:
        return torch.where((x == X[1, 3]).all(1), torch.nan, x[:, 0])

    with refuses(InputError):
        check(CustomCost(hole), X, T)
    with refuses(InputError):
        check(Scaled(CustomCost(lambda x, t: x.square().sum(1).sqrt()), 3.0), torch.zeros_like(X), T)


def test_invalid_functions() -> None:
    with refuses(InputError, found="[15, 1]"):
        check(CustomCost(lambda x, t: x[:, :1]), X, T)
    with refuses(InputError):
        check(CustomCost(lambda x, t: x[:, 0] * (1 / 0)), X, T)
    with refuses(UsageError, argument="cost"):
        CustomCost(lambda x: x)
    with refuses(UsageError):
        CustomCost(herd)(X, T)
