"""Entropic and unbalanced transport plans, and sampled partners."""

import math
import warnings

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.training.couplings import (
    ClassConditional,
    MinibatchOT,
    SinkhornCoupling,
    SquaredDistance,
    UnbalancedOT,
    sinkhorn,
)
from feller.training.couplings.sinkhorn_ot import sample_partners
from tests.errors import refuses
from tests.oracle import F64, close, column

DRAW = Rng(0).stream("coupling")


def clusters(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a normal source and two clusters."""
    draws = Rng(seed)
    middle = 4.0 * draws.stream("side").randint(2, (n, 1)) - 2
    return draws.stream("a").normal((n, d), F64), middle + 0.3 * draws.stream("b").normal((n, d), F64)


def cost_of(n: int, d: int, seed: int = 0) -> Tensor:
    cost = SquaredDistance()(*clusters(n, d, seed), {})
    return cost / cost.median()


def test_plan_of_two_pairs() -> None:
    """Costs 0 and 1: entries e^(-c / eps) / (2 (1 + e^(-1 / eps)))."""
    for epsilon in (0.3, 1.0):
        plan = sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), epsilon, tolerance=1e-12).exp()
        small = math.exp(-1 / epsilon)
        close(plan, torch.tensor([[1, small], [small, 1]], dtype=F64) / (2 * (1 + small)), 1e-12)


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("shape", [(40, 40), (30, 50)])
def test_plan_is_the_scaled_kernel_with_its_marginals(epsilon: float, shape: tuple[int, int]) -> None:
    """P = diag(u) exp(-c / eps) diag(v): log P + c / eps is a row plus a column, to 1e-8, and the marginals hold."""
    cost = SquaredDistance()(clusters(60, 2)[0][: shape[0]], clusters(60, 2)[1][: shape[1]], {})
    cost = cost / cost.median()
    log_plan = sinkhorn(cost, epsilon, tolerance=1e-9, max_iterations=100_000)
    plan = log_plan.exp()
    close(plan.sum(0), [1 / shape[1]] * shape[1], 1e-12)
    close(plan.sum(1), [1 / shape[0]] * shape[0], 1e-9)
    potential = log_plan + cost / epsilon
    rest = potential - potential.mean(0) - potential.mean(1, keepdim=True) + potential.mean()
    assert rest.abs().max() < 1e-8


@pytest.mark.parametrize("tau", [5.0, 1.0, 0.1])
def test_unbalanced_plan_is_stationary(tau: float) -> None:
    """The gradient of the objective vanishes.

    c + eps log(P / ab) + tau log(P 1 / a) + tau log(P^T 1 / b) = 0 in every entry.
    """
    cost, epsilon = cost_of(40, 3), 0.2
    plan = sinkhorn(cost, epsilon, tau=tau, tolerance=1e-13, max_iterations=50_000).exp()
    rows, columns = (plan.sum(axis) * 40 for axis in (1, 0))
    gradient = cost + epsilon * (plan * 1600).log() + tau * (rows.log()[:, None] + columns.log())
    assert gradient.abs().max() < 1e-9


def test_unbalanced_plan_is_balanced_for_infinite_tau() -> None:
    cost = cost_of(40, 2)
    close(sinkhorn(cost, 0.1, tau=1e8, tolerance=1e-7), sinkhorn(cost, 0.1, tolerance=1e-7), 1e-5)


@pytest.mark.parametrize("coupling", [SinkhornCoupling(), SinkhornCoupling(0.002), UnbalancedOT()])
@pytest.mark.parametrize("d", [2, 784])
def test_couplings_in_high_dimensions(coupling: SinkhornCoupling | UnbalancedOT, d: int) -> None:
    x_0, x_1 = (100 * x.float() for x in clusters(128, d))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = coupling(x_0, x_1, {}, DRAW)
    transport = MinibatchOT()(x_0, x_1, {}, DRAW)
    cost, chance, least = ((x - x_1).square().sum(1).mean().item() for x in (moved, x_0, transport))
    assert chance - cost > 0.1 * (chance - least)


def test_partners_follow_the_plan() -> None:
    """1,000 drawings for each of 20 data: every pair within 5 deviations of its share, false alarm 400 x 6e-7.

    Summed over the data, a draw of the source is used as often as any other, so that the source keeps its law.
    """
    log_plan, n = sinkhorn(cost_of(20, 2), 0.1, tolerance=1e-6), 1000
    drawn = sample_partners(log_plan.repeat(1, n), DRAW.uniform((20 * n,), F64)).view(n, 20)
    shares = torch.nn.functional.one_hot(drawn, 20).double().mean(0).T
    expected = log_plan.softmax(0)
    assert ((shares - expected).abs() <= 5 * (expected * (1 - expected) / n).sqrt() + 1e-12).all()
    assert (n * shares.sum(1) - n).abs().max() < 5 * n**0.5


def test_partners_of_a_batch_follow_the_plan() -> None:
    """Two pairs at costs 0 and 1, in 500 blocks: within 5 deviations, false alarm 6e-7."""
    n = 1000
    x = column(0.0, 1.0).repeat(n // 2, 1)
    stayed = (SinkhornCoupling(0.5, block_size=2)(x, x, {}, DRAW) == x).double().mean().item()
    p = 1 / (1 + math.exp(-4))  # half of the costs are 0, so their mean 1 / 2 is the unit: c / epsilon is 0 or 4
    assert abs(stayed - p) < 5 * math.sqrt(p * (1 - p) / n)


def test_epsilon_interpolates_between_transport_and_independence() -> None:
    x_0, x_1 = clusters(256, 2)
    costs = [
        (SinkhornCoupling(e)(x_0, x_1, {}, DRAW) - x_1).square().sum(1).mean().item() for e in (0.01, 0.1, 1.0, 100.0)
    ]
    assert costs == sorted(costs)
    transport = (MinibatchOT()(x_0, x_1, {}, DRAW) - x_1).square().sum(1).mean().item()
    chance = torch.cdist(x_0, x_1).square().mean().item()
    assert costs[0] == pytest.approx(transport, rel=0.15)
    assert costs[-1] == pytest.approx(chance, rel=0.1)


def test_missing_convergence_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="60"):
        sinkhorn(cost_of(40, 2), 1e-3, tolerance=1e-8, max_iterations=60)


def test_equal_points_cost_nothing() -> None:
    x = torch.ones(5, 2)
    for coupling in (SinkhornCoupling(), UnbalancedOT()):
        assert torch.equal(coupling(x, x, {}, DRAW), x)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in (lambda: SinkhornCoupling(0.0), lambda: UnbalancedOT(-1.0), lambda: UnbalancedOT(0.1, 0.0)):
        with refuses(UsageError):
            wrong()


def test_partners_stay_within_blocks_and_classes() -> None:
    x_0, x_1 = clusters(20, 2)
    label = torch.arange(20) % 3
    within = ClassConditional(SinkhornCoupling())(x_0, x_1, {"label": label}, DRAW)
    blocks = SinkhornCoupling(block_size=5)(x_0, x_1, {}, DRAW)
    for moved, group in ((within, label), (blocks, torch.arange(20) // 5)):
        partner = (moved[:, None] == x_0[None]).all(-1).double().argmax(1)
        assert torch.equal(group[partner], group)


def test_outliers_do_not_change_other_pairs_of_unbalanced_plans() -> None:
    """Data 0..9 beside draws 0..10, and one datum at 100.

    Balanced, the outlier must have a draw of its own; relaxed, its mass is below every number, the others pair as if it
    were not there, and its partner is one of those near it all the same.
    """
    x_0, x_1 = column(*range(11)), column(*range(10), 100.0)
    cost = SquaredDistance()(x_0, x_1, {})
    cost = cost / cost.median()
    balanced, relaxed = (
        sinkhorn(cost, 0.05, tau=tau, tolerance=1e-4, max_iterations=20_000) for tau in (math.inf, 1.0)
    )
    assert balanced[:, -1].exp().sum().item() == pytest.approx(1 / 11)
    assert relaxed[:, -1].exp().sum() < 1e-12
    without = sinkhorn(cost[:, :-1], 0.05, tau=1.0, tolerance=1e-4)
    close(relaxed[:, :-1].softmax(0), without.softmax(0), 1e-3)
    assert relaxed[:, -1].argmax() == 10
    moved = UnbalancedOT(0.01)(x_0, x_1, {}, DRAW)
    assert moved[-1] >= 9
