"""Set transformer: codecs, padding, missing leaves, times per leaf, permutations."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from feller.core.errors import UsageError
from feller.core.pytree import State, tree_map
from feller.core.rng import Rng
from feller.networks.blocks.leaf_codecs import AngleCodec, RealCodec, RotationCodec, TokenCodec
from feller.networks.graph.set_transformer import SetTransformer, SetTransformerNetwork
from feller.spaces import SO3, Euclidean, MaskSource, Product, Tokens, Torus
from tests.errors import refuses
from tests.networks.checks import check_gradients, check_record, randomize_weights, squares

F64 = torch.float64
SMALL = {"width": 16, "depth": 2, "heads": 2}
CHAIN = SetTransformer(
    {"rotation": RotationCodec(), "position": RealCodec(), "residue": TokenCodec(4)},
    max_distance=3,
    count_condition="length",
    **SMALL,
)
CHAIN_SPACE = Product(
    {"rotation": SO3((10,)), "position": Euclidean((10, 4)), "residue": Tokens(4, (10,), MaskSource())}
)
CRYSTAL = SetTransformer(
    {"element": TokenCodec(5), "place": AngleCodec(), "lattice": RealCodec()},
    global_leaves=("lattice",),
    pair_leaf="place",
    **SMALL,
)
CRYSTAL_SPACE = Product(
    {"element": Tokens(5, (10,), MaskSource()), "place": Torus((10, 3)), "lattice": Euclidean((6,))}
)
KINDS = [pytest.param(CHAIN, CHAIN_SPACE, id="chain"), pytest.param(CRYSTAL, CRYSTAL_SPACE, id="crystal")]


def shape(space: Product) -> State:
    return tree_map(lambda leaf: tuple(leaf.shape[1:]), space.sample_base(0, Rng(0).stream("shape")))


def double(x: State) -> State:
    return tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, x)


def state(space: Product, n: int = 3) -> State:
    """Draw states whose tokens are not all masks."""
    x = double(space.sample_base(n, Rng(0).stream("x")))
    for name, part in space.leaf_spaces.items():
        if isinstance(part, Tokens):
            x[name] = torch.randint(part.vocab_size + 1, x[name].shape, generator=torch.Generator().manual_seed(1))
    return x


def random_network(
    settings: SetTransformer, space: Product, conditions: dict[str, int] | None = None
) -> SetTransformerNetwork:
    """Return a network with random weights."""
    return randomize_weights(settings.build(shape(space), conditions or {}, Rng(0)).double())


def times(x: State, t: Tensor) -> State:
    return dict.fromkeys(x, t)


T = torch.tensor([0.2, 0.6, 0.9], dtype=F64)
VALID = torch.arange(10) < torch.tensor([[4], [6], [6]])


def sites(settings: SetTransformer) -> list[str]:
    return [name for name in settings.leaves if name not in settings.global_leaves]


@pytest.mark.parametrize(("settings", "space"), KINDS)
def test_a_new_network_answers_with_zero(settings: SetTransformer, space: Product) -> None:
    network = settings.build(shape(space), {"length": 5}, Rng(0))
    x = space.sample_base(3, Rng(0).stream("x"))
    answer = network(x, torch.rand(3), {"length": torch.tensor([0, 1, 2])})
    for name, leaf in x.items():
        kind = settings.leaves[name]
        logits = (kind.vocab_size,) if isinstance(kind, TokenCodec) else ()
        assert answer[name].shape == (*leaf.shape, *logits)
        assert (answer[name] == 0).all()
    check_record(settings)


@pytest.mark.parametrize(("settings", "space"), KINDS)
def test_padding_changes_nothing(settings: SetTransformer, space: Product) -> None:
    network, x, names = random_network(settings, space), state(space), sites(settings)
    valid = dict.fromkeys(names, VALID)
    answer = network(x, T, {"valid": valid})

    def dirty(name: str, leaf: Tensor) -> Tensor:
        if name not in names:
            return leaf
        wrong = torch.full_like(leaf, 99 if not leaf.is_floating_point() else torch.nan)
        return torch.where(VALID.reshape(3, 10, *(1,) * (leaf.ndim - 2)), leaf, wrong)

    moved = network({name: dirty(name, leaf) for name, leaf in x.items()}, T, {"valid": valid})
    short = {name: leaf[:, :6] if name in names else leaf for name, leaf in x.items()}
    short = network(short, T, {"valid": dict.fromkeys(names, VALID[:, :6])})
    for name in answer:
        if name in names:
            torch.testing.assert_close(moved[name][VALID], answer[name][VALID])
            torch.testing.assert_close(short[name][VALID[:, :6]], answer[name][VALID])
        else:
            torch.testing.assert_close(moved[name], answer[name])
            torch.testing.assert_close(short[name], answer[name])
    for name in names:
        assert (network(x, T, {"valid": VALID})[name][VALID] == answer[name][VALID]).all()
    alone = network({k: v[:1, :4] if k in names else v[:1] for k, v in x.items()}, T[:1], {})
    torch.testing.assert_close(alone[names[0]], answer[names[0]][:1, :4])


def test_missing_leaves_are_ignored() -> None:
    network, x = random_network(CRYSTAL, CRYSTAL_SPACE), state(CRYSTAL_SPACE)
    element = torch.ones(3, 10, dtype=torch.bool)
    element[1, 4] = False
    valid = {"lattice": torch.tensor([True, False, True]), "element": element}
    other = {name: leaf.clone() for name, leaf in x.items()}
    other["lattice"][1], other["element"][1, 4] = torch.nan, (x["element"][1, 4] + 1) % 6
    answer, moved = network(x, T, {"valid": valid}), network(other, T, {"valid": valid})
    assert (answer["place"][1, 4] != 0).all()  # the site is there
    assert all(torch.isfinite(leaf).all() for leaf in moved.values())
    torch.testing.assert_close(moved["place"], answer["place"])
    assert (network(other, T, {"valid": {"lattice": valid["lattice"]}})["place"] - answer["place"])[
        1
    ].abs().max() > 1e-4


@pytest.mark.parametrize(("settings", "space"), KINDS)
def test_each_leaf_has_its_own_time(settings: SetTransformer, space: Product) -> None:
    network, x = random_network(settings, space), state(space)
    same = network(x, T, {})
    for name in x:
        own = network(x, {**times(x, T), name: torch.ones_like(T)}, {})
        assert all((own[other] - same[other]).abs().max() > 1e-4 for other in x)
    assert all(torch.equal(leaf, same[name]) for name, leaf in network(x, times(x, T), {}).items())


def test_equivariance_to_permutations_without_relative_positions() -> None:
    network, x = random_network(CRYSTAL, CRYSTAL_SPACE), state(CRYSTAL_SPACE)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    turned = network({k: v if k == "lattice" else v[:, order] for k, v in x.items()}, T, {})
    answer = network(x, T, {})
    torch.testing.assert_close(turned["place"], answer["place"][:, order])
    torch.testing.assert_close(turned["lattice"], answer["lattice"])
    chain, x = random_network(CHAIN, CHAIN_SPACE), state(CHAIN_SPACE)
    turned = chain({k: v[:, order] for k, v in x.items()}, T, {})
    assert (turned["position"] - chain(x, T, {})["position"][:, order]).abs().max() > 0.01


def test_angles_are_periodic_and_pair_bias_is_translation_invariant() -> None:
    network, x = random_network(CRYSTAL, CRYSTAL_SPACE), state(CRYSTAL_SPACE)
    around = network({**x, "place": x["place"] + 2 * math.pi}, T, {})
    answer = network(x, T, {})
    torch.testing.assert_close(around["place"], answer["place"])
    bias = network.pair_bias(x["place"])
    torch.testing.assert_close(network.pair_bias(x["place"] + 1.0), bias)
    assert bias.std() > 0.1


def test_relative_bias_up_to_max_distance() -> None:
    network = random_network(CHAIN, CHAIN_SPACE)
    bias = network.relative_bias(10)
    for i, j in ((0, 2), (5, 4), (7, 7)):
        torch.testing.assert_close(bias[:, i, j], network.relative_bias.bias[:, j - i + 3])
    assert torch.equal(bias[:, 0, 3], bias[:, 0, 9])
    fresh = CHAIN.build(shape(CHAIN_SPACE), {}, Rng(0)).relative_bias.bias
    torch.testing.assert_close(fresh[:, 3:], -torch.tensor([[1.0], [0.25]]) * torch.arange(4.0))


def test_rotation_outputs_are_tangent() -> None:
    x = state(CHAIN_SPACE)
    answer = random_network(CHAIN, CHAIN_SPACE)(x, T, {})["rotation"]
    torch.testing.assert_close(
        SO3((10,)).to_tangent(x["rotation"], answer), answer, atol=1e-5, rtol=0
    )  # drawn in float32
    assert answer.abs().max() > 0.1


def test_skip_connection_of_real_leaves() -> None:
    network = CRYSTAL.build(shape(CRYSTAL_SPACE), {}, Rng(0)).double()
    nn.init.ones_(network.skip.bias)
    x = state(CRYSTAL_SPACE)
    answer = network(x, T, {})
    torch.testing.assert_close(answer["lattice"], x["lattice"])
    assert (answer["place"] == 0).all()


def test_binned_outputs_are_logits() -> None:
    settings = SetTransformer({"place": AngleCodec(num_bins=7), "size": RealCodec(num_bins=4)}, **SMALL)
    space = Product({"place": Torus((10, 3)), "size": Euclidean((10,))})
    answer = random_network(settings, space)(state(space), T, {})
    assert answer["place"].shape == (3, 10, 3, 7)
    assert answer["size"].shape == (3, 10, 4)


def test_count_condition_is_ignored_and_others_are_used() -> None:
    network, x = random_network(CHAIN, CHAIN_SPACE, {"length": 7, "fold": 2}), state(CHAIN_SPACE)
    assert network.null_values == {"fold": 2}

    def answer(length: int, fold: int) -> Tensor:
        given = {"length": torch.full((3,), length), "fold": torch.full((3,), fold)}
        return network(x, T, given)["position"]

    assert torch.equal(answer(0, 1), answer(5, 1))
    assert (answer(0, 1) - answer(0, 0)).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(4,), {}, {"element": (4,)}, {"element": (4,), "place": (5, 3), "lattice": (6,)}])
def test_states_of_other_shapes_are_refused(shape: object) -> None:
    with refuses(UsageError, found=str(shape)):
        CRYSTAL.build(shape, {}, Rng(0))


def test_rotation_leaves_need_matrices() -> None:
    with refuses(UsageError) as caught:
        SetTransformer({"a": RotationCodec()}, **SMALL).build({"a": (4, 3)}, {}, Rng(0))
    assert "(3,)" in caught.value.found


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"width": 0}, "width=0"),
        ({"max_distance": -1}, "max_distance=-1"),
        ({"width": 10, "heads": 4}, "10"),
        ({"global_leaves": ("b",)}, "global_leaves=('b',)"),
        ({"global_leaves": ("a",)}, "global_leaves=('a',)"),
        ({"pair_leaf": "b"}, "pair_leaf=b"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], found: str) -> None:
    with refuses(UsageError) as caught:
        SetTransformer({"a": RealCodec()}, **wrong)
    assert found in caught.value.found


@pytest.mark.parametrize(("settings", "space"), KINDS)
def test_gradients_per_example(settings: SetTransformer, space: Product) -> None:
    given = {"valid": dict.fromkeys(sites(settings), VALID)}
    with sdpa_kernel(SDPBackend.MATH):
        check_gradients(random_network(settings, space), squares, state(space), T, given)
