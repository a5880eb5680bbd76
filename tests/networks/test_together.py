"""Joint MLP of all leaves of a state."""

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.blocks.leaf_codecs import AngleCodec, RealCodec, TokenCodec
from feller.networks.mlp import JointMLP, JointMLPNetwork
from tests.errors import refuses
from tests.networks.checks import check_gradients, check_record, randomize_weights, squares

F64 = torch.float64
SETTINGS = JointMLP({"image": RealCodec(), "label": TokenCodec(4), "turn": AngleCodec(num_bins=6)}, width=16, depth=2)
SHAPE = {"image": (1, 3, 2), "label": (), "turn": (2,)}
T = torch.tensor([0.2, 0.6, 0.9], dtype=F64)


def state() -> dict[str, Tensor]:
    draw = Rng(0).stream("x")
    return {
        "image": draw.normal((3, 1, 3, 2), F64),
        "label": draw.randint(5, (3,)),
        "turn": 6 * draw.uniform((3, 2), F64),
    }


def random_network() -> JointMLPNetwork:
    return randomize_weights(SETTINGS.build(SHAPE, {"size": 3}, Rng(0)).double())


GIVEN = {"size": torch.tensor([0, 1, 2])}


def test_a_new_network_answers_with_zero() -> None:
    answer = SETTINGS.build(SHAPE, {"size": 3}, Rng(0)).double()(state(), T, GIVEN)
    assert {name: tuple(leaf.shape) for name, leaf in answer.items()} == {
        "image": (3, 1, 3, 2),
        "label": (3, 4),
        "turn": (3, 2, 6),
    }
    assert all((leaf == 0).all() for leaf in answer.values())
    check_record(SETTINGS)


def test_every_output_depends_on_every_leaf_and_time() -> None:
    network, x = random_network(), state()
    answer = network(x, T, GIVEN)
    changed = {"image": x["image"] + 0.1, "label": (x["label"] + 1) % 5, "turn": x["turn"] + 0.1}
    for name in x:
        for other in (
            network({**x, name: changed[name]}, T, GIVEN),
            network(x, {**dict.fromkeys(x, T), name: T / 2}, GIVEN),
        ):
            assert all((other[leaf] - answer[leaf]).abs().max() > 1e-4 for leaf in x)


def test_invalid_entries_are_ignored() -> None:
    network, x = random_network(), state()
    valid = {"label": torch.tensor([True, False, True]), "image": torch.ones(3, 1, 3, dtype=torch.bool)}
    valid["image"][0, 0, 1] = False
    other = {name: leaf.clone() for name, leaf in x.items()}
    other["label"][1], other["image"][0, 0, 1] = (x["label"][1] + 1) % 5, torch.nan
    answer, moved = (network(state, T, {**GIVEN, "valid": valid}) for state in (x, other))
    for name in answer:
        torch.testing.assert_close(moved[name], answer[name])
    masked = network({**x, "label": torch.full((3,), 4)}, T, GIVEN)["turn"]
    assert (answer["turn"][1] - masked[1]).abs().max() > 1e-4  # what is not there is not the mask


def test_states_of_other_shapes_are_refused() -> None:
    for shape in ((4,), {"image": (1, 3, 2)}):
        with refuses(UsageError):
            SETTINGS.build(shape, {}, Rng(0))
    with refuses(UsageError):
        JointMLP({"a": RealCodec()}, width=0)


def test_gradients_per_example() -> None:
    check_gradients(random_network(), squares, state(), T, GIVEN)
