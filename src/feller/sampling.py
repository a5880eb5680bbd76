"""Solvers by name, as the command line and records know them."""

from dataclasses import dataclass, replace

from feller.errors import UsageError
from feller.paths import Affine, Path
from feller.paths.affine import Vanishing
from feller.record import nearest
from feller.simulate import RK4, Ancestral, DormandPrince, Euler, Heun, Midpoint, Solver
from feller.spaces import Space
from feller.times import linear_grid

VELOCITY_SOLVERS = {"euler": Euler, "midpoint": Midpoint, "heun": Heun, "rk4": RK4}
SOLVERS = (*VELOCITY_SOLVERS, "dopri5", "euler-maruyama", "ancestral")


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    solver: str = "midpoint"
    """One of euler, midpoint, heun, rk4, dopri5 (adaptive), euler-maruyama (with noise), ancestral (with noise)."""
    calls: int = 64
    """Network calls per sample; dopri5 chooses its own number."""

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise UsageError(f"no solver is called {self.solver!r}: {nearest(self.solver, list(SOLVERS))}")
        if not 1 <= self.calls <= 100_000:
            raise UsageError(f"calls must be at least 1 and at most 100,000, got {self.calls}")

    def choose(self, path: Path, space: Space) -> tuple[Path, Solver, list[float]]:
        """Return the path with the noise that the solver wants, the solver, and its times.

        Raises:
            UsageError: If the solver cannot follow this path, or needs more calls.
        """
        if self.solver == "dopri5":
            return path, DormandPrince(space=space, per_example=True), [0.0, 1.0]
        solver: Solver
        if self.solver in VELOCITY_SOLVERS:
            solver = VELOCITY_SOLVERS[self.solver](space)
        elif not isinstance(path, Affine):
            kind = type(path).__name__
            raise UsageError(f"{self.solver} needs an affine path, this model's is {kind}; use euler")
        elif self.solver == "ancestral":
            solver = Ancestral(path.schedule)
        else:
            path, solver = replace(path, noise=Vanishing()), Euler(space)
        if self.calls < solver.calls:
            raise UsageError(f"{self.solver} needs at least {solver.calls} calls, got {self.calls}")
        return path, solver, linear_grid(self.calls // solver.calls)
