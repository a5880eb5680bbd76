"""Null values of conditions through whatever wraps a network: the same share of them is dropped."""

import functools
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from feller.core.rng import Draws
from feller.networks.blocks.ema import EMA
from feller.networks.condition_dropout import inner_networks, null_values
from feller.networks.mlp import MLP
from feller.paths import Affine
from feller.sampling.guidance import cfg
from feller.spaces import Euclidean
from feller.training.objective import FlowMatching, TrainingContext

N = 400
BATCH = {"x_1": torch.zeros(N, 2), "given": {"label": torch.zeros(N, dtype=torch.long)}}
FLOW = FlowMatching(Affine(), Euclidean((2,)), cond_dropout=0.5)


def network() -> nn.Module:
    return MLP(width=8, depth=1).build((2,), {"label": 3}, Draws(0))


@pytest.fixture(scope="module")
def gloo() -> Iterator[None]:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = some.getsockname()[1]
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def averaged() -> Any:
    average = EMA(network())
    average.update()
    return average.network


def closed_over() -> Any:
    inner = network()
    return lambda x, t, given: inner(x, t, given)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor, t: Tensor, given: Any) -> Tensor:
        return self.net(x, t, given)


GLOBAL = network()

WRAPPED: dict[str, Callable[[], Any]] = {
    "plain": network,
    "DDP": lambda: nn.parallel.DistributedDataParallel(network()),
    "AveragedModel": lambda: torch.optim.swa_utils.AveragedModel(network()),
    "EMA": averaged,
    "compile": lambda: torch.compile(network(), backend="eager"),
    "compiled function": lambda: torch.compile(closed_over(), backend="eager"),
    "partial": lambda: functools.partial(network()),
    "lambda": closed_over,
    "lambda of a global": lambda: lambda x, t, given: GLOBAL(x, t, given),
    "method": lambda: network().forward,
    "module": Outer,
    "guided": lambda: cfg(network(), 2.0),
    "all": lambda: functools.partial(
        torch.compile(torch.optim.swa_utils.AveragedModel(WRAPPED["DDP"]()), backend="eager")
    ),
}


def labels(objective: Any, network: Any = None) -> Tensor:
    return objective.draw(BATCH, Draws(0), network)["given"]["label"]


@pytest.mark.parametrize("name", WRAPPED)
def test_the_same_share_is_dropped_whatever_wraps_the_network(name: str, gloo: None) -> None:
    wanted = labels(FLOW.build(TrainingContext(null={"label": 3})))
    assert 150 < (wanted == 3).sum() < 250  # five standard deviations
    wrapped = WRAPPED[name]()
    assert null_values(wrapped) == {"label": 3}
    assert torch.equal(labels(FLOW, wrapped), wanted)
    assert torch.equal(labels(replace(FLOW, null={"label": 3})), wanted)


def test_the_same_share_is_dropped_where_losses_are_taken_apart() -> None:
    """Private training draws each example by its number, outside of `vmap`."""
    wanted, objective = labels(FLOW, network()), replace(FLOW, null={"label": 3})
    made = network()
    weights = dict(made.named_parameters())

    def loss(weights: Any, example: Any) -> Tensor:
        def call(*args: Any) -> Tensor:
            return torch.func.functional_call(made, weights, args)

        return objective.loss(call, {**example, "x_t": example["x_t"]})[0]

    example = objective.draw(BATCH, Draws(0, 0, N))
    one = {name: example[name][:, None] for name in ("x_t", "t", "target")}
    one["given"] = {"label": example["given"]["label"][:, None]}
    assert torch.equal(one["given"]["label"][:, 0], wanted)
    gradient = torch.vmap(torch.func.grad(loss), (None, 0))(weights, one)
    assert all(leaf.isfinite().all() and len(leaf) == N for leaf in gradient.values())


def test_networks_that_differ_say_nothing() -> None:
    one, two = network(), MLP(width=8, depth=1).build((2,), {"label": 5}, Draws(0))
    assert null_values(lambda x, t, given: one(x, t, given) + two(x, t, given)) == {}
    assert null_values(None) == null_values(torch.sin) == {}
    assert [*inner_networks(functools.partial(one))][1] is one
