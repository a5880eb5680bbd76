"""Adjoint matching against closed forms of its reference (sections 4 and 6)."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from feller.control.fine_tuning.adjoint_matching import (
    Adjoint,
    AdjointMatching,
    ByVelocity,
    FullAdjoint,
    LandingAdjoint,
    LeanAdjoint,
    _sample_steps,
)
from feller.control.fine_tuning.memoryless_chain import MemorylessChain, adjoint_steps, roll_out
from feller.core.errors import UsageError
from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.paths import Affine, Mixture, ProductPath
from feller.paths.processes import Characteristics, Process
from feller.paths.schedules import Cosine, Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import Ancestral, MemorylessEuler
from feller.spaces import Euclidean
from feller.training.objective import TrainingContext
from tests.control.shifted import Shifted
from tests.errors import refuses
from tests.oracle import F64, Normal, close, column
from tests.properties.makers import Small

PRODUCT = ProductPath({"a": Affine(), "b": Mixture()})
FINE = 2000
"""Steps with which the chain is that of continuous time, to 1e-3."""


@pytest.mark.parametrize(
    ("t", "adjoint", "control", "change"),
    [
        (0.1, -0.0615384615, 0.2610855807, 0.5538461538),
        (0.25, -0.2162162162, 0.5296194038, 0.6486486486),
        (0.5, -0.8000000000, 1.1313708499, 0.8000000000),
        (0.75, -1.8461538462, 1.5073783033, 0.6153846154),
        (0.9, -2.1176470588, 0.9982683969, 0.2352941176),
    ],
)
def test_adjoint_of_a_linear_reward(t: float, adjoint: float, control: float, change: float) -> None:
    """N(1, 0.25), r = 2 x: adjoint, control and change of the velocity, which need no sample."""
    data, times, states = Normal(), linear_grid(FINE), [column(0.3)] * FINE
    chain = MemorylessChain(states, states, states[0], times, MemorylessEuler())
    gradient = torch.full((1, 1), 2.0, dtype=F64)
    steps = adjoint_steps(data.flow, chain, gradient)
    step = next(step for step in steps if step.number == round(t * FINE))
    assert step.adjoint.item() == pytest.approx(adjoint, rel=5e-3)
    found = (step.target() - step.base).item()
    assert found == pytest.approx(change, rel=5e-3)
    assert math.sqrt(step.weight * FINE) * found == pytest.approx(control, rel=5e-3)


def test_sampled_steps_include_the_last_quarter() -> None:
    first, second = (_sample_steps(40, 0.5, Rng(seed)) for seed in (0, 1))
    assert {*range(30, 40)} <= first & second
    assert len(first) == len(second) == 20
    assert first != second


@pytest.mark.parametrize("adjoint", [LeanAdjoint(), FullAdjoint(), LandingAdjoint()])
def test_padding_changes_neither_targets_nor_losses(adjoint: Adjoint) -> None:
    def network(junk: float) -> Any:
        return lambda x, t, given: torch.cat([0.5 * x[:, :2] + 0.1 * x[:, 2:].sum(1, keepdim=True), junk * x[:, 2:]], 1)

    def reward(x: Tensor, given: Any) -> Tensor:
        return x[:, :2].square().sum(1)

    valid = torch.tensor([[True, True, False, False]]).expand(5, -1)
    rule = AdjointMatching(path=Affine(), space=Euclidean((4,)), steps=6, step_fraction=1.0, adjoint=adjoint)
    bound = rule.build(TrainingContext(reference=lambda x, t, given: 0.2 * x, reward=reward))
    batch = {"x_0": Rng(0).stream("x").normal((5, 4), F64), "given": {"valid": valid}}
    chain = roll_out(rule.process(network(1.0), {}), batch["x_0"], linear_grid(6), rule.solver, Rng(1), batch["given"])
    slope = torch.ones_like(chain.end)
    base = rule.process(lambda x, t, given: 0.2 * x, {})
    tuned = [rule.process(network(junk), {}) for junk in (1.0, 30.0)]
    targets = [torch.stack([step.target()[:, :2] for step in adjoint.steps(base, chain, slope, one)]) for one in tuned]
    close(targets[0], targets[1].tolist(), 1e-12)
    example = bound.draw(batch, Rng(1), network(1.0))
    close(bound.loss(network(1.0), example), bound.loss(network(30.0), example).tolist(), 1e-12)


def test_invalid_settings() -> None:
    flow = {"path": Affine(), "space": Euclidean((2,))}
    for name, value, argument in (
        ("steps", 1, "steps"),
        ("step_fraction", 0.0, "step_fraction"),
        ("step_fraction", 1.5, "step_fraction"),
        ("ceiling", -1.0, "ceiling"),
        *(("reward_scale", wrong, "strength") for wrong in (-1.0, math.nan, math.inf)),
    ):
        with refuses(UsageError, argument=argument, found=f"{value:g}"):
            AdjointMatching(**flow, **{name: value})
    for wrong in ({"solver": Ancestral()}, {"solver": MemorylessEuler(Cosine())}, {"path": PRODUCT}):
        with refuses(UsageError):
            AdjointMatching(**{**flow, **wrong})


def shifted(steps: int, schedule: Schedule | None = None) -> Shifted:
    """A perfect network of N(1, 0.25), plus a change of velocity that is learned for each of some times."""
    network = Shifted(*[0.0] * steps)
    network.data = Normal() if schedule is None else Normal(schedule)
    return network


@pytest.mark.parametrize("weighting", [None, ByVelocity()], ids=repr)
def test_regression_reaches_the_fixed_point(weighting) -> None:
    """For a linear reward the target is one number a step, so that regression reaches the discrete fixed point."""
    steps = 10
    rule = AdjointMatching(path=Affine(), space=Euclidean((1,)), reward_scale=2.0, steps=steps, step_fraction=1.0)
    rule = rule if weighting is None else replace(rule, weighting=weighting)
    network, base = shifted(steps), shifted(steps)
    objective = rule.build(TrainingContext(reference=base, reward=lambda x, given: x[:, 0]))
    batch = {"x_0": Rng(0).stream("source").normal((4, 1), F64), "given": {}}
    example = objective.draw(batch, Rng(1), network)
    wanted = (example["target"] - base(example["x_t"], example["t"], {}))[:steps].flatten()
    optimiser = torch.optim.LBFGS(network.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = objective.loss(network, example).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    order = example["t"][:steps].argsort()
    close(network.change.detach(), wanted[order], 1e-6)
    again = objective.draw(batch, Rng(2), network)
    moved = again["reward"].mean() - example["reward"].mean()
    assert moved.item() == pytest.approx(2.0 * 0.25, abs=0.35)  # two roll-outs with other noise
    assert again["cost"].mean().item() == pytest.approx(0.5, abs=0.06)
    assert example["cost"].abs().max() < 1e-20


def noise_at_half(adjoint: Adjoint, flow: Process, steps: int) -> tuple[float, float]:
    """Return mean and deviation of what the middle of a roll-out asks for, for r = -3 / 2 (x - 2)^2 on N(1, 0.25)."""
    times, solver, base = linear_grid(steps), MemorylessEuler(), Normal().flow
    x_0 = Rng(0).stream("source").normal((4000, 1), F64)
    chain = roll_out(flow, x_0, times, solver, Rng(1))
    for step in adjoint.steps(base, chain, -3 * (chain.end - 2), flow):
        if step.number == steps // 2:
            asked = step.target() - chain.velocities[step.number]
            return asked.mean().item(), asked.std().item()
    raise AssertionError


def test_landing_adjoint_has_no_noise_at_the_optimum() -> None:
    """Under the flow to N(10/7, 1/7); every adjoint is unbiased there."""
    best = Normal(m=10 / 7, s=(1 / 7) ** 0.5).flow
    found = {
        kind: [noise_at_half(kind, best, n) for n in (20, 80)]
        for kind in (LeanAdjoint(), FullAdjoint(), LandingAdjoint())
    }
    for kind, sizes in found.items():
        assert abs(sizes[1][0]) < 4 * sizes[1][1] / 4000**0.5 + 0.006  # of time steps of 1 / 80
        assert (sizes[1][1] < 0.06) == (kind == LandingAdjoint())
    assert found[LandingAdjoint()][1][1] < 0.6 * found[LandingAdjoint()][0][1]
    assert found[LeanAdjoint()][1][1] > 0.4


def test_landing_adjoint_has_the_mean_of_the_full_adjoint() -> None:
    other = Normal(m=1.2, s=0.3).flow
    full, landing = (noise_at_half(kind, other, 20) for kind in (FullAdjoint(), LandingAdjoint()))
    assert abs(full[0] - landing[0]) < 4 * (full[1] ** 2 + landing[1] ** 2) ** 0.5 / 4000**0.5
    assert abs(full[0]) > 0.1


def test_cosine_schedule_is_converted_to_linear() -> None:
    rule = AdjointMatching(path=Affine(Cosine()), space=Euclidean((1,)), steps=4)
    network = shifted(4, Cosine())
    x, t = column(0.2, -0.7), torch.full((2,), 0.3, dtype=F64)
    close(rule.process(network, {})(x, t).velocity, Normal().flow(x, t).velocity, 1e-10)


def test_ceiling() -> None:
    rule = AdjointMatching(path=Affine(), space=Euclidean((1,)), steps=4, ceiling=0.5)
    example = {
        "x_t": column(0.1, 0.2),
        "t": torch.full((2,), 0.5, dtype=F64),
        "given": {},
        "target": column(100.0, 1.0),
        "weight": torch.ones(2, dtype=F64),
    }
    network = shifted(4)
    losses = rule.compare(rule.process(network, {}), example)
    losses.sum().backward()
    assert losses[0] == 0.5
    second = network(example["x_t"], example["t"], {})[1].item()
    assert network.change.grad.sum().item() == pytest.approx(second - 1, abs=1e-12)


def test_lean_adjoint_evaluates_the_reward_once() -> None:
    asked: list[int] = []

    def reward(x: Tensor, given: dict[str, Tensor]) -> Tensor:
        asked.append(len(x))
        return x[:, 0]

    rule = AdjointMatching(path=Affine(), space=Euclidean((1,)), steps=5)
    rule.build(TrainingContext(reference=shifted(5), reward=reward)).draw(
        {"x_0": column(0.0, 1.0, 2.0)}, Rng(0), shifted(5)
    )
    assert asked == [3]
    assert isinstance(rule.process(shifted(5), {})(column(0.0), torch.zeros(1, dtype=F64)), Characteristics)


class SavedTensor:
    """A tensor that is kept for the backward pass, counted while it lives."""

    now = most = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        SavedTensor.now += tensor.nbytes
        SavedTensor.most = max(SavedTensor.most, SavedTensor.now)

    def __del__(self) -> None:
        SavedTensor.now -= self.tensor.nbytes


def test_memory_is_independent_of_steps() -> None:
    """A round in micro-batches keeps the graph of one call at a time; states and adjoints are no part of it."""
    peaks = []
    for steps in (20, 80):
        network, base = Small(2), Small(2).requires_grad_(False)
        rule = AdjointMatching(path=Affine(), space=Euclidean((2,)), steps=steps, step_fraction=1.0)
        objective = rule.build(TrainingContext(reference=base, reward=lambda x, given: x.sin().sum(1)))
        batch = {"x_0": Rng(0).stream("source").normal((16, 2), F64), "given": {"label": torch.zeros(16).long()}}
        SavedTensor.now = SavedTensor.most = 0
        with torch.autograd.graph.saved_tensors_hooks(SavedTensor, lambda held: held.tensor):
            example = objective.draw(batch, Rng(1), network)
            for start in range(0, 16 * steps, 64):
                part = tree_map(lambda leaf, start=start: leaf[start : start + 64], example)
                objective.loss(network, part).sum().backward()
        peaks.append(SavedTensor.most)
    assert peaks[0] > 0
    assert peaks[1] <= 1.3 * peaks[0]
