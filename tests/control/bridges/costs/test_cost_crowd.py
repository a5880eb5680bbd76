"""Congestion and entropy costs: values and gradients."""

import torch

from feller.control.bridges.costs import PopulationDensity
from feller.control.bridges.costs.congestion import CongestionCost, EntropyCost
from feller.control.bridges.costs.smooth_functions import congestion_kernel, softplus, weighted_square
from feller.core.rng import Rng
from tests.oracle import F64, close, f64

X = Rng(0).stream("x").normal((2, 40, 3), F64)
OTHERS = X.roll(1, 1)
T = f64(0.2, 0.7)[:, None]
CROWD = PopulationDensity(OTHERS, X, 0.5)


def test_congestion_by_hand() -> None:
    found = CongestionCost()(X, T, CROWD)
    close(found, (2 / ((X - OTHERS).square().sum(-1) + 1)).tolist(), 1e-12)
    assert found.max() <= 2
    assert CongestionCost().needs_population


def test_gradient_of_congestion_is_that_of_all_pairs() -> None:
    """Mean over all shifts of the population."""
    x = X.clone().requires_grad_()
    every = sum(CongestionCost()(x, T, PopulationDensity(x.roll(k, 1), x, 0.5)).sum() for k in range(1, 40)) / 39
    pairs = 2 / ((x[:, :, None] - x[:, None]).square().sum(-1) + 1)
    wanted = (pairs.sum() - 2 * 80) / 39
    close(every.detach(), wanted.item(), 1e-9)
    close(torch.autograd.grad(every, x)[0], torch.autograd.grad(wanted, x)[0].tolist(), 1e-9)


def test_entropy_is_the_log_density() -> None:
    assert EntropyCost().needs_population
    found = EntropyCost()(X, T, CROWD)
    wanted = torch.stack(
        [
            -(X[k][:, None] - X[k]).square().sum(-1) / (2 * 0.25) - 1.5 * torch.log(f64(2 * torch.pi * 0.25))
            for k in (0, 1)
        ]
    ).logsumexp(-1) - torch.log(f64(40.0))
    close(found, wanted.tolist(), 1e-9)


def test_written_gradients() -> None:
    x, y = X.clone().requires_grad_(), OTHERS.clone().requires_grad_()
    weights = f64(2.0, -1.0, 0.5)
    assert torch.autograd.gradcheck(lambda x: weighted_square(x, weights), (x,))
    assert torch.autograd.gradcheck(lambda x: softplus(10 * x), (x,))
    assert torch.autograd.gradcheck(congestion_kernel, (x, y))
    close(softplus(f64(-1e4, -90.0, 0.0, 1e3)), [0.0, 0.0, 0.6931471805599453, 1e3], 1e-15)
    close(weighted_square(x, weights).detach(), (X.square() * weights).sum(-1).tolist(), 1e-12)
