"""Schedulers of diffusers as schedules, predictions and sampler settings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from feller.core.errors import InputError, warn
from feller.paths import Affine, DataPrediction, NoisePrediction, Prediction, VelocityPrediction, VPrediction
from feller.paths.diffusion_steps import DiffusionBetas, DiffusionSteps, FlowMatchSteps
from feller.paths.schedules import Linear, Schedule
from feller.paths.time_distributions import Shifted, TimeDistribution
from feller.sampling.sampler_config import SamplerConfig

SOLVERS = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ancestral",
    "PNDMScheduler": "ddim",
    "LMSDiscreteScheduler": "ddim",
    "EulerDiscreteScheduler": "ddim",
    "EulerAncestralDiscreteScheduler": "ancestral",
    "HeunDiscreteScheduler": "dpm-solver++",
    "DPMSolverMultistepScheduler": "dpm-solver++",
    "DPMSolverSinglestepScheduler": "dpm-solver++",
    "UniPCMultistepScheduler": "unipc",
    "DEISMultistepScheduler": "deis",
    "FlowMatchEulerDiscreteScheduler": "euler",
}
"""Solver that takes the place of each known scheduler."""
MULTISTEP = (
    "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers that omit the last of the steps they choose; Heun does not, but its solver here needs it."""
CLIPPING = {"DDIMScheduler": True, "DDPMScheduler": True, "HeunDiscreteScheduler": False}
"""Schedulers that can clip predicted data, and whether they do by default."""
KARRAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
"""Settings of other time grids, which are not taken over."""
UNKNOWN_TO_FLOWS = ("shift_terminal", "invert_sigmas", "stochastic_sampling")
"""Settings of flows that are refused."""
PREDICTIONS: dict[str, Prediction] = {
    "epsilon": NoisePrediction(),
    "v_prediction": VPrediction(),
    "sample": DataPrediction(),
}
DEFAULT_STEPS = {"euler": 28, "ancestral": 100}
"""Default number of network evaluations of a solver; 50 for others."""


@dataclass(frozen=True)
class TrainedSchedule:
    """Path, times and sampler settings of a network, from the configuration of its scheduler."""

    path: Affine
    times: tuple[float, float]
    """The network's times at the source and at the data."""
    output_scale: float
    """Factor of the network's output."""
    clip: float | None
    """Largest absolute value of predicted data; None without clipping."""
    sampling: SamplerConfig


def trained_schedule(config: Mapping[str, Any], num_tokens: int, pipeline: str = "") -> TrainedSchedule:
    """Return schedule, prediction and sampler settings from the configuration of a scheduler of diffusers.

    Args:
        config: Content of scheduler_config.json.
        num_tokens: Number of tokens of an image, on which the shift of some schedulers depends.
        pipeline: Class of the pipeline; empty for a network alone. FluxPipeline chooses the times itself.

    Raises:
        InputError: If the class or a setting of the scheduler is unknown.
    """
    name = str(config.get("_class_name"))
    if name not in SOLVERS:
        raise InputError(f"one of the schedulers {', '.join(SOLVERS)}", name)
    if used := [option for option in KARRAS if config.get(option)]:
        warn(f"the time grid of {', '.join(used)} is replaced by that of timestep_spacing")
    is_flow = name.startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction"
    return _flow(name, config, num_tokens, pipeline) if is_flow else _diffusion(name, config)


def _flow(name: str, config: Mapping[str, Any], num_tokens: int, pipeline: str) -> TrainedSchedule:
    for option in UNKNOWN_TO_FLOWS:
        if config.get(option):
            found = f"{option}={config[option]}"
            raise InputError(f"a scheduler without {option}", found, "Remove the key", argument=option)
    train_steps = int(config.get("num_train_timesteps", 1000))
    is_flow_match, is_dynamic = name.startswith("FlowMatch"), bool(config.get("use_dynamic_shifting"))
    if is_dynamic:
        shift = _dynamic_shift(config, num_tokens, pipeline)
    else:
        shift = float(config.get("shift" if is_flow_match else "flow_shift", 1.0))
    grid: TimeDistribution = Shifted(shift)
    if is_flow_match and pipeline != "FluxPipeline":
        grid = FlowMatchSteps(shift, train_steps, shifts_last=not is_dynamic)
    return TrainedSchedule(Affine(Linear()), (float(train_steps), 0.0), -1.0, None, _sampling(name, config, grid))


