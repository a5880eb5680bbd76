"""Minimisers of many functions at once, with and without a gradient."""

import math

import pytest
import torch
from torch import Tensor

from feller.control.inverse.d_flow import ChiPrior, NoPrior, optimize_source, solve_flow
from feller.control.optimize.evolution import Evolution
from feller.control.optimize.lbfgs import LBFGS
from feller.control.optimize.minimize import Adam, Minimizer, MinimizerState
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.paths.processes import Characteristics
from feller.sampling import Euler
from feller.spaces import Euclidean, Sphere
from tests.errors import refuses
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


def last(minimiser: Minimizer, function, x: Tensor) -> MinimizerState:
    *_, now = minimiser.run(function, x)
    return now


def test_lbfgs_on_quadratics() -> None:
    curvature, minimum = quadratic(20, 6)
    now = last(LBFGS(), of(curvature, minimum), torch.zeros(20, 6, dtype=F64))
    close(now.x, minimum.tolist(), 1e-7)
    assert not now.active.any()
    assert now.nfe.max() < 120


def test_lbfgs_on_rosenbrock() -> None:
    now = last(LBFGS(), rosenbrock, torch.tensor([[-1.2, 1.0], [0.0, 0.0], [3.0, -2.0]], dtype=F64))
    close(now.x, torch.ones(3, 2), 1e-6)
    assert now.nfe.max() < 150


def test_adam_on_quadratics() -> None:
    curvature, minimum = quadratic(5, 3)
    now = last(Adam(0.05, 2000), of(curvature, minimum), torch.zeros(5, 3, dtype=F64))
    close(now.x, minimum.tolist(), 1e-2)
    assert now.nfe.tolist() == [2001] * 5


@pytest.mark.parametrize("minimiser", [LBFGS(steps=9), Adam(steps=9)], ids=repr)
def test_rows_are_independent(minimiser: Minimizer) -> None:
    curvature, minimum = quadratic(8, 4, seed=3)
    x = torch.zeros(8, 4, dtype=F64)
    whole = last(minimiser, of(curvature, minimum), x)
    for rows in ([0], [3, 4], [7, 1, 2]):
        alone = last(minimiser, of(curvature[rows], minimum[rows]), x[rows])
        torch.testing.assert_close(alone.x, whole.x[rows], rtol=1e-9, atol=1e-12)
        assert alone.nfe.tolist() == whole.nfe[rows].tolist()


@pytest.mark.parametrize("minimiser", [LBFGS(), Adam(steps=50)], ids=repr)
def test_values_never_increase(minimiser: Minimizer) -> None:
    before, x = None, torch.tensor([[-1.2, 1.0], [2.0, 2.0]], dtype=F64)
    for now in minimiser.run(rosenbrock, x):
        value, slope = rosenbrock(now.x, torch.arange(2))
        close(now.value, value.tolist(), 1e-12)
        close(now.gradient, slope.tolist(), 1e-12)
        assert before is None or (now.value <= before).all()
        before = now.value.clone()
    assert (x == torch.tensor([[-1.2, 1.0], [2.0, 2.0]], dtype=F64)).all()  # the start is left alone


@pytest.mark.parametrize("minimiser", [LBFGS(), Adam(steps=50)], ids=repr)
def test_deactivated_rows_stay(minimiser: Minimizer) -> None:
    curvature, minimum = quadratic(3, 4)
    kept = None
    for step, now in enumerate(minimiser.run(of(curvature, minimum), torch.zeros(3, 4, dtype=F64))):
        if step == 2:
            now.active[1] = False
            kept = now.x[1].clone(), int(now.nfe[1])
    assert torch.equal(now.x[1], kept[0])
    assert int(now.nfe[1]) == kept[1]
    assert now.nfe[0] > kept[1]


def test_lbfgs_with_nan_values() -> None:
    """log x - x has none below 0, where the first step leads; and one example begins where there is none."""

    def function(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return (x - 100 * x.log()).sum(1), 1 - 100 / x

    now = last(LBFGS(), function, torch.tensor([[1e-3], [400.0], [-1.0]], dtype=F64))
    close(now.x[:2], (100.0, 100.0), 1e-4)
    assert now.x[2] == -1.0
    assert now.nfe[2] == 1


def test_start_at_the_minimum() -> None:
    curvature, minimum = quadratic(2, 3)
    now = last(LBFGS(), of(curvature, minimum), minimum)
    assert now.nfe.tolist() == [1, 1]
    assert torch.equal(now.x, minimum)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        *((Adam, {"lr": 0.0}), (Adam, {"steps": 0}), (LBFGS, {"steps": 0}), (LBFGS, {"history": 0})),
        *((Evolution, {"steps": 0}), (Evolution, {"population": 0}), (Evolution, {"step_size": 1.5})),
    ],
)
def test_invalid_settings(kind: type, setting: dict[str, float]) -> None:
    with refuses(UsageError):
        kind(**setting)


FLOW = solve_flow(lambda rows: lambda x, t: Characteristics(x * 0 + 1), [0.0, 1.0], Euler(), Rng(0))
GOAL = torch.tensor([1.0, -0.5, 0.3, 0.0], dtype=F64)


