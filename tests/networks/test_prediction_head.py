"""Regressors and classifiers of whole examples: invariances, pooled features."""

import pytest
import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import EGNN, MLP, AngleCodec, ConvClassifier, RealCodec, Regressor, SetTransformer, TokenCodec
from feller.networks.prediction_head import TYPICAL_SITES, pool_sites
from feller.networks.sequence.causal_transformer import CausalTransformer
from feller.spaces import SO3
from tests.errors import refuses
from tests.networks.checks import check_record, randomize_weights
from tests.oracle import close

F64 = torch.float64
ATOMS = EGNN({"element": TokenCodec(5, has_mask=False)}, count_condition="atoms", width=16, pair_width=8, depth=2)
CELL = SetTransformer(
    {"element": TokenCodec(5, has_mask=False), "place": AngleCodec(), "lattice": RealCodec()},
    global_leaves=("lattice",),
    pair_leaf="place",
    count_condition="atoms",
    width=16,
    depth=2,
)
SHAPES = {
    "points": (Regressor(MLP(width=16, depth=1), 3), (2,)),
    "molecules": (Regressor(ATOMS, 3), {"element": (7,), "place": (7, 3)}),
    "crystals": (Regressor(CELL, 3), {"element": (7,), "place": (7, 3), "lattice": (6,)}),
    "pictures": (ConvClassifier(3), (1, 8, 8)),
}
VALID = torch.arange(7) < torch.tensor([[4], [7], [5]])
MARKS = {"element": VALID, "place": VALID}


def random_network(name: str) -> nn.Module:
    architecture, shape = SHAPES[name]
    return randomize_weights(architecture.build(shape, {}, Rng(0)).double())


def state() -> dict[str, Tensor]:
    draw = Rng(0).stream("x")
    return {"element": draw.randint(5, (3, 7)), "place": draw.normal((3, 7, 3), F64)}


@pytest.mark.parametrize("name", SHAPES)
def test_records_seeds_and_initial_weights(name: str) -> None:
    architecture, shape = SHAPES[name]
    check_record(architecture)
    first, again, other = (architecture.build(shape, {}, Rng(seed)).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
    if name != "pictures":
        assert all((first[key] == 0).all() for key in first if key.startswith(("linear_head", "fc2")))


@pytest.mark.parametrize("name", ["molecules", "crystals"])
def test_invariance_to_order_and_padding(name: str) -> None:
    network, x = random_network(name), state()
    x |= {"lattice": Rng(1).stream("cell").normal((3, 6), F64)} if name == "crystals" else {}
    t = torch.zeros(3, dtype=F64)
    answer = network(x, t, {"valid": MARKS})
    assert answer.shape == (3, 3)
    assert answer.std(0).min() > 1e-3
    other = {**x, "element": x["element"].where(VALID, 3), "place": x["place"].where(VALID[:, :, None], 9.0)}
    close(network(other, t, {"valid": MARKS}), answer, 1e-10)
    turned = {key: leaf.flip(1) if key in MARKS else leaf for key, leaf in x.items()}
    close(network(turned, t, {"valid": {key: mark.flip(1) for key, mark in MARKS.items()}}), answer, 1e-10)


def test_invariance_to_rigid_motions() -> None:
    network, x, t = random_network("molecules"), state(), torch.zeros(3, dtype=F64)
    turn = torch.linalg.qr(SO3().sample_base(1, Rng(1).stream("turn"))[0].double())[0]
    for change in (turn, -turn):
        other = {**x, "place": x["place"] @ change.mT + 3.0}
        close(network(other, t, {"valid": MARKS}), network(x, t, {"valid": MARKS}), 1e-9)


def test_features_are_those_of_the_trunk() -> None:
    architecture, shape = SHAPES["points"]
    network = architecture.build(shape, {}, Rng(0)).trunk.double()
    nn.init.ones_(network.head.weight)
    x, t = Rng(2).stream("x").normal((5, 2), F64), torch.zeros(5, dtype=F64)
    close(network(x, t, {})[:, 0], network.features(x, t, {}).sum(1), 1e-10)


@pytest.mark.parametrize("name", ["points", "molecules", "crystals"])
def test_trainable_weights_have_gradients(name: str) -> None:
    """Layers that answer for the trunk alone have none, and a resumed training would miss their state."""
    network = random_network(name)
    x = Rng(2).stream("x").normal((3, 2), F64) if name == "points" else state()
    x = {**x, "lattice": Rng(1).stream("cell").normal((3, 6), F64)} if name == "crystals" else x
    network(x, torch.zeros(3, dtype=F64), {}).square().sum().backward()
    for weight in network.parameters():
        assert (weight.grad is not None) == weight.requires_grad


def test_pooled_features_are_sum_and_mean() -> None:
    h = torch.arange(12, dtype=F64).reshape(2, 3, 2)
    found = pool_sites(h, torch.tensor([[True, True, False], [True, True, True]]))
    close(found, [[2 / TYPICAL_SITES, 4 / TYPICAL_SITES, 1, 2], [24 / TYPICAL_SITES, 27 / TYPICAL_SITES, 8, 9]], 1e-12)


def test_networks_without_features_are_refused() -> None:
    with refuses(UsageError):
        Regressor(CausalTransformer(4, width=8, depth=1, heads=2), 1).build((5,), {}, Rng(0))
    with refuses(UsageError, argument="out_dim", found="0"):
        Regressor(MLP(), 0)
    with refuses(UsageError, found="(5,), {}"):
        ConvClassifier(3).build((5,), {}, Rng(0))
