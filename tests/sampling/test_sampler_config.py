"""Solvers by name: what follows what."""

import pytest

import feller
from feller.core.errors import UsageError
from feller.paths import Affine, Geodesic, Interval, Jump, MeanEnd, Mixture, Product
from feller.sampling import DormandPrince
from feller.sampling.sampler_config import Sampling
from feller.spaces import SO3, Euclidean, MaskSource, Tokens
from feller.spaces import Product as ProductSpace
from tests.errors import refuses

JUMP = Jump(ends=Interval(), share=0.0)
PLACES = ProductSpace({"a": Euclidean((3,)), "b": SO3()})


@pytest.mark.parametrize(
    ("path", "space"),
    [
        (
            Product({"a": Affine(), "b": Mixture()}),
            ProductSpace({"a": Euclidean((3,)), "b": Tokens(2, (), MaskSource())}),
        ),
        (JUMP, Euclidean((3,))),
    ],
)
def test_an_adaptive_rule_refuses_what_jumps(path, space) -> None:
    with pytest.raises(UsageError, match="jump"):
        Sampling("dopri5").choose(path, space)


@pytest.mark.parametrize(
    ("path", "space"),
    [
        (Product({"a": Affine(), "b": Geodesic(SO3())}), PLACES),
        (Jump(ends=Interval(), share=0.0, last=MeanEnd()), Euclidean((3,))),
    ],
)
def test_an_adaptive_rule_takes_velocities(path, space) -> None:
    _, solver, times = Sampling("dopri5").choose(path, space)
    assert isinstance(solver, DormandPrince)
    assert times == [0.0, 1.0]


def test_superposing_needs_a_flow_and_jumps() -> None:
    with pytest.raises(UsageError, match="no flow"):
        Sampling(jump=0.5).choose(Affine(), Euclidean((3,)))
    path, _, _ = Sampling("euler", 8, jump=0.25).choose(Product({"a": JUMP, "b": Affine()}), PLACES)
    assert isinstance(path, Product)
    assert path.parts["a"].share == 0.25


def test_a_solver_of_a_model_is_may_be_a_name_as_on_the_command_line() -> None:
    model = feller.Model(lambda x, t: -x, data=(2,))
    by_name = model.sample(3, solver="heun", sampling=Sampling(calls=8)).numpy()
    assert (by_name == model.sample(3, sampling=Sampling("heun", 8)).numpy()).all()
    with refuses(UsageError, argument="solver", found="'heum'"):
        model.sample(3, solver="heum")


def test_samples_print_in_a_line() -> None:
    assert repr(feller.Model(lambda x, t: -x, data=(2,)).sample(500)) == "<Dataset of 500 examples, rows of numbers>"
