"""Closed forms of bridges against the tables of the reference."""

import math

import pytest
import torch
from tests.control.bridges.quadratic import ROWS
from tests.oracle import F64, close, f64

from feller.control.bridges.gaussian_paths import GaussianPaths
from feller_papers.gsbm.exact import GaussianBridge, barrier

T = f64(0.25, 0.5, 0.75)
BRIDGES = (
    ((-1.0, 0.5, 1.0, 0.8, 1.0, 0.0), 0.14031242, (-0.5, 0.0, 0.5), (0.64864641, 0.73665203, 0.78469240), 2.093482),
    (
        (-1.0, 0.5, 1.0, 0.8, 1.0, 2.0),
        0.08431077,
        (-0.44340944, 0.0, 0.44340944),
        (0.51630058, 0.54913296, 0.62684677),
        3.546264,
    ),
    (
        (-2.0, 0.5, 2.0, 0.5, 0.5, 3.0),
        0.06914000,
        (-0.77238967, 0.0, 0.77238967),
        (0.30644870, 0.25797261, 0.30644870),
        14.026185,
    ),
    ((0.0, 1.0, 0.0, 1.0, 1.0, 2.0), 0.44314870, (0.0, 0.0, 0.0), (0.77008879, 0.70245374, 0.77008879), 1.737184),
)


@pytest.mark.parametrize(("problem", "means", "stds", "covariances", "cost"), ROWS)
def test_quadratic_cost(problem, means, stds, covariances, cost) -> None:
    close(problem.mean(T), f64(*means), 1e-8)
    close(problem.std(T), f64(*stds), 1e-8)
    close(problem.covariance(T, f64(0.9)), f64(*covariances), 1e-8)
    assert abs(-problem.log_z - cost) < 1e-6


@pytest.mark.parametrize("row", ROWS)
def test_the_known_solution_costs_minus_log_z(row) -> None:
    """KL to the Brownian bridge + E int V / noise^2 of the closed form, through its values at many knots."""
    problem, t = row[0], torch.linspace(0, 1, 401, dtype=F64)
    h = torch.ones_like(t)
    h[1:-1] = problem.std(t[1:-1]) / (problem.noise * (t * (1 - t)).sqrt()[1:-1])
    scales = torch.log(torch.expm1(h)) - math.log(math.e - 1)
    paths = GaussianPaths(problem.mean(t)[None, :, None], scales[None], problem.noise)
    assert abs(problem.objective(paths).item() / -problem.log_z - 1) < 1e-4


@pytest.mark.parametrize("row", ROWS)
def test_covariance_is_that_of_the_drift(row) -> None:
    """Cov(X_s, X_t) = Var(X_s) exp of the integral of the drift's slope from s to t."""
    problem = row[0]
    r = torch.linspace(0.25, 0.9, 100_001, dtype=F64)
    slope = problem.drift(torch.ones_like(r), r) - problem.drift(torch.zeros_like(r), r)
    found = problem.std(r[0]) ** 2 * torch.trapezoid(slope, r).exp()
    assert abs(found / problem.covariance(r[0], r[-1]) - 1) < 1e-8


def test_barrier() -> None:
    cost, laws = barrier()
    assert abs(cost - 2.48739) < 2e-4
    for t, std, prob_within in ((0.5, 0.6723, 0.2427), (0.25, 0.5025, 0.1784)):
        assert abs(laws[t].std - std) < 2e-3
        assert abs(laws[t].prob_within(0.3) - prob_within) < 5e-3


def test_w1_of_states() -> None:
    """Of one state it is the mean distance to it."""
    law = barrier()[1][0.5]
    found = law.w1(f64(0.2), f64(1.0))
    assert abs(found - (law.weights @ (law.grid - 0.2).abs()).item()) < 0.01
    assert law.w1(law.grid, law.weights) < 0.004  # half a cell


@pytest.mark.parametrize(("numbers", "covariance", "means", "stds", "objective"), BRIDGES)
def test_bridges_between_normal_laws(numbers, covariance, means, stds, objective) -> None:
    bridge = GaussianBridge(*numbers)
    mean, std = bridge.moments(T)
    close(mean, f64(*means), 1e-8)
    close(std, f64(*stds), 1e-8)
    assert abs(bridge.covariance - covariance) < 1e-8
    assert abs(bridge.objective - objective) < 1e-5
    ends = bridge.moments(f64(0.0, 1.0))
    close(ends[1], f64(numbers[1], numbers[3]), 1e-12)
