"""EGNN: equivariance, padding, times per leaf."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.blocks.leaf_codecs import TokenCodec
from feller.networks.graph.equivariant import EGNN, EGNNNetwork
from feller.spaces import SO3
from tests.errors import refuses
from tests.networks.checks import check_gradients, check_record, randomize_weights, squares

F64 = torch.float64
SETTINGS = EGNN({"element": TokenCodec(5)}, count_condition="atoms", width=16, pair_width=8, depth=2)
SHAPE = {"element": (7,), "place": (7, 3)}
T = torch.tensor([0.2, 0.6, 0.9], dtype=F64)
VALID = torch.arange(7) < torch.tensor([[4], [7], [5]])


def random_network(conditions: dict[str, int] | None = None) -> EGNNNetwork:
    return randomize_weights(SETTINGS.build(SHAPE, conditions or {}, Rng(0)).double())


def state() -> dict[str, Tensor]:
    draw = Rng(0).stream("x")
    return {"element": draw.randint(6, (3, 7)), "place": draw.normal((3, 7, 3), F64)}


def test_a_new_network_answers_with_zero() -> None:
    network = SETTINGS.build(SHAPE, {"atoms": 3}, Rng(0))
    x = {"element": torch.zeros(2, 7, dtype=torch.long), "place": torch.randn(2, 7, 3)}
    answer = network(x, torch.rand(2), {"atoms": torch.tensor([0, 1])})
    assert answer["place"].shape == (2, 7, 3)
    assert answer["element"].shape == (2, 7, 5)
    assert all((leaf == 0).all() for leaf in answer.values())
    check_record(SETTINGS)


@pytest.mark.parametrize("mirrored", [False, True])
def test_equivariance_to_rotations_reflections_and_translations(mirrored: bool) -> None:
    network, x = random_network(), state()
    turn = SO3().sample_base(1, Rng(1).stream("turn"))[0].double() * (-1 if mirrored else 1)
    turn = torch.linalg.qr(turn)[0] * torch.linalg.qr(turn)[1].diagonal().sign()  # drawn in single precision
    answer = network(x, T, {"valid": VALID})
    other = {**x, "place": x["place"] @ turn.mT + torch.tensor([3.0, -2.0, 5.0], dtype=F64)}
    turned = network(other, T, {"valid": VALID})
    torch.testing.assert_close(turned["place"], answer["place"] @ turn.mT, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(turned["element"], answer["element"], atol=1e-9, rtol=1e-9)
    assert answer["place"].abs().max() > 0.1
    middle = (answer["place"] * VALID[:, :, None]).sum(1)
    torch.testing.assert_close(middle, torch.zeros_like(middle), atol=1e-12, rtol=0)


def test_equivariance_to_permutations() -> None:
    network, x = random_network(), state()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    answer, turned = network(x, T, {}), network({k: v[:, order] for k, v in x.items()}, T, {})
    for name in answer:
        torch.testing.assert_close(turned[name], answer[name][:, order])


def test_padding_changes_nothing() -> None:
    network, x = random_network(), state()
    answer = network(x, T, {"valid": VALID})
    dirty = {
        "element": torch.where(VALID, x["element"], 99),
        "place": torch.where(VALID[:, :, None], x["place"], torch.nan),
    }
    moved = network(dirty, T, {"valid": {"element": VALID, "place": VALID}})
    for name in answer:
        torch.testing.assert_close(moved[name], answer[name])
        assert (answer[name][~VALID] == 0).all()
    alone = network({k: v[:1, :4] for k, v in x.items()}, T[:1], {})
    torch.testing.assert_close(alone["place"], answer["place"][:1, :4])


def test_coincident_points_have_finite_gradients() -> None:
    network, x = random_network(), state()
    x["place"][:, 1] = x["place"][:, 0]
    x["place"].requires_grad_()
    sum(leaf.square().sum() for leaf in network(x, T, {}).values()).backward()
    assert torch.isfinite(x["place"].grad).all()


def test_each_leaf_has_its_own_time() -> None:
    network, x = random_network(), state()
    same = network(x, T, {})
    for name in x:
        own = network(x, {"element": T, "place": T, name: torch.ones_like(T)}, {})
        assert all((own[other] - same[other]).abs().max() > 1e-4 for other in x)


@pytest.mark.parametrize("shape", [(7, 3), {"place": (7, 3)}, {"place": (7, 2), "element": (7,)}])
def test_states_of_other_shapes_are_refused(shape: object) -> None:
    with refuses(UsageError):
        SETTINGS.build(shape, {}, Rng(0))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"position_leaf": "element"}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        EGNN({"element": TokenCodec(5)}, **wrong)


def test_gradients_per_example() -> None:
    check_gradients(random_network(), squares, state(), T, {"valid": VALID})
