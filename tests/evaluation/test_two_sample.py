"""Distances of sets against sorting on the line and closed forms; and their floors."""

import inspect
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.evaluation.two_sample import (
    energy_distance,
    frechet,
    frechet_normal,
    nearest,
    sinkhorn_divergence,
    sliced_wasserstein,
    wasserstein,
)
from tests.errors import refuses


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return Rng(seed).stream("test").normal((n, d), torch.float64)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 40), m=st.integers(1, 40), seed=st.integers(0, 1000))
def test_sliced_wasserstein_in_one_dimension_is_the_wasserstein_distance(n: int, m: int, seed: int) -> None:
    a, b = normal(n, 1, seed), 2 * normal(m, 1, seed + 5000) + 1
    expected = wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy())
    assert sliced_wasserstein(a, b, Rng(0), directions=3) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d", [2, 3, 10])
def test_sliced_wasserstein_of_a_shift(d: int) -> None:
    """W1 along e is |<u, e>|, whose mean on the sphere is Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)); 4,096 directions."""
    a, shift = normal(64, d), torch.full((d,), 3.0, dtype=torch.float64)
    mean = math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    # The deviation of |<u, e>| is at most 0.75 of its mean: 5 % is more than 4 deviations of the average.
    measured = sliced_wasserstein(a, a + shift, Rng(1), directions=4096)
    assert measured == pytest.approx(shift.norm().item() * mean, rel=0.05)


def test_sliced_wasserstein_seed_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(50, 4), normal(70, 4, 1)
    first = sliced_wasserstein(a, b, Rng(0))
    assert first == sliced_wasserstein(a, b, Rng(0))
    assert first != sliced_wasserstein(a, b, Rng(1))
    monkeypatch.setattr("feller.evaluation.two_sample.CHUNK", 300)
    assert first == pytest.approx(sliced_wasserstein(a, b, Rng(0)), rel=1e-12)


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 30), m=st.integers(1, 30), d=st.integers(1, 5), far=st.sampled_from([0.0, 1e6]))
def test_energy_distance_is_the_sum_over_pairs(n: int, m: int, d: int, far: float) -> None:
    a, b = normal(n, d), normal(m, d, 1) + 0.5
    x, y = a.numpy(), b.numpy()
    expected = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    assert energy_distance(a + far, b + far) == pytest.approx(expected, abs=1e-6)
    assert energy_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.portable
def test_energy_distance_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(50, 4), normal(70, 4, 1)
    whole = energy_distance(a, b)
    monkeypatch.setattr("feller.evaluation.two_sample.CHUNK", 200)
    # The distance of a point to itself is the root of a rounding error, 1e-8, which depends on the processor.
    assert energy_distance(a, b) == pytest.approx(whole, abs=1e-8)


def test_frechet_of_normals() -> None:
    a, b = normal(5, 5), normal(5, 5, 1)
    a, b = a @ a.T, b @ b.T
    zero, m = torch.zeros(5, dtype=torch.float64), normal(1, 5, 2)[0]
    root = np.real(np.asarray(sqrtm((a @ b).numpy())))
    expected = float(m.square().sum() + a.trace() + b.trace()) - 2 * np.trace(root)
    assert frechet_normal(m, a, zero, b) == pytest.approx(expected, rel=1e-8)


def test_frechet_of_few_points() -> None:
    """Points on two lines through zero: tr (A^1/2 B A^1/2)^1/2 = s r |cos| for ranks of one."""
    line, other = torch.zeros(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    line[0], other[:2] = 1, torch.tensor([0.6, 0.8], dtype=torch.float64)
    spread = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)[:, None]  # variance 1
    assert frechet(2 * spread * line, 3 * spread * other) == pytest.approx(4 + 9 - 2 * 2 * 3 * 0.6, rel=1e-9)
    assert frechet(spread * line, spread * line) == pytest.approx(0, abs=1e-9)
    x = normal(3, 1)
    assert frechet(x, x + 2) == pytest.approx(4, rel=1e-9)


def test_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.evaluation.two_sample.CHUNK", 100)
    a, b = normal(20, 3), normal(30, 3, 1)
    torch.testing.assert_close(nearest(a, b), torch.from_numpy(cdist(a.numpy(), b.numpy()).min(1)))


