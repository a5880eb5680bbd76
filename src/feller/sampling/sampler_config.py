"""Solvers by name, as the command line and records know them."""

from dataclasses import dataclass, field, replace
from typing import Any, cast

from feller.core.errors import UsageError, check_number
from feller.paths import Choice, Confidence, Entropy, KineticOptimal, Order, Path, Reversal, TokenPath
from feller.paths.affine import Vanishing
from feller.paths.discrete.rates import Rates
from feller.paths.product import parts, parts_map
from feller.paths.time_distributions import linear_grid
from feller.sampling import RK4, Ancestral, DormandPrince, Euler, Heun, Midpoint, Solver
from feller.spaces import Space

VELOCITY_SOLVERS = {"euler": Euler, "midpoint": Midpoint, "heun": Heun, "rk4": RK4}
SOLVERS = (*VELOCITY_SOLVERS, "dopri5", "euler-maruyama", "ancestral")
MOST_CALLS = 100_000
"""Of the network for a sample."""
ORDERS = {"confidence": Confidence, "entropy": Entropy}
"""Which masked tokens come first."""
RATES = {"kinetic-optimal": KineticOptimal, "reversal": Reversal}
"""Rates of the jumps of symbols."""


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    solver: str = "midpoint"
    """One of euler, midpoint, heun, rk4, dopri5 (adaptive), euler-maruyama (with noise), ancestral (with noise)."""
    calls: int = 64
    """Network calls per sample; dopri5 chooses its own number, and who draws token after token needs one each."""
    choice: Choice = field(default_factory=Choice)
    """How symbols are drawn from what the network says, where the data are symbols."""
    order: Order | None = None
    """Which masked tokens come first; by default chance decides."""
    rates: Rates | None = None
    """Rates of the jumps of symbols, kinetic-optimal or reversal; by default those of the path. Reversal, for sources
    with mass on every symbol, draws from the distribution of which `bits_per_token` is a bound."""
    jump: float | None = None
    """Share of the jumps in a superposition of flow and jumps, 0 to 1, for models that can do both; by default that of
    their training."""
    rake: int = 0
    """Rows of a table that are drawn for each one that is taken, so that its columns have the shares that are known."""

    def __post_init__(self) -> None:
        if not isinstance(self.solver, str):
            kind = self.solver if isinstance(self.solver, type) else type(self.solver)
            raise UsageError(
                "the solver of a recipe is a name, such as midpoint",
                found=kind.__name__,
                remedy=f"A solver of your own is used in Python, model.sample(100, solver={kind.__name__}())",
            )
        if self.solver not in SOLVERS:
            raise UsageError.unknown("solver", self.solver, SOLVERS)
        check_number("calls", self.calls, least=1, most=MOST_CALLS)
        check_number("jump", self.jump, least=0, most=1)
        check_number("rake", self.rake, least=0, most=100)

    def choose(self, path: Path, space: Space) -> tuple[Path, Solver, list[float]]:
        """Return the path with the noise that the solver wants, the solver, and its times.

        Raises:
            UsageError: If the solver cannot follow this path, or needs more calls.
        """
        path = path if self.jump is None else _superposed(path, self.jump)
        symbols = self.choice != Choice() or self.order is not None or self.rates is not None
        if path.is_discrete:
            if self.solver != "euler":
                raise UsageError(f"symbols jump, and {self.solver} follows velocities", remedy="Use euler")
            return self._of_tokens(path), Euler(space), linear_grid(self.calls)
        if symbols and not any(part.is_discrete for part in parts(path)):
            raise UsageError(
                "temperature, top-k, top-p, order and rates need symbols, and this model's data are numbers"
            )
        path = parts_map(lambda part: self._of_tokens(part) if part.is_discrete else part, path)
        if self.solver == "dopri5":
            if any(part.jumps for part in parts(path)):
                raise UsageError(
                    "dopri5 follows velocities, and this model's data jump, or some of them", remedy="Use midpoint"
                )
            return path, DormandPrince(space=space, per_example=True), [0.0, 1.0]
        solver: Solver
        if self.solver in VELOCITY_SOLVERS:
            solver = VELOCITY_SOLVERS[self.solver](space)
        elif path.affine_schedule is None:
            kind = type(path).__name__
            raise UsageError(f"{self.solver} needs an affine path, this model's is {kind}", remedy="Use euler")
        elif self.solver == "ancestral":
            solver = Ancestral(path.affine_schedule)
        else:
            path, solver = replace(cast(Any, path), noise=Vanishing()), Euler(space)
        if self.calls < solver.calls:
            raise UsageError(f"at least {solver.calls} for {self.solver}", self.calls, argument="calls")
        return path, solver, linear_grid(self.calls // solver.calls)

    def _of_tokens(self, path: Path) -> TokenPath:
        """Return the path with the choice, the rates and the order that are asked for."""
        path = replace(cast(TokenPath, path), choice=self.choice)
        if isinstance(self.rates, Reversal) and not path.has_reversal:
            raise UsageError(
                f"the rates reversal need a mixture path, this model's is {type(path).__name__}",
                remedy="Leave them out",
            )
        if self.rates is not None:
            path = replace(path, velocity=self.rates)
        if self.order is None:
            return path
        if not path.has_mask:
            raise UsageError("an order needs a model whose source is the mask", remedy="Leave it out")
        return replace(cast(Any, path), order=self.order)


def _superposed(path: Path, share: float) -> Path:
    """Return the path with another share of jumps, in every part that has both a flow and jumps."""
    if not any(hasattr(part, "share") for part in parts(path)):
        raise UsageError(
            "this model has no flow that jumps could be superposed on", remedy="Leave the superposition out"
        )
    return parts_map(lambda part: replace(cast(Any, part), share=share) if hasattr(part, "share") else part, path)
