"""Model families of processes in time: paths from a source to data, and bridges between populations."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Bool
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, leaves
from feller.core.rng import NOT_FINITE_MESSAGE, Rng
from feller.core.user_code import is_user_defined, qualified_name
from feller.models.families.elbo import estimate_elbo, tightest_elbo
from feller.models.families.model_family import (
    DivergedError,
    LogProb,
    LogProbRequest,
    ModelFamily,
    PartialObservation,
    SampleRequest,
    family_for,
)
from feller.networks.mixed_precision import at_precision
from feller.networks.sequence.categorical_columns import MASKED_LOGIT_SCALE
from feller.networks.unwrapping import takes_step_end, unwrap_network
from feller.paths import Affine, Mixture, Network, Path, TokenPath
from feller.paths.brownian import BrownianBridge
from feller.paths.processes import Process, clamp, freeze_leaves
from feller.paths.product import iter_leaf_paths
from feller.sampling import (
    ConsistencySampler,
    DormandPrince,
    Euler,
    ExactDivergence,
    Hutchinson,
    Solver,
    log_prob,
)
from feller.sampling.divergence import MAX_EXACT_DIMENSION
from feller.sampling.likelihood import initial_log_prob
from feller.sampling.sampler_config import VELOCITY_SOLVERS, SamplerConfig
from feller.spaces import Space
from feller.training.objective import ObjectiveConfig

PLAIN = (*VELOCITY_SOLVERS, "dopri5")
"""Solvers that follow a flow without added noise."""
REVERSE_SAMPLER = SamplerConfig("dopri5")
"""Default solver from data to source, for log-likelihoods."""


@dataclass(frozen=True)
class PathProcess(ModelFamily):
    """Model family of processes along a path from a source to the data."""

    name: ClassVar[str] = "process"
    is_process: ClassVar[bool] = True
    path: Path

    @classmethod
    def from_objective(cls, objective: Any) -> "ModelFamily":
        return cls(objective.path)

    def describe(self) -> str:
        return f"follows the path {type(self.path).__name__}"

    @property
    def is_discrete(self) -> bool:  # pyrefly: ignore[bad-override] - the path decides
        """True if the states are tokens."""
        return self.path.is_discrete

    @property
    def has_bounds_only(self) -> bool:  # pyrefly: ignore[bad-override] - the path decides
        """True if log probabilities are only bounds, which is the case for token states."""
        return self.path.is_discrete

    def require_path(self) -> Path:
        return self.path

    def check_flow(self) -> None:
        for leaf_path in iter_leaf_paths(self.path):
            if not leaf_path.is_flow:
                reason = "jumps" if leaf_path.has_jumps else "has noise"
                raise UsageError(
                    f"this model has no velocity: its process {reason} ({type(leaf_path).__name__})",
                    remedy="Use `sample`",
                )

    def sample(self, network: Any, request: SampleRequest, rng: Rng) -> tuple[State, State]:
        sampling, space, observed = request.sampling, request.space, request.observed
        if request.solver is not None and sampling.solver in PLAIN:  # replaced by the given solver below
            sampling = replace(sampling, solver="euler")
        path, solver, times = sampling.resolve(self.path, space)
        if request.solver is not None:
            solver, times = request.solver, sampling.times.grid(max(request.solver.num_steps(sampling.nfe), 1))
            if isinstance(solver, DormandPrince):
                times = [0.0, 1.0]
        check_step_ends(network, solver, times)
        is_adaptive = isinstance(solver, DormandPrince)  # it controls an error below the rounding of bf16
        evaluated = at_precision(
            network, "fp32" if is_adaptive and sampling.precision == "auto" else sampling.precision
        )
        guided: Network = sampling.guidance.apply(evaluated, request.guidance, self.path, request.droppable)
        x_0 = space.sample_base(request.n, rng.stream("source"), next(network.parameters()).device)
        if observed is None:
            x, process = path.initial_state(x_0), path.process(guided, request.cond)
            if request.clamped:
                x, process = {**x, **request.clamped}, freeze_leaves(process, request.clamped.keys())
        else:
            count = getattr(space, "vocab_size", None)  # None for real numbers
            if count is not None:
                check_observed_tokens(observed, count)
            if request.eos_token_id is not None:
                guided = without_early_end(guided, up_to_last(observed.mask), request.eos_token_id)
            x = torch.where(observed.mask, observed.values, x_0)
            process = clamp(path.process(guided, {**request.cond, "known": observed.mask}), observed.mask)
        x = request.simulate(process, x, times, solver, rng)
        if not all(torch.isfinite(leaf).all() for leaf in leaves(x) if leaf.is_floating_point()):
            user_paths = [
                qualified_name(leaf_path) for leaf_path in iter_leaf_paths(self.path) if is_user_defined(leaf_path)
            ]
            raise DivergedError(
                NOT_FINITE_MESSAGE
                + (f", or the process of {' or '.join(user_paths)} (user code) diverges" if user_paths else "")
            )
        return x_0, x

    def log_prob(self, network: Any, request: LogProbRequest, rng: Rng) -> LogProb:
        x_1, cond, space = request.x_1, request.cond, request.space
        if self.path.is_discrete:
            token_path = cast(TokenPath, self.path)
            elbo = request.elbo or tightest_elbo(token_path)
            nats, std_err = estimate_elbo(token_path, space, network, x_1, cond, rng, elbo=elbo, times=request.times)
            return LogProb(-nats, std_err)
        path, solver, times = (request.sampling or REVERSE_SAMPLER).resolve(self.path, space)
        if request.sampling is None:
            solver = DormandPrince(space=space, rtol=1e-6, atol=1e-6, per_example=True)
        is_small = getattr(space, "dimension", 0) <= MAX_EXACT_DIMENSION
        divergence, valid = request.divergence or (ExactDivergence() if is_small else Hutchinson()), cond.get("valid")
        source = partial(initial_log_prob, path, space, valid=valid)
        process: Process = path.process(network, cond)
        try:
            with torch.no_grad():  # else the graph of the whole solve would be kept
                value = log_prob(
                    process, x_1, times[::-1], solver, rng, divergence=divergence, source_log_prob=source, valid=valid
                )
        except ValueError as error:
            raise UsageError(f"this model has no log density: {error}") from error
        return LogProb(value, torch.zeros_like(value))

    def export_output(self, prediction: State, x: State, t: State) -> State:
        return _export_output(self.path, prediction, x, t)

    def output_kind_of(self, leaf: str) -> str:
        path = self.path
        for key in leaf.split("."):
            path = path.leaf_path(key)
        return "velocity" if path.is_flow else "logits" if path.is_discrete else "prediction"

    def sampling_steps(self, space: Space) -> list[str]:
        begin, end = "x = a draw of the source", "turn x into values as `scaling` says"
        if all(leaf_path.is_flow for leaf_path in iter_leaf_paths(self.path)) and getattr(space, "is_flat", False):
            begin = "x = factor * a draw of the source"
            return [begin, "for i in 0 .. n - 1: x = x + answer(x, t = i / n, conditions) / n", end]
        if isinstance(self.path, Mixture):
            jump_step = (
                "from t to s: each symbol, with the chance 1 - sigma(s) / sigma(t) of the path's schedule, becomes a"
                " draw from softmax(answer(x, t, conditions))"
            )
            return [begin, jump_step, end]
        moves = "leaves with a velocity v move by (s - t) v, along geodesics where their space is curved"
        return [begin, f"from t to s: {moves}; others do what `path` says of their prediction", end]


@dataclass(frozen=True)
class BridgeProcess(ModelFamily):
    """Schrödinger bridge: forward and backward drifts between populations, none of which is a noise source."""

    name: ClassVar[str] = "bridge"
    why_no_export: ClassVar[str] = "bridges cannot be exported; transport points with `sample`"
    why_no_samples: ClassVar[str] = (
        "this run is a bridge, which starts from data and not from noise: transport a file with `feller sample RUN"
        " --from FILE`, or fit a new bridge with `feller bridge`"
    )
    path: BrownianBridge

    @classmethod
    def from_objective(cls, objective: Any) -> "ModelFamily":
        return cls(objective.path)

    def describe(self) -> str:
        return "is a bridge between populations"

    def require_path(self) -> BrownianBridge:
        return self.path


def check_step_ends(network: Any, solver: Solver, times: list[float]) -> None:
    """Raise a UsageError if a solver needs steps that a flow map was not trained for, or a flow map but has none."""
    last_only = getattr(unwrap_network(network), "steps_to_last_only", False)
    if last_only and isinstance(solver, Euler) and len(times) > 2:
        raise UsageError(
            argument="solver",
            expected="consistency, or euler with one step, for a consistency model",
            found=f"euler with {len(times) - 1} steps",
            remedy="Use --solver consistency, or fit a flow map: --recipe flow-map",
        )
    if isinstance(solver, ConsistencySampler) and not takes_step_end(network):
        raise UsageError(
            argument="solver",
            expected="a consistency model or a flow map, for the solver consistency",
            found="a network of velocities",
            remedy="Use midpoint, or fit --recipe consistency --start-from this run",
        )


def _export_output(path: Path, prediction: State, x: State, t: State) -> State:
    if path.leaf_names:
        return {
            name: _export_output(path.leaf_path(name), prediction[name], x[name], t[name]) for name in path.leaf_names
        }
    return path.characteristics(prediction, x, t).velocity if path.is_flow else prediction


def check_observed_tokens(observed: PartialObservation, vocab_size: int) -> None:
    """Raise a UsageError if observed tokens are not in the vocabulary."""
    invalid = observed.mask & ((observed.values < 0) | (observed.values >= vocab_size))
    if invalid.any():
        raise UsageError(
            f"{int(observed.values[invalid][0])} is observed, but tokens are numbered from 0 to {vocab_size - 1}",
            remedy="Set the mask of this token to False to sample it",
        )


def up_to_last(observed_mask: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Return the mask of the positions up to the last observed token of each sequence."""
    return observed_mask.flip(1).cumsum(1).flip(1) > 0


