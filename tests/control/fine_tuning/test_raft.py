"""Training on the best samples: which they are, and where it leads."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from feller.control.fine_tuning.raft import Filtered
from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.paths import Affine, Data, Jump, Mixture
from feller.spaces import Euclidean, Tokens
from feller.training.objective import TrainingContext
from tests.control.shifted import Shifted
from tests.oracle import F64, close

FLOW = {"path": Affine(), "space": Euclidean((1,))}


def linear(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return x[:, 0]


def test_the_best_quarter_is_kept() -> None:
    """Of N(1, 0.25): mean 1 + 1.2711 s and variance 0.2416 s^2, those of a normal law above its upper quartile."""
    n = 20_000
    objective = Filtered(**FLOW).build(TrainingContext(reference=Shifted(0.0), reward=linear))
    batch = {"x_0": Draws(0).at("source").normal((n, 1), F64), "given": {}}
    example = objective.draw(batch, Draws(1), Shifted(0.0))
    kept = example["x_t"] + (1 - example["t"])[:, None] * example["target"]
    assert len(kept) == n
    close(kept[: n // 4], kept[n // 4 : n // 2], 1e-6)  # each as often as the others
    assert kept.mean().item() == pytest.approx(1 + 1.2711 / 2, abs=4 * 0.25 / math.sqrt(n / 4))
    assert kept.var().item() == pytest.approx(0.2416 / 4, rel=0.1)
    assert example["reward"].mean().item() == pytest.approx(1, abs=0.02)  # of all, so that progress is seen
    assert example["t"].std() > 0.25
    source = example["x_t"] - example["t"][:, None] * example["target"]
    assert abs(torch.corrcoef(torch.cat([source, kept], 1).T)[0, 1]) < 0.03  # not the sources that led there


def test_rounds_narrow_the_law() -> None:
    """Each round fits the normal law of what was kept; variances shrink by 0.2416, and nothing stops it."""
    variance, mean = [0.25], [1.0]
    for number in range(3):
        network = Shifted(0.0, variance=variance[-1])
        network.data = type(network.data)(m=mean[-1], s=variance[-1] ** 0.5)
        objective = Filtered(**FLOW, steps=40).build(TrainingContext(reference=network, reward=linear))
        batch = {"x_0": Draws(number).at("source").normal((20_000, 1), F64), "given": {}}
        example = objective.draw(batch, Draws(number), network)
        kept = example["x_t"] + (1 - example["t"])[:, None] * example["target"]
        mean.append(kept.mean().item())
        variance.append(kept.var().item())
    assert [b / a for a, b in itertools.pairwise(variance)] == pytest.approx([0.2416] * 3, rel=0.1)
    assert mean[-1] - 1 == pytest.approx(1.2711 * 0.5 * (1 + 0.2416**0.5 + 0.2416), rel=0.03)


def test_any_prediction_is_learned() -> None:
    """With the prediction of data, the target is what was kept."""

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.ones_like(x)

    objective = Filtered(path=Affine(prediction=Data()), space=Euclidean((1,)), share=0.5).build(
        TrainingContext(reference=network, reward=linear)
    )
    batch = {"x_0": Draws(0).at("source").normal((8, 1), F64), "given": {}}
    example = objective.draw(batch, Draws(1), network)
    close(example["target"], [[1.0]] * 8, 1e-9)
    close(objective.loss(network, example), [0.0] * 8, 1e-9)


def test_labels_stay_with_what_was_kept() -> None:
    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return given["label"][:, None].double() - x

    objective = Filtered(**FLOW, share=0.25).build(
        TrainingContext(reference=network, reward=lambda x, given: given["label"].double())
    )
    batch = {"x_0": torch.zeros(8, 1, dtype=F64), "given": {"label": torch.arange(8)}}
    assert objective.draw(batch, Draws(0), network)["given"]["label"].tolist() == [7, 6] * 4


def test_tokens_are_learned_by_cross_entropy() -> None:
    """What is kept of uniform tokens are those that the reward likes."""
    rule = Filtered(path=Mixture(), space=Tokens(4, (3,)), steps=4)

    def logits(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.zeros(*x.shape, 4)

    objective = rule.build(TrainingContext(reference=logits, reward=lambda x, given: (x == 2).sum(1).float()))
    example = objective.draw({"x_0": Draws(0).at("source").integers(4, (64, 3))}, Draws(1), logits)
    assert (example["target"] == 2).double().mean() > 0.4  # 0.25 of all
    close(objective.loss(logits, example), [math.log(4)] * 64, 1e-6)


def test_jumps_of_numbers_are_not_learned_so() -> None:
    with pytest.raises(UsageError, match="flows or tokens"):
        Filtered(path=Jump(), space=Euclidean((1,)))


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_shares_out_of_range(share: float) -> None:
    with pytest.raises(UsageError, match="share"):
        Filtered(**FLOW, share=share)
