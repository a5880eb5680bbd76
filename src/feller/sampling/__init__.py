"""One loop that follows a process, and the solvers that make its steps."""

from feller.sampling.divergence import Divergence, Exact, Gaussian, Hutchinson, Rademacher
from feller.sampling.likelihood import bits_per_dimension, log_prob, sample_with_density, start_density
from feller.sampling.simulate import endpoint, simulate
from feller.sampling.solvers.dormand_prince import DormandPrince, OutOfSteps
from feller.sampling.solvers.euler import Euler
from feller.sampling.solvers.linear_step import Ancestral, LinearSolver, LinearStep, MemorylessEuler
from feller.sampling.solvers.runge_kutta import RK4, Heun, Midpoint
from feller.sampling.solvers.solver import GaussianSolver, Solver

__all__ = [
    "RK4",
    "Ancestral",
    "Divergence",
    "DormandPrince",
    "Euler",
    "Exact",
    "Gaussian",
    "GaussianSolver",
    "Heun",
    "Hutchinson",
    "LinearSolver",
    "LinearStep",
    "MemorylessEuler",
    "Midpoint",
    "OutOfSteps",
    "Rademacher",
    "Solver",
    "bits_per_dimension",
    "endpoint",
    "log_prob",
    "sample_with_density",
    "simulate",
    "start_density",
]
