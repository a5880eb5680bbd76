"""Time distributions and grids: vectors of the flow matching reference, sections 3 and 17."""

import inspect
import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths.time_distributions import (
    LeafTimes,
    LogitNormal,
    Rescaled,
    Shifted,
    Stratified,
    Uniform,
    edm_grid,
    linear_grid,
)
from tests.errors import refuses
from tests.oracle import F64, close, f64


def test_shifted_quantiles() -> None:
    close(Shifted(3.0).quantile(f64(0.3)), 0.125, 1e-15)
    close(Shifted(1.0).quantile(f64(0.3)), 0.3, 0.0)
    assert Shifted(3.0).quantile(f64(0.0, 1.0)).tolist() == [0.0, 1.0]


def test_logit_normal_has_its_density() -> None:
    """The slope of the quantile is one over the density phi((logit t - m) / s) / (s t (1 - t))."""
    u = torch.linspace(0.05, 0.95, 19, dtype=F64).requires_grad_()
    t = LogitNormal(1.2, 0.7).quantile(u)
    (slope,) = torch.autograd.grad(t.sum(), u)
    z = (torch.logit(t) - 1.2) / 0.7
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) / (0.7 * t * (1 - t))
    close(slope * density, torch.ones_like(u), 1e-10)


def test_rescaled_stays_below_its_end() -> None:
    assert Rescaled().quantile(f64(1.0)).item() == 0.999
    assert Rescaled(0.5, LogitNormal()).quantile(f64(0.5)).item() == 0.25


def test_edm_grid() -> None:
    expected = (0.0123456790, 0.0539728556, 0.2844772991, 0.8548815078, 0.9980039920, 1)
    close(f64(*edm_grid(5)), expected, 6e-11)
    assert edm_grid(1) == [1 / 81, 1.0]


def test_linear_grid() -> None:
    close(f64(*linear_grid(4, 0.9, 0.1)), (0.9, 0.7, 0.5, 0.3, 0.1), 1e-15)


def test_grids_from_quantiles() -> None:
    close(f64(*Shifted(3.0).grid(4)), (0.0, 0.1, 0.25, 0.5, 1.0), 1e-15)
    assert LogitNormal().grid(1) == [0.0, 1.0]


def test_stratified_times_are_equally_spaced() -> None:
    """Sorted, the times of a batch are equally spaced to float32 rounding, over the circle."""
    times = Stratified()(64, Rng(1).stream("time")).sort().values
    close(times.diff(), torch.full((63,), 1 / 64), 1e-6)


def test_stratified_means_have_less_variance() -> None:
    """The variance of the mean of n independent times is 1 / 12 n; of a comb at most 1 / 4 n^2 (no chance involved)."""
    n = 50
    means = torch.stack([Stratified()(n, Rng(seed).stream("time")).mean() for seed in range(100)])
    assert (means - 0.5).abs().max() <= 0.5 / n + 1e-6


def test_stratified_never_rounds_up_to_the_end() -> None:
    """(10^9 - 1 + U) / 10^9 rounds to 1 in float32, where LinearVP's slope would make a loss infinite."""
    last = Stratified()(1, Rng(0, first_example=10**9 - 1, global_batch_size=10**9).stream("time"))
    assert last.item() < 1


def _leaf_times(law: LeafTimes, n: int = 4000) -> dict[str, Tensor]:
    t = Uniform()(n, Rng(0).stream("time"))
    return law({"a": t, "b": t, "c": t}, Uniform(), Rng(1))


def test_leaves_share_their_time_by_default() -> None:
    t = torch.rand(3)
    same = LeafTimes()({"a": t, "b": t}, Uniform(), Rng(0))
    assert same["a"] is t
    assert LeafTimes(observed_prob=0.5)(t, Uniform(), Rng(0)) is t


