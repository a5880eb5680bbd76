"""The discrete adjoint: its minimiser, and its gradient against the adjoint that is followed back."""

import itertools

import pytest
import torch
from torch import Tensor

from feller.control.fine_tuning.adjoint_matching import AdjointMatching, Full
from feller.control.fine_tuning.discrete_adjoint import DiscreteAdjoint
from feller.core.rng import Draws
from feller.paths import Affine
from feller.paths.time_distributions import linear_grid
from feller.sampling import MemorylessEuler
from feller.spaces import Euclidean
from feller.training.objective import TrainingContext
from tests.control.shifted import Shifted, rate
from tests.oracle import F64, close

FLOW = {"path": Affine(), "space": Euclidean((1,))}
BATCH = {"x_0": Draws(3).at("source").normal((6, 1), F64), "given": {}}


def linear(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return x[:, 0]


def quadratic(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return -1.5 * (x[:, 0] - 2).square()


def gradient(rule, network: Shifted, reward) -> Tensor:
    """Return the mean gradient of a batch, at a network that is not the base."""
    objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=reward))
    network.zero_grad()
    example = objective.draw(BATCH, Draws(1), network)
    (objective.loss(network, example).sum() / len(BATCH["x_0"])).backward()
    return network.gradient()


def test_the_optimal_control_of_a_linear_reward_leaves_no_gradient() -> None:
    """The control -variance / on_velocity a, for a = -strength d end / d state: known without a sample."""
    steps, strength, data = 10, 2.0, Shifted(0.0).data
    times, solver = linear_grid(steps), MemorylessEuler()
    linears = [solver.linear(t, s) for t, s in itertools.pairwise(times)]
    slopes = [1.0]
    for t, step in reversed(list(zip(times[1:-1], linears[1:], strict=True))):
        slopes.insert(0, slopes[0] * (step.on_state + step.on_velocity * rate(data, t)))
    change = [step.variance / step.on_velocity * strength * slope for step, slope in zip(linears, slopes, strict=True)]
    network = Shifted(*change)
    found = gradient(DiscreteAdjoint(**FLOW, strength=strength, steps=steps), network, linear)
    close(found[:-1], [0.0] * steps, 1e-12)
    untuned = gradient(DiscreteAdjoint(**FLOW, strength=strength, steps=steps), Shifted(*[0.0] * steps), linear)
    assert untuned[:-1].max() < -1e-3


def test_loss_is_cost_minus_reward() -> None:
    objective = DiscreteAdjoint(**FLOW, strength=3.0, steps=4).build(
        TrainingContext(reference=Shifted(0.0), reward=quadratic)
    )
    network = Shifted(0.1, 0.2, 0.3, 0.4)
    example = objective.draw(BATCH, Draws(1), network)
    close(objective.loss(network, example).detach(), example["cost"] - 3 * example["reward"], 1e-12)
    assert example["noise"].shape == (6, 4, 1)


def test_the_continuous_adjoint_has_the_same_gradient() -> None:
    """With the same noise, and a linear reward, which does not see that of the last step: exactly."""
    network = Shifted(0.3, -0.1, 0.2, 0.4, 0.1, gain=-0.3)
    through = gradient(DiscreteAdjoint(**FLOW, strength=2.0, steps=5), network, linear)
    back = gradient(AdjointMatching(**FLOW, strength=2.0, steps=5, share=1.0, adjoint=Full()), network, linear)
    close(back, through, 1e-12)


def test_a_curved_reward_sees_the_noise_of_the_last_step_less_and_less() -> None:
    """Its gradient there has the noise h sqrt(2) in it; the sum over the steps is that of the time they take."""
    apart = []
    for steps in (10, 40, 160):
        network = Shifted(*[0.3] * steps, gain=-0.3)
        rules = DiscreteAdjoint(**FLOW, steps=steps), AdjointMatching(**FLOW, steps=steps, share=1.0, adjoint=Full())
        through, back = (gradient(rule, network, quadratic) for rule in rules)
        apart.append(((through.sum() - back.sum()) / through.sum()).abs().item())
    assert apart[0] > 2 * apart[1] > 4 * apart[2]
    assert apart[2] < 0.01


def test_descent_finds_the_tilted_law() -> None:
    """r = 2 x on N(1, 0.25): the mean moves by c s^2 = 0.5, at a cost of 0.5 nats."""
    network, rule = Shifted(*[0.0] * 10), DiscreteAdjoint(**FLOW, strength=2.0, steps=10)
    objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=linear))
    optimiser = torch.optim.LBFGS([network.change], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-15)
    example = objective.draw(BATCH, Draws(1), network)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = objective.loss(network, example).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    after = objective.draw(BATCH, Draws(1), network)  # the same noise
    assert (after["reward"] - example["reward"]).mean().item() == pytest.approx(0.5, abs=0.01)
    assert after["cost"].mean().item() == pytest.approx(0.5, abs=0.01)
