"""Rewards: what a user's function may get wrong is told before it spoils anything."""

import pytest
from torch import Tensor

from feller.control.rewards.reward import reward_gradient, rewarded
from feller.core.errors import InputError
from tests.oracle import close, column

X = column(1.0, 2.0, 3.0)


def test_gradient_of_a_reward() -> None:
    values, slope = reward_gradient(lambda x, given: x.square().sum(1), X, {})
    close(values, (1.0, 4.0, 9.0), 1e-12)
    close(slope, (2.0, 4.0, 6.0), 1e-12)
    assert not slope.requires_grad
    assert not X.requires_grad


def test_leaves_that_are_not_looked_at_have_none() -> None:
    state = {"a": X, "b": X.clone()}
    _, slope = reward_gradient(lambda x, given: x["a"].sum(1), state, {})
    close(slope["a"], (1.0, 1.0, 1.0), 0)
    close(slope["b"], (0.0, 0.0, 0.0), 0)


def root(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return (x[:, 0] - 2).abs().sqrt()


@pytest.mark.parametrize(
    ("reward", "told"),
    [
        (lambda x, given: x, r"one number for each of 3 samples, \[3\]; got a tensor \[3, 1\]"),
        (lambda x, given: x.sum(), r"got a tensor \[\]"),
        (lambda x, given: 3.0, "got a float"),
        (lambda x, given: x[:, 0].log() / (x[:, 0] - 1), "the reward is nan for 1 of 3 samples, the first is number 1"),
        (lambda x, given: x[:, 0].round().detach(), "has no gradient: something in it rounds, counts or leaves torch"),
        (lambda x, given: (x[:, 0] > 1).double(), "has no gradient"),
        (root, "gradient is not finite for 1 of 3 samples, the first is number 2, whose reward is 0"),
    ],
)
def test_what_is_wrong_is_told(reward, told: str) -> None:
    with pytest.raises(InputError, match=told):
        reward_gradient(reward, X, {})


def test_without_a_gradient_it_may_round() -> None:
    close(rewarded(lambda x, given: x[:, 0].round(), X, {}), (1.0, 2.0, 3.0), 0)
