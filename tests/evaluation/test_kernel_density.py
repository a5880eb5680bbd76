"""Kernels on the sphere: normalised, right at a point, and of the width that validation data ask for."""

import math

import numpy as np
import pytest
import torch

from feller.core.rng import Draws
from feller.evaluation.density_baselines import CONCENTRATIONS, KernelDensity, kernel_density
from feller.spaces import Sphere

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
def test_the_density_adds_up_to_one(concentration: float) -> None:
    kernels = KernelDensity(Sphere(2).reference(20, Draws(0).at("x")).double(), concentration)
    points, weights = grid(100)
    assert float((kernels.log_density(points).exp() * weights).sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("concentration", [2.0, 300.0, 12_800.0])
def test_it_is_the_mixture_of_von_mises_fisher_laws(concentration: float) -> None:
    points = torch.tensor([[0.0, 0, 1], [0, 1, 0]], dtype=F64)
    x = torch.tensor([[0.0, 0.6, 0.8]], dtype=F64)
    constant = concentration / (2 * math.pi * -math.expm1(-2 * concentration))
    kernel = sum(constant * math.exp(concentration * (cosine - 1)) for cosine in (0.8, 0.6)) / 2
    truth = math.log(0.98 * kernel + 0.02 / (4 * math.pi))
    assert float(KernelDensity(points, concentration).log_density(x)) == pytest.approx(truth, rel=1e-12)


def test_narrow_kernels_keep_their_digits() -> None:
    """At an angle of 1e-5 and a concentration of 1e10 the exponent is -1/2, which a cosine in float64 would lose."""
    x = torch.tensor([[math.sin(1e-5), 0, math.cos(1e-5)]], dtype=F64)
    kernels = KernelDensity(torch.tensor([[0.0, 0, 1]], dtype=F64), 1e10)
    truth = math.log(0.98) + math.log(1e10 / (2 * math.pi)) - 0.5
    assert float(kernels.log_density(x)) == pytest.approx(truth, abs=1e-6)


def test_the_width_is_that_of_the_data() -> None:
    """Close pairs ask for narrow kernels, a uniform law for the widest."""
    first = Sphere(2).reference(300, Draws(0).at("x")).double()
    beside = Sphere(2).project(first + 0.02 * Draws(1).at("x").normal(first.shape, F64))
    assert kernel_density(first, beside).concentration == 3200  # near 1 / 0.02^2 = 2500
    other = Sphere(2).reference(300, Draws(2).at("x")).double()
    assert kernel_density(first, other).concentration == CONCENTRATIONS[0]
    with pytest.raises(ValueError, match="expected points and validation points, got 0 and 300"):
        kernel_density(first[:0], other)
