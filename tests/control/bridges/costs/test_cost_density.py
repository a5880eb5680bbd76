"""Kernel densities of data and populations, against known and brute-force ones."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from feller.control.bridges.costs import PopulationDensity, gaussian_mixture
from feller.control.bridges.costs.gaussian_mixture import log_density, scott
from feller.control.bridges.costs.near_data import DataDensityCost
from feller.core.errors import InputError
from feller.core.rng import Rng
from tests.errors import refuses
from tests.oracle import F64, close

T = torch.zeros(1, dtype=F64)


def ring(n: int, seed: int) -> torch.Tensor:
    """Draw points near a circle of radius 3, whose radial deviation is 0.2."""
    turn = 2 * math.pi * Rng(seed).stream("turn").uniform((n,), F64)
    radius = 3 + 0.2 * Rng(seed).stream("radius").normal((n,), F64)
    return radius[:, None] * torch.stack([turn.cos(), turn.sin()], 1)


def truth(x: torch.Tensor) -> torch.Tensor:
    radius = x.norm(dim=1)
    return -((radius - 3) ** 2) / 0.08 - radius.log() - math.log(2 * math.pi * 0.2 * math.sqrt(2 * math.pi))


def test_density_of_a_ring() -> None:
    cost = DataDensityCost.fit(ring(1000, 0), Rng(0))
    fresh = ring(1000, 1)
    values = cost(fresh, T)
    assert abs(values.mean()) < 0.1  # 3 deviations of the mean
    wanted = truth(fresh).mean() - truth(fresh)
    assert abs(cost.mean_log_density - truth(fresh).mean()) < 0.2
    assert (values - wanted).abs().mean() < 0.45
    assert cost(torch.zeros(1, 2, dtype=F64), T) > 5


def test_values_by_hand() -> None:
    points = Rng(0).stream("p").normal((6, 2), F64)
    cost = DataDensityCost(points, torch.linspace(0.2, 1, 6, dtype=F64), -1.5)
    x = Rng(0).stream("x").normal((3, 4, 2), F64)
    parts = [
        torch.exp(-(x - p).square().sum(-1) / (2 * w**2)) / (2 * math.pi * w**2)
        for p, w in zip(points, cost.bandwidths, strict=True)
    ]
    close(cost(x, T), (-1.5 - torch.stack(parts).mean(0).log()).tolist(), 1e-9)


def test_own_kernels_are_left_out() -> None:
    points = Rng(0).stream("p").normal((40, 2), F64)
    cost = DataDensityCost.fit(points, Rng(0))
    squares = (points[:, None] - cost.centres).square().sum(2)
    logs = -squares / (2 * cost.bandwidths**2) - torch.log(2 * math.pi * cost.bandwidths**2)
    logs = logs.masked_fill(squares == 0, -torch.inf)
    assert cost.mean_log_density == pytest.approx((logs.logsumexp(1) - math.log(39)).mean().item(), abs=1e-9)
    assert 0.15 < cost.bandwidths.mean() < 1


def test_fifty_dimensions() -> None:
    plane = torch.linalg.qr(Rng(0).stream("plane").normal((50, 2)))[0]
    inside, noise = Rng(0).stream("inside").normal((3000, 2)), 0.1 * Rng(0).stream("noise").normal((3000, 50))
    data = 4 * inside @ plane.T + noise
    cost = DataDensityCost.fit(data[:2000], Rng(0))
    fresh = data[2000:]
    away = fresh + Rng(0).stream("away").normal((1000, 50))
    assert abs(cost(fresh, torch.zeros(1)).mean()) < 3
    assert (cost(away, torch.zeros(1)) - cost(fresh, torch.zeros(1))).mean() > 10
    x = away.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cost(x, torch.zeros(1)).sum(), x)
    assert ((slope * (away - fresh)).sum(1) > 0).float().mean() > 0.99


def test_too_little_data() -> None:
    with refuses(InputError, found="4"):
        DataDensityCost.fit(torch.randn(4, 2), Rng(0))
    with refuses(InputError, found="40"):
        DataDensityCost.fit(torch.ones(40, 2), Rng(0))
    twice = torch.arange(5.0).repeat(8)[:, None]
    assert torch.isfinite(DataDensityCost.fit(twice, Rng(0))(twice, torch.zeros(1))).all()


CENTRES = 3 * Rng(0).stream("centres").normal((4, 6, 3), F64) + 20
WIDTHS = Rng(0).stream("widths").uniform((4, 6), F64) + 0.03
X = CENTRES[:, [0, 1, 2, 3, 3]] + Rng(0).stream("x").normal((4, 5, 3), F64)


def mixture_truth(x: Tensor, centres: Tensor, widths: Tensor) -> Tensor:
    parts = Independent(Normal(centres, widths[..., None].expand(centres.shape)), 1)
    mixed = MixtureSameFamily(Categorical(torch.ones_like(widths)), parts)
    return mixed.log_prob(x.movedim(1, 0)).movedim(0, 1)


def test_values_and_gradients(monkeypatch) -> None:
    x = X.clone().requires_grad_()
    wanted = mixture_truth(x, CENTRES, WIDTHS)
    (slope,) = torch.autograd.grad(wanted.square().sum(), x)
    for at_once in (1, 50, 400_000):
        monkeypatch.setattr(gaussian_mixture, "CHUNK_SIZE", at_once)
        found = log_density(x, CENTRES, WIDTHS)
        close(found, wanted.tolist(), 1e-9)
        close(torch.autograd.grad(found.square().sum(), x)[0], slope.tolist(), 1e-7)


def test_single_precision_suffices_for_narrow_crowds() -> None:
    narrow = 0.03 * torch.ones(4, 6, dtype=F64)
    x = CENTRES[:, :5] + 0.03 * Rng(1).stream("x").normal((4, 5, 3), F64)
    found = log_density(x.float(), CENTRES.float(), narrow.float())
    close(found.double(), mixture_truth(x, CENTRES, narrow).tolist(), 0.03)


def test_one_width_for_all_and_far_states() -> None:
    crowd = PopulationDensity(X, CENTRES, 0.2)
    close(crowd.log_density(X), mixture_truth(X, CENTRES, 0.2 * torch.ones_like(WIDTHS)).tolist(), 1e-9)
    assert torch.isfinite(crowd.log_density(X + 1e4)).all()


def test_scott() -> None:
    samples = 3 * Rng(0).stream("s").normal((2, 4000, 2), F64)
    close(scott(samples), 2 * [3 * 4000 ** (-1 / 6)], 0.02)
