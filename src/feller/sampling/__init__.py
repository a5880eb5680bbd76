"""Sampling: solvers of processes, likelihoods, guidance, autoregressive decoding and retrieval."""

from feller.sampling.divergence import Divergence, ExactDivergence, GaussianProbe, Hutchinson, RademacherProbe
from feller.sampling.likelihood import bits_per_dimension, initial_log_prob, log_prob, sample_with_log_prob
from feller.sampling.simulation import simulate, trajectory
from feller.sampling.solvers.adams_bashforth import AdamsBashforth
from feller.sampling.solvers.consistency import ConsistencySampler
from feller.sampling.solvers.dormand_prince import DormandPrince, MaxStepsError
from feller.sampling.solvers.euler import Euler
from feller.sampling.solvers.exponential_multistep import DEIS, DPMSolver, UniPC
from feller.sampling.solvers.linear_step import Ancestral, LinearSolver, LinearStep, MemorylessEuler
from feller.sampling.solvers.runge_kutta import RK4, Heun, Midpoint
from feller.sampling.solvers.solver import GaussianSolver, Solver

__all__ = [
    "DEIS",
    "RK4",
    "AdamsBashforth",
    "Ancestral",
    "ConsistencySampler",
    "DPMSolver",
    "Divergence",
    "DormandPrince",
    "Euler",
    "ExactDivergence",
    "GaussianProbe",
    "GaussianSolver",
    "Heun",
    "Hutchinson",
    "LinearSolver",
    "LinearStep",
    "MaxStepsError",
    "MemorylessEuler",
    "Midpoint",
    "RademacherProbe",
    "Solver",
    "UniPC",
    "bits_per_dimension",
    "initial_log_prob",
    "log_prob",
    "sample_with_log_prob",
    "simulate",
    "trajectory",
]