def _dynamic_shift(config: Mapping[str, Any], num_tokens: int, pipeline: str) -> float:
    """Return the shift for images of a number of tokens."""
    kind = str(config.get("time_shift_type", "exponential"))
    if kind not in ("exponential", "linear"):
        raise InputError("a time_shift_type of exponential, linear", kind, argument="time_shift_type")
    low, high = (config.get(f"{end}_image_seq_len", value) for end, value in (("base", 256), ("max", 4096)))
    first = config.get("base_shift", 0.5)
    last = config.get("max_shift", 1.16 if pipeline == "StableDiffusion3Pipeline" else 1.15)
    mu = first + (last - first) / (high - low) * (num_tokens - low)
    return mu if kind == "linear" else math.exp(mu)


def _diffusion(name: str, config: Mapping[str, Any]) -> TrainedSchedule:
    steps = int(config.get("num_train_timesteps", 1000))
    prediction = str(config.get("prediction_type", "epsilon"))
    if prediction not in PREDICTIONS:
        raise InputError(f"a prediction_type of {', '.join(PREDICTIONS)}", prediction)
    if config.get("thresholding"):
        raise InputError("a scheduler without dynamic thresholding", "thresholding=true", "Set it to false")
    timestep_type = config.get("timestep_type", "discrete")
    if name == "EulerDiscreteScheduler" and timestep_type != "discrete":
        raise InputError("a timestep_type of discrete", str(timestep_type), argument="timestep_type")
    variance = str(config.get("variance_type", "fixed_small"))
    if name == "DDPMScheduler" and not variance.startswith("fixed_small"):
        warn(f"the variance of {variance} is replaced by that of fixed_small")
    betas = config.get("trained_betas")
    schedule: Schedule = DiffusionBetas(
        str(config.get("beta_schedule", "linear")),
        float(config.get("beta_start", 1e-4)),
        float(config.get("beta_end", 0.02)),
        steps,
        bool(config.get("rescale_betas_zero_snr", False)),
        tuple(map(float, betas)) if betas is not None else (),
    )
    is_multistep = name in MULTISTEP
    spacing = str(config.get("timestep_spacing", "linspace" if is_multistep or "Discrete" in name else "leading"))
    ends_at_step_0 = not config.get("set_alpha_to_one", True) and name in ("DDIMScheduler", "PNDMScheduler")
    grid = DiffusionSteps(
        spacing,
        int(config.get("steps_offset", 0)),
        steps,
        omits_last=is_multistep and spacing != "trailing",
        ends_at_step_0=ends_at_step_0,
    )
    has_clipping = name in CLIPPING and config.get("clip_sample", CLIPPING[name])
    clip = float(config.get("clip_sample_range", 1.0)) if has_clipping else None
    path = Affine(schedule, PREDICTIONS[prediction] if clip is None else DataPrediction())
    return TrainedSchedule(path, (steps - 1.0, -1.0), 1.0, clip, _sampling(name, config, grid))


def _sampling(name: str, config: Mapping[str, Any], grid: TimeDistribution) -> SamplerConfig:
    is_stochastic = name.startswith("DPMSolver") and str(config.get("algorithm_type")).startswith("sde-")
    solver = "dpm-solver++-sde" if is_stochastic else SOLVERS[name]
    return SamplerConfig(solver, DEFAULT_STEPS.get(solver, 50), times=grid)


def own_prediction(config: Mapping[str, Any]) -> Prediction:
    """Return what the network predicts, before any clipping."""
    return PREDICTIONS.get(str(config.get("prediction_type", "epsilon")), VelocityPrediction())