def starts(n: int, d: int = 4, seed: int = 0) -> Tensor:
    return Rng(seed).stream("source").normal((n, d), F64)


def test_evolution_on_a_quadratic() -> None:
    """Ends are sources plus 1, so the best source is the goal minus 1; no graph is made on the way."""

    def loss(x: Tensor, rows: Tensor) -> Tensor:
        assert not x.requires_grad
        assert not torch.is_grad_enabled()
        return (x - GOAL).square().sum(1)

    found = optimize_source(FLOW, loss, starts(6), Euclidean((4,)), minimizer=Evolution(steps=150), prior=NoPrior())
    close(found.source, (GOAL - 1).expand(6, 4), 1e-3)
    assert found.nfe.tolist() == [1 + 150 * 16] * 6
    assert (found.loss <= found.initial_loss).all()


def test_evolution_on_a_step_function() -> None:
    """A wish that is flat almost everywhere: the number of entries of the source below 1; from a plateau it goes on."""
    x_0 = -starts(6, 8).abs()

    def loss(x: Tensor, rows: Tensor) -> Tensor:
        return (x - 1 < 1).double().sum(1)

    search = Evolution(steps=200)
    found = optimize_source(FLOW, loss, x_0, Euclidean((8,)), minimizer=search, prior=NoPrior(), target_loss=0.0)
    assert found.initial_loss.tolist() == [8.0] * 6
    assert found.loss.tolist() == [0.0] * 6
    assert (found.nfe < 200 * 16).any()  # who has enough stops
    with refuses(InputError):
        optimize_source(FLOW, loss, x_0, Euclidean((8,)))


def test_evolution_proposals_are_normal() -> None:
    """With no wish every proposal is as good as another: what is kept of the first round is a draw of the law."""
    x_0 = starts(4000, 1)
    search = Evolution(steps=3, population=2, step_size=0.7)
    found = optimize_source(FLOW, lambda x, rows: 0 * x[:, 0], x_0, Euclidean((1,)), minimizer=search, prior=NoPrior())
    x = found.source[:, 0]
    assert (x != x_0[:, 0]).all()
    assert abs(x.mean()) < 4 / math.sqrt(4000)
    assert abs(x.square().mean() - 1) < 4 * math.sqrt(2 / 4000)
    assert (
        abs(torch.corrcoef(torch.stack([x, x_0[:, 0]]))[0, 1]) < 0.51
    )  # each round keeps sqrt(1 - s^2) = 0.71 or less


def test_evolution_rows_do_not_depend_on_the_batch() -> None:
    def loss(x: Tensor, rows: Tensor) -> Tensor:
        return (x[:, 0] - rows.double()).abs()

    x_0 = starts(5)
    whole = optimize_source(FLOW, loss, x_0, Euclidean((4,)), minimizer=Evolution(steps=20))
    alone = optimize_source(
        FLOW,
        lambda x, rows: loss(x, rows + 3),
        x_0[3:4],
        Euclidean((4,)),
        minimizer=Evolution(steps=20, rng=Rng(0, first_example=3)),
    )
    torch.testing.assert_close(alone.source, whole.source[3:4], rtol=1e-12, atol=1e-12)
    assert alone.nfe[0] == whole.nfe[3]


def test_evolution_with_target_loss() -> None:
    def loss(x: Tensor, rows: Tensor) -> Tensor:
        return (x - GOAL).square().sum(1)

    apart = Evolution(steps=30)
    free = optimize_source(FLOW, loss, starts(4), Euclidean((4,)), minimizer=apart)
    limits = torch.tensor([1e9, -1.0, 1e9, -1.0])
    some = optimize_source(FLOW, loss, starts(4), Euclidean((4,)), minimizer=apart, target_loss=limits)
    assert torch.equal(some.source[[0, 2]], starts(4)[[0, 2]])
    torch.testing.assert_close(some.source[[1, 3]], free.source[[1, 3]], rtol=1e-12, atol=1e-12)


def test_evolution_with_nan_values() -> None:
    def loss(x: Tensor, rows: Tensor) -> Tensor:
        return torch.where(x[:, 0] < 1.5, (x[:, 0] - 1.4).abs(), torch.nan)

    x_0 = starts(4).clamp(max=0)
    found = optimize_source(FLOW, loss, x_0, Euclidean((4,)), minimizer=Evolution(steps=60))
    assert (found.loss < 0.01).all()


def test_evolution_with_a_prior_and_on_a_sphere() -> None:
    far = optimize_source(
        FLOW, lambda x, rows: -x[:, 0], starts(3), Euclidean((4,)), minimizer=Evolution(), prior=ChiPrior(10.0)
    )
    assert (far.source.square().sum(1) < 8).all()  # without the prior it would go on
    space, goal = Sphere(2), torch.tensor([0.0, 0.0, 1.0], dtype=F64)
    still = solve_flow(lambda rows: lambda x, t: Characteristics(x * 0), [0.0, 1.0], Euler(space), Rng(0))
    found = optimize_source(
        still, lambda x, rows: 1 - x @ goal, space.project(starts(3, 3)), space, minimizer=Evolution(steps=60)
    )
    close(found.source.norm(dim=1), (1.0,) * 3, 1e-12)
    assert found.loss.max() < 1e-3
