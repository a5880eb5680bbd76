"""What a person asks of a bridge, and the settings that follow."""

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
"""Numbers of a state beyond which the network is wider."""
DEFAULT_RESAMPLE = 64
"""Trajectories for each pair, where the cost has no gradient."""
WORKING = 12
"""Numbers that are held for each one of a state that is looked at while paths are improved, about."""


def times_of(times: Sequence[float], number: int) -> tuple[float, ...]:
    """Return when each population was seen.

    Raises:
        UsageError: If these are not as many, or do not increase.
    """
    if not times:
        return tuple(k / (number - 1) for k in range(number))
    if len(times) != number:
        raise UsageError(f"one time for each population, {number}", len(times), argument="times")
    if not all(math.isfinite(t) for t in times) or any(b <= a for a, b in itertools.pairwise(times)):
        raise UsageError("increasing times", " ".join(f"{t:g}" for t in times), argument="times")
    return tuple(times)


def frame_of(frame: Sequence[float], costs: Sequence[str]) -> tuple[float, ...]:
    """Return where a picture lies.

    Raises:
        UsageError: If these are not four numbers of a rectangle, or there is no cost to place.
    """
    if not frame:
        return ()
    if not costs:
        raise UsageError("says where a picture of walls lies", remedy="Name it with --cost", argument="frame")
    if len(frame) != 4 or not (frame[0] < frame[1] and frame[2] < frame[3]):
        raise UsageError("LEFT RIGHT BOTTOM TOP", " ".join(f"{one:g}" for one in frame), argument="frame")
    return tuple(frame)


def apply_options(
    settings: BridgeSolverConfig, config: BridgeConfig, problem: BridgeProblem, populations: Populations
) -> BridgeSolverConfig:
    """Return the settings with what was asked for beside them."""
    if config.minutes is not None:
        settings = replace(settings, rounds=None)
    elif config.rounds is not None:
        settings = replace(settings, rounds=config.rounds)
    if settings.rounds is None and config.minutes is None:
        raise UsageError("this bridge was made for some minutes: say how far it is to go, with --rounds or --minutes")
    if settings.rounds is not None and settings.rounds % 2 == 0:
        settings = replace(settings, rounds=settings.rounds + 1)
    n_trajectories, room = config.work.resample, config.work.max_memory
    if n_trajectories and not config.costs:
        raise UsageError(
            "weighs trajectories by the cost, and there is none", remedy="Name one with --cost", argument="resample"
        )
    if not problem.noise and (n_trajectories or not problem.cost.differentiable):
        raise UsageError("weighing trajectories needs noise, without which each pair has one", remedy="Give --noise")
    if n_trajectories is None and settings.resampling is None and not problem.cost.differentiable:
        n_trajectories = DEFAULT_RESAMPLE
    if n_trajectories:
        settings = replace(settings, resampling=PathIntegral(trajectories=n_trajectories))
    if room is not None:
        settings = replace(settings, control=_limit_memory(settings.control, room * 2**30, populations))
        weighed = settings.resampling
        if weighed is not None:
            needs = 4 * settings.pairs * weighed.trajectories * (weighed.steps + 1) * populations.states[0][0].numel()
            if needs > room * 2**30:
                raise UsageError(
                    f"{weighed.trajectories} of {settings.pairs} pairs takes {needs / 2**30:.2g} gigabytes, more"
                    " than --max-memory",
                    remedy="Take fewer, of either",
                    argument="resample",
                )
    return settings


def _limit_memory(control: ConditionalControl, room: float, populations: Populations) -> ConditionalControl:
    """Return the search for paths with as many pairs at once as so many bytes hold."""
    one = 4 * WORKING * control.times * control.num_samples * populations.states[0][0].numel()
    pairs = int(room // one)
    if pairs < 8:
        raise UsageError(
            f"must hold a few pairs of {one / 2**20:.3g} MiB each",
            remedy=f"Give {16 * one / 2**30:.2g} or more",
            argument="max_memory",
        )
    return replace(control, chunk_size=pairs)


def default_bridge_settings(modality: Points | Images) -> BridgeSolverConfig:
    """Return the settings for populations of a kind.

    Pictures are seen by the U-Net that also draws them; rows of numbers by a perceptron.
    """
    if (images := modality.view(Images)) is not None:
        train = TrainConfig(batch_size=64, steps=1000, lr=1e-3, ema_decay=0.998, lr_decay_fraction=0.0, warmup=50)
        return BridgeSolverConfig(architecture=unet(images, "small"), pairs=512, train=train)
    points = modality.view(Points)
    numbers = 0 if points is None else len(points.columns)
    return BridgeSolverConfig(architecture=MLP(width=128 if numbers <= WIDE else 256, depth=3))