def test_observed_leaves_are_some_but_not_all() -> None:
    """A share of 0.4 of 4,000 examples: 4 deviations are 0.031."""
    times = _leaf_times(LeafTimes(observed_prob=0.4, independent_prob=0.3))
    at_end = torch.stack([time == 1 for time in times.values()])
    number = at_end.sum(0)
    assert abs((number > 0).float().mean().item() - 0.4) < 0.031
    assert number.max() == 2
    for count in (1, 2):  # each number of leaves is as likely, and each leaf
        assert abs((number == count).float().mean().item() - 0.2) < 0.026
    for leaf in at_end:
        assert abs(leaf.float().mean().item() - 0.2) < 0.026


def test_independent_leaf_times() -> None:
    times = _leaf_times(LeafTimes(independent_prob=1.0))
    a, b = times["a"], times["b"]
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1].item()) < 0.063
    for time in (a, b):
        ordered = time.sort().values
        assert (ordered - torch.linspace(0, 1, len(ordered))).abs().max() < 0.032  # Kolmogorov-Smirnov: 1 in 2,000


def test_only_conditionable_leaves_are_observed() -> None:
    times = _leaf_times(LeafTimes(observed_prob=1.0, conditionable=("b",)))
    assert (times["b"] == 1).all()
    assert (times["a"] < 1).all()
    assert times["a"] is times["c"] or (times["a"] == times["c"]).all()


@pytest.mark.parametrize("law", [{"observed_prob": 0.7, "independent_prob": 0.5}, {"observed_prob": -0.1}])
def test_probabilities_sum_to_at_most_one(law: dict[str, float]) -> None:
    with refuses(UsageError):
        LeafTimes(**law)


def test_unknown_conditionable_leaves_are_refused() -> None:
    with refuses(UsageError, argument="given", found="'lattice'"):
        _leaf_times(LeafTimes(observed_prob=0.5, conditionable=("lattice",)))
    with refuses(UsageError):
        LeafTimes(observed_prob=0.5)({"a": torch.rand(3)}, Uniform(), Rng(0))


def test_grids_have_one_more_time_than_steps() -> None:
    plain = inspect.unwrap(linear_grid)(4, 1, 0)
    assert plain == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert {type(t) for t in plain} == {float}
    for grid in (linear_grid, edm_grid, LogitNormal().grid):
        assert len(grid(1)) == 2
        with refuses(UsageError, argument="steps", found="0"):
            grid(0)


@pytest.mark.parametrize("value", [-1.0, 0.0, math.nan, math.inf])
def test_parameters_that_give_no_distribution_are_refused(value: float) -> None:
    for kind, name in ((LogitNormal, "std"), (Shifted, "shift"), (Rescaled, "stop")):
        with refuses(UsageError, argument=name):
            kind(**{name: value})
    for name in ("sigma_min", "sigma_max", "rho"):
        with refuses(UsageError, argument=name):
            edm_grid(5, **{name: value})


def test_ends_of_grids_and_levels_in_order_are_asked_for() -> None:
    for end in (math.nan, math.inf, -math.inf):
        with refuses(UsageError, argument="mean"):
            LogitNormal(end)
        with refuses(UsageError, argument="start"):
            linear_grid(3, end)
        with refuses(UsageError, argument="stop"):
            linear_grid(3, 0.0, end)
    with refuses(UsageError, argument="sigma_max"):
        edm_grid(5, sigma_min=80.0, sigma_max=0.002)


@pytest.mark.parametrize("kind", [Shifted, Rescaled, Stratified])
def test_stratification_within_is_refused(kind: type[Shifted | Rescaled | Stratified]) -> None:
    with refuses(UsageError, argument="base", found="Stratified"):
        kind(base=Stratified())


def test_probabilities_that_are_no_numbers_are_refused() -> None:
    for name in ("observed_prob", "independent_prob"):
        for value in (math.nan, -0.1, 1.1):
            with refuses(UsageError, argument=name):
                LeafTimes(**{name: value})
