"""What one's own pieces return is looked at before a training, and told by class, file and line."""

import math
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

HERE = r"\S*test_own_pieces\.py line \d+\)"


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


def test_right_pieces_pass():
    tried(criterion=Power(), time_distribution=Rare(), coupling=Some())
    tried(time_distribution=Stratified(Rare()))
    tried(shape=(1, 4, 4))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"sampled": lambda a, b, t: (a + b)[:, :1]},
            r"Straight\.sample \(HERE must return .*\[3, 2\]; found \[3, 1\]",
        ),
        ({"sampled": lambda a, b, t: None}, r"Straight\.sample \(HERE must return .* found None"),
        (
            {"sampled": lambda a, b, t: b.double()},
            r"Straight\.sample \(HERE .* of torch\.float32; found torch\.float64",
        ),
        ({"wanted": lambda a, b: "a"}, r"Straight\.target \(HERE must return .* found a str"),
        ({"wanted": lambda a, b: (b - a)[:1]}, r"Straight\.target \(HERE must return .* found \[1, 2\]"),
        (
            {"wanted": lambda a, b: (b - a)[:, :1]},
            r"Straight\.target \(HERE must return .*\[3, 2\] for this network; found \[3, 1\]",
        ),
        ({"moved": lambda p, x, t: p}, r"Straight\.characteristics \(HERE: a process must return .* found a Tensor"),
        ({"moved": lambda p, x, t: None}, r"Straight\.characteristics \(HERE: a process must return .* found None"),
        (
            {"moved": lambda p, x, t: Characteristics(velocity=p[:, :1])},
            r"characteristics \(HERE: the velocity has shape \[3, 1\], .*\[3, 2\]",
        ),
    ],
)
def test_a_path_that_returns_something_else_is_told_by_its_line(changed, said):
    with pytest.raises((InputError, UsageError), match=said.replace("HERE", HERE)):
        tried(Straight(**changed))


def jumping(hazard, land):
    return Straight(moved=lambda p, x, t: Characteristics(jumps=Jumps(hazard(x), land(x))))


def nowhere(x):
    return lambda s, which, draw: x


def often(x):
    return lambda s: torch.full_like(x, math.inf if s == 1 else 0.7)


@pytest.mark.parametrize(
    ("hazard", "land", "said"),
    [
        (often, lambda x: lambda s, which, draw: x, r"one destination from .*<lambda> \(HERE .*\[5\]; found \[3, 2\]"),
        (often, lambda x: lambda s, which, draw: x[which][:2], r"\[5\]; found \[2\]"),
        (often, lambda x: lambda s, which, draw: None, r"\[5\]; found a NoneType"),
        (lambda x: lambda s: -often(x)(s), nowhere, r"hazard\(s\) to return .* found -0\.7 from t = 0\.5 to"),
        (lambda x: lambda s: x[:2], nowhere, r"hazard\(s\) to return .*\[3, 2\]; found \[2, 2\]"),
    ],
)
def test_jumps_to_another_number_of_places_are_refused(hazard, land, said):
    with pytest.raises(InputError, match=said.replace("HERE", r"\S*test_own_pieces\.py line \d+\)")):
        tried(jumping(hazard, land))


def test_jumps_to_the_right_places_pass():
    tried(jumping(often, lambda x: lambda s, which, draw: x[which] + 1))


def test_a_step_does_not_take_the_first_of_too_many_places():
    """Torch would, without a word; of too few it speaks of its own mask."""
    x = torch.zeros(50, 2)
    for places in (x, x.flatten()[:3]):
        jumps = Jumps(lambda s: torch.full_like(x, 0.7), lambda s, which, draw, places=places: places)
        with pytest.raises(InputError, match=r"land must return|per jumping entry, \[\d+\]; found"):
            jumps.apply(x, 0.5, feller.Rng(0).stream("jumps"))


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (
            lambda d: (d**2).detach(),
            r"Power\.entries \(HERE must return .* with a gradient .* found a loss without a gradient",
        ),
        (
            lambda d: (d**2).mean(),
            r"Power\.entries \(HERE must return the loss of each entry, .*\[3, \.\.\.\]; found \[\]",
        ),
        (lambda d: None, r"Power\.entries \(HERE must return .* found None"),
    ],
)
def test_a_loss_that_returns_something_else_is_told_by_its_line(of, said):
    with pytest.raises(InputError, match=said.replace("HERE", HERE)):
        tried(criterion=Power(of))


def test_times_beyond_the_end_are_refused_though_they_are_rare():
    for law in (Rare(beyond=True), Stratified(Rare(beyond=True))):
        with pytest.raises(InputError, match=rf"Rare\.quantile \({HERE} must return times in \[0, 1\]; found 1\.49"):
            tried(time_distribution=law)
    with refuses(InputError, found="[255, 1]"):
        tried(time_distribution=Rare(flat=False))


def test_a_coupling_that_loses_rows_is_told_by_its_line():
    with refuses(InputError, found="[1, 2]"):
        tried(coupling=Some(0.5))


def test_own_pieces_of_a_product_are_looked_at():
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
    with pytest.raises(InputError, match=r"Power\.entries .* found a loss without a gradient"):
        check_components(replace(right, criterion=still), network, {"x_1": x_1}, feller.Rng(0))
