"""The blurred distance against closed forms: two points, moved sets, normal laws; and its floors."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.rng import Draws
from feller.evaluation.two_sample import sinkhorn_divergence

F64 = torch.float64


def normal(n: int, d: int, name: str) -> Tensor:
    return Draws(0).at(name).normal((n, d), F64)


def test_nothing_between_equal_sets_in_any_order() -> None:
    a = normal(200, 3, "a")
    assert abs(sinkhorn_divergence(a, a.flip(0))) < 1e-8


@pytest.mark.parametrize("blur", [0.05, 1.0, 20.0])
def test_moving_a_set_costs_half_the_square(blur: float) -> None:
    """A shift splits off from every plan, whatever the blur."""
    a = normal(300, 2, "a")
    assert sinkhorn_divergence(a, a + torch.tensor([3.0, -4.0]), blur=blur) == pytest.approx(12.5, rel=1e-4)


@pytest.mark.parametrize("blur", [0.3, 0.7, 5.0])
def test_two_points_each(blur: float) -> None:
    """The plan between pairs of points has one unknown: p^2 / (1/2 - p)^2 = exp(-(c11 + c22 - c12 - c21) / eps)."""

    def transport(a: list[float], b: list[float]) -> float:
        cost = [[(x - y) ** 2 / 2 for y in b] for x in a]
        odds = math.exp((cost[0][1] + cost[1][0] - cost[0][0] - cost[1][1]) / (2 * blur**2))
        p = odds / (1 + odds) / 2
        plan = [[p, 0.5 - p], [0.5 - p, p]]
        entries = [(plan[i][j], cost[i][j]) for i in (0, 1) for j in (0, 1)]
        return sum(q * c + blur**2 * q * math.log(4 * q) for q, c in entries)

    a, b = [0.0, 1.0], [0.4, 2.0]
    wanted = transport(a, b) - (transport(a, a) + transport(b, b)) / 2
    found = sinkhorn_divergence(torch.tensor(a)[:, None], torch.tensor(b)[:, None], blur=blur)
    assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("blur", "n", "m"), [(0.5, 500, 500), (1.5, 400, 700)])
def test_normal_laws_on_the_line(blur: float, n: int, m: int) -> None:
    """Quantiles in place of draws; between normal laws, the plan is normal (Janati et al. 2020, arXiv 2006.02572)."""

    def transport(apart: float, s: float, r: float) -> float:
        kappa = blur**-2
        shared = (math.sqrt(1 + 4 * kappa**2 * s**2 * r**2) - 1) / (2 * kappa)
        entropy = -0.5 * math.log(1 - (shared / (s * r)) ** 2)
        return (apart**2 + s**2 + r**2 - 2 * shared) / 2 + blur**2 * entropy

    def quantiles(number: int) -> Tensor:
        level = (torch.arange(number, dtype=F64) + 0.5) / number
        return math.sqrt(2) * torch.erfinv(2 * level - 1)[:, None]

    wanted = transport(1.0, 0.5, 2.0) - (transport(0, 0.5, 0.5) + transport(0, 2.0, 2.0)) / 2
    found = sinkhorn_divergence(0.5 * quantiles(n), 1 + 2 * quantiles(m), blur=blur)
    assert found == pytest.approx(wanted, rel=5e-3)  # quantiles miss some of the variance


@pytest.mark.parametrize(("variance", "floor"), [(0.5, 0.0099), (0.2, 0.0026)])
def test_floors_of_known_sets(variance: float, floor: float) -> None:
    """Two draws of 1,000; eight other pairs gave 0.0075 to 0.0100 and 0.0028 to 0.0038."""
    a, b = (variance**0.5 * normal(1000, 2, name) for name in "ab")
    assert floor / 1.6 < sinkhorn_divergence(a, b) < 1.6 * floor


def test_sets_far_from_zero_and_far_apart() -> None:
    """Kernels of such distances are no numbers; logarithms are."""
    a = normal(50, 2, "a")
    far = sinkhorn_divergence(1e6 + a, 1e6 + 1e4 + a, scaling=0.5)
    assert far == pytest.approx(1e8, rel=1e-6)


def test_what_is_refused() -> None:
    a = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="one point or more"):
        sinkhorn_divergence(a, a[:0])
    with pytest.raises(ValueError, match="finite"):
        sinkhorn_divergence(a, a + torch.nan)
    for wrong in ({"blur": 0.0}, {"scaling": 1.0}):
        with pytest.raises(ValueError, match="blur above 0"):
            sinkhorn_divergence(a, a, **wrong)
