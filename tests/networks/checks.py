"""Checks that hold for every network, and networks with nonzero weights."""

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.networks import NetworkConfig


def perturb_weights(network: Any, scale: float = 0.2) -> Any:
    """Convert to float64 and add Gaussian noise to all weights."""
    draw = Rng(1).stream("weights")
    with torch.no_grad():
        for weight in network.double().parameters():
            weight += scale * draw.normal(weight.shape, torch.float64)
    return network


def randomize_weights(network: Any, std: float = 0.3) -> Any:
    """Replace all weights by Gaussian noise."""
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        nn.init.normal_(weight, std=std, generator=generator)
    return network


def check_learning(network: nn.Module, loss: Callable[[], Tensor], steps: int = 4) -> None:
    """Every parameter must change within a few steps, including those behind layers initialised to zero."""
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert [name for name, weight in network.named_parameters() if torch.equal(weight, before[name])] == []


def check_gradients(network: nn.Module, loss: Callable[..., Tensor], *batch: Any, **tolerance: float) -> None:
    """Per-example gradients by vmap, as in private training, equal those of each example alone.

    Args:
        network: Network to differentiate.
        loss: Function of the network (or a stand-in) and a batch.
        batch: Arguments of the loss, batched.
        tolerance: Arguments of `assert_close`.
    """
    weights = dict(network.named_parameters())

    def alone(weights: dict[str, Tensor], *one: Any) -> Tensor:
        row = [tree_map(lambda leaf: leaf[None], part) for part in one]
        return loss(lambda *inputs: functional_call(network, weights, inputs), *row)

    together = vmap(grad(alone), in_dims=(None, *[0] * len(batch)))(weights, *batch)
    for i in range(len(next(iter(together.values())))):
        network.zero_grad()
        loss(network, *[tree_map(lambda leaf, i=i: leaf[i : i + 1], part) for part in batch]).backward()
        for name, weight in weights.items():
            wanted = torch.zeros_like(weight) if weight.grad is None else weight.grad
            torch.testing.assert_close(together[name][i], wanted, msg=name, **tolerance)


def squares(network: Callable[..., dict[str, Tensor]], *batch: Any) -> Tensor:
    """Return the sum of squares of the output leaves."""
    return sum(leaf.square().sum() for leaf in network(*batch).values())


def check_seed(build: Callable[[int], nn.Module]) -> None:
    """Initial weights depend only on the seed; constant initialisations do not."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build(0).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = build(0).state_dict(), build(1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name, weight in first.items():
        assert torch.equal(weight, other[name]) == (len(weight.unique()) == 1), name


def check_record(architecture: NetworkConfig) -> None:
    """The configuration survives a round trip through JSON."""
    data = json.loads(json.dumps(to_dict(architecture)))
    assert data["is"] == type(architecture).__name__
    assert from_dict(NetworkConfig, data) == architecture
