"""Base classes of reward fine-tuning: configuration, guided flow and training metrics."""

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
    """Base class of fine-tuning methods. Subclasses implement `build`.

    Training examples carry the `reward` of their sample, [n]. For some methods they also carry the control `cost`, [n],
    whose mean is the KL divergence from the base in nats.
    """

    path: Path
    space: Space
    reward_scale: float = 1.0
    """Factor on the reward; a unit of reward raises the log-likelihood of a sample by this many nats."""
    guidance: float = 1.0
    """Classifier-free guidance scale of the samples; the guided distribution is fine-tuned."""
    cond_dropout: float = 0.0

    requires: ClassVar[tuple[str, ...]] = ("reference", "reward")
    reuses_roll_outs: ClassVar[bool] = False
    """True if training examples have stored targets, so that several gradient steps can use the same roll-outs."""

    def __post_init__(self) -> None:
        remedy = "Negate the reward" if self.reward_scale < 0 else None
        check_number("strength", self.reward_scale, ge=0, lt=math.inf, remedy=remedy)
        if not math.isfinite(self.guidance):
            raise UsageError("a finite guidance scale", f"{self.guidance:g}")

    def process(self, network: Network, cond: Cond, null: Mapping[str, int | float] | None = None) -> Process:
        """Return the flow of a network with classifier-free guidance.

        Affine paths are converted to the linear schedule, with which sampling steps are more accurate.

        Args:
            network: Network that predicts the velocity of the flow.
            cond: Conditions of the samples, such as class labels.
            null: Null values of droppable conditions, for guidance; by default those of the network.
        """
        null = null_values(network) if null is None else null
        droppable = tuple(name for name in cond if name in null)
        path, guided = self.path, cfg(network, self.guidance, droppable=droppable, nulls=null)
        if any(leaf_path.affine_schedule not in (None, Linear()) for leaf_path in iter_leaf_paths(path)):
            path, guided = reschedule(path, guided, Linear())
        return path.process(guided, cond)


@dataclass(frozen=True, kw_only=True)
class MemorylessFineTuning(FineTuning):
    """Base class of methods that train on roll-outs (simulated trajectories) with memoryless noise.

    Memoryless noise makes the end of a trajectory independent of its start.
    """

    steps: int = 40
    """Number of steps of a roll-out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memoryless(self.path)
        check_number("steps", self.steps, ge=2)


class FineTuningObjective(Objective):
    """Base class of fine-tuning objectives, which hold the reference network (before fine-tuning) and the reward."""

    def __init__(self, config: Any, context: TrainingContext) -> None:
        """Read the reference network and the reward from a training context; UsageError if either is missing."""
        context.check(config)
        self.config: Any = config
        self.reference: Any = context.reference
        self.reward: Any = context.reward
        self.null = null_values(context.reference) if context.null is None else dict(context.null)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        if network is None:
            remedy = "Write draw(batch, rng, network)"
            raise UsageError(argument="network", expected="the network to fine-tune", found="None", remedy=remedy)
        if "x_0" not in batch:
            raise UsageError(argument="batch", expected="a key x_0 with source samples", found=describe(batch))
        return self.sample(batch, rng, network)

    @abc.abstractmethod
    def sample(self, batch: Batch, rng: Rng, network: Network) -> Example:
        """Generate samples with the network, and return training examples made from them, with their `reward`.

        Args:
            batch: Source samples `x_0` and, if any, conditions `given`.
            rng: Random streams.
            network: Network that is trained.
        """

    def metrics(self, example: Example) -> dict[str, Tensor]:
        return {name: example[name].mean() for name in ("reward", "cost") if name in example}

    def flow(self, network: Network, cond: Cond) -> Process:
        """Return the flow of a network with classifier-free guidance under the conditions `cond`.

        The null values of conditions, which stand for no condition, are those of the reference network.
        """
        return self.config.process(network, cond, self.null)


def select_counted(cond: Cond, t: State, x: State, other: State) -> State:
    """Return `x` where an entry counts in the loss, and `other` elsewhere.

    Entries that are padding or observed do not count; a loss that compares the result with `other` is 0 there.

    Args:
        cond: Conditions, which contain the masks of valid and of observed entries.
        t: Times; a component of the state whose time is 1 is observed.
        x: Values to use where entries count.
        other: Values to use elsewhere.
    """
    mask = loss_mask(cond, broadcast_time(t, x))
    if mask is None:
        return x
    return tree_map(
        lambda leaf_mask, a, b: torch.where(append_dims(leaf_mask, a), a, b), broadcast_time(mask, x), x, other
    )


def check_memoryless(path: Path) -> None:
    """Raise a UsageError if a path has no memoryless noise.

    Memoryless noise makes samples independent of their source. Only continuous flows with an affine path, such as those
    of points and images, have it.
    """
    for leaf_path in iter_leaf_paths(path):
        if leaf_path.affine_schedule is None or not leaf_path.is_flow:
            raise UsageError(
                "this method needs memoryless noise, which only continuous flows have (points, images), but the path is"
                f" {type(leaf_path).__name__}"
            )


def check_flow(path: Path) -> None:
    """Raise a UsageError if a path has noise or jumps."""
    for leaf_path in iter_leaf_paths(path):
        if not leaf_path.is_flow:
            raise UsageError(
                "gradients through samples need a flow (points, images, coordinates), but the path"
                f" {type(leaf_path).__name__} has jumps or noise"
            )


def velocity(process: Process, x: State, t: State) -> State:
    """Return the velocity of a flow at state `x` and time `t`."""
    return tree_map(lambda leaf: leaf.velocity, process(x, t))
