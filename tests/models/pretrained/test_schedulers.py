"""Schedules, time grids and solvers from configurations of schedulers, against the schedulers of diffusers."""

from typing import Any

import diffusers
import numpy as np
import pytest
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

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
