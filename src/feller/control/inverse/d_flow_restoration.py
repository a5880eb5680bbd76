"""Inverse problems by D-Flow, and all ways by name."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.control.inverse.d_flow import Prior, Radius, find_sources, solved
from feller.control.inverse.inverse_problem import Problem, Restoration, Restored
from feller.control.inverse.operators import LinearOperator
from feller.control.inverse.pigdm import DPS, Guided, PiGDM
from feller.control.inverse.red_diff import RedDiff
from feller.control.optimize.lbfgs import LBFGS
from feller.control.optimize.minimize import Minimiser
from feller.core.errors import check_number
from feller.core.pytree import State
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint, Solver, simulate
from feller.sampling.solvers.linear_step import alpha_sigma_at
from feller.sampling.solvers.solver import with_space
from feller.spaces import Product


@dataclass(frozen=True)
class Source(Restoration):
    """Look for the source that leads to states which explain the measurements, until the noise explains the rest.

    The search begins at sqrt(a) y_0 + sqrt(1 - a) x_0, where y_0 leads back from `Observation.inverted`; with an
    operator that is not linear there is none, and it begins at x_0. What is unknown of an operator is looked for beside
    the source, from zero. Source: Ben-Hamu et al. 2024, "D-Flow: Differentiating through Flows for Controlled
    Generation", arXiv 2402.14017.
    """

    blend: float = 0.1
    """a; more than 0.1 begins where no data come from."""
    steps: int = 6
    solver: Solver = field(default_factory=Midpoint)
    """Of the search and the sample, placed in the space of the model."""
    minimiser: Minimiser = field(default_factory=LBFGS)
    prior: Prior = field(default_factory=Radius)
    """What sources cost by themselves, and what is unknown, too. `Density` comes nearer by the mean squared error, and
    forgets the start where nothing is measured."""

    def __post_init__(self) -> None:
        check_number("steps", self.steps, ge=1)
        check_number("blend", self.blend, ge=0, le=1)

    def explain(self, problem: Problem) -> Restored:
        """Return the states that the found sources lead to."""
        learned, observation = problem.learned, problem.observation
        solver, unknown = with_space(self.solver, learned.space), observation.operator.unknown
        follow = solved(learned.process, linear_grid(self.steps), solver, problem.draws)

        def flow(x_0: State, rows: Tensor) -> State:
            ends = follow(learned.path.initial_state(x_0["source"]), rows)
            return {**x_0, "source": ends}

        def wish(end: State, rows: Tensor) -> Tensor:
            return observation.loss(end["source"], rows, end.get("unknown"))

        begun, calls = self._begun(problem, solver)
        start, space = {"source": begun}, {"source": learned.space}
        if unknown is not None:
            nothing = begun.new_zeros(len(begun), *unknown.shape)
            start, space = {**start, "unknown": nothing}, {**space, "unknown": unknown}
        found = find_sources(
            flow,
            wish,
            start,
            Product(space),
            minimiser=self.minimiser,
            prior=self.prior,
            enough=observation.enough,
            tell=problem.tell,
        )
        end, one = found.end, self.steps * solver.nfe_per_step
        return Restored(
            end["source"],
            observation.misfit(end["source"], end.get("unknown")),
            found.calls * one + calls,
            end.get("unknown"),
            found.source["source"],
        )

    def _begun(self, problem: Problem, solver: Solver) -> tuple[Tensor, int]:
        """Return where the search begins, and the network calls that this took."""
        learned, observation, x_0 = problem.learned, problem.observation, problem.x_0
        if self.blend == 0 or not isinstance(observation.operator, LinearOperator):
            return x_0, 0
        process, times = learned.process(problem.rows), linear_grid(self.steps, 1.0, 0.0)
        with torch.no_grad():
            back = simulate(process, observation.inverted(x_0), times, solver, problem.draws)
        y_0 = back / float(alpha_sigma_at(learned.path.schedule, 0.0).sigma)
        return self.blend**0.5 * y_0 + (1 - self.blend) ** 0.5 * x_0, self.steps * solver.nfe_per_step


METHODS: dict[str, Callable[[], Restoration]] = {
    "source": Source,
    "pigdm": lambda: Guided(PiGDM()),
    "dps": lambda: Guided(DPS()),
    "ot-ode": lambda: Guided(PiGDM(), start=0.2),
    "red-diff": RedDiff,
}
"""Name -> what makes a way with its usual settings."""
