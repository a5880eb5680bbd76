"""Next-token prediction."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from feller.core.rng import Rng
from feller.networks import CausalTransformer
from feller.sampling.autoregressive.token_decoding import decode, log_likelihood
from feller.spaces import Tokens
from feller.training.objectives.next_token_prediction import NextTokenPrediction


def test_loss_is_the_negative_log_likelihood_per_place() -> None:
    network = CausalTransformer(5, width=8, depth=1, heads=2).build((6,), {"label": 2}, Rng(0)).double()
    torch.nn.init.normal_(network.head.layer.weight)
    draw = Rng(1).stream("batch")
    valid = torch.arange(6).expand(3, 6) < torch.tensor([[6], [4], [1]])
    batch = {"x_1": draw.randint(5, (3, 6)), "given": {"label": draw.randint(2, (3,)), "valid": valid}}
    objective = NextTokenPrediction(Tokens(5, (6,)), cond_dropout=0.0)
    example = objective.draw(batch, Rng(0), network)
    exact = log_likelihood(network, batch["x_1"], batch["given"], valid)
    torch.testing.assert_close(objective.loss(network, example), -exact / 6)
    assert (exact / valid.sum(1) + math.log(5)).abs().min() > 1e-3


def test_tokens_after_eos_are_ignored() -> None:
    x = torch.tensor([[1, 2, 0, 0, 0], [2, 1, 2, 1, 1], [1, 0, 2, 1, 0]])
    valid = torch.arange(5).expand(3, 5) < torch.tensor([[5], [4], [5]])
    logits = Rng(0).stream("logits").normal((3, 5, 3))
    objective = NextTokenPrediction(Tokens(3, (5,)), eos_token_id=0)
    for given in ({}, {"valid": valid}):
        example = objective.draw({"x_1": x, "given": given}, Rng(0))
        counted = [3, 5 if not given else 4, 2]
        wanted = [F.cross_entropy(logits[i, :m], x[i, :m]) * m / 5 for i, m in enumerate(counted)]
        torch.testing.assert_close(objective.loss(lambda x, t, given: logits, example), torch.stack(wanted))


def test_conditions_are_dropped() -> None:
    network = CausalTransformer(3, width=8, depth=1, heads=2).build((4,), {"label": 2}, Rng(0))
    batch = {"x_1": torch.zeros(200, 4, dtype=torch.long), "given": {"label": torch.ones(200, dtype=torch.long)}}
    label = NextTokenPrediction(Tokens(3, (4,)), cond_dropout=0.5).draw(batch, Rng(0), network)["given"]["label"]
    assert 60 < (label == 2).sum() < 140  # beyond 5.6 standard deviations: once in 5e7 seeds


def test_learns_to_repeat_and_to_end() -> None:
    """Texts 0 1 2 0 1 2 ... of two kinds, one turned around, that end with 3 after the sixth token."""
    kinds = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 3], [2, 1, 0, 2, 1, 0, 3, 3]])
    label = torch.arange(8) % 2
    batch = {"x_1": kinds[label], "given": {"label": label}}
    network = CausalTransformer(4, width=16, depth=1, heads=2).build((8,), {"label": 2}, Rng(0))
    objective = NextTokenPrediction(Tokens(4, (8,)), cond_dropout=0.0, eos_token_id=3)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)

    def loss() -> Tensor:
        return objective.loss(network, objective.draw(batch, Rng(0), network)).mean()

    before = loss().item()
    assert math.isclose(before, math.log(4) * 7 / 8, rel_tol=1e-6)  # a new network knows nothing
    for _ in range(60):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss() < 0.02
    drawn = decode(network, 8, 8, {"label": label}, Rng(0), eos_token_id=3)
    assert (drawn == kinds[label]).double().mean() > 0.9
    log_p = log_likelihood(network, kinds, {"label": torch.tensor([0, 1])}, kinds != 3)
    assert (log_p > -0.5).all()
    assert (log_likelihood(network, kinds, {"label": torch.tensor([1, 0])}, kinds != 3) < -2).all()


def test_the_minimiser_is_the_distribution_of_texts_of_all_lengths() -> None:
    """At the true next-token probabilities of "a" and "aaa", each with probability 1/2, the gradient vanishes.

    With a mean over the tokens of each text it would not: "a" would be generated twice as often as "aaa".
    """
    a, end = 0, 1
    texts = torch.tensor([[a, end, end, end], [a, a, a, end]])
    table = torch.tensor([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    logits = table.clamp(min=1e-12).log().requires_grad_()  # position -> the next token, after "a" * position

    def network(x_t: torch.Tensor, t: torch.Tensor, cond: dict[str, torch.Tensor]) -> torch.Tensor:
        return logits.expand(len(x_t), 4, 2)

    objective = NextTokenPrediction(Tokens(2, (4,)), cond_dropout=0.0, eos_token_id=end)
    loss = objective.loss(network, objective.draw({"x_1": texts}, Rng(0))).mean()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() < 1e-9
    assert loss.item() == pytest.approx(math.log(2) / 4)
