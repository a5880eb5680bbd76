"""Adjoint matching: closed forms of its reference, sections 4 and 6, and what it refuses."""

import itertools
import math

import pytest
import torch
from tests.oracle import F64, Normal, close, column
from torch import Tensor

from feller.control.adjoint_matching import AdjointMatching, ByVelocity
from feller.control.chain import Chain, adjoint_steps, roll_out
from feller.draws import Draws
from feller.errors import UsageError
from feller.paths import Affine, Mixture, Product
from feller.paths.affine import Constant
from feller.processes import Characteristics
from feller.schedules import Cosine
from feller.simulate import MemorylessEuler
from feller.spaces import Euclidean
from feller.times import linear_grid

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
def test_linear_reward_of_a_gaussian(t: float, adjoint: float, control: float, change: float) -> None:
    """N(1, 0.25), r = 2 x: adjoint, control and change of the velocity, which need no sample."""
    data, times, states = Normal(), linear_grid(FINE), [column(0.3)] * FINE
    chain = Chain(states, states, states[0])
    gradient = torch.full((1, 1), 2.0, dtype=F64)
    steps = adjoint_steps(data.flow, chain, times, MemorylessEuler(), gradient)
    step = next(step for step in steps if step.number == round(t * FINE))
    assert step.adjoint.item() == pytest.approx(adjoint, rel=5e-3)
    found = (step.target() - step.base).item()
    assert found == pytest.approx(change, rel=5e-3)
    assert math.sqrt(step.weight * FINE) * found == pytest.approx(control, rel=5e-3)


def test_cost_is_the_divergence() -> None:
    """The exact control for r = 2 x costs KL = c^2 s^2 / 2 = 0.5."""
    base, wanted, times = Normal(), Normal(m=1.5), linear_grid(FINE)
    chain = roll_out(wanted.flow, column(*torch.linspace(-1, 1, 4).tolist()), times, MemorylessEuler(), Draws(0))
    gradient = torch.full((4, 1), 2.0, dtype=F64)
    total = torch.zeros(4, dtype=F64)
    for step in adjoint_steps(base.flow, chain, times, MemorylessEuler(), gradient):
        total += step.cost(chain.velocities[step.number])
    close(total, (0.5,) * 4, 2e-3)


def test_rounds_of_a_quadratic_reward() -> None:
    """r = -3 / 2 (x - 2)^2 on N(1, 0.25): mean and variance of the end, round after round, as printed.

    Everything is Gaussian, so that a round is exact: the mean adjoint given a state, under the law that the round
    before left, is the next control. It over-tilts at first.
    """
    base, q, y, n = Normal(), 3.0, 2.0, 4000
    times, solver = linear_grid(n), MemorylessEuler()
    steps = [solver.linear(t, s) for t, s in itertools.pairwise(times)]
    x = column(0.0, 1.0)
    at = [base.flow(x, torch.full((2,), t, dtype=F64)).velocity.flatten().tolist() for t in times[:-1]]
    offset, slope = [a for a, _ in at], [b - a for a, b in at]
    carried = [1.0] * (n + 1)  # of the adjoint at the end, to the end of each step
    for k in reversed(range(n)):
        carried[k] = carried[k + 1] * (steps[k].on_state + steps[k].on_velocity * slope[k])
    shift, gain, found = [0.0] * n, [0.0] * n, []
    for _ in range(5):
        means, variances, factors = [0.0], [1.0], []
        for k, step in enumerate(steps):
            factors.append(step.on_state + step.on_velocity * (slope[k] + gain[k]))
            means.append(factors[k] * means[k] + step.on_velocity * (offset[k] + shift[k]))
            variances.append(factors[k] ** 2 * variances[k] + (step.variance if k < n - 1 else 0.0))
        found.append((means[n], variances[n]))
        to_end = 1.0
        for k in reversed(range(n)):  # E[X_1 | x_k] = E X_1 + to_end (x_k - E X_k)
            to_end *= factors[k]
            pull = steps[k].variance / steps[k].on_velocity * carried[k + 1] * q
            gain[k] = -pull * to_end
            shift[k] = -pull * (means[n] - y - to_end * means[k])
    known = [(1.00000, 0.25000), (1.52763, 0.12948), (1.41000, 0.14478), (1.43112, 0.14265), (1.42829, 0.14288)]
    for ours, printed in zip(found, known, strict=True):
        assert ours == pytest.approx(printed, abs=1.5e-3)


