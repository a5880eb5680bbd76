"""Sampler of consistency models: steps to t = 1, from which noise leads back to the next time."""

from dataclasses import dataclass, field

from torch import Tensor

from feller.core.errors import UsageError, check_kind
from feller.core.pytree import State, tree_map
from feller.core.rng import RandomStream
from feller.paths.processes import Characteristics, Process
from feller.paths.schedules import Linear, Schedule
from feller.sampling.solvers.linear_step import alpha_sigma_at
from feller.sampling.solvers.solver import Solver, at_step, flow_velocity


@dataclass(frozen=True)
class ConsistencySampler(Solver):
    """Multistep consistency sampling: follow the flow map from t to 1, and add noise to get the state at time s.

    A process that is no flow map is followed by an Euler step to 1. Requires a normal source. Source: Song et al. 2023,
    "Consistency models", arXiv 2303.01469, algorithm 1.
    """

    schedule: Schedule = field(default_factory=Linear)
    """Schedule of the path."""

    def __post_init__(self) -> None:
        check_kind("schedule", self.schedule, Schedule, "feller.VP()")

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        """Return the state at s; UsageError if s < t, or the process has noise or jumps."""
        if s < t:
            expected, found = "an increasing grid for ConsistencySampler", f"a step from {t:g} to {s:g}"
            raise UsageError(argument="times", expected=expected, found=found, remedy="Use Midpoint() to go back")
        scales = alpha_sigma_at(self.schedule, s)

        def leaf_step(now: Characteristics, x: Tensor) -> Tensor:
            x_1 = x + (1 - t) * flow_velocity(now, "ConsistencySampler")
            return x_1 if s == 1 else scales.alpha * x_1 + scales.sigma * rng.normal(x.shape, x.dtype, x.device)

        return tree_map(leaf_step, at_step(process, x, t, 1.0), x)
