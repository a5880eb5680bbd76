"""DRaFT, ReFL and RAFT."""

import math

import pytest
import torch
from torch import Tensor

from feller.control.fine_tuning.draft import DRaFT, ReFL
from feller.control.fine_tuning.raft import RAFT
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import Affine, DataPrediction, Geodesic, JumpPath, Mixture
from feller.paths.time_distributions import linear_grid
from feller.spaces import Euclidean, Sphere, Tokens
from feller.training.objective import TrainingContext
from tests.control.shifted import Shifted, rate
from tests.errors import refuses
from tests.oracle import F64, close, column

FLOW = {"path": Affine(), "space": Euclidean((1,))}
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
    rule = DRaFT(**FLOW, reward_scale=strength, backprop_steps=last, steps=STEPS, recompute=recompute)
    objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=reward))
    example = objective.draw({"x_0": SOURCE, "given": {}}, Rng(0), network)
    states, slopes = euler(network)
    close(example["reward"], reward(states[-1], {}), 1e-12)
    loss = objective.loss(network, example)
    close(loss.detach(), -strength * reward(states[-1], {}), 1e-12)
    loss.sum().backward()
    pull = (-3 * (states[-1] - 2)).sum().item()
    wanted = [-strength * pull * slope / STEPS if k >= STEPS - last else 0.0 for k, slope in enumerate(slopes)]
    close(network.change.grad, wanted, 1e-10)


def test_refl_gradient() -> None:
    """x + (1 - t) v is the mean of what can come, and only the change at t gets a gradient, with the factor 1 - t."""
    network, rows = Shifted(*CHANGE), 400
    rule = ReFL(**FLOW, steps=STEPS)
    objective = rule.build(TrainingContext(reference=Shifted(0.0), reward=reward))
    batch = {"x_0": SOURCE.repeat(rows // 2, 1), "given": {}}
    example = objective.draw(batch, Rng(0), network)
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


def test_refl_on_a_sphere() -> None:
    space = Sphere(2)
    rule = ReFL(path=Geodesic(space), space=space, steps=2)
    seen: list[Tensor] = []

    def last_entry(x: Tensor, given: dict[str, Tensor]) -> Tensor:
        seen.append(x)
        return x[:, 2]

    def around(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.stack([-x[:, 1], x[:, 0], 0 * x[:, 2]], 1) * math.pi / 2

    objective = rule.build(TrainingContext(reference=around, reward=last_entry))
    x_0 = torch.tensor([[1.0, 0.0, 0.0]] * 8, dtype=F64)
    objective.loss(around, objective.draw({"x_0": x_0}, Rng(0), around))
    for end in seen:
        close(end, [[0.0, 1.0, 0.0]] * 8, 1e-12)


@pytest.mark.parametrize(
    "make",
    [
        *(lambda last=last: DRaFT(**FLOW, steps=5, backprop_steps=last) for last in (0, 6)),
        *(lambda share=share: RAFT(**FLOW, top_fraction=share) for share in (0.0, 1.5)),
        lambda: RAFT(path=JumpPath(), space=Euclidean((1,))),
    ],
)
def test_invalid_settings(make) -> None:
    with refuses(UsageError):
        make()


def linear(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return x[:, 0]


def test_raft_keeps_the_best_quarter() -> None:
    """Of N(1, 0.25): mean 1 + 1.2711 s and variance 0.2416 s^2, those of a normal law above its upper quartile."""
    n = 20_000
    objective = RAFT(**FLOW).build(TrainingContext(reference=Shifted(0.0), reward=linear))
    batch = {"x_0": Rng(0).stream("source").normal((n, 1), F64), "given": {}}
    example = objective.draw(batch, Rng(1), Shifted(0.0))
    kept = example["x_t"] + (1 - example["t"])[:, None] * example["target"]
    assert len(kept) == n
    close(kept[: n // 4], kept[n // 4 : n // 2], 1e-6)  # each as often as the others
    assert kept.mean().item() == pytest.approx(1 + 1.2711 / 2, abs=4 * 0.25 / math.sqrt(n / 4))
    assert kept.var().item() == pytest.approx(0.2416 / 4, rel=0.1)
    assert example["reward"].mean().item() == pytest.approx(1, abs=0.02)  # of all, so that progress is seen
    assert example["t"].std() > 0.25
    source = example["x_t"] - example["t"][:, None] * example["target"]
    assert abs(torch.corrcoef(torch.cat([source, kept], 1).T)[0, 1]) < 0.03  # not the sources that led there


def test_raft_with_data_prediction() -> None:
    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.ones_like(x)

    objective = RAFT(path=Affine(prediction=DataPrediction()), space=Euclidean((1,)), top_fraction=0.5).build(
        TrainingContext(reference=network, reward=linear)
    )
    batch = {"x_0": Rng(0).stream("source").normal((8, 1), F64), "given": {}}
    example = objective.draw(batch, Rng(1), network)
    close(example["target"], [[1.0]] * 8, 1e-9)
    close(objective.loss(network, example), [0.0] * 8, 1e-9)


def test_raft_keeps_labels() -> None:
    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return given["label"][:, None].double() - x

    objective = RAFT(**FLOW, top_fraction=0.25).build(
        TrainingContext(reference=network, reward=lambda x, given: given["label"].double())
    )
    batch = {"x_0": torch.zeros(8, 1, dtype=F64), "given": {"label": torch.arange(8)}}
    assert objective.draw(batch, Rng(0), network)["given"]["label"].tolist() == [7, 6] * 4


def test_raft_of_tokens() -> None:
    rule = RAFT(path=Mixture(), space=Tokens(4, (3,)), steps=4)

    def logits(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.zeros(*x.shape, 4)

    objective = rule.build(TrainingContext(reference=logits, reward=lambda x, given: (x == 2).sum(1).float()))
    example = objective.draw({"x_0": Rng(0).stream("source").randint(4, (64, 3))}, Rng(1), logits)
    assert (example["target"] == 2).double().mean() > 0.4  # 0.25 of all
    close(objective.loss(logits, example), [math.log(4)] * 64, 1e-6)
