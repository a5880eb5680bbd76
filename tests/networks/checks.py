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


def moved(network: Any, far: float = 0.2) -> Any:
    """In float64, with noise on all weights."""
    draw = Rng(1).stream("weights")
    with torch.no_grad():
        for weight in network.double().parameters():
            weight += far * draw.normal(weight.shape, torch.float64)
    return network


def drawn(network: Any, std: float = 0.3) -> Any:
    """With all weights drawn anew."""
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        nn.init.normal_(weight, std=std, generator=generator)
    return network


def check_learning(network: nn.Module, loss: Callable[[], Tensor], steps: int = 4) -> None:
    """What starts at zero must not keep anything behind it from learning."""
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert [name for name, weight in network.named_parameters() if torch.equal(weight, before[name])] == []


def check_gradients(network: nn.Module, loss: Callable[..., Tensor], *batch: Any, **tolerance: float) -> None:
    """Gradients of all examples at once, as private training takes them, are those of each alone.

    Args:
        network: Whose weights they are of.
        loss: Of what answers in place of the network, and of examples.
        batch: What the loss takes, example by example.
        tolerance: As `assert_close` has it.
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
    """Sum what a network answers for each leaf, squared."""
    return sum(leaf.square().sum() for leaf in network(*batch).values())


def check_seed(build: Callable[[int], nn.Module]) -> None:
    """New weights come from the seed alone; zeros and ones are what they are."""
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
    """Settings come back from their record."""
    data = json.loads(json.dumps(to_dict(architecture)))
    assert data["is"] == type(architecture).__name__
    assert from_dict(NetworkConfig, data) == architecture
