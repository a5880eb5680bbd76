"""Claims about surfaces, opinions, digits and a corridor: metrics, and verdicts of tiny runs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.oracle import F64, close

from feller.control.bridges.costs import PointCloudSurface
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.core.rng import Rng
from feller_papers.claims import FAILS, HOLDS, UNTESTABLE
from feller_papers.gsbm import opinion, pictures, problems, spider, surface
from feller_papers.gsbm.setting import Budget, Setting

TINY_BUDGET = Budget(1, pairs=16, control_steps=2, steps=2)
TINY = Setting(
    seeds=(0,), crowd=TINY_BUDGET, mountain=TINY_BUDGET, opinions=TINY_BUDGET, digits=TINY_BUDGET, autoencoder_steps=5
)
VERDICTS = {HOLDS, FAILS}


def test_surface_metrics() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-5, 5, 40), np.linspace(-5, 5, 40)), -1).reshape(-1, 2)
    flat = PointCloudSurface(np.concatenate([grid, np.full((1600, 1), 0.5)], 1))
    terrain = surface.Terrain("a plain", flat, problems.lidar(flat), is_paper=False)
    x = torch.tensor([[0.0, 0.0, 0.5], [1.0, 2.0, 0.8]], dtype=F64)
    assert terrain.surface_metrics(x) == pytest.approx((0.045, math.exp(0.5)), abs=1e-6)


def test_paths_over_hills(monkeypatch) -> None:
    monkeypatch.setattr(surface, "NUM_TIMES", 10)
    (cost,) = surface.cost_of_places(TINY)
    assert cost.verdict == UNTESTABLE
    (pinned,) = surface.paths_of_pairs(TINY)
    (learned,) = surface.crossing(TINY)
    assert {pinned.verdict, learned.verdict} <= VERDICTS
    assert "hills near Jacksboro" in pinned.claim
    row = surface.solve_pinned(None, 2, 0)
    assert row.straight_state_cost > 8000  # a straight path crosses the hills
    assert row.straight_off_surface > 0.1


def test_spread_of_opinions() -> None:
    """Deviations 3, 1 and 1 around (2, 0, 0): of 100,000, to three deviations."""
    x = torch.tensor([3.0, 1.0, 1.0]) * Rng(0).stream("x").normal((100_000, 3)) + torch.tensor([2.0, 0.0, 0.0])
    spread = opinion.Spread.from_samples(x)
    assert spread.variance == pytest.approx(11 / 3, abs=0.05)
    assert spread.mean_offset == pytest.approx(2 / 3, abs=0.01)
    assert spread.top_eigenvalue == pytest.approx(27 / 11, abs=0.03)


@pytest.mark.slow
def test_two_opinions(monkeypatch) -> None:
    monkeypatch.setattr(opinion, "NUM_TRAJECTORIES", 400)
    (claim,) = opinion.plane(TINY)
    assert claim.verdict in VERDICTS
    row = opinion.solve_opinions(TINY_BUDGET, 2, 0)
    assert row.target.variance == pytest.approx(3, rel=0.25)  # five deviations of 400
    assert row.uncontrolled.top_eigenvalue > 1.3


def test_image_quality() -> None:
    stripes = (2.0 * (torch.arange(64) % 2) - 1).expand(3, 64)  # neighbours in a row differ by 2, in a column not
    assert pictures.ImageQuality.from_images(stripes).sharpness == pytest.approx(1.0)
    real = pictures.class_images(4)
    assert pictures.distance_to_real(real) == pytest.approx(0.0, abs=1e-3)
    assert pictures.distance_to_real(real + 0.1) < 0.1 + 1e-3
    assert pictures.target_fraction(pictures.class_images(pictures.TARGET_CLASS, "/test")) > 0.9
    assert pictures.target_fraction(pictures.class_images(pictures.SOURCE_CLASS, "/test")) < 0.1


def test_latent_cost_of_each_pair(monkeypatch) -> None:
    """Paths without noise along the decoded frames cost almost nothing: only the interpolation error."""
    problem = pictures.bridge_problem(TINY, 0)
    x_0, x_1 = (crowd(5, Rng(0)) for crowd in problem.populations[0])
    near = pictures.latent_cost(problem, x_0, x_1)
    monkeypatch.setattr(pictures, "NUM_TIMES", 16)
    along = GaussianPaths.from_knots(near.frames, 1e-6, 5)
    assert pictures._mean_state_cost(problem, along, Rng(0)) < 0.05
    straight = GaussianPaths.brownian_bridges(x_0, x_1, pictures.NOISE, 5, 5)
    assert pictures._mean_state_cost(problem, straight, Rng(0)) > 0.1
    x = torch.zeros(2, 5, 64)
    t = torch.tensor([0.2, 0.9])[:, None]
    close(problem.cost.bind_pairs(x_0, x_1)(x, t), (400 * near(x, t)).tolist(), 1e-3)


@pytest.mark.slow
def test_digits() -> None:
    claims = list(pictures.latent(replace(TINY, digits=replace(TINY_BUDGET, pairs=8))))
    assert [claim.verdict in VERDICTS for claim in claims] == [True, True]


@pytest.mark.slow
def test_the_corridor(monkeypatch) -> None:
    monkeypatch.setattr(spider, "NUM_TRAJECTORIES", 64)
    (claim,) = spider.corridor(TINY)
    assert claim.verdict in VERDICTS
    row = spider.solve_spider(TINY, 0)
    assert 0.1 < row.straight_inside < 0.5