class Shifted(torch.nn.Module):
    """A perfect network of N(1, 0.25), plus a change of velocity that is learned for each of some times."""

    def __init__(self, steps: int, schedule=None) -> None:
        super().__init__()
        self.nulls: dict[str, int] = {}
        self.change = torch.nn.Parameter(torch.zeros(steps, dtype=F64))
        self.data = Normal() if schedule is None else Normal(schedule)

    def forward(self, x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        number = (t * len(self.change)).round().long().clamp(max=len(self.change) - 1)
        return self.data.flow(x, t).velocity + self.change[number][:, None]


@pytest.mark.parametrize("weighting", [None, ByVelocity()], ids=repr)
def test_the_fixed_point_is_learned(weighting) -> None:
    """For a linear reward the target is one number a step, so that regression reaches the discrete fixed point."""
    steps = 10
    rule = AdjointMatching(path=Affine(), space=Euclidean((1,)), strength=2.0, steps=steps, share=1.0)
    if weighting is not None:
        rule = AdjointMatching(
            path=Affine(), space=Euclidean((1,)), strength=2.0, steps=steps, share=1.0, weighting=weighting
        )
    network, base = Shifted(steps), Shifted(steps)
    objective = rule.against(base, lambda x, given: x[:, 0])
    batch = {"x_0": Draws(0).at("source").normal((4, 1), F64), "given": {}}
    example = objective.draw(network, batch, Draws(1))
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
    again = objective.draw(network, batch, Draws(2))
    moved = again["reward"].mean() - example["reward"].mean()
    assert moved.item() == pytest.approx(2.0 * 0.25, abs=0.35)  # two roll-outs with other noise
    assert again["cost"].mean().item() == pytest.approx(0.5, abs=0.06)
    assert example["cost"].abs().max() < 1e-20


def test_schedules_are_straightened_first() -> None:
    """On another schedule the states are those of straight paths, where the steps are most exact."""
    rule = AdjointMatching(path=Affine(Cosine()), space=Euclidean((1,)), steps=4)
    network = Shifted(4, Cosine())
    x, t = column(0.2, -0.7), torch.full((2,), 0.3, dtype=F64)
    close(rule.process(network, {})(x, t).velocity, Normal().flow(x, t).velocity, 1e-10)


def test_large_losses_can_be_left_out() -> None:
    rule = AdjointMatching(path=Affine(), space=Euclidean((1,)), steps=4, ceiling=0.5)
    example = {
        "x_t": column(0.1, 0.2),
        "t": torch.full((2,), 0.5, dtype=F64),
        "given": {},
        "target": column(100.0, 1.0),
        "weight": torch.ones(2, dtype=F64),
    }
    network = Shifted(4)
    losses = rule.loss(network, example)
    losses.sum().backward()
    assert losses[0] == 0.5
    second = network(example["x_t"], example["t"], {})[1].item()
    assert network.change.grad.sum().item() == pytest.approx(second - 1, abs=1e-12)


@pytest.mark.parametrize(
    "path",
    [Mixture(), Affine(noise=Constant(1.0)), Product({"a": Affine(), "b": Mixture()})],
    ids=["tokens", "noisy", "product"],
)
def test_paths_without_memoryless_noise_are_refused(path) -> None:
    with pytest.raises(UsageError, match="needs the memoryless noise"):
        AdjointMatching(path=path, space=Euclidean((2,)))


@pytest.mark.parametrize(("name", "value"), [("steps", 1), ("share", 0.0), ("share", 1.5), ("strength", -1.0)])
def test_numbers_out_of_range(name: str, value: float) -> None:
    with pytest.raises(UsageError, match="expected"):
        AdjointMatching(path=Affine(), space=Euclidean((2,)), **{name: value})


def test_it_needs_a_reward() -> None:
    rule = AdjointMatching(path=Affine(), space=Euclidean((2,)))
    with pytest.raises(UsageError, match="a reward and a model"):
        rule.draw(Shifted(4), {}, Draws(0))


def test_velocity_alone_is_asked_for() -> None:
    """The lean adjoint asks the base about states, and never the reward on the way."""
    asked: list[int] = []

    def reward(x: Tensor, given: dict[str, Tensor]) -> Tensor:
        asked.append(len(x))
        return x[:, 0]

    rule = AdjointMatching(path=Affine(), space=Euclidean((1,)), steps=5)
    rule.against(Shifted(5), reward).draw(Shifted(5), {"x_0": column(0.0, 1.0, 2.0)}, Draws(0))
    assert asked == [3]
    assert isinstance(rule.process(Shifted(5), {})(column(0.0), torch.zeros(1, dtype=F64)), Characteristics)
