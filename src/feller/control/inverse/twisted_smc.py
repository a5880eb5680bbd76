"""Inverse problems by twisted sequential Monte Carlo: particles that follow the posterior."""

from dataclasses import dataclass

import torch

from feller.control.inverse.inverse_problem import InverseProblem, InverseSolution, InverseSolver, check_no_unknown
from feller.control.inverse.particles import particle_grid, run_particles
from feller.control.inverse.twisted_chains import GaussianChain, MeasurementTwist
from feller.core.errors import UsageError, check_number


@dataclass(frozen=True)
class TwistedSMC(InverseSolver):
    """Twisted sequential Monte Carlo: weighted and resampled particles, whose steps are guided by the measurements.

    Consecutive examples form groups of `particles`, and the examples of a group share their measurement and
    conditions. As the number of particles grows, the states follow the posterior of the model's memoryless chain; the
    effective sample sizes tell how far a group is from that. The likelihood is that of normal noise, which must be
    above 0. Source: Wu et al. 2023, arXiv 2306.17775.
    """

    particles: int = 64
    """Number of particles per measurement."""
    steps: int = 32

    def __post_init__(self) -> None:
        check_number("particles", self.particles, ge=2)
        check_number("steps", self.steps, ge=2)

    def solve(self, problem: InverseProblem) -> InverseSolution:
        prior_model, observation, rows = problem.prior_model, problem.measurement, problem.rows
        check_no_unknown(observation.operator, "particles")
        if not observation.noise > 0:
            raise UsageError(
                argument="noise",
                expected="noise above 0, since exact measurements have no likelihood",
                found=f"{observation.noise:g}",
                remedy="Give the standard deviation of the measurements with --noise, such as 0.05 of their range",
            )
        chain = GaussianChain(prior_model.process(rows), prior_model.path, MeasurementTwist(observation))
        found = run_particles(
            chain,
            prior_model.path.initial_state(problem.x_0),
            particle_grid(self.steps),
            self.particles,
            problem.rng,
            on_progress=problem.on_progress,
        )
        residual = observation.residual_mse(found.state)
        return InverseSolution(found.state, residual, torch.full_like(rows, self.steps), ess=found.ess)
