"""Couplings with conditions: independence of source and label, and its cost."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.training.couplings import (
    ClassConditional,
    ConditionalOT,
    Coupling,
    IndependentCoupling,
    MinibatchOT,
    SinkhornCoupling,
)
from tests.errors import refuses

DRAW = Rng(0).stream("coupling")
N, ROUNDS = 64, 60


def test_transport_stays_within_classes() -> None:
    x_0 = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    x_1 = torch.tensor([[9.0], [8.0], [1.0], [0.0]])
    label = torch.tensor([0, 0, 1, 1])
    assert ClassConditional()(x_0, x_1, {"label": label}, DRAW)[:, 0].tolist() == [1, 0, 3, 2]
    assert MinibatchOT()(x_0, x_1, {}, DRAW)[:, 0].tolist() == [3, 2, 1, 0]
    assert x_0[:, 0].tolist() == [0, 1, 2, 3]


def leak_and_cost(coupling: Coupling) -> tuple[float, float]:
    """Return E[x_0 | label 1] and the mean cost, for labels +-1 with data at +-2; 64 x 60 pairs in one dimension."""
    means, costs = [], []
    for i in range(ROUNDS):
        draws = Rng(i)
        x_0, label = draws.stream("source").normal((N, 1)), draws.stream("label").randint(2, (N,))
        x_1 = 4.0 * label[:, None] - 2 + 0.5 * draws.stream("data").normal((N, 1))
        moved = coupling(x_0, x_1, {"label": label}, draws.stream("coupling"))
        means.append(moved[label == 1].mean())
        costs.append((moved - x_1).square().mean())
    return torch.stack(means).mean().item(), torch.stack(costs).mean().item()


@pytest.mark.parametrize(
    "coupling", [IndependentCoupling(), ClassConditional(), ClassConditional(SinkhornCoupling()), ConditionalOT(20.0)]
)
def test_source_is_independent_of_the_class(coupling: Coupling) -> None:
    """E[x_0 | label] = 0 within 5 standard errors of some 1,900 draws, 0.0228 each: false alarm 6e-7.

    An entropic plan draws with replacement, which adds at most as much variance again.
    """
    wide = 2**0.5 if coupling == ClassConditional(SinkhornCoupling()) else 1.0
    assert abs(leak_and_cost(coupling)[0]) < 5 * 0.0228 * wide


def test_penalty_trades_cost_for_independence() -> None:
    """Transport alone gives each label its half of the source: E[x_0 | label 1] near the mean 0.80 of a half normal."""
    leaks, costs = zip(*(leak_and_cost(ConditionalOT(penalty)) for penalty in (0.0, 0.2, 0.5, 1.0, 20.0)), strict=True)
    assert leaks[0] == pytest.approx(leak_and_cost(MinibatchOT())[0])
    assert leaks[0] == pytest.approx(0.7979, abs=0.07)
    assert list(leaks) == sorted(leaks, reverse=True)
    assert list(costs) == sorted(costs)
    within = leak_and_cost(ClassConditional())
    assert (leaks[-1], costs[-1]) == pytest.approx(within)
    assert within[1] < leak_and_cost(IndependentCoupling())[1] - 0.3


def test_penalty_threshold_of_one_exchange() -> None:
    """One trade would save 2 x 2 x 3 = 12 of cost; the median pair costs 4.5 and two labels change."""
    x_0, x_1 = torch.tensor([[0.0], [3.0]]), torch.tensor([[2.0], [0.0]])
    given = {"label": torch.tensor([0, 1])}
    cost = torch.tensor([[4.0, 0.0], [1.0, 9.0]])
    just = (13 - 1) / (2 * cost.median().item())
    assert ConditionalOT(just - 0.01)(x_0, x_1, given, DRAW)[:, 0].tolist() == [3, 0]
    assert ConditionalOT(just + 0.01)(x_0, x_1, given, DRAW)[:, 0].tolist() == [0, 3]


def test_real_conditions_are_penalised_by_distance() -> None:
    x_0, x_1 = torch.tensor([[0.0], [3.0]]), torch.tensor([[2.0], [0.0]])

    def coupled(condition: list[float]) -> Tensor:
        return ConditionalOT(10.0, "dose")(x_0, x_1, {"dose": torch.tensor(condition)}, DRAW)

    assert coupled([0.5, 0.6])[:, 0].tolist() == [3, 0]
    assert coupled([0.5, 5.0])[:, 0].tolist() == [0, 3]


def test_missing_conditions_are_refused() -> None:
    x = torch.zeros(2, 1)
    for coupling in (ClassConditional(), ConditionalOT()):
        with refuses(UsageError, argument="label", found="none"):
            coupling(x, x, {}, DRAW)


def test_penalties_out_of_range_are_refused() -> None:
    for penalty in (-1.0, float("inf"), float("nan")):
        with refuses(UsageError, argument="penalty"):
            ConditionalOT(penalty)


def test_class_conditional_couples_examples() -> None:
    assert ClassConditional(IndependentCoupling()).couples_examples
