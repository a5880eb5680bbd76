"""Euler and Euler-Maruyama steps, jumps."""

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.paths.processes import Characteristics, Jumps
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from tests.oracle import F64, chain, f64


def test_noise_has_weak_order_one() -> None:
    """Ornstein-Uhlenbeck dX = -X dt + dW from 0: variance (1 - exp(-2)) / 2; exact moments of the chain."""

    def process(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(-x, torch.ones_like(x))

    truth = (1 - torch.exp(f64(-2.0)).item()) / 2
    errors = [chain(Euler(), process, linear_grid(n), 0.0, 0.0)[1] - truth for n in (32, 64)]
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.05)
    assert abs(errors[1]) < 0.005


def test_jumps_follow_drift_and_noise() -> None:
    now = Characteristics(
        f64(1.0, 1.0)[:, None],
        f64(1.0, 1.0)[:, None],
        Jumps(lambda s: f64(torch.inf, 0.0)[:, None], lambda s, which, draw: f64(10 * s)),
    )
    end = simulate(lambda x, t: now, torch.zeros(2, 1, dtype=F64), [0.0, 0.5], Euler(), Rng(0))
    assert end[0].item() == 5.0
    assert end[1].item() not in (0.0, 5.0)


def test_a_pure_flow_creates_no_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "Generator", None)
    simulate(lambda x, t: Characteristics(velocity=x), torch.ones(2, 1), linear_grid(3), Euler(), Rng(0))


def test_empty_characteristics_return_the_state() -> None:
    x = torch.ones(2, 1)
    assert simulate(lambda x, t: Characteristics(), x, linear_grid(3), Euler(), Rng(0)) is x
