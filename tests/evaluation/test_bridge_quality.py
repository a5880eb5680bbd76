"""Measures of bridges against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from feller.control.bridges.costs import CustomCost, StateCost, Zero
from feller.control.bridges.costs.congestion import CongestionCost, EntropyCost
from feller.control.bridges.costs.obstacles import Disc, Indicator
from feller.control.bridges.population import Population
from feller.core.rng import Rng
from feller.evaluation.bridge_quality import PathCosts, endpoint_distances, feasibility, path_costs
from feller.evaluation.two_sample import wasserstein
from tests.errors import refuses
from tests.evaluation.known import KNOWN

F64 = torch.float64
TIMES = [k / 140 for k in range(141)]


def quadratic(x: Tensor, t: Tensor) -> Tensor:
    return 2 * x.square().sum(-1)


def bridge_of_normal_laws(n: int) -> tuple[Tensor, Tensor]:
    """Return states and controls of the best bridge from N(-1, .5^2) to N(1, .8^2), noise 1, V = 2 x^2."""
    omega, s0, s1 = 2.0, 0.5, 0.8
    kappa = omega / math.sinh(omega)
    shared = (math.sqrt(1 + 4 * kappa**2 * s0**2 * s1**2) - 1) / (2 * kappa)
    t = torch.tensor(TIMES, dtype=F64).requires_grad_()
    a, b = ((omega * s).sinh() / math.sinh(omega) for s in (1 - t, t))
    mean = b - a
    own = (omega * t).sinh() * (omega * (1 - t)).sinh() / (omega * math.sinh(omega))
    variance = a**2 * s0**2 + b**2 * s1**2 + 2 * a * b * shared + own
    speed, rate = (torch.autograd.grad(one.sum(), t, retain_graph=True)[0] for one in (mean, variance))
    mean, variance = mean.detach(), variance.detach()
    level = (torch.arange(n, dtype=F64) + 0.5) / n
    z = math.sqrt(2) * torch.erfinv(2 * level - 1)  # quantiles: nearly no sampling error
    x = mean + variance.sqrt() * (z / z.square().mean().sqrt())[:, None]
    return x[..., None], (speed + (rate - 1) / (2 * variance) * (x - mean))[..., None]


def test_path_costs_of_a_gaussian_bridge() -> None:
    """Reference: 3.546264 = 2.269706 + 1.276558."""
    states, control = bridge_of_normal_laws(400)
    found = path_costs(TIMES, states, control, CustomCost(quadratic), Rng(0)).averages()
    assert found["control_cost"] == pytest.approx(2.269706, rel=1e-3)
    assert found["state_cost"] == pytest.approx(1.276558, rel=1e-3)
    assert found["objective"] == pytest.approx(3.546264, rel=1e-3)
    assert found["inside_time"] is None
    assert found["inside_paths"] is None


def test_logged_costs_of_the_paper() -> None:
    """At fifteen times, the last control is taken as none."""
    rising = torch.linspace(0, 1, 141, dtype=F64)
    found = PathCosts(rising, 2 + rising, 3 + 0 * rising, None, None)
    assert found.logged() == pytest.approx(((2.5 * 15 - 3) / 15, 3.0))
    assert found.logged(backward=True) == pytest.approx(((2.5 * 15 - 2) / 15, 3.0))
    assert found.averages()["objective"] == pytest.approx(5.5)
    with refuses(ValueError):
        found.logged(13)


def test_population_costs() -> None:
    """All at one place: congestion is 2 everywhere, and the density that of a kernel at its middle."""
    still = torch.zeros(8, 15, 2, dtype=F64)
    cost: StateCost = CongestionCost()
    assert path_costs(TIMES[::10], still, still, cost, Rng(0)).averages()["state_cost"] == pytest.approx(2.0)
    found = path_costs(TIMES[::10], still, still, EntropyCost(), Rng(0), width=0.2)
    assert found.averages()["state_cost"] == pytest.approx(-math.log(2 * math.pi * 0.04))


def test_congestion_excludes_oneself() -> None:
    apart = torch.tensor([[-50.0], [50.0]], dtype=F64)[:, None].expand(2, 15, 1)
    found = path_costs(TIMES[::10], apart, apart, CongestionCost(), Rng(0)).averages()
    assert found["state_cost"] == pytest.approx(2 / 10001)
    assert found["control_cost"] == pytest.approx(1250.0)


def test_inside_fractions() -> None:
    x = torch.linspace(-1, 1, 401, dtype=F64).expand(4, 401)
    y = torch.tensor([0.0, 0.0, 1.0, -1.0], dtype=F64)[:, None].expand(4, 401)
    states = torch.stack([x, y], 2)
    cost = Indicator(Disc((0.0, 0.0), 0.25), 100.0) + Zero()
    found = path_costs(torch.linspace(0, 1, 401).tolist(), states, 0 * states, cost, Rng(0))
    numbers = found.averages()
    assert numbers["inside_paths"] == 0.5
    assert numbers["inside_time"] == pytest.approx(0.5 * 0.25, abs=0.003)
    assert numbers["state_cost"] == pytest.approx(100 * 0.5 * 0.25, abs=0.3)
    assert found.inside_fraction[200] == 0.5


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_feasibility_and_floor(shift: float) -> None:
    """The distance of a shift, and the floor without one."""
    reached, real = (Rng(0).stream(name).normal((n, 2), F64) for name, n in {"a": 500, "b": 900}.items())
    found = feasibility(reached + torch.tensor([shift, 0.0]), real, Rng(0), blur=0.05, max_points=300)
    assert found["w2"] == pytest.approx(math.hypot(shift, found["w2_floor"]), rel=0.2)
    assert found["sinkhorn"] == pytest.approx(shift**2 / 2 + found["sinkhorn_floor"], rel=0.2)
    assert 0 < found["sinkhorn_floor"] < 0.1
    assert set(found) <= KNOWN


@pytest.mark.parametrize("seed", range(10))
def test_endpoint_distance_is_an_upper_bound(seed: int) -> None:
    """For any split: a coupling of halves is one of the whole."""
    reached, real = (Rng(0).stream(name).normal((120, 2), F64) * torch.tensor([4.0, 8.0]) for name in "ab")
    reached = 0.5 * reached + torch.tensor([2.0, 0.0])
    told, whole = endpoint_distances(reached, Population(real), Rng(seed))["w2"], wasserstein(reached, real)
    assert whole <= told <= 1.2 * whole


def clumps() -> Tensor:
    """Two far clumps, of which halves hold unlike shares."""
    x = Rng(0).stream("x").normal((60, 2), F64) * 0.1
    return x + torch.tensor([10.0, 0.0], dtype=F64) * (torch.arange(60) % 2)[:, None]


@pytest.mark.parametrize("weights", [None, torch.linspace(0.1, 2, 60)])
def test_floor_is_independent_of_the_samples(weights: Tensor | None) -> None:
    crowd = Population(clumps(), weights)
    first, second = (endpoint_distances(crowd.members + k, crowd, Rng(k)) for k in range(2))
    assert first["w2_floor"] == second["w2_floor"]
    assert first["w2_floor"] is not None
    assert 0 < first["w2_floor"] < 5


def test_units_do_not_matter() -> None:
    reached, real = (Rng(0).stream(name).normal((200, 2), F64) for name in "ab")
    metres, millimetres = (feasibility(unit * reached, unit * real, Rng(0)) for unit in (1, 1000))
    assert millimetres["w2"] == pytest.approx(1e3 * metres["w2"])
    assert millimetres["sinkhorn"] == pytest.approx(1e6 * metres["sinkhorn"])


def test_few_points() -> None:
    few = torch.zeros(19, 2)
    assert set(feasibility(few, few, Rng(0)).values()) == {None}
    alike = torch.zeros(30, 2)
    assert feasibility(alike, alike + 1, Rng(0))["sinkhorn"] == pytest.approx(1.0)
