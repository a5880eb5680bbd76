"""Brownian bridges."""

import math

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths.brownian import BrownianBridge
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from tests.errors import refuses
from tests.oracle import F64, close, f64


def test_moments_of_the_bridge() -> None:
    """40,000 states: mean and covariance within 5 standard errors."""
    n, t, noise = 40_000, 0.3, 0.8
    x_0, x_1 = f64(1.0, -2.0).expand(n, 2), f64(3.0, 5.0).expand(n, 2)
    x_t = BrownianBridge(noise).sample(x_0, x_1, torch.full((n,), t, dtype=F64), Rng(0).stream("path"))
    std = noise * math.sqrt(t * (1 - t))
    close(x_t.mean(0), 0.7 * x_0[0] + 0.3 * x_1[0], 5 * std / math.sqrt(n))
    close(torch.cov(x_t.T), std**2 * torch.eye(2, dtype=F64), 5 * std**2 * math.sqrt(2 / n))


def test_target_vector() -> None:
    target = BrownianBridge(1.0).target(f64(0.5, 1.0)[None], f64(9.0, 9.0)[None], f64(2.5, 0.0)[None], f64(0.75))
    close(target, f64(8.0, -4.0)[None], 1e-12)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_process_ends_at_the_data(noise: float) -> None:
    path, draws = BrownianBridge(noise), Rng(0)
    x_0, x_1 = draws.stream("a").normal((500, 3), F64), draws.stream("b").normal((500, 3), F64)
    process = path.process(lambda x, t, given: path.target(x, x_0, x_1, t), {})
    assert (process(x_0, torch.zeros(500, dtype=F64)).diffusion is None) == (noise == 0)
    end = simulate(process, x_0, linear_grid(100), Euler(), draws)
    assert (end - x_1).std() < 1.1 * noise / 10 + 1e-12


@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf])
def test_invalid_noise_is_refused(noise: float) -> None:
    with refuses(UsageError, argument="noise"):
        BrownianBridge(noise)


def test_sampling_needs_an_rng() -> None:
    with pytest.raises(UsageError):
        BrownianBridge(1.0).sample(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1))
