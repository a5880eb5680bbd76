"""Sampler settings, with solvers given by name, for the command line and for storage with a run."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from feller.core.errors import UsageError, check_integer, check_number
from feller.core.precision import Precision, parse_precision
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
from feller.paths.schedules import Schedule
from feller.paths.time_distributions import TimeDistribution, Uniform
from feller.sampling import (
    DEIS,
    RK4,
    AdamsBashforth,
    Ancestral,
    ConsistencySampler,
    DormandPrince,
    DPMSolver,
    Euler,
    Heun,
    Midpoint,
    Solver,
    UniPC,
)
from feller.sampling.guidance_config import GuidanceVariant
from feller.spaces import Space

VELOCITY_SOLVERS: dict[str, Callable[..., Solver]] = {
    "euler": Euler,
    "midpoint": Midpoint,
    "heun": Heun,
    "rk4": RK4,
    "ab2": functools.partial(AdamsBashforth, 2),
    "ab3": functools.partial(AdamsBashforth, 3),
    "ab4": functools.partial(AdamsBashforth, 4),
}
"""Name of each solver for any velocity -> function of the space."""
SCHEDULE_SOLVERS: dict[str, Callable[[Schedule], Solver]] = {
    "ancestral": Ancestral,
    "ddim": functools.partial(Ancestral, eta=0.0),
    "dpm-solver++": DPMSolver,
    "dpm-solver++-sde": functools.partial(DPMSolver, stochastic=True),
    "unipc": UniPC,
    "deis": DEIS,
    "consistency": ConsistencySampler,
}
"""Name of each solver for affine paths -> function of the schedule."""
SOLVERS = {
    "euler": "a first look; models with jumps; flow maps, whose steps it takes exactly",
    "midpoint": "almost everything; the default",
    "heun": "as midpoint, but it also evaluates the network at the last time",
    "rk4": "smooth fields, high accuracy",
    "ab2": "as midpoint, with one network call per step and twice the steps (Adams-Bashforth)",
    "ab3": "as ab2, of order 3",
    "ab4": "as ab2, of order 4, for many steps",
    "dpm-solver++": "few steps on diffusion schedules such as vp (DPM-Solver++ 2M)",
    "dpm-solver++-sde": "as dpm-solver++, with noise",
    "unipc": "as dpm-solver++, with a corrector that needs no further network calls",
    "deis": "as dpm-solver++, for networks that predict noise",
    "dopri5": "a prescribed accuracy, such as for inversion",
    "euler-maruyama": "sampling with noise, which corrects errors of the network",
    "ancestral": "sampling with noise, with steps based on the predicted endpoint (DDPM)",
    "ddim": "as ancestral, without noise; the usual choice for diffusion models of others",
    "consistency": "consistency models: steps to the data, with noise that leads back",
}
"""Name of each solver, and when to choose it."""
MOST_CALLS = 100_000
"""Maximum number of network evaluations per sample."""
ORDERS = {"confidence": ConfidenceOrder, "entropy": EntropyOrder}
"""Unmasking orders by name."""
RATES = {"kinetic-optimal": KineticOptimalRates, "reversal": Reversal}
"""Jump rates of tokens by name."""


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of sampling: solver, network evaluations, token sampling, and jump rates."""

    solver: str = "midpoint"
    """Solver: euler, midpoint, heun, rk4, ab2, ab3, ab4, ddim, dpm-solver++, unipc, deis, dopri5 (adaptive), or
    with noise euler-maruyama, ancestral, dpm-solver++-sde; consistency for consistency models."""
    nfe: int = 64
    """Network evaluations per sample; unused by dopri5 (adaptive) and by autoregressive models (one per token)."""
    token_sampler: TokenSampler = field(default_factory=TokenSampler)
    """Sampling of tokens from logits: temperature, top-k and top-p."""
    unmasking_order: UnmaskingOrder | None = None
    """Order in which masked tokens are revealed; random by default."""
    rates: Rates | None = None
    """Jump rates of tokens, kinetic-optimal or reversal; by default those of the path. Reversal requires a source with
    full support; the likelihood bound `bits_per_token` then applies to the samples."""
    jump_weight: float | None = None
    """Weight of the jumps in a superposition of flow and jumps, 0 to 1; by default the weight set in training."""
    raking_oversample: int = 0
    """Rows sampled per returned row, from which raking selects rows to match known marginals; 0 disables raking."""

    guidance: GuidanceVariant = field(default_factory=GuidanceVariant)
    """Variant of classifier-free guidance, and the times at which it acts."""
    times: TimeDistribution = field(default_factory=Uniform)
    """Distribution whose quantiles are the times of the steps, such as `Shifted(3.0)`; unused by dopri5."""
    precision: Precision = "auto"
    """Mixed precision of the network calls: auto (bf16 on CUDA if supported, else fp32), fp32, tf32, bf16 or fp16.
    States, times, sums of solvers and likelihoods stay in float32; `auto` is fp32 for dopri5."""

    def __post_init__(self) -> None:
        if not isinstance(self.solver, str):
            solver_class = self.solver if isinstance(self.solver, type) else type(self.solver)
            raise UsageError(
                "the name of a solver, such as midpoint",
                solver_class.__name__,
                f"Pass a solver object in Python: model.sample(100, solver={solver_class.__name__}())",
            )
        if self.solver not in SOLVERS:
            raise UsageError.unknown_name("solver", self.solver, SOLVERS)
        parse_precision(self.precision)
        if self.solver == "dopri5" and self.precision not in ("auto", "fp32"):
            raise UsageError(
                "dopri5 controls an error below the rounding of lower precisions",
                found=self.precision,
                remedy="Use precision fp32, or midpoint",
            )
        check_integer("nfe", self.nfe, ge=1, le=MOST_CALLS)
        check_number("jump_weight", self.jump_weight, ge=0, le=1)
        check_number("raking_oversample", self.raking_oversample, ge=0, le=100)

    def resolve(self, path: Path, space: Space) -> tuple[Path, Solver, list[float]]:
        """Return the path (with noise if the solver requires it), the solver and the solver's time grid.

        Raises:
            UsageError: If the solver does not support the path, or `nfe` is too small.
        """
        path = path if self.jump_weight is None else _with_jump_weight(path, self.jump_weight)
        has_token_options = (
            self.token_sampler != TokenSampler() or self.unmasking_order is not None or self.rates is not None
        )
        if path.is_discrete:
            if self.solver != "euler":
                raise UsageError(f"{self.solver} does not support tokens", remedy="Use euler")
            return self._configure_token_path(path), Euler(space), self._grid(self.nfe)
        if has_token_options and not any(leaf.is_discrete for leaf in iter_leaf_paths(path)):
            raise UsageError("temperature, top-k, top-p, order and rates require a model of tokens")
        path = map_leaf_paths(lambda leaf: self._configure_token_path(leaf) if leaf.is_discrete else leaf, path)
        if self.solver == "dopri5":
            if any(leaf.has_jumps for leaf in iter_leaf_paths(path)):
                raise UsageError("dopri5 does not support models with jumps", remedy="Use midpoint")
            return path, DormandPrince(space=space, per_example=True), [0.0, 1.0]
        solver: Solver
        if self.solver in VELOCITY_SOLVERS:
            solver = VELOCITY_SOLVERS[self.solver](space)
        elif path.affine_schedule is None:
            path_name = type(path).__name__
            raise UsageError(f"{self.solver} requires an affine path, not {path_name}", remedy="Use euler")
        elif self.solver in SCHEDULE_SOLVERS:
            solver = SCHEDULE_SOLVERS[self.solver](path.affine_schedule)
        else:
            path, solver = replace(cast(Any, path), noise=SigmaProportional()), Euler(space)
        steps = solver.num_steps(self.nfe)
        if not steps:
            raise UsageError(f"at least {solver.num_evaluations(1)} for {self.solver}", self.nfe, argument="nfe")
        return path, solver, self._grid(steps)

    def _grid(self, steps: int) -> list[float]:
        """Return the times of the steps; errors on their number name `nfe`, which determines it."""
        try:
            return self.times.grid(steps)
        except UsageError as error:
            if error.argument != "steps":
                raise
            raise UsageError(argument="nfe", expected=f"{error.expected} steps", found=error.found) from error

    def _configure_token_path(self, path: Path) -> TokenPath:
        path = replace(cast(TokenPath, path), token_sampler=self.token_sampler)
        if isinstance(self.rates, Reversal) and not path.has_reversal:
            raise UsageError(
                f"reversal rates require a mixture path, not {type(path).__name__}", remedy="Omit the rates"
            )
        if self.rates is not None:
            path = replace(path, velocity=self.rates)
        if self.unmasking_order is None:
            return path
        if not path.has_mask:
            raise UsageError("an unmasking order requires a model with a mask source", remedy="Omit the order")
        return replace(cast(Any, path), unmasking_order=self.unmasking_order)


def _with_jump_weight(path: Path, jump_weight: float) -> Path:
    if not any(hasattr(leaf, "jump_weight") for leaf in iter_leaf_paths(path)):
        raise UsageError("this model does not superpose a flow and jumps", remedy="Omit the jump weight")
    return map_leaf_paths(
        lambda leaf: replace(cast(Any, leaf), jump_weight=jump_weight) if hasattr(leaf, "jump_weight") else leaf, path
    )
