"""Budgets of the claims about jumps, and the samplers under comparison."""

import pathlib
from dataclasses import dataclass

from feller.paths.jumps.jump_step_rules import EulerJump, IntegratedRate, JumpStepRule, MaximalCoupling
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, Midpoint, Solver
from feller.sampling.solvers.solver import with_space
from feller.spaces import Space
from feller_papers.generator_matching.survival import AtStart, FrozenRate


@dataclass(frozen=True)
class Setting:
    """Budgets of all claims."""

    seeds: tuple[int, ...]
    points: int
    """Training steps of each network for points in the plane."""
    digits: int
    """Training steps of each network for 8 x 8 digits with their labels."""
    angles: int
    """Training steps of each network for torsion angles."""
    counts: int
    """Training steps of each network for counts."""
    draws: int
    """Number of sampled points."""
    counted: int = 20_000
    """Number of sampled and of training counts."""
    calls: int = 64
    """Network calls of the finest samplers."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, which are not in the package."""


@dataclass(frozen=True)
class Sampler:
    """Process of a trained network, and its solver."""

    share: float
    """Weight of the jumps: 0 is the flow, 1 only jumps."""
    solver: type[Solver] = Euler
    step_rule: JumpStepRule | None = None
    """Step rule of the jumps; None for the default."""

    time_power: float = 1.0
    """Exponent of the remaining time on a uniform grid; above 1, steps are denser near the data."""

    def make_solver(self, space: Space) -> Solver:
        """Return the solver on a space."""
        return with_space(self.solver(), space)

    def times(self, calls: int, stop: float = 1.0) -> list[float]:
        """Return the time grid for a number of network calls."""
        left = linear_grid(self.solver().num_steps(calls), 1.0, 0.0)
        return [stop * (1 - share**self.time_power) for share in left]


FLOW, MIDPOINT = Sampler(0.0), Sampler(0.0, Midpoint)
JUMPS, BOTH = Sampler(1.0), Sampler(0.5)
NOW, FROZEN, COIN = (Sampler(1.0, step_rule=AtStart(rule)) for rule in (IntegratedRate(), FrozenRate(), EulerJump()))
OVERLAP = Sampler(1.0, step_rule=MaximalCoupling())
LATE = (1.5, 2.0, 3.0)
WAYS = {
    "Euler flow": FLOW,
    "midpoint flow": MIDPOINT,
    "superposition": BOTH,
    "superposition with midpoint steps": Sampler(0.5, Midpoint),
    "superposition, R at t": Sampler(0.5, step_rule=AtStart(IntegratedRate())),
    "jumps": JUMPS,
    "jumps, R at t": NOW,
    "jumps, exp(-h lambda) at t": FROZEN,
    "jumps, a coin h lambda at t": COIN,
    "jumps, overlap": OVERLAP,
    **{f"midpoint flow, late {power:g}": Sampler(0.0, Midpoint, time_power=power) for power in LATE},
}
"""Samplers by name; "at t" means that jumps land by the law at the start of a step, not at its end."""
