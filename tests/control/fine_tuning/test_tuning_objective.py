"""Properties that all fine-tuning objectives share."""

import math

import pytest
import torch
from torch import Tensor

from feller.control.fine_tuning.adjoint_matching import AdjointMatching
from feller.control.fine_tuning.discrete_adjoint import DiscreteAdjoint
from feller.control.fine_tuning.draft import DRaFT, ReFL
from feller.control.fine_tuning.policy_gradient import PolicyGradient
from feller.control.fine_tuning.raft import RAFT
from feller.control.fine_tuning.tuning_objective import FineTuning
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.paths import Affine, Mixture, ProductPath
from feller.paths.affine import ConstantDiffusion
from feller.spaces import Euclidean, Product
from feller.training.objective import FlowMatching, TrainingContext
from tests.control.shifted import Shifted
from tests.errors import refuses
from tests.oracle import F64, column

FLOW = {"path": Affine(), "space": Euclidean((1,))}
WAYS = [AdjointMatching, DRaFT, ReFL, DiscreteAdjoint, RAFT, PolicyGradient]
WITH_COST = {AdjointMatching, DiscreteAdjoint, PolicyGradient}
WITHOUT_GRADIENT = {RAFT, PolicyGradient}
BATCH = {"x_0": column(0.3, -1.0, 0.8, 0.1), "given": {}}


def steps_up(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return (x[:, 0] > 1).double()


@pytest.mark.parametrize("way", WAYS)
def test_build_needs_reward_reference_and_network(way: type[FineTuning]) -> None:
    rule, whole = way(**FLOW), {"reference": Shifted(0.0), "reward": steps_up}
    for lacking in whole:
        with refuses(UsageError, argument=lacking):
            rule.build(TrainingContext(**{**whole, lacking: None}))
    with refuses(UsageError, argument="network"):
        rule.build(TrainingContext(**whole)).draw(BATCH, Rng(0))


@pytest.mark.parametrize("way", WAYS)
def test_rewards_without_gradient(way: type[FineTuning]) -> None:
    objective = way(**FLOW, steps=4).build(TrainingContext(reference=Shifted(0.0), reward=steps_up))
    if way not in WITHOUT_GRADIENT:
        with refuses(InputError):
            objective.draw(BATCH, Rng(0), Shifted(0.0))
    else:
        assert set(objective.draw(BATCH, Rng(0), Shifted(0.0))["reward"].tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("way", WAYS)
def test_metrics_of_reward_and_cost(way: type[FineTuning]) -> None:
    """The cost of a change of velocity d is the sum of d^2 on_velocity^2 / (2 variance), of any roll-out."""
    rule = way(**FLOW, steps=4)
    objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=lambda x, given: 3 * x[:, 0]))
    noticed = objective.metrics(objective.draw(BATCH, Rng(0), Shifted(0.1, 0.2, 0.3, 0.4)))
    assert noticed.keys() == ({"reward", "cost"} if way in WITH_COST else {"reward"})
    assert all(value.ndim == 0 for value in noticed.values())
    assert 0 < noticed["reward"] < 9
    if way in WITH_COST:
        # t = 0: ancestral, 1/4 and 9/16; then h (1 + t / (t + h)) and 2 h (1 - t) / (t + h), of h = 1/4.
        steps = [(1 / 4, 9 / 16), (3 / 8, 3 / 4), (5 / 12, 1 / 3), (7 / 16, 1 / 8)]
        wanted = sum(
            (d * on) ** 2 / variance / 2 for d, (on, variance) in zip((0.1, 0.2, 0.3, 0.4), steps, strict=True)
        )
        assert noticed["cost"].item() == pytest.approx(wanted, abs=1e-12)


def test_flow_matching_has_no_metrics() -> None:
    assert FlowMatching(**FLOW).metrics({}) == {}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "value"), [("reward_scale", -1.0), ("steps", 0)])
def test_invalid_numbers(way: type[FineTuning], name: str, value: float) -> None:
    with refuses(UsageError):
        way(**FLOW, **{name: value})


@pytest.mark.parametrize("way", [AdjointMatching, DRaFT, ReFL, DiscreteAdjoint, PolicyGradient])
@pytest.mark.parametrize("path", [Mixture(), Affine(noise=ConstantDiffusion(1.0))], ids=["tokens", "noisy"])
def test_unsupported_paths(way: type[FineTuning], path) -> None:
    with refuses(UsageError):
        way(path=path, space=Euclidean((1,)))


def test_padding_does_not_count() -> None:
    def base(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return -x

    def tuned(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return -x + torch.tensor([0.1, 5.0], dtype=F64)

    valid = torch.tensor([[True, False], [True, True]])
    batch = {"x_0": torch.zeros(2, 2, dtype=F64), "given": {"valid": valid}}
    for way in WITH_COST:
        objective = way(path=Affine(), space=Euclidean((2,)), steps=4).build(
            TrainingContext(reference=base, reward=lambda x, given: x[:, 0])
        )
        cost = objective.draw(batch, Rng(0), tuned)["cost"].view(2, -1)[:, 0]
        assert (cost[1] / cost[0]).item() == pytest.approx((0.01 + 25) / 0.01)


def test_product_paths() -> None:
    path = ProductPath({"a": Affine(), "b": Affine()})

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nulls: dict[str, int] = {}
            self.change = torch.nn.Parameter(torch.tensor(0.1, dtype=F64))

        def forward(self, x, t, given):
            return {"a": self.change - x["b"], "b": self.change - x["a"]}

    space = Product({"a": Euclidean((1,)), "b": Euclidean((1,))})
    batch = {"x_0": {"a": BATCH["x_0"], "b": -BATCH["x_0"]}, "given": {}}
    for way in WAYS:
        network, base = Both(), Both().requires_grad_(False)
        objective = way(path=path, space=space, steps=4).build(
            TrainingContext(reference=base, reward=lambda x, given: x["a"][:, 0])
        )
        objective.loss(network, objective.draw(batch, Rng(0), network)).sum().backward()
        assert network.change.grad.abs() > 1e-3
        assert math.isfinite(network.change.grad)
