"""One loop that follows a process, and the solvers that make its steps."""

from feller.simulate.ancestral import Ancestral
from feller.simulate.divergence import Divergence, Exact, Gaussian, Hutchinson, Rademacher
from feller.simulate.dormand_prince import DormandPrince, OutOfSteps
from feller.simulate.euler import Euler
from feller.simulate.likelihood import bits_per_dimension, log_density, sample_with_density, start_density
from feller.simulate.linear_step import LinearSolver, LinearStep
from feller.simulate.loop import endpoint, simulate
from feller.simulate.memoryless import MemorylessEuler
from feller.simulate.runge_kutta import RK4, Heun, Midpoint
from feller.simulate.solver import GaussianSolver, Solver

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
    "log_density",
    "sample_with_density",
    "simulate",
    "start_density",
]
