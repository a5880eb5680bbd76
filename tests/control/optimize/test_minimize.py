"""Minimisers of many functions at once."""

import pytest
import torch
from torch import Tensor

from feller.control.optimize.lbfgs import LBFGS
from feller.control.optimize.minimize import Adam, Iterate, Minimiser
from feller.core.errors import UsageError
from tests.oracle import F64, close


def quadratic(b: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return curvatures, well and badly conditioned, and minima."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(b, d, d, generator=generator, dtype=F64)
    return root @ root.mT + 0.1 * torch.eye(d, dtype=F64), torch.randn(b, d, generator=generator, dtype=F64)


def of(curvature: Tensor, minimum: Tensor):
    def function(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        away = x - minimum[rows]
        slope = (curvature[rows] @ away[:, :, None])[:, :, 0]
        return (away * slope).sum(1) / 2, slope

    return function


def rosenbrock(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    value = 100 * (x[:, 1] - x[:, 0] ** 2) ** 2 + (1 - x[:, 0]) ** 2
    (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


def last(minimiser: Minimiser, function, x: Tensor) -> Iterate:
    *_, now = minimiser.run(function, x)
    return now


def test_lbfgs_finds_the_minima_of_quadratics() -> None:
    curvature, minimum = quadratic(20, 6)
    now = last(LBFGS(), of(curvature, minimum), torch.zeros(20, 6, dtype=F64))
    close(now.x, minimum.tolist(), 1e-7)
    assert not now.going.any()
    assert now.calls.max() < 120


def test_lbfgs_follows_a_bent_valley() -> None:
    now = last(LBFGS(), rosenbrock, torch.tensor([[-1.2, 1.0], [0.0, 0.0], [3.0, -2.0]], dtype=F64))
    close(now.x, torch.ones(3, 2), 1e-6)
    assert now.calls.max() < 150


def test_adam_comes_near() -> None:
    curvature, minimum = quadratic(5, 3)
    now = last(Adam(0.05, 2000), of(curvature, minimum), torch.zeros(5, 3, dtype=F64))
    close(now.x, minimum.tolist(), 1e-2)
    assert now.calls.tolist() == [2001] * 5


@pytest.mark.parametrize("minimiser", [LBFGS(steps=9), Adam(steps=9)], ids=repr)
def test_examples_do_not_look_at_each_other(minimiser: Minimiser) -> None:
    curvature, minimum = quadratic(8, 4, seed=3)
    x = torch.zeros(8, 4, dtype=F64)
    whole = last(minimiser, of(curvature, minimum), x)
    for rows in ([0], [3, 4], [7, 1, 2]):
        alone = last(minimiser, of(curvature[rows], minimum[rows]), x[rows])
        torch.testing.assert_close(alone.x, whole.x[rows], rtol=1e-9, atol=1e-12)
        assert alone.calls.tolist() == whole.calls[rows].tolist()


@pytest.mark.parametrize("minimiser", [LBFGS(), Adam(steps=50)], ids=repr)
def test_values_never_rise_and_are_those_of_the_points(minimiser: Minimiser) -> None:
    before, x = None, torch.tensor([[-1.2, 1.0], [2.0, 2.0]], dtype=F64)
    for now in minimiser.run(rosenbrock, x):
        value, slope = rosenbrock(now.x, torch.arange(2))
        close(now.value, value.tolist(), 1e-12)
        close(now.gradient, slope.tolist(), 1e-12)
        assert before is None or (now.value <= before).all()
        before = now.value.clone()
    assert (x == torch.tensor([[-1.2, 1.0], [2.0, 2.0]], dtype=F64)).all()  # the start is left alone


@pytest.mark.parametrize("minimiser", [LBFGS(), Adam(steps=50)], ids=repr)
def test_the_caller_stops_examples(minimiser: Minimiser) -> None:
    curvature, minimum = quadratic(3, 4)
    kept = None
    for step, now in enumerate(minimiser.run(of(curvature, minimum), torch.zeros(3, 4, dtype=F64))):
        if step == 2:
            now.going[1] = False
            kept = now.x[1].clone(), int(now.calls[1])
    assert torch.equal(now.x[1], kept[0])
    assert int(now.calls[1]) == kept[1]
    assert now.calls[0] > kept[1]


def test_lbfgs_survives_where_there_is_no_number() -> None:
    """log x - x has none below 0, where the first step leads; and one example begins where there is none."""

    def function(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return (x - 100 * x.log()).sum(1), 1 - 100 / x

    now = last(LBFGS(), function, torch.tensor([[1e-3], [400.0], [-1.0]], dtype=F64))
    close(now.x[:2], (100.0, 100.0), 1e-4)
    assert now.x[2] == -1.0
    assert now.calls[2] == 1


def test_a_minimum_at_the_start_takes_one_call() -> None:
    curvature, minimum = quadratic(2, 3)
    now = last(LBFGS(), of(curvature, minimum), minimum)
    assert now.calls.tolist() == [1, 1]
    assert torch.equal(now.x, minimum)


def test_numbers_out_of_range() -> None:
    for make in (lambda: Adam(lr=0.0), lambda: Adam(steps=0), lambda: LBFGS(steps=0), lambda: LBFGS(history=0)):
        with pytest.raises(UsageError, match="expected"):
            make()