F64 = torch.float64


def named_normal(n: int, d: int, name: str) -> Tensor:
    return Rng(0).stream(name).normal((n, d), F64)


def test_sinkhorn_of_equal_sets() -> None:
    a = named_normal(200, 3, "a")
    assert abs(sinkhorn_divergence(a, a.flip(0))) < 1e-8


@pytest.mark.parametrize("blur", [0.05, 1.0, 20.0])
def test_sinkhorn_of_a_shift(blur: float) -> None:
    a = named_normal(300, 2, "a")
    assert sinkhorn_divergence(a, a + torch.tensor([3.0, -4.0]), blur=blur) == pytest.approx(12.5, rel=1e-4)


@pytest.mark.parametrize("blur", [0.3, 0.7, 5.0])
def test_sinkhorn_of_two_points(blur: float) -> None:
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
def test_sinkhorn_of_normals(blur: float, n: int, m: int) -> None:
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


def test_sinkhorn_of_distant_sets() -> None:
    a = named_normal(50, 2, "a")
    far = sinkhorn_divergence(1e6 + a, 1e6 + 1e4 + a, scaling=0.5)
    assert far == pytest.approx(1e8, rel=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_wasserstein_on_the_line(order: int) -> None:
    a, b = (Rng(0).stream(name).normal((101, 1), F64) for name in "ab")
    b = 2 * b + 1
    wanted = (a.sort(0).values - b.sort(0).values).abs().pow(order).mean() ** (1 / order)
    assert wasserstein(a, b, order) == pytest.approx(wanted.item(), rel=1e-12)


def test_wasserstein_orders() -> None:
    """Both points of a pair move, by 3 and by 4 to the side."""
    a = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    b = torch.tensor([[0.0, 3.0], [100.0, 4.0]])
    assert wasserstein(a, b, 1) == pytest.approx(3.5)
    assert wasserstein(a, b, 2) == pytest.approx(math.sqrt(12.5))


@pytest.mark.parametrize("order", [1, 2])
def test_wasserstein_of_unequal_sizes(order: int) -> None:
    """A set is as far from another as from two copies of it."""
    pytest.importorskip("ot")
    a, b = (Rng(0).stream(name).normal((n, 3), F64) for name, n in {"a": 40, "b": 80}.items())
    assert wasserstein(a, b, order) == pytest.approx(wasserstein(torch.cat([a, a]), b, order), rel=1e-9)


@pytest.mark.parametrize(("variance", "floor"), [(0.5, 0.142), (0.2, 0.087)])
def test_wasserstein_floors(variance: float, floor: float) -> None:
    """Two draws of 1,000; eight other pairs gave 0.128 to 0.146 and 0.081 to 0.092."""
    a, b = (variance**0.5 * Rng(0).stream(name).normal((1000, 2), F64) for name in "ab")
    assert wasserstein(a, b) == pytest.approx(floor, rel=0.2)


A = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("distance", "a", "b"),
    [
        *(
            (distance, A[:0], A)
            for distance in (energy_distance, nearest, lambda a, b: sliced_wasserstein(a, b, Rng(0)))
        ),
        *((distance, A, b) for distance in (sinkhorn_divergence, wasserstein) for b in (A[:0], A + torch.nan)),
        *(
            (lambda a, b, more=more: sinkhorn_divergence(a, b, **more), A, A)
            for more in ({"blur": 0.0}, {"scaling": 1.0})
        ),
        (lambda a, b: wasserstein(a, b, 0), A, A),
        (frechet, A[:1], A),
    ],
)
def test_invalid_sets_and_settings(distance, a: Tensor, b: Tensor) -> None:
    with refuses(ValueError):
        distance(a, b)


def test_wasserstein_of_unequal_sizes_needs_pot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    with refuses(UsageError):
        wasserstein(A, A[:2])


def test_frechet_distance_of_different_features_is_refused() -> None:
    with refuses(ValueError):
        inspect.unwrap(frechet)(torch.zeros(5, 3), torch.zeros(5, 4))
