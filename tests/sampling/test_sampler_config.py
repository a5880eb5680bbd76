"""Sampler configuration: solvers by name."""

import pytest

import feller
from feller.core.errors import UsageError
from feller.paths import Affine, Geodesic, IntervalBins, JumpPath, MeanEndpoint, Mixture, ProductPath
from feller.paths.time_distributions import Shifted, Tabulated, linear_grid
from feller.sampling import DormandPrince
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import SO3, Euclidean, MaskSource, Tokens
from feller.spaces import Product as ProductSpace
from tests.errors import refuses

JUMP = JumpPath(endpoint_support=IntervalBins(), jump_weight=0.0)
PLACES = ProductSpace({"a": Euclidean((3,)), "b": SO3()})


@pytest.mark.parametrize(
    ("path", "space"),
    [
        (
            ProductPath({"a": Affine(), "b": Mixture()}),
            ProductSpace({"a": Euclidean((3,)), "b": Tokens(2, (), MaskSource())}),
        ),
        (JUMP, Euclidean((3,))),
    ],
)
def test_adaptive_solvers_refuse_jumps(path, space) -> None:
    with refuses(UsageError):
        SamplerConfig("dopri5").resolve(path, space)


@pytest.mark.parametrize(
    ("path", "space"),
    [
        (ProductPath({"a": Affine(), "b": Geodesic(SO3())}), PLACES),
        (JumpPath(endpoint_support=IntervalBins(), jump_weight=0.0, final_step=MeanEndpoint()), Euclidean((3,))),
    ],
)
def test_adaptive_solvers_take_flows(path, space) -> None:
    _, solver, times = SamplerConfig("dopri5").resolve(path, space)
    assert isinstance(solver, DormandPrince)
    assert times == [0.0, 1.0]


def test_superposing_needs_a_flow_and_jumps() -> None:
    with refuses(UsageError):
        SamplerConfig(jump_weight=0.5).resolve(Affine(), Euclidean((3,)))
    path, _, _ = SamplerConfig("euler", 8, jump_weight=0.25).resolve(ProductPath({"a": JUMP, "b": Affine()}), PLACES)
    assert isinstance(path, ProductPath)
    assert path.leaf_paths["a"].jump_weight == 0.25


def test_solvers_may_be_given_by_name() -> None:
    model = feller.Model(lambda x, t: -x, data=(2,))
    by_name = model.sample(3, solver="heun", sampling=SamplerConfig(nfe=8)).numpy()
    assert (by_name == model.sample(3, sampling=SamplerConfig("heun", 8)).numpy()).all()
    with refuses(UsageError, argument="solver", found="'heum'"):
        model.sample(3, solver="heum")


def test_repr_of_samples_is_one_line() -> None:
    assert repr(feller.Model(lambda x, t: -x, data=(2,)).sample(500)) == "<Dataset of 500 examples, rows of numbers>"


def test_times_of_the_steps() -> None:
    """Equal steps bit for bit as before, or the quantiles of a distribution, with half the steps for midpoint."""
    for solver, steps in (("midpoint", 5), ("euler", 10), ("ab3", 8)):
        assert SamplerConfig(solver, 10).resolve(Affine(), Euclidean((2,)))[2] == linear_grid(steps)
    times = SamplerConfig("euler", 4, times=Shifted(3.0)).resolve(Affine(), Euclidean((2,)))[2]
    assert times == pytest.approx([0.0, 0.1, 0.25, 0.5, 1.0])
    table = Tabulated((0.0, 0.2, 1.0))
    assert SamplerConfig("euler", 4, times=table).resolve(Affine(), Euclidean((2,)))[2] == pytest.approx(
        [0.0, 0.1, 0.2, 0.6, 1.0]
    )
    for times in ((0.0,), (0.0, 0.5), (0.1, 1.0), (0.0, 0.6, 0.6, 1.0)):
        with refuses(UsageError, argument="times"):
            Tabulated(times)
