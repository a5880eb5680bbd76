"""Grids fitted to a model, against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths.processes import Characteristics
from feller.paths.schedules import VP, Linear, Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint, simulate
from feller.sampling.time_grids import entropy_grid, equal_grid, error_grid
from tests.oracle import F64, Normal, close, column, f64


def test_equal_errors_of_a_velocity_of_time() -> None:
    """x' = t^4: the error of a midpoint step is x''' h^3 / 24 = 12 t^2 h^3 / 24, so that times are (i / n)^(3/5)."""
    grid = error_grid(lambda x, t: Characteristics(velocity=(t**4)[:, None]), column(0.0, 1.0), 8, fine_steps=256)
    close(f64(*grid), [(i / 8) ** 0.6 for i in range(9)], 5e-3)
    both = error_grid(
        lambda x, t: {name: Characteristics(velocity=(t**4)[:, None]) for name in x},
        {"a": column(0.0), "b": column(1.0)},
        8,
        fine_steps=256,
    )
    close(f64(*both), grid, 1e-12)


@pytest.mark.parametrize("schedule", [Linear(), VP()], ids=repr)
def test_the_error_grid_is_better_than_equal_steps_where_the_path_bends(schedule: Schedule) -> None:
    data, x = Normal(schedule, s=0.05), torch.randn(50, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    truth = data.carry(x, 0.0, 1.0)
    errors = [
        (simulate(data.flow, x, times, Midpoint(), Rng(0)) - truth).abs().mean()
        for times in (error_grid(data.flow, x, 12), linear_grid(12))
    ]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("schedule", [Linear(), VP()], ids=repr)
def test_equal_gains_of_information_on_a_gaussian(schedule: Schedule) -> None:
    """The mutual information is log(1 + s^2 alpha^2 / sigma^2) / 2."""
    data = Normal(schedule, m=0.0, s=1.0)
    x_1 = torch.randn(4000, 1, dtype=F64, generator=torch.Generator().manual_seed(1))
    grid = entropy_grid(data.flow, schedule, x_1, 6, Rng(0), fine_steps=128)
    assert grid[0] == 0
    assert grid[-2:] == [0.99, 1.0]
    information = []
    for t in grid[:-1]:
        alpha, sigma = (float(value) for value in schedule(torch.tensor(t, dtype=F64))[:2])
        information.append(math.log(1 + (alpha / sigma) ** 2) / 2)
    gains = f64(*information).diff()
    close(gains, [float(gains.mean())] * 5, 0.08 * float(gains.mean()))


def test_no_step_is_longer_than_21_mean_steps() -> None:
    grid = equal_grid(linear_grid(100), torch.tensor([1.0] + [0.0] * 99), 40)
    steps = f64(*grid).diff()
    assert (steps > 0).all()
    assert steps.max() < 21 / 40 + 1e-12


def test_what_grids_refuse() -> None:
    def still(x: Tensor, t: Tensor) -> Characteristics:
        return Characteristics(velocity=torch.ones_like(x))

    for process in (still, lambda x, t: Characteristics(velocity=x, diffusion=torch.ones(1, 1))):
        with pytest.raises(UsageError):
            error_grid(process, column(0.0), 4)
    for arguments in ((1, {}), (4, {"last": 1.0}), (4, {"fine_steps": 1})):
        with pytest.raises(UsageError):
            entropy_grid(still, Linear(), column(0.0, 1.0), arguments[0], Rng(0), **arguments[1])
