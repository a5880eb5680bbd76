"""Interface of model families, and requests to them for samples and log probabilities."""

import abc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond, State, leaves, tree_map
from feller.core.rng import Rng
from feller.data.modality import Target
from feller.models.families.elbo import ELBO
from feller.paths import Path
from feller.paths.processes import Process
from feller.sampling import Divergence, Solver, trajectory
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Space


class DivergedError(InputError):
    """Error raised if samples have infinite or NaN values."""


CodeWeights = Callable[[Int64[Tensor, " m"]], Float[Tensor, " m"]]
"""Function from the category indices of a column to the weight of each category."""


@dataclass(frozen=True, eq=False)
class PartialObservation:
    """Observed entries of samples, which stay fixed during sampling."""

    values: Shaped[Tensor, " n *d"]
    """States that contain the observed entries; the other entries are ignored."""
    mask: Bool[Tensor, " n *d"]
    """True for observed entries."""
    are_numbers: bool = False
    """True for real numbers, which need a network that was trained with observed entries (`inpaint_prob`)."""
    num_candidates: int = 0
    """For tables with a fixed column order: number of importance-weighted completions per row, one of which is
    resampled; 0 for rejection sampling."""
    forbidden: Int64[Tensor, " places"] | None = None
    """For tables: one token per column that is sampled only if no other token is possible; -1 for none."""
    code_weights: Mapping[int, CodeWeights] = field(default_factory=dict)
    """For tables: mapping from a column to a function that gives each category's weight, from 0 to 1, by which the
    model's probability is multiplied."""

    def subset(self, rows: slice, device: torch.device) -> "PartialObservation":
        """Return the observed entries of the samples in a slice, on a device."""
        return replace(self, values=self.values[rows].to(device), mask=self.mask[rows].to(device))


