import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, grad, vmap

from feller.core.rng import Draws
from feller.evaluation.judge import ClassifyLabel, ClassifyRotation, turn, window
from feller.networks.image.classifier import FEATURES, Classifier


def pictures(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    return Draws(0).at("pictures").normal((n, channels, height, width))


@settings(deadline=None, max_examples=15)
@given(channels=st.sampled_from([1, 3]), height=st.integers(1, 64), width=st.integers(1, 64))
def test_any_size_is_seen(channels: int, height: int, width: int) -> None:
    network = Classifier((channels, height, width), 5, Draws(0))
    x = pictures(2, channels, height, width)
    assert network(x).shape == (2, 5)
    assert network.features(x).shape == (2, FEATURES)


def test_weights_come_from_the_draws_and_leave_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (Classifier((1, 8, 8), 3, Draws(seed)).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["see.weight"], other["see.weight"])


def test_window_continues_the_edge() -> None:
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    seen = window(x, torch.tensor([-1]), torch.tensor([1]), 3, 3)
    assert seen[0, 0].tolist() == [[1, 2, 2], [1, 2, 2], [4, 5, 5]]


def test_turn_goes_by_quarters() -> None:
    x = torch.arange(4.0).reshape(1, 1, 2, 2).repeat(4, 1, 1, 1)
    turned = turn(x, torch.arange(4))[:, 0].tolist()
    assert turned == [[[0, 1], [2, 3]], [[1, 3], [0, 2]], [[3, 2], [1, 0]], [[2, 0], [3, 1]]]


def test_labels_stay_and_pictures_move_by_a_pixel() -> None:
    x = pictures(300, 1, 8, 8)
    label = torch.arange(300) % 7
    example = ClassifyLabel().draw({"x_1": x, "given": {"label": label}}, Draws(0))
    assert torch.equal(example["answer"], label)
    places = [(top, left) for top in (-1, 0, 1) for left in (-1, 0, 1)]
    moved = [window(x, torch.full((300,), top), torch.full((300,), left), 8, 8) for top, left in places]
    found = torch.stack([(example["x"] == y).flatten(1).all(1) for y in moved])
    assert (found.sum(0) == 1).all()
    assert (found.sum(1) > 10).all()  # expected 33, deviation 5.4: a false alarm in 10^5 seeds


def test_rotations_are_told_and_cover_wide_pictures() -> None:
    x = torch.arange(20.0).repeat(200, 1, 4, 1)
    example = ClassifyRotation().draw({"x_1": x, "given": {}}, Draws(0))
    assert example["x"].shape == (200, 1, 4, 4)
    assert example["answer"].unique().tolist() == [0, 1, 2, 3]
    back = turn(example["x"], -example["answer"] % 4)
    assert (back[:, :, :1] == back).all()  # each row is alike again
    assert back.unique().tolist() == list(range(20))


@pytest.mark.parametrize("objective", [ClassifyLabel(), ClassifyRotation()])
def test_gradients_can_be_taken_apart(objective) -> None:
    network = Classifier((1, 6, 6), 4, Draws(0)).double()
    batch = {"x_1": pictures(3, 1, 6, 6).double(), "given": {"label": torch.tensor([0, 2, 1])}}
    example = objective.draw(batch, Draws(1), network)
    weights = dict(network.named_parameters())

    def loss(weights: dict, x: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        one = {"x": x[None], "answer": answer[None]}
        return objective.loss(lambda x: functional_call(network, weights, (x,)), one)[0]

    each = vmap(grad(loss), in_dims=(None, 0, 0))(weights, example["x"], example["answer"])
    objective.loss(network, example).sum().backward()
    for name, weight in weights.items():
        torch.testing.assert_close(each[name].sum(0), weight.grad)
