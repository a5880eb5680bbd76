"""Reading a row from what it adds: exact where that is linear, never better than is possible."""

import math

import pytest
import torch

from feller.core.rng import Rng
from feller_papers.reconstruction_bounds.inversion import Prior, best_of_starts, invert_gradients

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return Rng(seed).stream("x").normal(shape, F64)


def test_what_is_linear_is_the_posterior_mean() -> None:
    a, z, mean = normal(7, 3), normal(5, 3, seed=1), normal(3, seed=2)
    seen = z @ a.T + 0.3 * normal(5, 7, seed=3)
    found = invert_gradients(lambda z: a @ z, seen, 0.3, Prior(mean, 2.0), torch.zeros(5, 3, dtype=F64))
    precision = a.T @ a / 0.3**2 + torch.eye(3, dtype=F64) / 4
    expected = torch.linalg.solve(precision, (seen @ a / 0.3**2 + mean / 4).T).T
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)


def test_what_is_curved_and_told_without_noise_is_exact() -> None:
    a, z = normal(9, 3), 0.3 * normal(6, 3, seed=1)

    def added(z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(a @ z + 0.5) + 0.2 * (a @ z) ** 2

    seen = torch.stack([added(row) for row in z])
    prior = Prior(torch.zeros(3, dtype=F64), 1e3)
    found = best_of_starts(added, seen, 1e-4, prior, 0.3 * normal(4, 6, 3, seed=5))
    assert (found - z).abs().max() < 1e-6


@pytest.mark.parametrize("noise", [0.1, 0.5, 3.0])
def test_nobody_who_knows_the_prior_errs_less_than_van_trees_says(noise: float) -> None:
    """1 / (E[eta^2] + 1 / spread^2), where eta^2 = |J|^2 / (d noise^2): a mean over rows of the prior and the noise."""
    n, d, a = 4_000, 2, normal(4, 2)

    def added(z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(a @ z)

    z = normal(n, d, seed=1)
    seen = torch.tanh(z @ a.T) + noise * normal(n, 4, seed=2)
    found = invert_gradients(added, seen, noise, Prior(torch.zeros(d, dtype=F64), 1.0), torch.zeros_like(z))
    error = (found - z).square().mean(1)
    slopes = (1 - torch.tanh(z @ a.T).square())[:, :, None] * a
    bound = 1 / (slopes.square().sum((1, 2)).mean().item() / (d * noise**2) + 1)
    mean, deviation = error.mean().item(), error.std().item() / math.sqrt(n)
    assert mean + 4 * deviation > bound
    assert mean < 1.1  # no worse than to answer the mean
