"""Gradients of the discrete adjoint and of the policy gradient."""

import itertools

import torch
from torch import Tensor

from feller.control.fine_tuning.adjoint_matching import AdjointMatching, FullAdjoint
from feller.control.fine_tuning.discrete_adjoint import DiscreteAdjoint
from feller.control.fine_tuning.policy_gradient import PolicyGradient
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import Affine
from feller.paths.time_distributions import linear_grid
from feller.sampling import MemorylessEuler
from feller.spaces import Euclidean
from feller.training.objective import TrainingContext
from tests.control.shifted import Shifted, rate
from tests.errors import refuses
from tests.oracle import F64, close

FLOW = {"path": Affine(), "space": Euclidean((1,))}
BATCH = {"x_0": Rng(3).stream("source").normal((6, 1), F64), "given": {}}


def linear(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return x[:, 0]


def quadratic(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return -1.5 * (x[:, 0] - 2).square()


def gradient(rule, network: Shifted, reward) -> Tensor:
    """Return the mean gradient of a batch, at a network that is not the base."""
    objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=reward))
    network.zero_grad()
    example = objective.draw(BATCH, Rng(1), network)
    (objective.loss(network, example).sum() / len(BATCH["x_0"])).backward()
    return network.gradient()


def test_gradient_vanishes_at_the_optimal_control() -> None:
    """The control -variance / on_velocity a, for a = -strength d end / d state: known without a sample."""
    steps, strength, data = 10, 2.0, Shifted(0.0).data
    times, solver = linear_grid(steps), MemorylessEuler()
    linears = [solver.linear_step(t, s) for t, s in itertools.pairwise(times)]
    slopes = [1.0]
    for t, step in reversed(list(zip(times[1:-1], linears[1:], strict=True))):
        slopes.insert(0, slopes[0] * (step.on_state + step.on_velocity * rate(data, t)))
    change = [step.variance / step.on_velocity * strength * slope for step, slope in zip(linears, slopes, strict=True)]
    network = Shifted(*change)
    found = gradient(DiscreteAdjoint(**FLOW, reward_scale=strength, steps=steps), network, linear)
    close(found[:-1], [0.0] * steps, 1e-12)
    untuned = gradient(DiscreteAdjoint(**FLOW, reward_scale=strength, steps=steps), Shifted(*[0.0] * steps), linear)
    assert untuned[:-1].max() < -1e-3


def test_loss_is_cost_minus_reward() -> None:
    objective = DiscreteAdjoint(**FLOW, reward_scale=3.0, steps=4).build(
        TrainingContext(reference=Shifted(0.0), reward=quadratic)
    )
    network = Shifted(0.1, 0.2, 0.3, 0.4)
    example = objective.draw(BATCH, Rng(1), network)
    close(objective.loss(network, example).detach(), example["cost"] - 3 * example["reward"], 1e-12)
    assert example["noise"].shape == (6, 4, 1)


def test_gradient_of_the_full_adjoint_is_equal() -> None:
    """With the same noise, and a linear reward, which does not see that of the last step: exactly."""
    network = Shifted(0.3, -0.1, 0.2, 0.4, 0.1, gain=-0.3)
    through = gradient(DiscreteAdjoint(**FLOW, reward_scale=2.0, steps=5), network, linear)
    back = gradient(
        AdjointMatching(**FLOW, reward_scale=2.0, steps=5, step_fraction=1.0, adjoint=FullAdjoint()), network, linear
    )
    close(back, through, 1e-12)


def test_gradient_of_the_full_adjoint_converges() -> None:
    """Its gradient there has the noise h sqrt(2) in it; the sum over the steps is that of the time they take."""
    apart = []
    for steps in (10, 40, 160):
        network = Shifted(*[0.3] * steps, gain=-0.3)
        rules = (
            DiscreteAdjoint(**FLOW, steps=steps),
            AdjointMatching(**FLOW, steps=steps, step_fraction=1.0, adjoint=FullAdjoint()),
        )
        through, back = (gradient(rule, network, quadratic) for rule in rules)
        apart.append(((through.sum() - back.sum()) / through.sum()).abs().item())
    assert apart[0] > 2 * apart[1] > 4 * apart[2]
    assert apart[2] < 0.01


STEPS, ROWS, BATCHES = 4, 256, 60
STRONG = {"path": Affine(), "space": Euclidean((1,)), "reward_scale": 1.0, "steps": STEPS}


def gradients(rule) -> Tensor:
    """Return the mean gradients of some batches, at a network that is not the base, [batches, weights]."""
    network, found = Shifted(0.3, -0.2, 0.5, 0.4, gain=-0.3), []
    objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=quadratic))
    for number in range(BATCHES):
        network.zero_grad()
        draws = Rng(5).fold_in(number)
        batch = {"x_0": draws.stream("source").normal((ROWS, 1), F64), "given": {}}
        (objective.loss(network, objective.draw(batch, draws, network)).sum() / ROWS).backward()
        found.append(network.gradient())
    return torch.stack(found)


def test_policy_gradient_is_unbiased() -> None:
    """15,360 roll-outs each; a false alarm of one of five numbers at 4 standard errors in 3,000 seeds."""
    ours, known = gradients(PolicyGradient(**STRONG)), gradients(DiscreteAdjoint(**STRONG))
    error = ((ours.var(0) + known.var(0)) / BATCHES).sqrt()
    assert ((ours.mean(0) - known.mean(0)) / error).abs().max() < 4
    assert (known.mean(0).abs() / error).max() > 20  # there is a gradient to miss


def test_policy_gradient_baseline() -> None:
    """Advantages of a step sum to zero; the gain of a step excludes its own cost."""
    network = Shifted(0.3, -0.2, 0.5, 0.4)
    objective = PolicyGradient(**STRONG).build(TrainingContext(reference=Shifted(0.0), reward=quadratic))
    batch = {"x_0": Rng(0).stream("source").normal((3, 1), F64), "given": {}}
    example = objective.draw(batch, Rng(1), network)
    advantage = example["advantage"].view(3, STEPS)
    close(advantage.sum(0), [0.0] * STEPS, 1e-12)
    gain = example["reward"].view(3, STEPS)[:, -1]  # after the last step nothing costs; costs are alike in all rows
    close(advantage[:, -1], 1.5 * (gain - gain.mean()), 1e-12)
    assert example["x_t"].shape == (3 * STEPS, 1)


def test_policy_gradient_noise() -> None:
    network = Shifted(0.3, -0.2, 0.5, 0.4)
    objective = PolicyGradient(**STRONG).build(TrainingContext(reference=Shifted(0.0), reward=quadratic))
    batch = {"x_0": Rng(0).stream("source").normal((5000, 1), F64), "given": {}}
    example = objective.draw(batch, Rng(1), network)
    way = example["reached"] - network(example["x_t"], example["t"], {}).detach()
    noise = (way[:, 0] * example["weight"].sqrt()).view(-1, STEPS)
    assert noise.mean(0).abs().max() < 4 * 5000**-0.5
    assert (noise.var(0) - 1).abs().max() < 4 * (2 / 5000) ** 0.5


def test_policy_gradient_needs_two_rows() -> None:
    objective = PolicyGradient(**STRONG).build(TrainingContext(reference=Shifted(0.0), reward=quadratic))
    with refuses(UsageError):
        objective.draw({"x_0": torch.zeros(1, 1, dtype=F64)}, Rng(0), Shifted(0.0))
