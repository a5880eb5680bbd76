"""Claims about surfaces, opinions, digits and a corridor: what they measure, and that tiny runs tell them."""

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
from feller_papers.gsbm.setting import Effort, Setting

FEW = Effort(1, pairs=16, control=2, steps=2)
TINY = Setting(seeds=(0,), crowd=FEW, mountain=FEW, opinions=FEW, digits=FEW, coder=5)
WORDS = {HOLDS, FAILS}


def test_how_a_path_lies_on_a_surface() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-5, 5, 40), np.linspace(-5, 5, 40)), -1).reshape(-1, 2)
    flat = PointCloudSurface(np.concatenate([grid, np.full((1600, 1), 0.5)], 1))
    terrain = surface.Terrain("a plain", flat, problems.lidar(flat), paper=False)
    x = torch.tensor([[0.0, 0.0, 0.5], [1.0, 2.0, 0.8]], dtype=F64)
    assert terrain.lies(x) == pytest.approx((0.045, math.exp(0.5)), abs=1e-6)


def test_ways_over_hills(monkeypatch) -> None:
    monkeypatch.setattr(surface, "BETWEEN", 10)
    (cost,) = surface.cost_of_places(TINY)
    assert cost.verdict == UNTESTABLE
    (pinned,) = surface.paths_of_pairs(TINY)
    (learned,) = surface.crossing(TINY)
    assert {pinned.verdict, learned.verdict} <= WORDS
    assert "hills near Jacksboro" in pinned.claim
    row = surface.pinned(None, 2, 0)
    assert row.straight > 8000  # a straight way goes through the hills
    assert row.off_straight > 0.1


def test_spread_of_opinions() -> None:
    """Deviations 3, 1 and 1 around (2, 0, 0): of 100,000, to three deviations."""
    x = torch.tensor([3.0, 1.0, 1.0]) * Rng(0).stream("x").normal((100_000, 3)) + torch.tensor([2.0, 0.0, 0.0])
    spread = opinion.Spread.of(x)
    assert spread.variance == pytest.approx(11 / 3, abs=0.05)
    assert spread.centre == pytest.approx(2 / 3, abs=0.01)
    assert spread.top == pytest.approx(27 / 11, abs=0.03)


@pytest.mark.slow
def test_two_opinions(monkeypatch) -> None:
    monkeypatch.setattr(opinion, "FOLLOWED", 400)
    (claim,) = opinion.plane(TINY)
    assert claim.verdict in WORDS
    row = opinion.led(FEW, 2, 0)
    assert row.wanted.variance == pytest.approx(3, rel=0.25)  # five deviations of 400
    assert row.alone.top > 1.3


def test_how_digits_look() -> None:
    stripes = (2.0 * (torch.arange(64) % 2) - 1).expand(3, 64)  # neighbours in a row differ by 2, in a column not
    assert pictures.Look.of(stripes).sharp == pytest.approx(1.0)
    real = pictures.members(4)
    assert pictures.from_real(real) == pytest.approx(0.0, abs=1e-3)
    assert pictures.from_real(real + 0.1) < 0.1 + 1e-3
    assert pictures.share_of(pictures.members(pictures.TO, "/test")) > 0.9
    assert pictures.share_of(pictures.members(pictures.FROM, "/test")) < 0.1


def test_v_of_digits_is_from_their_own_ways(monkeypatch) -> None:
    """Paths without noise along what is decoded cost next to nothing: what the times between two frames differ by."""
    posed = pictures.problem(TINY, 0)
    x_0, x_1 = (crowd(5, Rng(0)) for crowd in posed.populations[0])
    near = pictures.near_latent(posed, x_0, x_1)
    monkeypatch.setattr(pictures, "BETWEEN", 16)
    along = GaussianPaths.from_knots(near.frames, 1e-6, 5)
    assert pictures._along(posed, along, Rng(0)) < 0.05
    straight = GaussianPaths.brownian_bridges(x_0, x_1, pictures.NOISE, 5, 5)
    assert pictures._along(posed, straight, Rng(0)) > 0.1
    x = torch.zeros(2, 5, 64)
    t = torch.tensor([0.2, 0.9])[:, None]
    close(posed.cost.bind_pairs(x_0, x_1)(x, t), (400 * near(x, t)).tolist(), 1e-3)


@pytest.mark.slow
def test_digits() -> None:
    claims = list(pictures.latent(replace(TINY, digits=replace(FEW, pairs=8))))
    assert [claim.verdict in WORDS for claim in claims] == [True, True]


@pytest.mark.slow
def test_the_corridor(monkeypatch) -> None:
    monkeypatch.setattr(spider, "FOLLOWED", 64)
    (claim,) = spider.corridor(TINY)
    assert claim.verdict in WORDS
    row = spider.passed(TINY, 0)
    assert 0.1 < row.straight < 0.5
