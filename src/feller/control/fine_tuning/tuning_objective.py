"""What every way of tuning a network to a reward shares: its record, its flow, and what it tells beside the loss."""

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond, State, append_dims, broadcast_time, tree_map
from feller.core.rng import Rng
from feller.networks.unwrapping import null_values
from feller.paths import Network, Path
from feller.paths.processes import Process
from feller.paths.product import iter_leaf_paths
from feller.paths.rescheduling import reschedule
from feller.paths.schedules import Linear
from feller.sampling.guidance import cfg
from feller.spaces import Space
from feller.training.batch_checks import describe
from feller.training.objective import Batch, Example, Objective, ObjectiveConfig, TrainingContext, loss_mask


@dataclass(frozen=True, kw_only=True)
class FineTuning(ObjectiveConfig):
    """A way of changing a network to what a reward wishes. Implement `build` to add one.

    Examples of what it builds tell the `reward` of the sample that each comes from, [n], and, where the way has one,
    the `cost`, [n]: the divergence from the base in nats, whose mean over samples is that of the whole.
    """

    path: Path
    space: Space
    reward_scale: float = 1.0
    """Factor on the reward: how many nats of likelihood one unit of it is worth."""
    guidance: float = 1.0
    """Of all samples that tuning looks at; what is tuned is then the law of guided samples."""
    cond_dropout: float = 0.0

    requires: ClassVar[tuple[str, ...]] = ("reference", "reward")

    def __post_init__(self) -> None:
        advice = "Change the sign of the reward" if self.reward_scale < 0 else None
        check_number("strength", self.reward_scale, ge=0, lt=math.inf, remedy=advice)
        if not math.isfinite(self.guidance):
            raise UsageError("a finite guidance", f"{self.guidance:g}")

    def process(self, network: Network, cond: Cond, null: Mapping[str, int | float] | None = None) -> Process:
        """Return the flow of a network, where it is affine on straight paths, on which steps are most exact.

        Args:
            network: Which.
            cond: Conditions.
            null: Null values of those that it can do without, for guidance; by default as the network says.
        """
        null = null_values(network) if null is None else null
        absent = tuple(name for name in cond if name in null)
        path, guided = self.path, cfg(network, self.guidance, droppable=absent, nulls=null)
        if any(part.affine_schedule not in (None, Linear()) for part in iter_leaf_paths(path)):
            path, guided = reschedule(path, guided, Linear())
        return path.process(guided, cond)


@dataclass(frozen=True, kw_only=True)
class MemorylessFineTuning(FineTuning):
    """A way of tuning that rolls out with the memoryless noise."""

    steps: int = 40
    """Of a roll-out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memoryless(self.path)
        check_number("steps", self.steps, ge=2)


class FineTuningObjective(Objective):
    """A way of tuning with the network that it starts from and the reward."""

    def __init__(self, config: Any, context: TrainingContext) -> None:
        """Take both from a context; UsageError if it lacks one."""
        context.check(config)
        self.config: Any = config
        self.reference: Any = context.reference
        self.reward: Any = context.reward
        self.null = null_values(context.reference) if context.null is None else dict(context.null)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Sample from the network, and return what is learned from that; see `sample`."""
        if network is None:
            remedy = "Write draw(batch, rng, network)"
            raise UsageError(argument="network", expected="the network that is tuned", found="None", remedy=remedy)
        if "x_0" not in batch:
            raise UsageError(argument="batch", expected="a key x_0, the source of the samples", found=describe(batch))
        return self.sample(batch, rng, network)

    @abc.abstractmethod
    def sample(self, batch: Batch, rng: Rng, network: Network) -> Example:
        """Return training examples of samples of the network, with their `reward`."""

    def metrics(self, example: Example) -> dict[str, Tensor]:
        return {name: example[name].mean() for name in ("reward", "cost") if name in example}

    def flow(self, network: Network, cond: Cond) -> Process:
        """Return the flow of a network, with the null values of the reference."""
        return self.config.process(network, cond, self.null)


def select_counted(cond: Cond, t: State, x: State, other: State) -> State:
    """Return a state where a loss counts its numbers, and another elsewhere, so that they do not differ there."""
    marks = loss_mask(cond, broadcast_time(t, x))
    if marks is None:
        return x
    return tree_map(lambda mark, a, b: torch.where(append_dims(mark, a), a, b), broadcast_time(marks, x), x, other)


def check_memoryless(path: Path) -> None:
    """Refuse a path whose process has no memoryless noise."""
    for part in iter_leaf_paths(path):
        if part.affine_schedule is None or not part.is_flow:
            raise UsageError(
                f"tuning needs the memoryless noise, which flows of numbers have (points, pictures); a path of kind"
                f" {type(part).__name__} has none"
            )


def check_flow(path: Path) -> None:
    """Refuse a path whose process is not a velocity alone."""
    for part in iter_leaf_paths(path):
        if not part.is_flow:
            raise UsageError(
                f"gradients through samples need a flow (points, pictures, places); a path of kind"
                f" {type(part).__name__} jumps or has noise"
            )


def velocity(process: Process, x: State, t: State) -> State:
    """Return the velocity of a flow alone."""
    return tree_map(lambda part: part.velocity, process(x, t))
