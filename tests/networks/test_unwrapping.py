"""Wrapped networks: null values, weights, averages."""

import functools
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from feller.core.rng import Rng
from feller.models.model import Model
from feller.networks.blocks.ema import EMA
from feller.networks.mlp import MLP
from feller.networks.unwrapping import find_modules, iter_networks, null_values, unwrap_network
from feller.paths import Affine
from feller.sampling.guidance import cfg
from feller.spaces import Euclidean
from feller.training.objective import FlowMatching, TrainingContext

N = 400
BATCH = {"x_1": torch.zeros(N, 2), "given": {"label": torch.zeros(N, dtype=torch.long)}}
FLOW = FlowMatching(Affine(), Euclidean((2,)), cond_dropout=0.5)


def network() -> nn.Module:
    return MLP(width=8, depth=1).build((2,), {"label": 3}, Rng(0))


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


def sharded() -> nn.Module:
    from torch.distributed.fsdp import fully_shard  # takes seconds to load

    return fully_shard(network(), mesh=init_device_mesh("cpu", (1,)))


def closed_over() -> Any:
    inner = network()
    return lambda x, t, given: inner(x, t, given)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor, t: Tensor, given: Any) -> Tensor:
        return self.net(x, t, given)


class Holder:
    """A container of a module, itself not a module."""

    def __init__(self) -> None:
        self.net = network()

    def velocity(self, x: Tensor, t: Tensor, given: Any) -> Tensor:
        return self.net(x, t, given)

    def __call__(self, x: Tensor, t: Tensor, given: Any) -> Tensor:
        return self.velocity(x, t, given)


GLOBAL = network()


def helper(x: Tensor, t: Tensor, given: Any) -> Tensor:
    return GLOBAL(x, t, given)


WRAPPED: dict[str, Callable[[], Any]] = {
    "plain": network,
    "DDP": lambda: nn.parallel.DistributedDataParallel(network()),
    "DataParallel": lambda: nn.DataParallel(network()),
    "FSDP2": sharded,
    "AveragedModel": lambda: torch.optim.swa_utils.AveragedModel(network()),
    "EMA": averaged,
    "compile": lambda: torch.compile(network(), backend="eager"),
    "compiled function": lambda: torch.compile(closed_over(), backend="eager"),
    "partial": lambda: functools.partial(network()),
    "lambda": closed_over,
    "lambda of a global": lambda: lambda x, t, given: GLOBAL(x, t, given),
    "list": lambda: functools.partial(lambda nets, x, t, given: nets[0](x, t, given), [network()]),
    "default": lambda: lambda x, t, given, inner=GLOBAL: inner(x, t, given),
    "helper": lambda: lambda x, t, given: helper(x, t, given),
    "decorated": lambda: functools.wraps(network().forward)(lambda *args: None),
    "object": Holder,
    "method": lambda: network().forward,
    "method of an object": lambda: Holder().velocity,
    "module": Outer,
    "guided": lambda: cfg(network(), 2.0),
    "all": lambda: functools.partial(
        torch.compile(torch.optim.swa_utils.AveragedModel(WRAPPED["DDP"]()), backend="eager")
    ),
}


def labels(objective: Any, network: Any = None) -> Tensor:
    return objective.draw(BATCH, Rng(0), network)["given"]["label"]


@pytest.mark.parametrize("name", WRAPPED)
def test_condition_dropout_works_for_wrapped_networks(name: str, gloo: None) -> None:
    wanted = labels(FLOW.build(TrainingContext(null={"label": 3})))
    assert 150 < (wanted == 3).sum() < 250  # five standard deviations
    wrapped = WRAPPED[name]()
    assert null_values(wrapped) == {"label": 3}
    assert torch.equal(labels(FLOW, wrapped), wanted)
    assert torch.equal(labels(replace(FLOW, null={"label": 3})), wanted)


WHOLE = ("plain", "DDP", "DataParallel", "FSDP2", "AveragedModel", "EMA", "compile")


@pytest.mark.parametrize("name", WRAPPED)
def test_unwrapping_finds_network_and_weights(name: str, gloo: None) -> None:
    wrapped = WRAPPED[name]()
    weights = {id(weight) for module in find_modules(wrapped) for weight in module.parameters()}
    inner = next(one for one in iter_networks(wrapped) if isinstance(one, type(GLOBAL)))
    assert weights == {id(weight) for weight in inner.parameters()}
    if name in WHOLE:
        assert unwrap_network(wrapped) is inner
        assert EMA(wrapped).weights.keys() == dict(network().named_parameters()).keys()
    assert unwrap_network(inner) is inner


UNCALLED = ("FSDP2", "compile", "compiled function", "decorated", "all")
"""Those that cannot be called here: checked calls do not compile."""


@pytest.mark.parametrize("name", [name for name in WRAPPED if name not in UNCALLED])
def test_models_of_wrapped_networks_have_null_values(name: str, gloo: None) -> None:
    model = Model(WRAPPED[name](), data=(2,), classes=("a", "b", "c"))
    assert null_values(model.network) == {"label": 3}
    assert model.spec.cond_dropout > 0


def test_condition_dropout_works_per_example() -> None:
    """Private training draws each example by its number, outside of `vmap`."""
    wanted, objective = labels(FLOW, network()), replace(FLOW, null={"label": 3})
    made = network()
    weights = dict(made.named_parameters())

    def loss(weights: Any, example: Any) -> Tensor:
        def call(*args: Any) -> Tensor:
            return torch.func.functional_call(made, weights, args)

        return objective.loss(call, {**example, "x_t": example["x_t"]})[0]

    example = objective.draw(BATCH, Rng(0, 0, N))
    one = {name: example[name][:, None] for name in ("x_t", "t", "target")}
    one["given"] = {"label": example["given"]["label"][:, None]}
    assert torch.equal(one["given"]["label"][:, 0], wanted)
    gradient = torch.vmap(torch.func.grad(loss), (None, 0))(weights, one)
    assert all(leaf.isfinite().all() and len(leaf) == N for leaf in gradient.values())


def test_ambiguous_null_values_are_not_used() -> None:
    one, two = network(), MLP(width=8, depth=1).build((2,), {"label": 5}, Rng(0))
    assert null_values(lambda x, t, given: one(x, t, given) + two(x, t, given)) == {}
    assert null_values(None) == null_values(torch.sin) == {}
    assert [*iter_networks(functools.partial(one))][1] is one
