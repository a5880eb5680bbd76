"""How much is spent on the claims about jumps, and the processes that every comparison is between."""

import pathlib
from dataclasses import dataclass

from feller.paths.jumps.jump_step_rules import EulerJump, IntegratedRate, JumpStepRule, MaximalCoupling
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, Midpoint, Solver
from feller.sampling.solvers.solver import with_space
from feller.spaces import Space
from feller_papers.generator_matching.survival import AtStart, Frozen


@dataclass(frozen=True)
class Setting:
    """How much is spent on the claims."""

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
    """Points in a set of samples."""
    counted: int = 20_000
    """Counts in a set of samples, and to learn from."""
    calls: int = 64
    """Of the network, where many are meant."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, of those that are not in the package."""


@dataclass(frozen=True)
class Way:
    """A process that one network gives, and how it is followed."""

    share: float
    """Of the jumps: 0 is the flow alone, 1 jumps alone."""
    solver: type[Solver] = Euler
    survival: JumpStepRule | None = None
    """How a step expects jumps and lands them; None for the usual way."""

    late: float = 1.0
    """Above 1, steps are denser near the data: the time that is left falls as this power of a uniform grid."""

    def follower(self, space: Space) -> Solver:
        """Return the solver where states live."""
        return with_space(self.solver(), space)

    def times(self, calls: int, stop: float = 1.0) -> list[float]:
        """Return the times of steps that use so many calls of the network."""
        left = linear_grid(self.solver().num_steps(calls), 1.0, 0.0)
        return [stop * (1 - share**self.late) for share in left]


FLOW, MIDPOINT = Way(0.0), Way(0.0, Midpoint)
JUMPS, BOTH = Way(1.0), Way(0.5)
NOW, FROZEN, COIN = (Way(1.0, survival=AtStart(rule)) for rule in (IntegratedRate(), Frozen(), EulerJump()))
OVERLAP = Way(1.0, survival=MaximalCoupling())
LATE = (1.5, 2.0, 3.0)
WAYS = {
    "Euler flow": FLOW,
    "midpoint flow": MIDPOINT,
    "superposition": BOTH,
    "superposition with midpoint steps": Way(0.5, Midpoint),
    "superposition, R at t": Way(0.5, survival=AtStart(IntegratedRate())),
    "jumps": JUMPS,
    "jumps, R at t": NOW,
    "jumps, exp(-h lambda) at t": FROZEN,
    "jumps, a coin h lambda at t": COIN,
    "jumps, overlap": OVERLAP,
    **{f"midpoint flow, late {power:g}": Way(0.0, Midpoint, late=power) for power in LATE},
}
"""By name; t says that jumps land where they would at the start of a step, not at its end, as they usually do."""
