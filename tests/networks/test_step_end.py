"""Networks that take the end of a step, and processes that pass it on."""

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.pytree import STEP_END, tree_map
from feller.core.rng import Rng
from feller.networks import DiT, NetworkConfig, RealCodec, SetTransformer, UNet, UNetND
from feller.networks.blocks.ema import EMA
from feller.networks.mlp import MLP
from feller.networks.step_end import WithStepEnd, load_start_weights
from feller.networks.unwrapping import takes_step_end
from feller.paths import Affine, ProductPath
from feller.paths.processes import clamp, freeze_leaves
from feller.sampling import Euler, simulate
from feller.sampling.guidance import cfg
from feller.spaces import Euclidean
from feller.spaces import Product as ProductSpace
from tests.errors import refuses
from tests.oracle import close

NETWORKS = {
    "mlp": (MLP(8, 1), (3,)),
    "unet": (UNet(8, (1,), 1, (True,)), (1, 4, 4)),
    "dit": (DiT(1, 16, 1, 2), (1, 4, 4)),
    "grid": (UNetND(8, (1, 2), 1), (8, 1)),
    "set": (
        SetTransformer({"a": RealCodec(), "b": RealCodec()}, width=16, depth=1, heads=2),
        {"a": (3, 2), "b": (3, 1)},
    ),
}


def jitter(network: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_starts_as_the_network_without_an_end(name: str) -> None:
    """With its weights, for every end; then the end matters, and without it the step is empty."""
    config, shape = NETWORKS[name]
    plain = jitter(config.build(shape, {"label": 3}, Rng(0)))
    network = WithStepEnd(config).build(shape, {"label": 3}, Rng(1))
    load_start_weights(network, plain.state_dict())
    draw = Rng(2).stream("x")
    x = {k: draw.normal((4, *v)) for k, v in shape.items()} if isinstance(shape, dict) else draw.normal((4, *shape))
    t, s, cond = torch.linspace(0, 0.6, 4), torch.linspace(0.5, 1, 4), {"label": torch.arange(4)}
    times = dict.fromkeys(shape, t) if isinstance(shape, dict) else t
    ended = {**cond, STEP_END: s}
    assert all(map(takes_step_end, (network, cfg(network, 2.0), EMA(network, 0.9).network)))
    assert not takes_step_end(plain)
    tree_map(lambda a, b: close(a, b, 1e-5), network(x, times, ended), plain(x, times, cond))
    jitter(network)
    tree_map(lambda a, b: close(a, b, 1e-5), network(x, times, {**cond, STEP_END: t}), network(x, times, cond))
    differences = tree_map(lambda a, b: (a - b).abs().max(), network(x, times, ended), network(x, times, cond))
    assert max(differences.values() if isinstance(shape, dict) else [differences]) > 1e-4
    again = WithStepEnd(config).build(shape, {"label": 3}, Rng(3))
    load_start_weights(again, network.state_dict())  # from a flow map
    tree_map(lambda a, b: close(a, b, 1e-6), again(x, times, ended), network(x, times, ended))


def test_networks_that_cannot_take_an_end() -> None:
    class Table(NetworkConfig):
        def build(self, shape, conditions, rng):
            return torch.nn.Linear(2, 2)

    with refuses(UsageError, argument="architecture"):
        WithStepEnd(Table()).build((2,), {}, Rng(0))
    with pytest.raises(RuntimeError):  # other missing weights are no embeddings of an end
        load_start_weights(WithStepEnd(MLP(8, 1)).build((2,), {}, Rng(0)), {})
    with pytest.raises(KeyError):
        MLP(8, 1).build((2,), {}, Rng(0))(torch.zeros(1, 2), torch.zeros(1), {STEP_END: torch.ones(1)})


class Ends(torch.nn.Module):
    """Velocity 1 + s for a step that ends at s, and 1 + t without an end."""

    takes_step_end = True

    def forward(self, x, t, cond):
        first = next(iter(t.values())) if isinstance(t, dict) else t
        velocity = (1 + cond.get(STEP_END, first))[:, None]
        return tree_map(lambda leaf: velocity.expand(leaf.shape), x)


def test_processes_pass_the_end_of_a_step_on() -> None:
    x, times = torch.zeros(2, 2), [0.0, 0.25, 1.0]
    process = Affine().process(Ends(), {})
    expected = 0.25 * 1.25 + 0.75 * 2
    close(simulate(process, x, times, Euler(), Rng(0)), torch.full((2, 2), expected), 1e-6)
    observed = torch.tensor([[True, False], [False, False]])
    close(
        simulate(clamp(process, observed), x, times, Euler(), Rng(0)),
        torch.tensor([[0.0, expected], [expected, expected]]),
        1e-6,
    )
    product = ProductPath({"a": Affine(), "b": Affine()}).process(Ends(), {})
    space = ProductSpace({"a": Euclidean((2,)), "b": Euclidean((2,))})
    end = simulate(freeze_leaves(product, ["b"]), {"a": x, "b": x}, times, Euler(space), Rng(0))
    close(end["a"], torch.full((2, 2), expected), 1e-6)
    close(end["b"], x, 0.0)
    plain = Affine().process(lambda x, t, cond: Ends()(x, t, {}), {})  # not known to take an end
    close(simulate(plain, x, times, Euler(), Rng(0)), torch.full((2, 2), 0.25 + 0.75 * 1.25), 1e-6)


@pytest.mark.parametrize("octaves", [3, 9])
def test_octaves_of_time_that_are_not_used(octaves: int) -> None:
    """Weights of features of more than one cycle matter only if all nine octaves are used."""
    network = jitter(WithStepEnd(MLP(8, 1), time_octaves=octaves).build((2,), {}, Rng(0)))
    x, t = torch.ones(4, 2), torch.linspace(0.1, 0.9, 4)
    before = network(x, t, {})
    with torch.no_grad():
        network.conditioning.time.weight[:, 3:9] += 1.0
        network.conditioning.time.weight[:, 12:] -= 1.0
    difference = (network(x, t, {}) - before).abs().max()
    assert difference > 1e-4 if octaves == 9 else difference == 0
    with refuses(UsageError, argument="time_octaves"):
        WithStepEnd(MLP(8, 1), time_octaves=0)
