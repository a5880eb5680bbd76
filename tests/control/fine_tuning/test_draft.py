"""Direct gradients: closed forms of linear steps."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from feller.control.fine_tuning.draft import DirectGradient, OneStep
from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.paths import Affine, Geodesic
from feller.paths.time_distributions import linear_grid
from feller.spaces import Euclidean, Sphere
from feller.training.objective import TrainingContext
from tests.control.shifted import Shifted, rate
from tests.oracle import F64, close, column

STEPS = 5
CHANGE = (0.1, -0.2, 0.3, 0.2, -0.1)
SOURCE = column(0.3, -1.0)


def reward(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return -1.5 * (x[:, 0] - 2).square()


def euler(network: Shifted) -> tuple[list[Tensor], list[float]]:
    """Return the states of Euler's steps, and the slope of the end in the end of each step."""
    states, h = [SOURCE], 1 / STEPS
    times = linear_grid(STEPS)
    for t in times[:-1]:
        x = states[-1]
        states.append(x + h * network(x, torch.full((len(x),), t, dtype=F64), {}).detach())
    slopes = [1.0]
    for t in reversed(times[1:-1]):
        slopes.insert(0, slopes[0] * (1 + h * rate(network.data, t)))
    return states, slopes


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("last", [1, 3, STEPS])
def test_gradient_through_the_last_steps(last: int, recompute: bool) -> None:
    """d reward / d change of a step is reward'(end) h times the slopes of the steps after it; none before the last."""
    network, strength = Shifted(*CHANGE), 2.0
    rule = DirectGradient(
        path=Affine(), space=Euclidean((1,)), strength=strength, last=last, steps=STEPS, recompute=recompute
    )
    objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=reward))
    example = objective.draw({"x_0": SOURCE, "given": {}}, Draws(0), network)
    states, slopes = euler(network)
    close(example["reward"], reward(states[-1], {}), 1e-12)
    loss = objective.loss(network, example)
    close(loss.detach(), -strength * reward(states[-1], {}), 1e-12)
    loss.sum().backward()
    pull = (-3 * (states[-1] - 2)).sum().item()
    wanted = [-strength * pull * slope / STEPS if k >= STEPS - last else 0.0 for k, slope in enumerate(slopes)]
    close(network.change.grad, wanted, 1e-10)


def test_one_step_goes_to_the_foreseen_end() -> None:
    """x + (1 - t) v is the mean of what can come, and only the change at t gets a gradient, with the factor 1 - t."""
    network, rows = Shifted(*CHANGE), 400
    rule = OneStep(path=Affine(), space=Euclidean((1,)), steps=STEPS)
    objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=reward))
    batch = {"x_0": SOURCE.repeat(rows // 2, 1), "given": {}}
    example = objective.draw(batch, Draws(0), network)
    states, _ = euler(network)
    number = (example["t"] * STEPS).round().long()
    assert torch.bincount(number, minlength=STEPS).min() > rows / STEPS / 2  # by chance once in 1e6
    picked = torch.stack(states)[number, torch.arange(rows) % 2]
    close(example["x_t"], picked, 1e-12)
    close(example["reward"], reward(states[-1], {}).repeat(rows // 2), 1e-12)
    loss = objective.loss(network, example)
    v = network(picked, example["t"], {}).detach()
    ends = picked + (1 - example["t"])[:, None] * v
    close(loss.detach(), -reward(ends, {}), 1e-12)
    loss.sum().backward()
    each = 3 * (ends[:, 0] - 2) * (1 - example["t"])
    close(network.change.grad, torch.zeros(STEPS, dtype=F64).index_add(0, number, each), 1e-9)


def test_foreseen_ends_lie_in_the_space() -> None:
    """On the sphere a long step follows a great circle."""
    space = Sphere(2)
    rule = OneStep(path=Geodesic(space), space=space, steps=2)
    seen: list[Tensor] = []

    def last_entry(x: Tensor, given: dict[str, Tensor]) -> Tensor:
        seen.append(x)
        return x[:, 2]

    def around(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.stack([-x[:, 1], x[:, 0], 0 * x[:, 2]], 1) * math.pi / 2

    objective = rule.build(TrainingContext(reference=around, reward=last_entry))
    x_0 = torch.tensor([[1.0, 0.0, 0.0]] * 8, dtype=F64)
    objective.loss(around, objective.draw({"x_0": x_0}, Draws(0), around))
    for end in seen:
        close(end, [[0.0, 1.0, 0.0]] * 8, 1e-12)


@pytest.mark.parametrize("last", [0, 6])
def test_steps_that_are_not_there(last: int) -> None:
    with pytest.raises(UsageError, match="through 1 to 5 steps"):
        DirectGradient(path=Affine(), space=Euclidean((1,)), steps=5, last=last)


def test_more_steps_of_gradient_make_more_of_it() -> None:
    """The truncated gradient leaves out what the full one has."""
    sums = []
    for last in (1, 2, 5):
        network = Shifted(*CHANGE)
        rule = DirectGradient(path=Affine(), space=Euclidean((1,)), steps=STEPS, last=last)
        objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=reward))
        objective.loss(network, objective.draw({"x_0": SOURCE}, Draws(0), network)).sum().backward()
        sums.append(network.change.grad.count_nonzero().item())
    assert all(a < b for a, b in itertools.pairwise(sums))
