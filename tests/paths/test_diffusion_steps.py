"""Schedules and steps of diffusion models, against the schedulers of diffusers."""

import diffusers
import numpy as np
import pytest
import torch

from feller.core.errors import UsageError
from feller.paths.diffusion_steps import DiffusionBetas, DiffusionSteps, FlowMatchSteps
from tests.errors import refuses


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero", [False, True])
def test_alphas_of_diffusers(kind: str, zero: bool) -> None:
    settings = {"beta_start": 0.00085, "beta_end": 0.012}
    scheduler = diffusers.DDIMScheduler(beta_schedule=kind, rescale_betas_zero_snr=zero, **settings)
    schedule = DiffusionBetas(kind, **settings, zero_terminal_snr=zero)
    k = torch.arange(1000)
    for t in (1 - (k + 1) / 1000, 1 - (k + 1).double() / 1000):
        alpha, sigma, *_ = schedule(t)
        torch.testing.assert_close(alpha.float(), scheduler.alphas_cumprod.sqrt(), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
    assert schedule(torch.ones(1))[:2] == (1.0, 0.0)
    assert not zero or float(schedule(torch.zeros(1)).alpha) == 0


def test_derivatives_between_steps() -> None:
    schedule, t = DiffusionBetas(), torch.tensor([0.0123456, 0.5005, 0.99951], dtype=torch.float64)
    later, earlier = schedule(t + 1e-7), schedule(t - 1e-7)
    torch.testing.assert_close(schedule(t).d_alpha, (later.alpha - earlier.alpha) / 2e-7, rtol=1e-4, atol=0)
    torch.testing.assert_close(schedule(t).d_sigma, (later.sigma - earlier.sigma) / 2e-7, rtol=1e-4, atol=0)


def test_given_betas() -> None:
    schedule = DiffusionBetas(steps=2, betas=(0.75, 0.5))
    assert schedule(torch.tensor([0.0, 0.5, 1.0])).alpha.tolist() == pytest.approx([0.125**0.5, 0.5, 1.0])
    with refuses(UsageError, argument="betas"):
        DiffusionBetas(steps=3, betas=(0.75, 0.5))


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_steps_of_diffusers(spacing: str, steps: int) -> None:
    offset = 1 if spacing == "leading" else 0
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=offset)
    scheduler.set_timesteps(steps)
    grid = DiffusionSteps(spacing, offset).grid(steps)
    chosen = 999 - np.array(grid[:-1]) * 1000
    np.testing.assert_allclose(chosen, scheduler.timesteps.numpy(), atol=1e-9)
    assert grid[-1] == 1
    multistep = diffusers.DPMSolverMultistepScheduler(timestep_spacing=spacing, steps_offset=offset)
    multistep.set_timesteps(steps)
    chosen = 999 - np.array(DiffusionSteps(spacing, offset, omits_last=spacing != "trailing").grid(steps)[:-1]) * 1000
    np.testing.assert_allclose(chosen, multistep.timesteps.numpy(), atol=1e-9)


@pytest.mark.parametrize("steps", [2, 28])
def test_sigmas_of_diffusers(steps: int) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    grid = FlowMatchSteps(3.0).grid(steps)
    np.testing.assert_allclose(1 - np.array(grid), scheduler.sigmas.numpy(), atol=1e-6)


def test_wrong_steps_are_refused() -> None:
    with refuses(UsageError, argument="steps"):
        DiffusionSteps().grid(1001)
    with refuses(UsageError, argument="spacing"):
        DiffusionSteps("even")
