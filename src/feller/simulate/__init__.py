"""One loop that follows a process, and the solvers that make its steps."""

from feller.simulate.ancestral import Ancestral
from feller.simulate.dormand_prince import DormandPrince, OutOfSteps
from feller.simulate.euler import Euler
from feller.simulate.loop import endpoint, simulate
from feller.simulate.runge_kutta import RK4, Heun, Midpoint
from feller.simulate.solver import GaussianSolver, Solver

__all__ = [
    "RK4",
    "Ancestral",
    "DormandPrince",
    "Euler",
    "GaussianSolver",
    "Heun",
    "Midpoint",
    "OutOfSteps",
    "Solver",
    "endpoint",
    "simulate",
]
