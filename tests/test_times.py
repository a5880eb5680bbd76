"""Time laws and grids: the vectors of the flow matching reference, sections 3 and 17."""

import math

import pytest
import torch

from feller.draws import Draws
from feller.times import LogitNormal, Shifted, Stratified, Uniform, Until, edm_grid, linear_grid
from tests.oracle import F64, close, f64


def test_shift() -> None:
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


def test_skewed_times_of_edm_are_logit_normal() -> None:
    """1 / (1 + exp(-1.2 + 1.2 z)) at z = -ndtri(u)."""
    u = f64(0.1, 0.5, 0.8)
    close(LogitNormal(1.2, 1.2).quantile(u), 1 / (1 + torch.exp(-1.2 - 1.2 * torch.special.ndtri(u))), 1e-15)


def test_until_stays_below_its_end() -> None:
    assert Until().quantile(f64(1.0)).item() == 0.999
    assert Until(0.5, LogitNormal()).quantile(f64(0.5)).item() == 0.25


def test_edm_grid() -> None:
    expected = (0.0123456790, 0.0539728556, 0.2844772991, 0.8548815078, 0.9980039920, 1)
    close(f64(*edm_grid(5)), expected, 6e-11)
    assert edm_grid(1) == [1 / 81, 1.0]


def test_linear_grid() -> None:
    grid = linear_grid(49)
    assert len(grid) == 50
    assert (grid[0], grid[-1]) == (0.0, 1.0)
    close(f64(*linear_grid(4, 0.9, 0.1)), (0.9, 0.7, 0.5, 0.3, 0.1), 1e-15)
    with pytest.raises(ValueError, match="at least one step"):
        linear_grid(0)


def test_a_law_makes_a_grid() -> None:
    close(f64(*Shifted(3.0).grid(4)), (0.0, 0.1, 0.25, 0.5, 1.0), 1e-15)
    assert LogitNormal().grid(1) == [0.0, 1.0]


def test_stratified_is_one_comb() -> None:
    """Sorted, the times of a batch are equally spaced to float32 rounding, over the circle."""
    times = Stratified()(64, Draws(1).at("time")).sort().values
    close(times.diff(), torch.full((63,), 1 / 64), 1e-6)


def test_stratified_has_far_less_variance() -> None:
    """The variance of the mean of n independent times is 1 / 12 n; of a comb at most 1 / 4 n^2 (no chance involved)."""
    n = 50
    means = torch.stack([Stratified()(n, Draws(seed).at("time")).mean() for seed in range(100)])
    assert (means - 0.5).abs().max() <= 0.5 / n + 1e-6


def test_stratified_never_rounds_up_to_the_end() -> None:
    """(10^9 - 1 + U) / 10^9 rounds to 1 in float32, where LinearVP's slope would make a loss infinite."""
    last = Stratified()(1, Draws(0, first=10**9 - 1, total=10**9).at("time"))
    assert last.item() < 1


def test_independent_times_are_addressed() -> None:
    draw = Draws(0).at("time")
    whole = Uniform()(300, draw)
    parts = [Uniform()(n, Draws(0, first).at("time")) for first, n in ((0, 100), (100, 200))]
    assert torch.equal(whole, torch.cat(parts))
