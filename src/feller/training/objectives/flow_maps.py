"""Flow maps: average velocities of steps, for samples after one to four network evaluations."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_finite_number, check_integer, check_kind, check_number
from feller.core.pytree import STEP_END, Cond, State, append_dims, broadcast_time, leaves, num_examples, tree_map
from feller.core.rng import Rng
from feller.networks.unwrapping import takes_step_end
from feller.paths import Network, Path
from feller.paths.processes import Characteristics
from feller.paths.product import iter_leaf_paths
from feller.paths.time_distributions import TIMES
from feller.sampling.guidance import cfg, drop_conditions
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Space, as_manifold
from feller.training.couplings import Coupling
from feller.training.objective import (
    Batch,
    Example,
    FlowMatching,
    Objective,
    ObjectiveConfig,
    TrainingContext,
    loss_mask,
)
from feller.training.objectives.flow_map_losses import FlowMapLoss, Pair, Shortcut
from feller.training.objectives.step_pairs import AnySteps, StepDistribution

ROBUST_SCALE = 1e-3
"""Loss below which the adaptive weight of an example does not grow further."""


@dataclass(frozen=True)
class FlowMaps(ObjectiveConfig):
    """Training of a flow map: the average velocity u(x, t, s) of the step from t to s, from data or from a teacher.

    The network takes the end of the step, see `WithStepEnd`; one Euler step of its process is a step of the flow map.
    The condition `loss` is imposed on steps; empty steps, s = t, regress the velocity, which is that of the flow.
    """

    flow: FlowMatching
    """Path, space, source, coupling, criterion and condition dropout of the flow."""
    loss: FlowMapLoss = field(default_factory=Shortcut)
    """Condition on the average velocity: Shortcut, Lagrangian, MeanFlow or Consistency."""
    steps: StepDistribution = field(default_factory=AnySteps)
    """Distribution of the steps in training."""
    empty_prob: float = 0.25
    """Probability that a step is empty, s = t, so that its average velocity is the velocity."""
    distills: bool = False
    """True to learn the flow map of a teacher; False to learn flow and flow map from data."""
    guidance: float = 1.0
    """Classifier-free guidance scale of the velocity, built into the flow map: 1 is the conditional flow."""
    robustness: float = 0.0
    """Power p of the adaptive weight 1 / (loss + 0.001)^p of each example, without gradient; MeanFlow uses 1."""
    nfe: int = 4
    """Default number of steps of samples."""

    def __post_init__(self) -> None:
        check_kind("flow", self.flow, FlowMatching, "feller.FlowMatching(feller.Affine(), space)")
        check_kind("loss", self.loss, FlowMapLoss, "feller.Shortcut()")
        check_kind("steps", self.steps, StepDistribution, "feller.AnySteps()")
        check_number("empty_prob", self.empty_prob, ge=0, le=1)
        check_number("robustness", self.robustness, ge=0, le=2)
        check_finite_number("guidance", self.guidance)
        check_integer("nfe", self.nfe, ge=1)
        check_flow_path(self.flow.path, self.flow.space)
        if self.flow.conditionable:
            raise UsageError(
                argument="flow",
                expected="one time for all components of the state",
                found="times per component (leaf_times)",
                remedy="Leave leaf_times out",
            )
        if self.loss.flat_only and not self.flow.space.is_flat:
            raise UsageError(
                argument="loss",
                expected=f"a loss for {type(self.flow.space).__name__}, such as Shortcut or Lagrangian",
                found=f"{type(self.loss).__name__}, for flat spaces",
                remedy="Use --recipe flow-map",
            )
        if self.steps.last_only and self.nfe > 1 and self.flow.path.affine_schedule is None:
            raise UsageError(
                argument="nfe",
                expected="1 for a consistency model without an affine path, which has no way back to noise",
                found=self.nfe,
                remedy="Use --recipe flow-map",
            )

    @property
    def requires(self) -> tuple[str, ...]:  # pyrefly: ignore[bad-override] - the field decides
        """The teacher, if the objective distills one."""
        return ("teacher",) if self.distills else ()

    @property
    def needs_plain_network(self) -> bool:  # pyrefly: ignore[bad-override] - the loss decides
        """True if the loss differentiates the network in forward mode."""
        return self.loss.differentiates_network

    @property
    def flow_matching(self) -> FlowMatching:
        return self.flow

    @property
    def path(self) -> Path:
        return self.flow.path

    @property
    def space(self) -> Space:
        return self.flow.space

    @property
    def cond_dropout(self) -> float:
        return self.flow.cond_dropout

    @property
    def coupling(self) -> Coupling:
        """Coupling of source and data."""
        return self.flow.coupling

    @property
    def has_independent_examples(self) -> bool:
        return self.flow.has_independent_examples

    def sampler_config(self, default: SamplerConfig) -> SamplerConfig:
        return SamplerConfig("consistency" if self.steps.last_only and self.nfe > 1 else "euler", self.nfe)

    def build(self, context: TrainingContext) -> "FlowMapObjective":
        """Return the training objective; UsageError if it distills a teacher, but the context has none."""
        context.check(self)
        flow = cast(FlowMatching, self.flow.build(context))
        return FlowMapObjective(self, flow, context.teacher if self.distills else None)


def check_flow_path(path: Path, space: Space) -> None:
    """Raise a UsageError if a path is no flow on a manifold, or adds noise."""
    for leaf_path in iter_leaf_paths(path):
        if leaf_path.is_discrete or not leaf_path.is_flow:
            reason = "is discrete" if leaf_path.is_discrete else "jumps" if leaf_path.has_jumps else "has noise"
            raise UsageError(
                argument="path",
                expected="a flow, whose states follow a velocity",
                found=f"{type(leaf_path).__name__}, which {reason}",
                remedy="Use --recipe auto",
            )
    try:
        as_manifold(space)
    except TypeError as error:
        raise UsageError(argument="space", expected="a manifold or Euclidean space", found=str(error)) from error


class FlowMapObjective(Objective):
    """Training objective configured by `FlowMaps`, with the teacher if there is one."""

    def __init__(self, config: FlowMaps, flow: FlowMatching, teacher: Network | None) -> None:
        self.config, self.flow, self.teacher = config, flow, teacher

    @property
    def flow_matching(self) -> FlowMatching:
        return self.flow

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        if network is not None and not takes_step_end(network):
            raise UsageError(
                argument="network",
                expected="a network that takes the end of a step",
                found=type(network).__name__,
                remedy="Build it with WithStepEnd(architecture)",
            )
        config = self.config
        n, device = num_examples(batch["x_1"]), next(leaves(batch["x_1"])).device
        t, s = config.steps.sample(n, rng, device)
        is_empty = rng.stream("empty").uniform((n,), device=device, block=TIMES) < config.empty_prob
        example = self.flow.draw({**batch, "t": t}, rng, network)
        x_t, t, cond = example["x_t"], next(leaves(example["t"])), example["given"]
        velocity = _velocity_of(config.path, lambda *inputs: example["target"], cond, x_t, t)
        return {"x_t": x_t, "t": t, "s": torch.where(is_empty, t, s), "velocity": velocity, "given": cond}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the loss of each example: the squared difference of the sides of the condition."""
        config, teacher, cond = self.config, self.teacher, example["given"]
        x, t, s = (example[name] for name in ("x_t", "t", "s"))
        u = functools.partial(self._average_velocity, network, cond)

        @torch.no_grad()
        def flow(x: State, t: Tensor) -> State:
            return u(x, t, t) if teacher is None else self._teacher_velocity(teacher, cond, x, t)

        @functools.cache
        @torch.no_grad()
        def velocity() -> State:
            return self._guided_velocity(network, example) if teacher is None else flow(x, t)

        prediction, target = config.loss.sides(u, flow, Pair(x, t, s, velocity), config.space)
        if teacher is None or not config.loss.starts_at_velocity:
            target = tree_map(lambda end, start: torch.where(append_dims(s == t, end), start, end), target, velocity())
        losses = self.flow.criterion(prediction, target, x, broadcast_time(t, x), loss_mask(cond, broadcast_time(t, x)))
        return losses / (losses.detach() + ROBUST_SCALE) ** config.robustness if config.robustness else losses

    def _average_velocity(self, network: Network, cond: Cond, x: State, t: Tensor, s: Tensor) -> State:
        return _velocity_of(self.config.path, network, {**cond, STEP_END: s}, x, t)

    def _teacher_velocity(self, teacher: Network, cond: Cond, x: State, t: Tensor) -> State:
        scale, null = self.config.guidance, self.flow.null
        if scale != 1:
            teacher = cfg(teacher, scale, droppable=_droppable(cond, null), nulls=null)
        return _velocity_of(self.config.path, teacher, cond, x, t)

    def _guided_velocity(self, network: Network, example: Example) -> State:
        """Return w v + (1 - w) u(x, t, t) without conditions, with the velocity v of the path given both ends.

        For the conditional velocity in place of v, this is that of classifier-free guidance. Source: Geng et al. 2025,
        arXiv 2505.13447, equation 19.
        """
        scale, cond, null = self.config.guidance, example["given"], self.flow.null
        if scale == 1:
            return example["velocity"]
        cond = drop_conditions(cond, null or {}, _droppable(cond, null))
        without = self._average_velocity(network, cond, example["x_t"], example["t"], example["t"])
        return tree_map(lambda given, other: torch.lerp(other, given, scale), example["velocity"], without)


def _velocity_of(path: Path, network: Network, cond: Cond, x: State, t: Tensor) -> State:
    """Return the velocity that a network predicts, in the dtype of the state; observed entries do not move."""
    times = broadcast_time(t, x)
    characteristics = path.characteristics(network(x, times, cond), x, times)
    observed = cond.get("known")

    def velocity(leaf: Characteristics, state: Tensor) -> Tensor:
        moved = cast(Tensor, leaf.velocity).to(state.dtype)
        return moved if observed is None else torch.where(append_dims(observed, moved), 0.0, moved)

    return tree_map(velocity, characteristics, x)


def _droppable(cond: Cond, null: Mapping[str, int | float] | None) -> list[str]:
    return sorted(cond.keys() & (null or {}).keys())
