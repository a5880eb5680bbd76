"""Regression and classification of targets."""

import math

import torch
from torch import nn

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.batches import shuffled_loader
from feller.data.modality import Target
from feller.networks import MLP, Regressor
from feller.spaces import Euclidean
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objectives.regression import Regression
from feller.training.optimizer import TrainConfig
from tests.errors import refuses
from tests.oracle import F64, close

TWO = Target(("a", "b"), (1.0, 10.0), (2.0, 5.0))


def test_loss_is_the_standardised_squared_error() -> None:
    rule = Regression(TWO, Euclidean((1,)))
    batch = {"x_1": torch.zeros(2, 1, dtype=F64), "target": torch.tensor([[1.0, 10.0], [5.0, 0.0]], dtype=F64)}
    example = rule.draw(batch, Rng(0))
    close(example["target"], [[0.0, 0.0], [2.0, -2.0]], 1e-12)
    close(rule.loss(lambda x, t, given: torch.ones(2, 2, dtype=F64), example), (1.0, (1 + 9) / 2), 1e-12)


def test_loss_of_a_class_is_cross_entropy() -> None:
    rule = Regression(Target(("label",), classes=("x", "y")), Euclidean((1,)))
    example = rule.draw({"x_1": torch.zeros(2, 1), "target": torch.tensor([[0.0], [1.0]], dtype=F64)}, Rng(0))
    found = rule.loss(lambda x, t, given: torch.tensor([[0.0, math.log(3.0)]] * 2), example)
    close(found, (math.log(4.0), math.log(4.0 / 3.0)), 1e-6)


def test_noise_is_on_real_leaves_only() -> None:
    rule = Regression(TWO, Euclidean((1,)), noise_std=0.5)
    x = {"place": torch.zeros(4000, 2, dtype=F64), "element": torch.ones(4000, 2, dtype=torch.long)}
    drawn = rule.draw({"x_1": x, "target": torch.zeros(4000, 2, dtype=F64)}, Rng(0))["x_t"]
    assert torch.equal(drawn["element"], x["element"])
    assert abs(drawn["place"].std().item() - 0.5) < 0.02  # 5 standard errors


def test_the_conditional_mean_is_learned() -> None:
    """y = a b + noise of deviation 0.5, whose share of the variance nobody explains; a line would explain nothing."""
    draw = Rng(0).stream("data")
    x, noise = draw.normal((4000, 2)), draw.normal((4000, 1), F64)
    truth = x.prod(1, keepdim=True).double()
    y = 3 + truth + 0.5 * noise
    rule = Regression(Target(("y",), (y.mean().item(),), (y.std().item(),)), Euclidean((2,)))
    training = TrainConfig(batch_size=128, steps=500, lr=5e-3, warmup=20, lr_decay_fraction=0.7, ema_decay=0.9)
    learner = make_train_state(Regressor(MLP(32, 2), 1).build((2,), {}, Rng(0)), training)
    feed = shuffled_loader({"x_1": x, "target": y}, training.batch_size, Rng(0))
    for _ in train(learner, rule, feed, training, rng=Rng(0), engine=get_engine()):
        pass
    learner.ema.copy_to(learner.network)
    fresh = Rng(1).stream("data").normal((2000, 2))
    about = rule.target
    with torch.no_grad():
        told = learner.network(fresh, torch.zeros(2000), {}).double() * about.scales[0] + about.means[0]
    error = told[:, 0] - (3 + fresh.double().prod(1))
    assert error.abs().median() < 0.1  # the noise is 0.5; seen with this seed: 0.05
    assert isinstance(learner.network, nn.Module)


def test_settings_out_of_range_are_refused() -> None:
    with refuses(UsageError, argument="noise_std", found="-1"):
        Regression(TWO, Euclidean((1,)), noise_std=-1.0)
    for wrong in (((), (), ()), (("a",), (0.0,), (0.0,)), (("a", "b"), (0.0,), (1.0,))):
        with refuses(InputError):
            Target(*wrong)
