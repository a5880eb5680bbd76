"""The losses that learn a drift from pinned paths: what they are for known processes, and whose mean they find."""

import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from feller.control.bridges.drift_matching import ExplicitMatching, ImplicitMatching, Leg
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.core.rng import Draws
from feller.networks.bridge_drift import Drift

SIGMA = 1.0


def mean(t: Tensor) -> Tensor:
    return -1 + 2 * t + 0.5 * (math.pi * t).sin()


def variance(t: Tensor) -> Tensor:
    return 0.3 + 0.4 * t + 0.2 * (math.pi * t).sin()


class Known(Drift):
    """The potential of a Gaussian process, and what is added to its drift: a constant and a slope."""

    def __init__(self, constant: float = 0.0, slope: float = 0.0, *, backward: bool = False) -> None:
        super().__init__(torch.nn.Identity(), (1,), 2)
        self.constant, self.slope, self.backward = constant, slope, backward

    def scalar(self, x: Tensor, t: Tensor, given: dict) -> Tensor:
        away = x[:, 0] - mean(t)
        speed = 2 + 0.5 * math.pi * (math.pi * t).cos()
        rate = 0.4 + 0.2 * math.pi * (math.pi * t).cos()
        way = -1 if self.backward else 1
        gain = (way * rate - SIGMA**2) / (2 * variance(t))
        return (way * speed + self.constant) * x[:, 0] + (gain + self.slope) * away.square() / 2


def expected(known: Known, *, backward: bool = False) -> float:
    """Return the exact mean of the loss, by quadrature."""
    (t, at), (z, of) = (tuple(torch.from_numpy(part).double() for part in rule(40)) for rule in (leggauss, hermegauss))
    t, at, of = (t + 1) / 2, at / 2, of / of.sum()
    times, nodes = (one.flatten() for one in torch.meshgrid(t, z, indexing="ij"))

    def place(time: Tensor) -> Tensor:
        return (mean(time) + variance(time).sqrt() * nodes)[:, None]

    one = torch.ones_like(times)
    example = {
        "x_t": place(times),
        "t": times,
        "x_0": place(0 * one),
        "x_1": place(one),
        "t_0": 0 * one,
        "t_1": one,
        "weight": one,
        "noise": SIGMA * one,
        "probe": one[:, None],
    }
    objective = ImplicitMatching(
        [Leg(0.0, 1.0, bridges(2, SIGMA))], (1,), backward=backward
    )  # only their number counts
    return float((torch.outer(at, of).flatten() * objective.loss(known, example).detach()).sum())


def test_implicit_loss_of_a_known_process() -> None:
    """Vector: minus half the energy at the true potential; constant .1 adds .005, slope .1 adds .0031366."""
    best = expected(Known())
    assert best == pytest.approx(-2.713496, abs=2e-6)
    assert expected(Known(constant=0.1)) - best == pytest.approx(0.005, abs=1e-9)
    assert expected(Known(slope=0.1)) - best == pytest.approx(0.0031366, abs=1e-7)


def test_implicit_loss_back_in_time() -> None:
    """The same identity holds for the drift back, whose energy is another."""
    best = expected(Known(backward=True), backward=True)
    assert expected(Known(constant=0.1, backward=True), backward=True) - best == pytest.approx(0.005, abs=1e-9)
    assert expected(Known(slope=0.1, backward=True), backward=True) - best == pytest.approx(0.0031366, abs=1e-7)


def bridges(n: int, noise: float) -> GaussianPaths:
    draws = Draws(0)
    x_0, x_1 = (draws.at(name).normal((n, 1), torch.float64) for name in ("a", "b"))
    return GaussianPaths.straight(-1 + 0.5 * x_0, 1 + 0.8 * x_1, noise, 5, 5)


@pytest.mark.parametrize("backward", [False, True])
def test_explicit_target_regresses_to_the_drift_of_the_mixture(backward: bool) -> None:
    """Independent ends m0, s0, m1, s1: X_t is normal, and so are both; slope and mean by 20,000 pairs, 5 deviations."""
    paths, t = bridges(20_000, 1.0), 0.3
    objective = ExplicitMatching([Leg(0.0, 1.0, paths)], (1,), backward=backward)
    x, target = objective.at(t, torch.arange(20_000), Draws(1).at("x"))
    var = (0.7**2) * 0.25 + 0.09 * 0.64 + t * (1 - t)
    middle = -0.7 + 0.3
    away = x - x.mean()
    slope = float((away * (target - target.mean())).mean() / away.square().mean())
    if backward:  # E (x_0 - x) / t
        wanted, at_mean = (0.7 * 0.25 / var - 1) / t, (-1 - middle) / t
    else:  # E (x_1 - x) / (1 - t)
        wanted, at_mean = (0.3 * 0.64 / var - 1) / (1 - t), (1 - middle) / (1 - t)
    assert slope == pytest.approx(wanted, abs=0.03)
    assert float(target.mean()) == pytest.approx(at_mean + wanted * (float(x.mean()) - middle), abs=0.05)


def test_legs_share_a_journey() -> None:
    """Two halves of one bridge, each in its own time with its own noise, have the bridge's drifts."""
    x_0, x_1 = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    middle = (x_0 + x_1) / 2
    noise = 0.5**0.5
    legs = [
        Leg(0.0, 0.5, GaussianPaths.straight(x_0, middle, noise, 3, 3)),
        Leg(0.5, 0.5, GaussianPaths.straight(middle, x_1, noise, 3, 3)),
    ]
    objective = ExplicitMatching(legs, (2,), backward=False)
    example = objective.draw({"x_1": torch.zeros(64, dtype=torch.long)}, Draws(0))
    t, x = example["t"], example["x_t"]
    end = torch.where(t < 0.5, 0.5, 1.0)
    goal = torch.where(t[:, None] < 0.5, middle, x_1)
    torch.testing.assert_close(example["target"], (goal - x) / (end - t)[:, None])
    assert (t[:32] == t[32:]).all()
    torch.testing.assert_close((x[:32] + x[32:]) / 2, x_1 * t[:32, None])  # opposite of their mean


def test_times_of_a_batch_fill_the_journey() -> None:
    """Also where several processes share it, and where a batch is odd."""
    objective = ExplicitMatching([Leg(0.0, 1.0, bridges(8, 1.0))], (1,), backward=False)
    t = []
    for first, last in ((0, 32), (32, 63)):
        example = objective.draw({"x_1": torch.zeros(last - first, dtype=torch.long)}, Draws(0, first, 63))
        t.append(example["t"])
    assert [len(part) for part in t] == [32, 31]
    gaps = torch.cat([torch.zeros(1), torch.cat(t).double().unique(), torch.ones(1)]).diff()
    assert gaps.max() < 2.1 / 63
