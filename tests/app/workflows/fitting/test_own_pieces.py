"""What one's own pieces return is looked at before a training, and told by class, file and line."""

import math
import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

import feller
from feller.app.workflows.fitting.validate_user_code import check_components
from feller.core.errors import InputError, UsageError
from feller.core.pytree import append_dims
from feller.paths import Affine, ProductPath
from feller.paths.processes import Characteristics, Jumps
from feller.paths.time_distributions import Stratified
from feller.spaces import Euclidean
from feller.spaces import Product as Spaces
from feller.training.losses import PerLeafLoss, SquaredError
from feller.training.objective import FlowMatching
from tests.errors import refuses


def straight(x_0, x_1, t):
    return torch.lerp(x_0, x_1, append_dims(t, x_1))


@dataclass(frozen=True)
class Straight(feller.Path):
    """The straight line; each method can be made to return something else."""

    sampled: Any = field(default=straight, compare=False)
    wanted: Any = lambda x_0, x_1: x_1 - x_0
    moved: Any = lambda prediction, x_t, t: Characteristics(velocity=prediction)

    def sample(self, x_0, x_1, t, rng=None):
        return self.sampled(x_0, x_1, t)

    def target(self, x_t, x_0, x_1, t):
        return self.wanted(x_0, x_1)

    def characteristics(self, prediction, x_t, t):
        return self.moved(prediction, x_t, t)


@dataclass(frozen=True)
class Power(feller.Loss):
    """A loss of one's own."""

    of: Any = lambda difference: difference.abs() ** 1.5

    def entries(self, prediction, target, x_t, t):
        return self.of(prediction - target)


@dataclass(frozen=True)
class Rare(feller.TimeDistribution):
    """Early times; beyond the end for the last of a hundred, if so wished."""

    beyond: bool = False
    flat: bool = True

    def quantile(self, u):
        t = torch.where(u > 0.99, u + 0.5, u**2) if self.beyond else u**2
        return t if self.flat else t[:, None]


@dataclass(frozen=True)
class Some(feller.Coupling):
    """The first draws of the source."""

    share: float = 1.0

    def __call__(self, x_0, x_1, cond, rng):
        return x_0[: int(len(x_0) * self.share)]


def network(x, t, given):
    """Answer in the shape of the state, with a gradient."""
    weight = torch.ones((), requires_grad=True)
    return {name: weight * leaf for name, leaf in x.items()} if isinstance(x, dict) else weight * x


def tried(path=None, shape=(2,), **pieces):
    objective = FlowMatching(path or Straight(), Euclidean(shape), **pieces)
    check_components(objective, network, {"x_1": torch.randn(3, *shape)}, feller.Rng(0))


def test_right_pieces():
    tried(criterion=Power(), time_distribution=Rare(), coupling=Some())
    tried(time_distribution=Stratified(Rare()))
    tried(shape=(1, 4, 4))
    tried(jumping(often, lambda x: lambda s, which, draw: x[which] + 1))


def jumping(hazard, land):
    return Straight(moved=lambda p, x, t: Characteristics(jumps=Jumps(hazard(x), land(x))))


def nowhere(x):
    return lambda s, which, draw: x


def often(x):
    return lambda s: torch.full_like(x, math.inf if s == 1 else 0.7)


@pytest.mark.parametrize(
    ("pieces", "named", "found"),
    [
        ({"path": Straight(lambda a, b, t: (a + b)[:, :1])}, "Straight.sample", "[3, 1]"),
        ({"path": Straight(lambda a, b, t: None)}, "Straight.sample", "None"),
        ({"path": Straight(lambda a, b, t: b.double())}, "Straight.sample", "torch.float64"),
        ({"path": Straight(wanted=lambda a, b: "a")}, "Straight.target", "a str"),
        ({"path": Straight(wanted=lambda a, b: (b - a)[:1])}, "Straight.target", "[1, 2]"),
        ({"path": Straight(wanted=lambda a, b: (b - a)[:, :1])}, "Straight.target", "[3, 1]"),
        ({"path": Straight(moved=lambda p, x, t: p)}, "Straight.characteristics", "a Tensor"),
        ({"path": Straight(moved=lambda p, x, t: None)}, "Straight.characteristics", "None"),
        (
            {"path": Straight(moved=lambda p, x, t: Characteristics(velocity=p[:, :1]))},
            "Straight.characteristics",
            "[3, 1]",
        ),
        ({"path": jumping(often, nowhere)}, "<lambda>", "[3, 2]"),
        ({"path": jumping(often, lambda x: lambda s, which, draw: x[which][:2])}, "<lambda>", "[2]"),
        ({"path": jumping(often, lambda x: lambda s, which, draw: None)}, "<lambda>", "a NoneType"),
        ({"path": jumping(lambda x: lambda s: -often(x)(s), nowhere)}, "hazard", "-0.7"),
        ({"path": jumping(lambda x: lambda s: x[:2], nowhere)}, "hazard", "[2, 2]"),
        ({"criterion": Power(lambda d: (d**2).detach())}, "Power.entries", "without a gradient"),
        ({"criterion": Power(lambda d: (d**2).mean())}, "Power.entries", "[]"),
        ({"criterion": Power(lambda d: None)}, "Power.entries", "None"),
        ({"time_distribution": Rare(beyond=True)}, "Rare.quantile", "1.49"),
        ({"time_distribution": Stratified(Rare(beyond=True))}, "Rare.quantile", "1.49"),
        ({"time_distribution": Rare(flat=False)}, "Rare.quantile", "[255, 1]"),
        ({"coupling": Some(0.5)}, "Some.__call__", "[1, 2]"),
    ],
)
def test_wrong_pieces_are_named_with_what_they_return(pieces, named, found):
    with pytest.raises((InputError, UsageError)) as caught:
        tried(**pieces)
    assert named in str(caught.value)
    assert found in str(caught.value)
    assert named == "hazard" or re.search(r"test_own_pieces\.py line \d+\)", str(caught.value))


def test_step_refuses_too_many_or_too_few_places():
    """Torch would take the first of too many in silence."""
    x = torch.zeros(50, 2)
    for places in (x, x.flatten()[:3]):
        jumps = Jumps(lambda s: torch.full_like(x, 0.7), lambda s, which, draw, places=places: places)
        with refuses(InputError):
            jumps.apply(x, 0.5, feller.Rng(0).stream("jumps"))


def test_pieces_of_a_product():
    space = Spaces({"a": Euclidean((2,)), "b": Euclidean((4,))})
    x_1 = {"a": torch.randn(3, 2), "b": torch.randn(3, 4)}
    right = FlowMatching(
        ProductPath({"a": Affine(), "b": Straight()}), space, PerLeafLoss({"a": SquaredError(), "b": Power()})
    )
    check_components(right, network, {"x_1": x_1}, feller.Rng(0))
    narrow = ProductPath({"a": Affine(), "b": Straight(sampled=lambda a, b, t: b[:, :3])})
    with refuses(InputError, found="[3, 3]"):
        check_components(replace(right, path=narrow), network, {"x_1": x_1}, feller.Rng(0))
    still = PerLeafLoss({"a": SquaredError(), "b": Power(lambda d: d.detach())})
    with refuses(InputError) as caught:
        check_components(replace(right, criterion=still), network, {"x_1": x_1}, feller.Rng(0))
    assert "Power.entries" in str(caught.value)
