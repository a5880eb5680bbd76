"""Simulated trajectories and the guard against divergence."""

import math

import pytest
import torch
from torch import Tensor

from feller.control.bridges.trajectories import Bounds, segments_of, simulate_drift, time_grid
from feller.core.errors import InputError
from feller.core.rng import Rng
from tests.errors import refuses

N = 4000


def begin(draws: Rng) -> Tensor:
    return draws.stream("x").normal((N, 2))


def test_trajectories_are_in_order_of_time() -> None:
    times, between = time_grid((0.0, 0.25, 1.0), 4, 30)
    assert len(times) == 2 * 3 * between + 1
    assert between == math.ceil(30 * 0.75 / 3)
    assert times[3 * between] == 0.25
    assert segments_of((0.0, 0.25, 1.0)) == [(0.0, 0.25), (0.25, 0.75)]
    ahead, back = (
        simulate_drift(lambda x, t: torch.ones_like(x), begin, 0.0, times, between, Rng(0), backward=way)
        for way in (False, True)
    )
    assert ahead.times == back.times == tuple(times[::between])
    torch.testing.assert_close(ahead.states[:, -1], ahead.states[:, 0] + 1)
    torch.testing.assert_close(back.states[:, 0], back.states[:, -1] + 1)


@pytest.mark.parametrize("backward", [False, True])
def test_noise_and_base_drift(backward: bool) -> None:
    """From N(0, 1) with drift t and noise .5 for time 1: mean, variance, within 5 deviations of 4,000.

    Of the drift 1 acts by itself, so that back in time it must be overcome and ahead it helps.
    """
    times = [k / 50 for k in range(51)]
    found = simulate_drift(
        lambda x, t: t[:, None].expand(x.shape),
        begin,
        0.5,
        times,
        50,
        Rng(0),
        base_drift=lambda x, t: torch.ones_like(x),
        backward=backward,
    )
    end = found.states[:, 0 if backward else -1]
    drift = sum(t for t in (times[1:] if backward else times[:-1])) / 50
    assert float(end.mean()) == pytest.approx(drift, abs=5 * (1.25 / (2 * N)) ** 0.5)
    assert float(end.var()) == pytest.approx(1.25, abs=5 * 1.25 * (2 / (2 * N)) ** 0.5)
    torch.testing.assert_close(found.control[:, -1], torch.full((N, 2), 2.0 if backward else 0.0))
    torch.testing.assert_close(found.control[:, 0], torch.full((N, 2), 1.0 if backward else -1.0))


def test_diverged_trajectories_are_resampled() -> None:
    box = Bounds(torch.full((2,), -10.0), torch.full((2,), 10.0))

    def way(x: Tensor, t: Tensor) -> Tensor:
        return torch.where(x[:, :1] > 2.6, 1000.0, 0.0).expand(x.shape)  # .5 % of a normal law

    found = simulate_drift(way, begin, 0.0, [0.0, 0.5, 1.0], 1, Rng(0), box=box)
    assert 0 < found.num_lost < 0.01 * N
    assert box.contains(found.states[:, -1]).all()
    assert len(found.states) == N


def test_many_diverged_trajectories_are_refused() -> None:
    box = Bounds(torch.full((2,), -10.0), torch.full((2,), 10.0))

    def way(x: Tensor, t: Tensor) -> Tensor:
        return torch.where(x[:, :1] > 1.0, math.nan, 0.0).expand(x.shape)

    with refuses(InputError):
        simulate_drift(way, begin, 0.0, [0.0, 1.0], 1, Rng(0), box=box)


def test_bounds_around_points() -> None:
    box = Bounds.around(torch.tensor([[0.0, 0.0], [4.0, 1.0]]), 0.5)
    assert box.low.tolist() == [-7.0, -7.0]
    assert box.high.tolist() == [11.0, 8.0]