GuidanceScale = float | Mapping[str, float]
"""Classifier-free guidance scale, or one scale for each of several conditions, by name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleRequest:
    """Request for samples, the argument of `ModelFamily.sample`. Tensors have one entry per sample."""

    n: int
    space: Space
    sampling: SamplerConfig
    cond: Cond = field(default_factory=dict)
    observed: PartialObservation | None = None
    clamped: dict[str, State] = field(default_factory=dict)
    """Observed components (leaves) of the state, which are held fixed; the other leaves are sampled given these."""
    solver: Solver | None = None
    """Solver that replaces the one named in the sampler settings, with the same NFE."""
    guidance: GuidanceScale = 1.0
    """Classifier-free guidance scale: 1 is conditional, 0 unconditional."""
    droppable: tuple[str, ...] = ()
    """Names of the conditions that are dropped in the unconditional prediction."""
    eos_token_id: int | None = None
    """End-of-text token, which is not sampled before an observed token."""
    on_step: Callable[[float, State], None] = lambda t, x: None
    """Callback with the time and states of a batch, called after each solver step; families without a solver do not
    call it."""
    on_progress: Callable[[float], None] = lambda fraction: None
    """Progress callback, called with the completed fraction."""

    def simulate(self, process: Process, x: State, times: Sequence[float], solver: Solver, rng: Rng) -> State:
        """Return the state at the last time of a simulation without gradients, and report all steps.

        Args:
            process: Process of the samples.
            x: State at the first time.
            times: Time grid.
            solver: Integrator of each step.
            rng: Random streams of the steps.
        """
        with torch.no_grad():
            self.on_step(times[0], x)
            for step, state in enumerate(trajectory(process, x, times, solver, rng), 1):
                x = state
                self.on_step(times[step], x)
                self.on_progress(step / (len(times) - 1))
        return x

    def subset(self, rows: slice, device: torch.device, on_progress: Callable[[float], None]) -> "SampleRequest":
        """Return the request for the samples in a slice, on a device."""

        def take(leaf: Tensor) -> Tensor:
            return leaf[rows].to(device)

        return replace(
            self,
            n=rows.stop - rows.start,
            cond=tree_map(take, self.cond),
            observed=None if self.observed is None else self.observed.subset(rows, device),
            clamped=tree_map(take, self.clamped),
            on_progress=on_progress,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LogProbRequest:
    """Request for log probabilities, the argument of `ModelFamily.log_prob`."""

    x_1: State
    cond: Cond
    """Conditions with one entry per state; `valid` masks padding."""
    space: Space
    eos_token_id: int | None = None
    """End-of-text token; tokens after the first end-of-text token of an example are ignored."""
    sampling: SamplerConfig | None = None
    """For flows: solver and NFE of the integration from data to source; default: adaptive solver with tolerance
    1e-6."""
    divergence: Divergence | None = None
    """For flows: divergence estimator; default: exact up to 32 dimensions, else one Hutchinson probe."""
    elbo: ELBO | None = None
    """For token paths: choice of the rates in the bound; default: the rates with the tightest bound."""
    times: int = 128
    """For token paths: number of network evaluations per state."""


class LogProb(NamedTuple):
    """Log probabilities in nats, or lower bounds on them."""

    value: Float[Tensor, " b"]
    """Log probability for autoregressive and graphical models, log density for flows, lower bound for token paths."""
    std_err: Float[Tensor, " b"]
    """Standard error of an estimated bound; 0 for exact values."""


class ModelFamily(abc.ABC):
    """Base class of model families: sampling and log-likelihood of a trained network.

    To add a family, define a frozen dataclass with a `name` as a subclass, set the same name as the `family` of an
    objective, and implement the supported methods. Methods that are not implemented raise a UsageError.
    """

    name: ClassVar[str]
    """Unique name of the family, to which objectives refer as `family`."""
    is_process: ClassVar[bool] = False
    """True if samples are generated by a process in time, with a solver."""
    has_row_likelihood: ClassVar[bool] = False
    """True if one network evaluation gives the exact probability of a row, as required to impute cells."""
    output_kind: ClassVar[str] = "prediction"
    """Kind of the output of an exported network: prediction, logits, estimates (of a regressor) or velocity."""
    has_bounds_only: ClassVar[bool] = False
    """True if log probabilities are only bounds."""
    is_discrete: ClassVar[bool] = False
    """True if samples are discrete tokens; the model then has infilling and a negative log-likelihood."""
    has_exact_infilling: ClassVar[bool] = False
    """True if infilling is exact for all positions."""
    why_no_samples: ClassVar[str] = ""
    """Reason for error messages why the model generates no samples; empty if it generates samples."""
    why_no_export: ClassVar[str] = ""
    """Reason why the network cannot be exported, as it is not a function of state, time and conditions; else empty."""

    @classmethod
    def from_objective(cls, objective: Any) -> "ModelFamily":
        """Create the model family of an objective; its fields are read from the objective."""
        return cls()

    @abc.abstractmethod
    def describe(self) -> str:
        """Return a description of the family as a verb phrase that completes "this network ..."."""

    @property
    def prediction_target(self) -> Target | None:
        """Prediction target of a regressor or classifier; None for other families."""
        return None

    def require_path(self) -> Path:
        """Return the path of the process; UsageError if the family has no path."""
        raise UsageError(f"this model has no path in time: it {self.describe()}", remedy="Use a flow or jump model")

    def check_flow(self) -> None:
        """Raise a UsageError if the process is not a flow, whose states follow a velocity without noise or jumps."""
        raise UsageError(f"this model has no velocity: {self.why_no_samples or f'it {self.describe()}'}")

    def check_request(self, request: SampleRequest) -> None:
        """Raise a UsageError if a request is not supported, before sampling starts."""
        if self.why_no_samples:
            raise UsageError(self.why_no_samples)
        if request.observed is not None and not (self.is_discrete or request.observed.are_numbers):
            raise UsageError("infilling needs discrete data, but this model is continuous")
        if request.observed is not None and request.observed.code_weights and not self.has_row_likelihood:
            raise UsageError(
                argument="given",
                expected="one value per column",
                found="several values",
                remedy="Fit with recipe table or table-marginals, which take ranges and lists",
            )

    def sample(self, network: Any, request: SampleRequest, rng: Rng) -> tuple[State, State]:
        """Return the source states and the end states of samples; if the family has no source, the end states twice.

        Args:
            network: Network in eval mode.
            request: Request for one batch, on the network's device, which `check_request` has accepted.
            rng: Random streams; `first_example` is the index of the first sample.

        Raises:
            UsageError: If the family generates no samples, or an observed value is invalid.
            InputError: If samples have infinite or NaN values.
        """
        raise UsageError(self.why_no_samples or f"this model generates no samples: it {self.describe()}")

    def log_prob(self, network: Any, request: LogProbRequest, rng: Rng) -> LogProb:
        """Return the log probabilities of states, or log densities for flows, or lower bounds on them.

        Args:
            network: Network in eval mode.
            request: Request for one batch, on the network's device.
            rng: Random streams for probes, times and noise.

        Raises:
            UsageError: If the family has no log probabilities.
        """
        raise UsageError(f"this model has no log probabilities: it {self.describe()}")

    def column_probs(
        self, network: Any, observed: PartialObservation, column: int, rng: Rng
    ) -> Float64[Tensor, "n values"]:
        """Return the conditional probabilities of all values of a table column given the observed columns.

        Args:
            network: Network in eval mode.
            observed: Observed tokens of rows, on the network's device.
            column: Index of the column. Rows in which it is observed get probability 1 for its value.
            rng: Random streams for completions of rows, if the probabilities have no closed form.

        Raises:
            UsageError: If the family has no conditional probabilities, or the column has too many values.
        """
        raise UsageError(
            argument="recipe",
            expected="a model with conditional probabilities of columns",
            found=f"one that {self.describe()}",
            remedy="Fit with recipe table or table-marginals",
        )

    def export_output(self, prediction: State, x: State, t: State) -> State:
        """Convert a network's prediction at states x and times t to the output of the exported network."""
        return prediction

    def output_kind_of(self, leaf: str) -> str:
        """Return the kind of the exported output for one component (leaf) of the state.

        `leaf` is the name of the component, such as `lattice`; it is empty for a state with a single component.
        """
        return self.output_kind

    def sampling_steps(self, space: Space) -> list[str]:
        """Return instructions for sampling with the exported network, one text per step."""
        raise UsageError(self.why_no_export or f"this model generates no samples: it {self.describe()}")


