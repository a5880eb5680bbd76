"""Conversion of bridge options from the command line to solver settings."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from feller.app.config import BridgeConfig
from feller.app.workflows.bridges.populations import Populations
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.conditional_control import ConditionalControl
from feller.control.bridges.path_integral import PathIntegral
from feller.control.bridges.problem import BridgeProblem
from feller.core.errors import UsageError
from feller.data.images.modality import Images
from feller.data.points.euclidean_points import Points
from feller.models.recipes.images import unet
from feller.networks.mlp import MLP
from feller.training.optimizer import TrainConfig

WIDE = 64
"""State dimension above which the default MLP has a larger width."""
DEFAULT_RESAMPLE = 64
"""Default number of trajectories per endpoint pair in path-integral resampling, for state costs without a gradient."""
WORKING = 12
"""Approximate number of floats that the path optimisation holds in memory per entry of each sampled state."""


def times_of(times: Sequence[float], number: int) -> tuple[float, ...]:
    """Return the observation times of `number` populations; empty `times` give equally spaced times.

    Raises:
        UsageError: If the number of times differs from the number of populations, or the times do not increase.
    """
    if not times:
        return tuple(k / (number - 1) for k in range(number))
    if len(times) != number:
        raise UsageError(f"{number} times, one per population", len(times), argument="times")
    if not all(math.isfinite(t) for t in times) or any(b <= a for a, b in itertools.pairwise(times)):
        raise UsageError("times in increasing order", " ".join(f"{t:g}" for t in times), argument="times")
    return tuple(times)


def frame_of(frame: Sequence[float], costs: Sequence[str]) -> tuple[float, ...]:
    """Return the extent of a wall image in data units: left, right, bottom and top; empty if `frame` is empty.

    Raises:
        UsageError: If `frame` is not the four numbers of a rectangle, or there is no state cost.
    """
    if not frame:
        return ()
    if not costs:
        raise UsageError("requires a wall image in --cost", argument="frame")
    if len(frame) != 4 or not (frame[0] < frame[1] and frame[2] < frame[3]):
        raise UsageError(
            "LEFT RIGHT BOTTOM TOP in increasing order", " ".join(f"{edge:g}" for edge in frame), argument="frame"
        )
    return tuple(frame)


def apply_options(
    settings: BridgeSolverConfig, config: BridgeConfig, problem: BridgeProblem, populations: Populations
) -> BridgeSolverConfig:
    """Return the solver settings with the command-line options applied."""
    if config.minutes is not None:
        settings = replace(settings, rounds=None)
    elif config.rounds is not None:
        settings = replace(settings, rounds=config.rounds)
    if settings.rounds is None and config.minutes is None:
        raise UsageError("this bridge was fitted with a time budget; set a new budget with --rounds or --minutes")
    if settings.rounds is not None and settings.rounds % 2 == 0:
        settings = replace(settings, rounds=settings.rounds + 1)
    n_trajectories, max_memory = config.work.resample, config.work.max_memory
    if n_trajectories and not config.costs:
        raise UsageError(
            "resamples trajectories with weights from the cost, but no cost is given",
            remedy="Set --cost",
            argument="resample",
        )
    if not problem.noise and (n_trajectories or not problem.cost.differentiable):
        raise UsageError("resampling trajectories needs noise", remedy="Set --noise above 0")
    if n_trajectories is None and settings.resampling is None and not problem.cost.differentiable:
        n_trajectories = DEFAULT_RESAMPLE
    if n_trajectories:
        settings = replace(settings, resampling=PathIntegral(trajectories=n_trajectories))
    if max_memory is not None:
        settings = replace(settings, control=_limit_memory(settings.control, max_memory * 2**30, populations))
        sampler = settings.resampling
        if sampler is not None:
            size = 4 * settings.pairs * sampler.trajectories * (sampler.steps + 1) * populations.states[0][0].numel()
            if size > max_memory * 2**30:
                raise UsageError(
                    f"{sampler.trajectories} trajectories for each of {settings.pairs} pairs need {size / 2**30:.2g}"
                    " gigabytes, more than --max-memory",
                    remedy="Reduce --resample or --pairs",
                    argument="resample",
                )
    return settings


def _limit_memory(control: ConditionalControl, max_bytes: float, populations: Populations) -> ConditionalControl:
    """Return the path optimiser with as many pairs per chunk as fit into `max_bytes`."""
    pair_bytes = 4 * WORKING * control.times * control.num_samples * populations.states[0][0].numel()
    n_pairs = int(max_bytes // pair_bytes)
    if n_pairs < 8:
        raise UsageError(
            f"is too small: a pair of samples needs {pair_bytes / 2**20:.3g} MiB, and at least 8 pairs must fit",
            remedy=f"Use {16 * pair_bytes / 2**30:.2g} gigabytes or more",
            argument="max_memory",
        )
    return replace(control, chunk_size=n_pairs)


def default_bridge_settings(modality: Points | Images) -> BridgeSolverConfig:
    """Return the default solver settings for a modality: a U-Net for images, an MLP for numeric rows."""
    if (images := modality.view(Images)) is not None:
        train = TrainConfig(batch_size=64, steps=1000, lr=1e-3, ema_decay=0.998, lr_decay_fraction=0.0, warmup=50)
        return BridgeSolverConfig(architecture=unet(images, "small"), pairs=512, train=train)
    points = modality.view(Points)
    n_columns = 0 if points is None else len(points.columns)
    return BridgeSolverConfig(architecture=MLP(width=128 if n_columns <= WIDE else 256, depth=3))
