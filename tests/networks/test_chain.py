"""The transformer along a chain: a bias by distance, neighbours, answers in the rotations' own frames, padding."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from feller.draws import Draws
from feller.errors import UsageError
from feller.networks.architecture import Architecture
from feller.networks.chain import Chain, ChainTransformer
from feller.record import from_data, to_data
from feller.spaces import SO3, Euclidean, Product

SHAPE = {"rotation": (10, 3, 3), "position": (10, 4)}
SPACE = Product({"rotation": SO3((10,)), "position": Euclidean((10, 4))})
SETTINGS = Chain(width=16, depth=2, heads=2, reach=3)


def trained(conditions: dict[str, int] | None = None) -> ChainTransformer:
    """Return a network whose every weight says something."""
    network = SETTINGS.build(SHAPE, conditions or {}, Draws(0)).double()
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3, generator=generator)
    return network


def state(n: int = 3, seed: int = 0) -> dict[str, Tensor]:
    return {name: leaf.double() for name, leaf in SPACE.reference(n, Draws(seed).at("x")).items()}


def test_a_new_network_answers_with_zero() -> None:
    network = SETTINGS.build(SHAPE, {"length": 5}, Draws(0))
    x = SPACE.reference(3, Draws(0).at("x"))
    answer = network(x, torch.rand(3), {"length": torch.tensor([0, 1, 2])})
    assert {name: leaf.shape for name, leaf in answer.items()} == {name: leaf.shape for name, leaf in x.items()}
    assert all((leaf == 0).all() for leaf in answer.values())
    assert from_data(Architecture, to_data(SETTINGS)) == SETTINGS


def test_answers_are_tangent() -> None:
    x, t = state(), torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    answer = trained()(x, t, {})
    torch.testing.assert_close(SPACE.tangent(x, answer), answer, atol=1e-5, rtol=0)  # rotations drawn in float32
    assert answer["rotation"].abs().max() > 0.1
    spread = trained()(x, {"rotation": t, "position": t}, {})
    assert all(torch.equal(answer[name], spread[name]) for name in answer)


def test_padding_changes_nothing() -> None:
    """Neither what it holds, not even not-a-number, nor how much there is of it; the answers there are zero."""
    network, x, t = trained(), state(), torch.tensor([0.2, 0.6, 0.9], dtype=torch.float64)
    valid = torch.arange(10) < torch.tensor([[4], [6], [6]])
    answer = network(x, t, {"valid": valid})
    other = {k: torch.where(valid.reshape(3, 10, *(1,) * (v.ndim - 2)), v, torch.nan) for k, v in x.items()}
    moved = network(other, t, {"valid": valid})
    short = network({k: v[:, :6] for k, v in x.items()}, t, {"valid": valid[:, :6]})
    for name in answer:
        torch.testing.assert_close(moved[name][valid], answer[name][valid])
        torch.testing.assert_close(short[name][valid[:, :6]], answer[name][valid])
        assert (answer[name][~valid] == 0).all()
    alone = network({k: v[:1, :4] for k, v in x.items()}, t[:1], {})
    torch.testing.assert_close(alone["position"], answer["position"][:1, :4])


def test_length_is_read_off_and_other_conditions_count() -> None:
    network, x, t = trained({"length": 7, "fold": 2}), state(), torch.full((3,), 0.5, dtype=torch.float64)
    valid = torch.ones(3, 10, dtype=torch.bool)
    assert network.nulls == {"fold": 2}

    def answer(length: int, fold: int) -> Tensor:
        given = {"length": torch.full((3,), length), "fold": torch.full((3,), fold), "valid": valid}
        return network(x, t, given)["position"]

    assert torch.equal(answer(0, 1), answer(5, 1))
    assert (answer(0, 1) - answer(0, 0)).abs().max() > 1e-3


def test_attention_knows_distances_up_to_its_reach() -> None:
    network = trained()
    bias = network._bias(torch.ones(1, 10, dtype=torch.bool), torch.zeros((), dtype=torch.float64))[0]
    for i, j in ((0, 2), (5, 4), (7, 7)):
        torch.testing.assert_close(bias[:, i, j], network.near[:, j - i + 3])
    assert torch.equal(bias[:, 0, 3], bias[:, 0, 9])
    masked = network._bias(torch.arange(10)[None] < 4, torch.zeros(()))
    assert (masked[:, :, :, 4:] == -torch.inf).all()
    fresh = SETTINGS.build(SHAPE, {}, Draws(0)).near
    torch.testing.assert_close(fresh[:, 3:], -torch.tensor([[1.0], [0.25]]) * torch.arange(4.0))


def test_skip_scales_the_numbers() -> None:
    """Numbers have a straight way to the answer, rotations have none."""
    network = SETTINGS.build(SHAPE, {}, Draws(0)).double()
    nn.init.ones_(network.skip.bias)
    x, t = state(), torch.full((3,), 0.5, dtype=torch.float64)
    answer = network(x, t, {})
    torch.testing.assert_close(answer["position"], x["position"])
    assert (answer["rotation"] == 0).all()


@pytest.mark.parametrize("shape", [(4,), (3, 8, 8), {}, {"a": (4,)}, {"a": (4, 2, 2)}])
def test_states_of_other_shapes_are_refused(shape: object) -> None:
    with pytest.raises(UsageError, match="Chain expects a dict of leaves"):
        SETTINGS.build(shape, {}, Draws(0))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"depth": 0}, {"heads": 0}, {"reach": 0}, {"width": 10, "heads": 4}])
def test_sizes_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Chain(**wrong)


def test_gradients_of_single_examples_add_up() -> None:
    """As private training takes them: vmap over examples, through attention, masks and neighbours."""
    network, x, t = trained(), state(), torch.tensor([0.2, 0.6, 0.9], dtype=torch.float64)
    valid = torch.arange(10) < torch.tensor([[4], [10], [6]])
    weights = dict(network.named_parameters())

    def loss(weights: dict[str, Tensor], x: dict[str, Tensor], t: Tensor, valid: Tensor) -> Tensor:
        one = {name: leaf[None] for name, leaf in x.items()}
        answer = torch.func.functional_call(network, weights, (one, t[None], {"valid": valid[None]}))
        return sum(leaf.square().sum() for leaf in answer.values())

    with sdpa_kernel(SDPBackend.MATH):
        single = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0))(weights, x, t, valid)
        sum(leaf.square().sum() for leaf in network(x, t, {"valid": valid}).values()).backward()
    for name, weight in weights.items():
        torch.testing.assert_close(single[name].sum(0), weight.grad, msg=name)
