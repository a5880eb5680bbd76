"""Mean gradients of micro-batches."""

import torch
from torch import Tensor, nn

from feller.core.gradient import MeanGradient


def loss(network: nn.Module, example: dict[str, Tensor]) -> Tensor:
    return (network.weight * example["x"] - 1).square()[:, 0]


def linear() -> nn.Linear:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    return network


def test_mean_divides_by_the_expected_size() -> None:
    """Not by the number of examples that came, which in private training is random."""
    network = linear()
    x = torch.tensor([[1.0], [2.0], [3.0]])
    value = MeanGradient()(loss, network, [{"x": x[:1]}, {"x": x[1:]}], 4.0)
    assert value.item() == (1 + 9 + 25) / 4
    assert network.weight.grad.item() == (2 * 1 + 2 * 3 * 2 + 2 * 5 * 3) / 4


def test_gradients_accumulate() -> None:
    network = linear()
    for _ in range(2):
        MeanGradient()(loss, network, [{"x": torch.ones(1, 1)}], 1.0)
    assert network.weight.grad.item() == 4


def test_an_empty_batch_leaves_no_gradient() -> None:
    network = linear()
    assert MeanGradient()(loss, network, [], 5.0).item() == 0
    assert network.weight.grad is None


def test_the_loss_value_is_detached() -> None:
    assert not MeanGradient()(loss, linear(), [{"x": torch.ones(2, 1)}], 2.0).requires_grad