def without_early_end(network: Network, must_continue: Bool[Tensor, "b n"], eos_token_id: int) -> Network:
    """Return a network that cannot predict the end of the text where `must_continue` is True."""

    def masked_network(x_t: State, t: State, cond: Cond) -> State:
        logits = network(x_t, t, cond)
        tokens = torch.arange(logits.shape[-1], device=logits.device)
        return logits.masked_fill(
            must_continue[:, :, None] & (tokens == eos_token_id), MASKED_LOGIT_SCALE * torch.finfo(logits.dtype).min
        )

    return masked_network


def family_trained_by(
    objective: ObjectiveConfig | Path | ModelFamily | None,
) -> tuple[ModelFamily, ObjectiveConfig | None]:
    """Return the model family that an objective, path or family specifies, and the objective (None if none was passed).

    An objective specifies the family of the networks that it trains; a path specifies a `PathProcess` along this path.
    None stands for the path `Affine()`.
    """
    if isinstance(objective, ObjectiveConfig):
        return family_for(objective), objective
    if isinstance(objective, ModelFamily):
        return objective, None
    if objective is None or isinstance(objective, Path):
        return PathProcess(objective or Affine()), None
    name = getattr(objective, "__name__", type(objective).__name__)
    raise UsageError(
        argument="objective",
        expected="an objective, a path or a model family",
        found=f"the class {name}" if isinstance(objective, type) else f"a {name}",
        remedy=f"Write {name}(...)" if isinstance(objective, type) else "Pass the data as data=...",
    )