def family_for(objective: Any) -> ModelFamily:
    """Return the model family of the networks that an objective trains.

    Raises:
        UsageError: If the objective's family is unknown.
    """
    families = {family.name: family for family in _kinds(ModelFamily) if hasattr(family, "name")}
    if objective.family not in families:
        raise UsageError(f"unknown model family {objective.family!r}; available: {', '.join(sorted(families))}")
    return families[objective.family].from_objective(objective)


def _kinds(base: type[ModelFamily]) -> Iterator[type[ModelFamily]]:
    for subclass in base.__subclasses__():
        yield subclass
        yield from _kinds(subclass)


OnProgress = Callable[[float], None]
"""Progress callback, called with the completed fraction."""


def iter_batches(rows: int | range, size: int, on_progress: OnProgress) -> Iterator[tuple[slice, OnProgress]]:
    """Yield, for each batch, the slice of its rows and a callback for the completed fraction of this batch.

    Args:
        rows: Number of rows, or range of their indices.
        size: Maximum number of rows per batch.
        on_progress: Callback for the completed fraction of all rows, which the callbacks of the batches call.
    """
    rows = range(rows) if isinstance(rows, int) else rows
    for start in range(rows.start, rows.stop, size):
        batch = slice(start, min(start + size, rows.stop))

        def report_batch(fraction: float, batch: slice = batch) -> None:
            on_progress((batch.start - rows.start + (batch.stop - batch.start) * fraction) / len(rows))

        yield batch, report_batch


def default_batch_size(space: Space, device: torch.device) -> int:
    """Return the default batch size for sampling on a device; on CPU the batch fits in the cache."""
    state_size = sum(math.prod(leaf.shape[1:]) for leaf in leaves(space.sample_base(0, Rng(0).stream("size"))))
    max_entries = 2**14 if device.type == "cpu" else 2**20
    return max(32, min(4096, max_entries // max(state_size, 1)))
