import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from feller.core.rng import Draws
from feller.evaluation.two_sample import energy_distance, frechet, frechet_normal, nearest, sliced_wasserstein

GRID = torch.special.ndtri((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)  # quantiles of N(0, 1)


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return Draws(seed).at("test").normal((n, d), torch.float64)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 40), m=st.integers(1, 40), seed=st.integers(0, 1000))
def test_sliced_wasserstein_in_one_dimension_is_the_wasserstein_distance(n: int, m: int, seed: int) -> None:
    a, b = normal(n, 1, seed), 2 * normal(m, 1, seed + 5000) + 1
    expected = wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy())
    assert sliced_wasserstein(a, b, Draws(0), directions=3) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d", [2, 3, 10])
def test_a_shift_costs_its_mean_projection(d: int) -> None:
    """W1 along e is |<u, e>|, whose mean on the sphere is Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)); 4,096 directions."""
    a, shift = normal(64, d), torch.full((d,), 3.0, dtype=torch.float64)
    mean = math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    # The deviation of |<u, e>| is at most 0.75 of its mean: 5 % is more than 4 deviations of the average.
    measured = sliced_wasserstein(a, a + shift, Draws(1), directions=4096)
    assert measured == pytest.approx(shift.norm().item() * mean, rel=0.05)


def test_scales_of_normals_differ_by_the_mean_of_a_normal() -> None:
    assert sliced_wasserstein(GRID[:, None], 3 * GRID[:, None], Draws(0)) == pytest.approx(
        2 * math.sqrt(2 / math.pi), rel=2e-3
    )


def test_directions_are_those_of_the_seed_and_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(50, 4), normal(70, 4, 1)
    first = sliced_wasserstein(a, b, Draws(0))
    assert first == sliced_wasserstein(a, b, Draws(0))
    assert first != sliced_wasserstein(a, b, Draws(1))
    monkeypatch.setattr("feller.evaluation.two_sample.CHUNK", 300)
    assert first == pytest.approx(sliced_wasserstein(a, b, Draws(0)), rel=1e-12)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 2.0), (1.5, 1.0), (1.0, 0.5)])
def test_energy_distance_of_normals(shift: float, scale: float) -> None:
    """E|N(m, s^2)| = s sqrt(2/pi) exp(-m^2/2s^2) + m erf(m / s sqrt 2)."""

    def mean(m: float, s: float) -> float:
        return s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(m / (s * math.sqrt(2)))

    expected = 2 * mean(shift, math.hypot(1, scale)) - mean(0, math.sqrt(2)) - mean(0, scale * math.sqrt(2))
    measured = energy_distance(GRID[:, None], shift + scale * GRID[:, None])
    assert measured == pytest.approx(expected, rel=2e-3)


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


def test_frechet_of_normals_that_commute() -> None:
    """Diagonal covariances: |m|^2 + sum (s - r)^2."""
    s, r = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([3.0, 0.5, 2.0])
    m = torch.tensor([1.0, -2.0, 0.5])
    distance = frechet_normal(m, (s**2).diag(), torch.zeros(3), (r**2).diag())
    assert distance == pytest.approx((m.square().sum() + (s - r).square().sum()).item(), rel=1e-12)


def test_frechet_of_normals_that_do_not_commute() -> None:
    a, b = normal(5, 5), normal(5, 5, 1)
    a, b = a @ a.T, b @ b.T
    m = torch.zeros(5, dtype=torch.float64)
    root = np.real(np.asarray(sqrtm((a @ b).numpy())))
    expected = float(a.trace() + b.trace()) - 2 * np.trace(root)
    assert frechet_normal(m, a, m, b) == pytest.approx(expected, rel=1e-8)


def test_frechet_needs_no_ridge_where_examples_are_few() -> None:
    """Points on two lines through zero: tr (A^1/2 B A^1/2)^1/2 = s r |cos| for ranks of one."""
    line, other = torch.zeros(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    line[0], other[:2] = 1, torch.tensor([0.6, 0.8], dtype=torch.float64)
    spread = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)[:, None]  # variance 1
    assert frechet(2 * spread * line, 3 * spread * other) == pytest.approx(4 + 9 - 2 * 2 * 3 * 0.6, rel=1e-9)
    assert frechet(spread * line, spread * line) == pytest.approx(0, abs=1e-9)
    x = normal(3, 1)
    assert frechet(x, x + 2) == pytest.approx(4, rel=1e-9)


def test_frechet_refuses_a_single_point() -> None:
    with pytest.raises(ValueError, match="two points or more"):
        frechet(normal(1, 3), normal(10, 3))


def test_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.evaluation.two_sample.CHUNK", 100)
    a, b = normal(20, 3), normal(30, 3, 1)
    torch.testing.assert_close(nearest(a, b), torch.from_numpy(cdist(a.numpy(), b.numpy()).min(1)))


@pytest.mark.parametrize("distance", [energy_distance, nearest, lambda a, b: sliced_wasserstein(a, b, Draws(0))])
def test_empty_sets_are_refused(distance) -> None:
    with pytest.raises(ValueError, match="one point or more"):
        distance(normal(0, 2), normal(3, 2))
