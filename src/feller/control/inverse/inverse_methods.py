"""Inverse problems by D-Flow, and a registry of all methods."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.control.inverse.d_flow import ChiPrior, SourcePrior, optimize_source, solve_flow
from feller.control.inverse.guided_solver import DPS, GuidedSolver, PiGDM
from feller.control.inverse.inverse_problem import InverseProblem, InverseSolution, InverseSolver
from feller.control.inverse.operators import LinearOperator
from feller.control.inverse.red_diff import REDDiff
from feller.control.inverse.twisted_smc import TwistedSMC
from feller.control.optimize.lbfgs import LBFGS
from feller.control.optimize.minimize import Minimizer
from feller.core.errors import check_number
from feller.core.pytree import State
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint, Solver, simulate
from feller.sampling.solvers.linear_step import alpha_sigma_at
from feller.sampling.solvers.solver import with_space
from feller.spaces import Product


@dataclass(frozen=True)
class DFlow(InverseSolver):
    """D-Flow for inverse problems: optimise the source until the residual is at the noise level.

    The search starts at sqrt(a) y_0 + sqrt(1 - a) x_0, where a is `blend` and x_0 is noise. y_0 is the estimate
    `Measurement.pinv` of the sample (pseudo-inverse of the operator, applied to the measurements), mapped back to the
    source by the flow. For a nonlinear operator the search starts at x_0. Unknown parameters of the operator are
    optimised together with the source, starting from zero. Source: Ben-Hamu et al. 2024, "D-Flow: Differentiating
    through Flows for Controlled Generation", arXiv 2402.14017.
    """

    blend: float = 0.1
    """Weight a of y_0 in the initial source; above 0.1 this source is atypical of the source distribution."""
    steps: int = 6
    solver: Solver = field(default_factory=Midpoint)
    """Solver of the flow in the search and for the final sample, applied in the model's space."""
    minimizer: Minimizer = field(default_factory=LBFGS)
    prior: SourcePrior = field(default_factory=ChiPrior)
    """Prior on the source and on unknown operator parameters. `GaussianPrior` lowers the mean squared error, but makes
    reconstructions less diverse in unmeasured regions."""

    def __post_init__(self) -> None:
        check_number("steps", self.steps, ge=1)
        check_number("blend", self.blend, ge=0, le=1)

    def solve(self, problem: InverseProblem) -> InverseSolution:
        prior_model, observation = problem.prior_model, problem.measurement
        solver, unknown = with_space(self.solver, prior_model.space), observation.operator.unknown
        solve_source = solve_flow(prior_model.process, linear_grid(self.steps), solver, problem.rng)

        def flow(x_0: State, rows: Tensor) -> State:
            ends = solve_source(prior_model.path.initial_state(x_0["source"]), rows)
            return {**x_0, "source": ends}

        def loss(end: State, rows: Tensor) -> Tensor:
            return observation.loss(end["source"], rows, end.get("unknown"))

        initial, initial_nfe = self._initial_source(problem, solver)
        start, space = {"source": initial}, {"source": prior_model.space}
        if unknown is not None:
            zeros = initial.new_zeros(len(initial), *unknown.shape)
            start, space = {**start, "unknown": zeros}, {**space, "unknown": unknown}
        optimized = optimize_source(
            flow,
            loss,
            start,
            Product(space),
            minimizer=self.minimizer,
            prior=self.prior,
            target_loss=observation.noise_floor,
            on_progress=problem.on_progress,
        )
        end, nfe_per_solve = optimized.end, solver.num_evaluations(self.steps)
        return InverseSolution(
            end["source"],
            observation.residual_mse(end["source"], end.get("unknown")),
            optimized.nfe * nfe_per_solve + initial_nfe,
            end.get("unknown"),
            optimized.source["source"],
        )

    def _initial_source(self, problem: InverseProblem, solver: Solver) -> tuple[Tensor, int]:
        """Return the source point at which the search starts, and the number of network evaluations that it took.

        For a linear operator it is a blend of noise and of the pseudo-inverse of the measurement, mapped back to t = 0.
        """
        prior_model, observation, x_0 = problem.prior_model, problem.measurement, problem.x_0
        if self.blend == 0 or not isinstance(observation.operator, LinearOperator):
            return x_0, 0
        process, times = prior_model.process(problem.rows), linear_grid(self.steps, 1.0, 0.0)
        with torch.no_grad():
            source = simulate(process, observation.pinv(x_0), times, solver, problem.rng)
        y_0 = source / float(alpha_sigma_at(prior_model.path.schedule, 0.0).sigma)
        return self.blend**0.5 * y_0 + (1 - self.blend) ** 0.5 * x_0, solver.num_evaluations(self.steps)


METHODS: dict[str, Callable[[], InverseSolver]] = {
    "source": DFlow,
    "pigdm": lambda: GuidedSolver(PiGDM()),
    "dps": lambda: GuidedSolver(DPS()),
    "ot-ode": lambda: GuidedSolver(PiGDM(), start=0.2),
    "red-diff": REDDiff,
    "smc": TwistedSMC,
}
"""Function that creates the method with default settings, by name of the method."""
