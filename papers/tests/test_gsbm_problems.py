"""The problems of the paper: obstacles by the reference's table, populations and costs by their constants."""

import math

import numpy as np
import pytest
import torch
from tests.oracle import F64, close, f64

from feller.control.bridges.costs import PointCloudSurface, PopulationDensity
from feller.core.rng import Rng
from feller_papers.gsbm import problems

PLACES = f64(5, 6, 5, -3.4, 5, -3.6, 0, 0, 0, 0.7, 0, 3, 1, 2.5, 2, 5, 6, 6, 6, 7.4, 6, 7.6).reshape(-1, 2)
T = torch.zeros(1, dtype=F64)


@pytest.mark.parametrize(
    ("obstacle", "wanted"),
    [
        (problems.TUNNEL, [90.0, 1.81729, 0.109146, 4.03e-194, 0, 0, 0, 0, 70.0, 68.04, 67.44]),
        (problems.NECK, [1.554e-39, 0, 0, 0.52926, 0.760258, 8.64018, 1.23405, 4.64961, 0, 0, 0]),
        (problems.DISCS, [50.0, 0, 0, 0, 0, 0, 0, 0, 150.0, 10.0, 4.53989e-5]),
    ],
)
def test_obstacles(obstacle, wanted: list[float]) -> None:
    found = obstacle(PLACES, T)
    close(found, wanted, 1e-4)
    assert found[-1].item() == pytest.approx(wanted[-1], rel=1e-4, abs=1e-9)


def test_mirrored_obstacles() -> None:
    close(problems.TUNNEL(-PLACES, T), problems.TUNNEL(PLACES, T).tolist(), 1e-9)
    close(problems.DISCS(f64(6, -6, -6, -6, -6, 6).reshape(3, 2), T), [150.0, 150.0, 0.0], 1e-6)


def test_whole_costs() -> None:
    x = torch.cat([PLACES, PLACES + 0.3])[None]
    crowd = PopulationDensity(x.roll(1, 1), x[:, :3], 0.5)
    gone = (x - x.roll(1, 1)).square().sum(-1)
    for noise in (1.0, 0.5):
        found = problems.stunnel(noise).cost(x, T[:, None], crowd)
        close(found, (noise**2 * (1500 * problems.TUNNEL(x, T) + 100 / (gone + 1))).tolist(), 1e-6)
    found = problems.vneck().cost(x, T[:, None], crowd)
    close(found, (3000 * problems.NECK(x, T) + 8 * crowd.log_density(x)).tolist(), 1e-6)
    found = problems.gmm().cost(x, T[:, None], crowd)
    close(found, (1500 * problems.DISCS(x, T) + 5 * crowd.log_density(x)).tolist(), 1e-6)
    assert problems.stunnel().noise == 1.0
    assert len(problems.stunnel().cost.obstacles) == 2
    assert len(problems.gmm().cost.obstacles) == 3


def test_the_spider_by_hand() -> None:
    """Torch's softplus of sharpness 20 is the identity where 20 z is above 1."""

    def sp(z: float) -> float:
        return z if 20 * z > 1 else math.log1p(math.exp(20 * z)) / 20

    def box(x: float, y: float, low: float, high: float) -> float:
        return sp(-5 * (x + 7) * (x - 7)) * sp(-5 * (y - low) * (y - high))

    places = [(0.0, 0.0), (1.0, 0.499), (1.0, 0.501), (2.0, 4.0), (-6.999, -1.0), (-7.001, -1.0), (9.0, 3.0)]
    wanted = [box(x, y, 0.5, 7.5) + box(x, y, -7.5, -0.5) for x, y in places]
    spider = problems.spider()
    close(spider.cost(torch.tensor(places, dtype=F64), T), wanted, 1e-9)
    inside = torch.stack([one(torch.tensor(places, dtype=F64)) for one in spider.cost.obstacles]).any(0)
    assert inside.tolist() == [False, False, True, True, True, False, False]


