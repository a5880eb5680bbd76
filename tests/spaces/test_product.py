"""Several spaces in one state."""

import torch

from feller.draws import Draws
from feller.spaces import Euclidean, Product, Tokens
from feller.spaces.product import part

SPACE = Product({"real": Euclidean((2,)), "inner": Product({"token": Tokens(3, (4,))})})


def test_reference_draws_every_leaf() -> None:
    x = SPACE.reference(5, Draws(0).at("source"))
    assert x["real"].shape == (5, 2)
    assert x["inner"]["token"].shape == (5, 4)


def test_leaves_are_independent() -> None:
    """Two leaves of one kind do not share their numbers."""
    x = Product({"a": Euclidean((2,)), "b": Euclidean((2,))}).reference(5, Draws(0).at("source"))
    assert not torch.equal(x["a"], x["b"])


def test_a_leaf_without_velocity_stays() -> None:
    x = {"a": torch.zeros(2), "b": torch.zeros(2)}
    moved = Product({"a": Euclidean(), "b": Euclidean()}).step(x, {"a": torch.ones(2)})
    assert moved["a"].tolist() == [1, 1]
    assert moved["b"] is x["b"]


def test_part() -> None:
    assert part(SPACE, "real") == Euclidean((2,))
    assert part(Euclidean(), "anything") == Euclidean()
