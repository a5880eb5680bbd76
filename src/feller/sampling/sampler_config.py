"""Solvers by name, as the command line and records know them."""

from dataclasses import dataclass, field, replace
from typing import Any, cast

from feller.core.errors import UsageError, check_number
from feller.paths import (
    ConfidenceOrder,
    EntropyOrder,
    KineticOptimalRates,
    Path,
    Reversal,
    TokenPath,
    TokenSampler,
    UnmaskingOrder,
)
from feller.paths.affine import SigmaProportional
from feller.paths.discrete.rates import Rates
from feller.paths.product import iter_leaf_paths, map_leaf_paths
from feller.paths.time_distributions import linear_grid
from feller.sampling import RK4, Ancestral, DormandPrince, Euler, Heun, Midpoint, Solver
from feller.spaces import Space

VELOCITY_SOLVERS = {"euler": Euler, "midpoint": Midpoint, "heun": Heun, "rk4": RK4}
SOLVERS = (*VELOCITY_SOLVERS, "dopri5", "euler-maruyama", "ancestral")
MOST_CALLS = 100_000
"""Of the network for a sample."""
ORDERS = {"confidence": ConfidenceOrder, "entropy": EntropyOrder}
"""Which masked tokens come first."""
RATES = {"kinetic-optimal": KineticOptimalRates, "reversal": Reversal}
"""Rates of the jumps of symbols."""


@dataclass(frozen=True)
class SamplerConfig:
    """How samples are drawn."""

    solver: str = "midpoint"
    """One of euler, midpoint, heun, rk4, dopri5 (adaptive), euler-maruyama (with noise), ancestral (with noise)."""
    nfe: int = 64
    """Network calls per sample; dopri5 chooses its own number, and who draws token after token needs one each."""
    token_sampler: TokenSampler = field(default_factory=TokenSampler)
    """How symbols are drawn from what the network says, where the data are symbols."""
    unmasking_order: UnmaskingOrder | None = None
    """Which masked tokens come first; by default chance decides."""
    rates: Rates | None = None
    """Rates of the jumps of symbols, kinetic-optimal or reversal; by default those of the path. Reversal, for sources
    with mass on every symbol, draws from the distribution of which `bits_per_token` is a bound."""
    jump_weight: float | None = None
    """Share of the jumps in a superposition of flow and jumps, 0 to 1, for models that can do both; by default that of
    their training."""
    raking_oversample: int = 0
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
            raise UsageError.unknown_name("solver", self.solver, SOLVERS)
        check_number("nfe", self.nfe, ge=1, le=MOST_CALLS)
        check_number("jump_weight", self.jump_weight, ge=0, le=1)
        check_number("raking_oversample", self.raking_oversample, ge=0, le=100)

    def resolve(self, path: Path, space: Space) -> tuple[Path, Solver, list[float]]:
        """Return the path with the noise that the solver wants, the solver, and its times.

        Raises:
            UsageError: If the solver cannot follow this path, or needs more calls.
        """
        path = path if self.jump_weight is None else _with_jump_weight(path, self.jump_weight)
        symbols = self.token_sampler != TokenSampler() or self.unmasking_order is not None or self.rates is not None
        if path.is_discrete:
            if self.solver != "euler":
                raise UsageError(f"symbols jump, and {self.solver} follows velocities", remedy="Use euler")
            return self._configure_token_path(path), Euler(space), linear_grid(self.nfe)
        if symbols and not any(part.is_discrete for part in iter_leaf_paths(path)):
            raise UsageError(
                "temperature, top-k, top-p, order and rates need symbols, and this model's data are numbers"
            )
        path = map_leaf_paths(lambda part: self._configure_token_path(part) if part.is_discrete else part, path)
        if self.solver == "dopri5":
            if any(part.has_jumps for part in iter_leaf_paths(path)):
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
            path, solver = replace(cast(Any, path), noise=SigmaProportional()), Euler(space)
        if self.nfe < solver.nfe_per_step:
            raise UsageError(f"at least {solver.nfe_per_step} for {self.solver}", self.nfe, argument="nfe")
        return path, solver, linear_grid(self.nfe // solver.nfe_per_step)

    def _configure_token_path(self, path: Path) -> TokenPath:
        """Return the path with the choice, the rates and the order that are asked for."""
        path = replace(cast(TokenPath, path), token_sampler=self.token_sampler)
        if isinstance(self.rates, Reversal) and not path.has_reversal:
            raise UsageError(
                f"the rates reversal need a mixture path, this model's is {type(path).__name__}",
                remedy="Leave them out",
            )
        if self.rates is not None:
            path = replace(path, velocity=self.rates)
        if self.unmasking_order is None:
            return path
        if not path.has_mask:
            raise UsageError("an order needs a model whose source is the mask", remedy="Leave it out")
        return replace(cast(Any, path), unmasking_order=self.unmasking_order)


def _with_jump_weight(path: Path, jump_weight: float) -> Path:
    """Return the path with another share of jumps, in every part that has both a flow and jumps."""
    if not any(hasattr(part, "jump_weight") for part in iter_leaf_paths(path)):
        raise UsageError(
            "this model has no flow that jumps could be superposed on", remedy="Leave the superposition out"
        )
    return map_leaf_paths(
        lambda part: replace(cast(Any, part), jump_weight=jump_weight) if hasattr(part, "jump_weight") else part, path
    )
