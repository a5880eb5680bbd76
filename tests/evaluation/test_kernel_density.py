"""Density baselines: kernels on the sphere, wrapped normals on the torus."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from feller.core.rng import Rng
from feller.evaluation.density_baselines import (
    CONCENTRATIONS,
    MAX_SCALE,
    MIN_SCALE,
    KernelDensity,
    WrappedMixture,
    kernel_density,
    wrapped_mixture,
)
from feller.spaces import Sphere
from tests.errors import refuses

F64 = torch.float64


def grid(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and weights that integrate smooth functions over the unit sphere, exactly up to degree 2 n - 1."""
    z, w = np.polynomial.legendre.leggauss(n)
    angle = 2 * np.pi * np.arange(2 * n) / (2 * n)
    z, angle = (part.ravel() for part in np.meshgrid(z, angle, indexing="ij"))
    across = np.sqrt(1 - z**2)
    points = torch.from_numpy(np.stack([across * np.cos(angle), across * np.sin(angle), z], 1))
    return points, torch.from_numpy(np.repeat(w, 2 * n) * np.pi / n)


@pytest.mark.parametrize("concentration", [0.3, 50.0, 400.0])
def test_kernel_density_is_normalised(concentration: float) -> None:
    kernels = KernelDensity(Sphere(2).sample_base(20, Rng(0).stream("x")).double(), concentration)
    points, weights = grid(100)
    assert float((kernels.log_density(points).exp() * weights).sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("concentration", [2.0, 300.0, 12_800.0])
def test_kernel_density_is_a_von_mises_fisher_mixture(concentration: float) -> None:
    points = torch.tensor([[0.0, 0, 1], [0, 1, 0]], dtype=F64)
    x = torch.tensor([[0.0, 0.6, 0.8]], dtype=F64)
    constant = concentration / (2 * math.pi * -math.expm1(-2 * concentration))
    kernel = sum(constant * math.exp(concentration * (cosine - 1)) for cosine in (0.8, 0.6)) / 2
    truth = math.log(0.98 * kernel + 0.02 / (4 * math.pi))
    assert float(KernelDensity(points, concentration).log_density(x)) == pytest.approx(truth, rel=1e-12)


def test_narrow_kernels() -> None:
    """At an angle of 1e-5 and a concentration of 1e10 the exponent is -1/2, which a cosine in float64 would lose."""
    x = torch.tensor([[math.sin(1e-5), 0, math.cos(1e-5)]], dtype=F64)
    kernels = KernelDensity(torch.tensor([[0.0, 0, 1]], dtype=F64), 1e10)
    truth = math.log(0.98) + math.log(1e10 / (2 * math.pi)) - 0.5
    assert float(kernels.log_density(x)) == pytest.approx(truth, abs=1e-6)


def test_selected_concentration() -> None:
    first = Sphere(2).sample_base(300, Rng(0).stream("x")).double()
    beside = Sphere(2).project(first + 0.02 * Rng(1).stream("x").normal(first.shape, F64))
    assert kernel_density(first, beside).concentration == 3200  # near 1 / 0.02^2 = 2500
    other = Sphere(2).sample_base(300, Rng(2).stream("x")).double()
    assert kernel_density(first, other).concentration == CONCENTRATIONS[0]
    with refuses(ValueError):
        kernel_density(first[:0], other)


TURN = 2 * math.pi
KNOWN = WrappedMixture(
    torch.tensor([0.3, 0.7], dtype=F64).log(),
    torch.tensor([[0.1, 3.0], [4.0, 6.2]], dtype=F64),
    torch.tensor([[0.3, 0.8], [0.5, 0.2]], dtype=F64),
)
"""Two components, both across the seam."""


def sample(n: int, seed: int = 0) -> torch.Tensor:
    draw = Rng(seed).stream("x")
    which = (draw.uniform((n,), F64) < 0.7).long()
    return (KNOWN.means[which] + KNOWN.scales[which] * draw.normal((n, 2), F64)).remainder(TURN)


@pytest.mark.parametrize("scale", [MIN_SCALE, 0.5, MAX_SCALE])
def test_wrapped_density(scale: float) -> None:
    mixture = WrappedMixture(KNOWN.log_weights, KNOWN.means, torch.full_like(KNOWN.means, scale))
    x = TURN * Rng(1).stream("x").uniform((40, 2), F64)
    x[0] = KNOWN.means[0] + math.pi  # the cut, where two images are equally near
    images = TURN * torch.arange(-8, 9, dtype=F64)
    away = (x[:, None] - mixture.means)[..., None] + images
    each = (-(away / scale).square() / 2).logsumexp(3) - math.log(scale) - math.log(TURN) / 2
    truth = (mixture.log_weights + each.sum(2)).logsumexp(1)
    torch.testing.assert_close(mixture.log_density(x), truth, atol=2e-4 if scale == MAX_SCALE else 1e-9, rtol=1e-9)


def test_wrapped_density_is_normalised() -> None:
    at = TURN * (torch.arange(400, dtype=F64) + 0.5) / 400
    density = KNOWN.log_density(torch.cartesian_prod(at, at)).exp()
    assert float(density.mean() * TURN**2) == pytest.approx(1, abs=1e-8)


def test_em_increases_the_likelihood() -> None:
    x, mixture = sample(500), WrappedMixture(KNOWN.log_weights, KNOWN.means.flip(1), torch.ones_like(KNOWN.means))
    values = []
    for _ in range(30):
        mixture, value = mixture.em_step(x)
        values.append(value)
    assert all(after >= before - 1e-12 for before, after in pairwise(values))
    assert values[-1] > values[0] + 0.5
    assert float(mixture.log_density(x).mean()) >= values[-1] - 1e-12


def test_wrapped_mixture_recovers_parameters() -> None:
    """From 4,000 examples the means come within 0.05, 4 of their standard errors."""
    found = wrapped_mixture(sample(4000), Rng(0), components=2)
    order = found.log_weights.argsort()
    assert (found.log_weights[order].exp() - KNOWN.log_weights.exp()).abs().max() < 0.03
    away = (found.means[order] - KNOWN.means + math.pi).remainder(TURN) - math.pi
    assert away.abs().max() < 0.05 * 2
    assert (found.scales[order] / KNOWN.scales - 1).abs().max() < 0.08
    unseen = sample(4000, seed=1)
    gap = (KNOWN.log_density(unseen) - found.log_density(unseen)).mean()
    assert abs(float(gap)) < 0.01


def test_repeated_and_no_examples() -> None:
    x = torch.tensor([[0.5, 1.0]], dtype=F64).repeat(7, 1)
    found = wrapped_mixture(x, Rng(0))
    assert torch.isfinite(found.log_density(x)).all()
    assert float(found.scales.min()) == MIN_SCALE
    with refuses(ValueError):
        wrapped_mixture(x[:0], Rng(0))