@pytest.mark.parametrize(
    ("problem", "centres", "variances"),
    [
        (problems.stunnel(), ((-11, -1), (11, 1)), (0.5, 0.5)),
        (problems.vneck(), ((-7, 0), (7, 0)), (0.2, 0.2)),
        (problems.gmm(), ((0, 0), (0, 0)), (1 + 8, 1 + 128)),
        (problems.opinions(2), ((0, 0), (0, 0)), (0.375, 3)),
    ],
)
def test_populations(problem, centres, variances) -> None:
    """Mean and mean variance of the entries, of 20,000 members: within six deviations."""
    for crowd, centre, variance in zip(problem.populations[0], centres, variances, strict=True):
        x = crowd(20_000, Rng(0))
        assert x.dtype == torch.float32
        close(x.mean(0), list(centre), 6 * math.sqrt(variance / 20_000))
        assert x.var(0).mean().item() == pytest.approx(variance, rel=0.05)


def test_modes_of_the_mixtures() -> None:
    begin, end = problems.gmm().populations[0]
    for crowd, radius, number in ((begin, 4, 4), (end, 16, 8)):
        turn = torch.arange(number) * 2 * math.pi / number
        modes = radius * torch.stack([turn.cos(), turn.sin()], 1)
        nearest = torch.cdist(crowd(4000, Rng(1)), modes).min(1)
        shares = torch.bincount(nearest.indices, minlength=number) / 4000
        close(shares, number * [1 / number], 0.03)
    assert begin.variance == end.variance == 1.0


def test_a_thousand_opinions() -> None:
    problem = problems.opinions()
    begin, end = (crowd(2000, Rng(0)) for crowd in problem.populations[0])
    assert begin[:, 0].var().item() == pytest.approx(4, rel=0.15)
    assert begin[:, 1:].var(0).mean().item() == pytest.approx(0.25, rel=0.01)
    assert end.var(0).mean().item() == pytest.approx(4, rel=0.01)
    assert problem.noise == 0.5
    x = torch.stack([begin[:4]])
    close(
        problem.cost(x, T[:, None], PopulationDensity(x.roll(1, 1), x, 1.0)),
        (0.25 * 20 / ((x - x.roll(1, 1)).square().sum(-1) + 1)).tolist(),
        1e-5,
    )


def test_crowds_on_a_surface() -> None:
    """On a slope z = 0.1 x + 1: the members are on it, and there the cost is 5000 e^z where no border is near."""
    grid = np.stack(np.meshgrid(np.linspace(-5, 5, 60), np.linspace(-5, 5, 60)), -1).reshape(-1, 2)
    slope = PointCloudSurface(np.concatenate([grid, 0.1 * grid[:, :1] + 1], 1))
    problem = problems.lidar(slope)
    for crowd, centre in zip(problem.populations[0], ((-3.5, -0.24), (2.6, -1.25)), strict=True):
        x = crowd(400, Rng(0))
        close(x[:, 2], (0.1 * x[:, 0] + 1).tolist(), 1e-5)
        close(x[:, :2].mean(0), list(centre), 0.2)
        close(problem.cost(x, torch.zeros(1)), (5000 * x[:, 2].exp()).tolist(), 60.0)
    raw = np.array(
        [[584445.25, 5176257.94, 640.16], [588885.02, 5179598.82, 1495.21], [586665.135, 5177928.38, 1067.685]]
    )
    close(torch.from_numpy(problems.normalize(raw)), [[-5, -5, 0], [5, 5, 2], [0, 0, 1]], 1e-6)


def test_the_crowd_that_polarises_is_refreshed() -> None:
    from feller.control.bridges.drift_matching import Segment
    from feller.control.bridges.gaussian_paths import GaussianPaths

    problem = problems.opinions(2)
    begin, end = (crowd(300, Rng(0)) for crowd in problem.populations[0])
    leg = Segment(0.0, 1.0, GaussianPaths.brownian_bridges(begin, end, 0.5, 5, 5))
    fresh = problem.update_base_drift(problem.base_drift, [leg])
    assert fresh.mean.shape == (500, 2)
    close(fresh(begin, torch.zeros(300)), problem.base_drift(begin, torch.zeros(300)).tolist(), 1e-4)


def test_boundary() -> None:
    border = problems.Boundary((-5.0, -5.0), (5.0, 5.0), 0.1)
    x = f64(0, 0, 9, 5, 0, 9, 5.2, -4.9, 9, 9, -9, 9).reshape(4, 3)
    close(border(x, torch.zeros(1, dtype=F64)), [0, 0.5, 0.880797 + 0.268941, 2], 1e-6)
