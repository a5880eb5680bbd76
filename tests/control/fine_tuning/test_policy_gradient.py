"""The policy gradient: its mean is the gradient of the control problem, which the discrete adjoint has exactly."""

import pytest
import torch
from torch import Tensor

from feller.control.fine_tuning.discrete_adjoint import DiscreteAdjoint
from feller.control.fine_tuning.policy_gradient import PolicyGradient
from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.paths import Affine
from feller.spaces import Euclidean
from feller.training.objective import TrainingContext
from tests.control.shifted import Shifted
from tests.oracle import F64, close

STEPS, ROWS, BATCHES = 4, 256, 60
FLOW = {"path": Affine(), "space": Euclidean((1,)), "strength": 1.0, "steps": STEPS}


def reward(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return -1.5 * (x[:, 0] - 2).square()


def gradients(rule) -> Tensor:
    """Return the mean gradients of some batches, at a network that is not the base, [batches, weights]."""
    network, found = Shifted(0.3, -0.2, 0.5, 0.4, gain=-0.3), []
    objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=reward))
    for number in range(BATCHES):
        network.zero_grad()
        draws = Draws(5).named(number)
        batch = {"x_0": draws.at("source").normal((ROWS, 1), F64), "given": {}}
        (objective.loss(network, objective.draw(batch, draws, network)).sum() / ROWS).backward()
        found.append(network.gradient())
    return torch.stack(found)


def test_mean_gradient_is_that_of_the_control_problem() -> None:
    """15,360 roll-outs each; a false alarm of one of five numbers at 4 standard errors in 3,000 seeds."""
    ours, known = gradients(PolicyGradient(**FLOW)), gradients(DiscreteAdjoint(**FLOW))
    error = ((ours.var(0) + known.var(0)) / BATCHES).sqrt()
    assert ((ours.mean(0) - known.mean(0)) / error).abs().max() < 4
    assert (known.mean(0).abs() / error).max() > 20  # there is a gradient to miss


def test_others_are_the_baseline() -> None:
    """Advantages of a step add to zero times rows over others; the gain of a step lacks its own cost."""
    network = Shifted(0.3, -0.2, 0.5, 0.4)
    objective = PolicyGradient(**FLOW).build(TrainingContext(reference=Shifted(0.0), reward=reward))
    batch = {"x_0": Draws(0).at("source").normal((3, 1), F64), "given": {}}
    example = objective.draw(batch, Draws(1), network)
    advantage = example["advantage"].view(3, STEPS)
    close(advantage.sum(0), [0.0] * STEPS, 1e-12)
    gain = example["reward"].view(3, STEPS)[:, -1]  # after the last step nothing costs; costs are alike in all rows
    close(advantage[:, -1], 1.5 * (gain - gain.mean()), 1e-12)
    assert example["x_t"].shape == (3 * STEPS, 1)


def test_states_lead_to_each_other() -> None:
    """With noise in every step, the last too: `reached` is the velocity that would have led there without."""
    network = Shifted(0.3, -0.2, 0.5, 0.4)
    objective = PolicyGradient(**FLOW).build(TrainingContext(reference=Shifted(0.0), reward=reward))
    batch = {"x_0": Draws(0).at("source").normal((5000, 1), F64), "given": {}}
    example = objective.draw(batch, Draws(1), network)
    way = example["reached"] - network(example["x_t"], example["t"], {}).detach()
    noise = (way[:, 0] * example["weight"].sqrt()).view(-1, STEPS)
    assert noise.mean(0).abs().max() < 4 * 5000**-0.5
    assert (noise.var(0) - 1).abs().max() < 4 * (2 / 5000) ** 0.5


def test_a_roll_out_alone_has_nothing_to_be_compared_with() -> None:
    objective = PolicyGradient(**FLOW).build(TrainingContext(reference=Shifted(0.0), reward=reward))
    with pytest.raises(UsageError, match="batch of 2 or more"):
        objective.draw({"x_0": torch.zeros(1, 1, dtype=F64)}, Draws(0), Shifted(0.0))
