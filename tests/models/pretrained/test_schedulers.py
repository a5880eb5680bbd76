"""Schedules, time grids and solvers from configurations of schedulers, against the schedulers of diffusers."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

import feller
from feller.core.errors import FellerWarning, InputError
from feller.models.pretrained.schedulers import trained_schedule
from tests.errors import refuses

TOKENS = 1024


def config_of(scheduler: Any) -> dict[str, Any]:
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


@pytest.mark.parametrize("pipeline", ["FluxPipeline", "StableDiffusion3Pipeline"])
@pytest.mark.parametrize(
    "settings",
    [
        {"shift": 1.0},
        {"shift": 3.0},
        {"use_dynamic_shifting": True},
        {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    ],
)
def test_times_of_flows(pipeline: str, settings: dict[str, Any]) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**settings)
    times = trained_schedule(config_of(scheduler), TOKENS, pipeline).sampling.times
    assert times is not None
    mu = calculate_shift(TOKENS) if scheduler.config.use_dynamic_shifting else None
    for steps in (2, 7):
        sigmas = np.linspace(1, 1 / steps, steps) if pipeline == "FluxPipeline" else None
        scheduler.set_timesteps(steps, sigmas=sigmas, mu=mu)
        np.testing.assert_allclose(1 - np.array(times.grid(steps)), scheduler.sigmas.numpy(), atol=1e-6)


def test_largest_shift_of_the_pipelines() -> None:
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
    grids = [
        trained_schedule(scheduler, 4096, name).sampling.times for name in ("FluxPipeline", "StableDiffusion3Pipeline")
    ]
    assert [np.log(grid.shift) for grid in grids] == pytest.approx([1.15, 1.16])


@pytest.mark.parametrize(
    ("option", "value"),
    [("shift_terminal", 0.1), ("invert_sigmas", True), ("stochastic_sampling", True), ("time_shift_type", "other")],
)
def test_unknown_settings_of_flows_are_refused(option: str, value: object) -> None:
    config = config_of(diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)) | {option: value}
    with refuses(InputError, argument=option):
        trained_schedule(config, TOKENS)


@pytest.mark.parametrize("kind", ["dpmsolver++", "sde-dpmsolver++"])
def test_solvers_with_noise(kind: str) -> None:
    config = config_of(diffusers.DPMSolverMultistepScheduler(algorithm_type=kind))
    solver = trained_schedule(config, TOKENS).sampling.solver
    assert solver == ("dpm-solver++-sde" if kind.startswith("sde") else "dpm-solver++")


def test_continuous_timesteps_are_refused() -> None:
    config = config_of(diffusers.EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"))
    with refuses(InputError, argument="timestep_type"):
        trained_schedule(config, TOKENS)


def test_other_variances_are_reported() -> None:
    with pytest.warns(FellerWarning):
        trained_schedule(config_of(diffusers.DDPMScheduler(variance_type="fixed_large")), TOKENS)


@pytest.mark.parametrize(
    ("scheduler", "clip"),
    [("DDIMScheduler", 2.0), ("DDPMScheduler", 2.0), ("HeunDiscreteScheduler", 2.0), ("EulerDiscreteScheduler", None)],
)
def test_clipping_of_the_schedulers_that_clip(scheduler: str, clip: float | None) -> None:
    config = config_of(getattr(diffusers, scheduler)()) | {"clip_sample": True, "clip_sample_range": 2.0}
    assert trained_schedule(config, TOKENS).clip == clip


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_samples_in_place_of_heun(spacing: str) -> None:
    mode, deviation, steps = 0.8, 0.2, 10
    scheduler = diffusers.HeunDiscreteScheduler(timestep_spacing=spacing)
    alphas = scheduler.alphas_cumprod.double().sqrt()

    def noise(x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Return the mean of the noise, for data with the two modes -0.8 and 0.8."""
        alpha = torch.lerp(alphas[k.long()], alphas[(k.long() + 1).clamp(max=999)], k.double() - k.long()).view(-1, 1)
        sigma, variance = (1 - alpha**2).sqrt(), 1 - alpha**2 * (1 - deviation**2)
        center = mode * (alpha * mode * x.double() / variance).tanh()
        return (sigma * (x.double() - alpha * center) / variance).to(x.dtype)

    trained = trained_schedule(config_of(scheduler), TOKENS)
    source, data = trained.times
    path, solver, times = feller.SamplerConfig(trained.sampling.solver, steps, times=trained.sampling.times).resolve(
        trained.path, feller.Euclidean((1,))
    )
    x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))

    def network(x: torch.Tensor, t: torch.Tensor, cond: dict[str, torch.Tensor]) -> torch.Tensor:
        return noise(x, (source + (data - source) * t).clamp(min=0))

    ours = feller.simulate(path.process(network, {}), x, times, solver, feller.Rng(0))
    scheduler.set_timesteps(steps // 2)  # as many calls of the network, less one
    theirs = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    for k in scheduler.timesteps:
        theirs = scheduler.step(noise(scheduler.scale_model_input(theirs, k), k.view(1)), k, theirs).prev_sample
    errors = [abs(float(samples.std()) - (mode**2 + deviation**2) ** 0.5) for samples in (ours, theirs)]
    assert errors[0] < errors[1]
