"""Product spaces."""

import math

import pytest
import torch

from feller.core.rng import Rng
from feller.spaces import Euclidean, Product, Sphere, Tokens, Torus
from feller.spaces.product import leaf_space
from tests.errors import refuses

SPACE = Product({"real": Euclidean((2,)), "inner": Product({"token": Tokens(3, (4,))})})


def test_base_samples_of_every_leaf() -> None:
    x = SPACE.sample_base(5, Rng(0).stream("source"))
    assert x["real"].shape == (5, 2)
    assert x["inner"]["token"].shape == (5, 4)


def test_leaves_are_independent() -> None:
    x = Product({"a": Euclidean((2,)), "b": Euclidean((2,))}).sample_base(5, Rng(0).stream("source"))
    assert not torch.equal(x["a"], x["b"])


def test_a_leaf_without_velocity_stays() -> None:
    x = {"a": torch.zeros(2), "b": torch.zeros(2)}
    moved = Product({"a": Euclidean(), "b": Euclidean()}).step(x, {"a": torch.ones(2)})
    assert moved["a"].tolist() == [1, 1]
    assert moved["b"] is x["b"]


def test_leaf_space() -> None:
    assert leaf_space(SPACE, "real") == Euclidean((2,))
    assert leaf_space(Euclidean(), "anything") == Euclidean()


def test_geometry_of_the_metric_product() -> None:
    sphere, torus = Sphere(), Torus((2,))
    space = Product({"a": sphere, "b": Product({"c": torus})})
    x, y = (space.sample_base(5, Rng(seed).stream("x")) for seed in (0, 1))
    v = space.log(x, y)
    assert torch.equal(v["b"]["c"], torus.log(x["b"]["c"], y["b"]["c"]))
    assert torch.equal(space.exp(x, v)["a"], sphere.exp(x["a"], v["a"]))
    parts = sphere.distance(x["a"], y["a"]), torus.distance(x["b"]["c"], y["b"]["c"])
    torch.testing.assert_close(space.distance(x, y), (parts[0] ** 2 + parts[1] ** 2).sqrt())
    torch.testing.assert_close(space.norm(x, v), space.distance(x, y))
    assert space.base_log_prob(x).tolist() == pytest.approx([-math.log(4 * math.pi) - 2 * math.log(2 * math.pi)] * 5)
    assert space.dimension == 4


def test_leaves_without_geometry_are_refused() -> None:
    space = Product({"a": Sphere(), "b": Tokens(3, (4,))})
    x = space.sample_base(5, Rng(0).stream("x"))
    with refuses(TypeError):
        space.log(x, x)
