"""Interface of model families, and what is asked of them."""

import abc
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond, State, leaves, tree_map
from feller.core.rng import Rng
from feller.data.modality import Target
from feller.models.families.elbo import ELBO
from feller.paths import Path
from feller.sampling import Divergence, Solver
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Space


class DivergedError(InputError):
    """Samples became infinite."""


CodeWeights = Callable[[Int64[Tensor, " m"]], Float[Tensor, " m"]]
"""Codes of a column -> how much each counts."""


@dataclass(frozen=True, eq=False)
class PartialObservation:
    """Entries of samples that are given, and kept."""

    values: Shaped[Tensor, " n *d"]
    """A state; entries that are to be drawn mean nothing."""
    mask: Bool[Tensor, " n *d"]
    """True is kept."""
    num_candidates: int = 0
    """Of rows whose columns have one order: weigh so many ways of filling each, instead of drawing until it fits."""
    forbidden: Int64[Tensor, " places"] | None = None
    """Of rows: a token of each place that is not drawn where another may stand; -1 for none."""
    code_weights: Mapping[int, CodeWeights] = field(default_factory=dict)
    """Of rows: columns in which each code counts that many times as much as the model says, from 0 to 1."""

    def subset(self, rows: slice, device: torch.device) -> "PartialObservation":
        """Return what is given of some samples, on a device."""
        return replace(self, values=self.values[rows].to(device), mask=self.mask[rows].to(device))


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleRequest:
    """Samples that a family is asked for; tensors have one entry for each."""

    n: int
    space: Space
    sampling: SamplerConfig
    cond: Cond = field(default_factory=dict)
    """Conditions."""
    observed: PartialObservation | None = None
    clamped: dict[str, State] = field(default_factory=dict)
    """Leaves of the state that are given; the others are drawn beside them."""
    solver: Solver | None = None
    """In place of the named one, with its number of calls."""
    guidance: float = 1.0
    """1 is the plain conditional, 0 the unconditional."""
    droppable: tuple[str, ...] = ()
    """Conditions that the unconditional lacks."""
    eos_token_id: int | None = None
    """Symbol with which a text ends; not drawn before one that is kept."""
    on_step: Callable[[float, State], None] = lambda t, x: None
    """Hears time and states of a batch after each step of a process in time; other families have none."""
    on_progress: Callable[[float], None] = lambda share: None
    """Hears which share is done."""

    def subset(self, rows: slice, device: torch.device, on_progress: Callable[[float], None]) -> "SampleRequest":
        """Return the request for some of the samples, on a device."""

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
    """States whose log probability is asked for, and how it is found."""

    x_1: State
    cond: Cond
    """Conditions, one entry for each state; `valid` marks the entries that count."""
    space: Space
    eos_token_id: int | None = None
    """Symbol with which a text ends; what follows its first does not count."""
    sampling: SamplerConfig | None = None
    """Of flows: solver and calls of the way back to the source; by default an adaptive one at 1e-6."""
    divergence: Divergence | None = None
    """Of flows: by default exact up to 32 degrees of freedom, and estimated with one probe beyond."""
    elbo: ELBO | None = None
    """Of token paths: rates that are compared; by default those with the tightest bound."""
    times: int = 128
    """Of token paths: network calls for each state."""


class LogProb(NamedTuple):
    """Log probabilities in nats, or bounds on them from below."""

    value: Float[Tensor, " b"]
    """Exact for autoregressive and graphical models, a density for flows, a bound for token paths."""
    std_err: Float[Tensor, " b"]
    """Standard error of an estimate of a bound; 0 where the value is exact."""


class ModelFamily(abc.ABC):
    """What a trained network means: how samples and log probabilities follow from it.

    To add one, subclass this as a frozen dataclass, give it a `name`, let an objective name it as its `family`, and
    implement what the network can do: everything else is refused with an error that says so.
    """

    name: ClassVar[str]
    """By which objectives and tables of the application look it up; unique."""
    is_process: ClassVar[bool] = False
    """Whether samples form over time, in steps of a solver."""
    has_row_likelihood: ClassVar[bool] = False
    """Whether the exact probability of a row is one call of the network, so that cells can be guessed by it."""
    output_kind: ClassVar[str] = "prediction"
    """What the network answers with, for whoever has an exported file: prediction, logits, estimates or velocity."""
    has_bounds_only: ClassVar[bool] = False
    """Whether its log probabilities are bounds."""
    is_discrete: ClassVar[bool] = False
    """Whether samples are symbols one by one, so that gaps in them can be filled in, and their code length be told."""
    has_exact_infilling: ClassVar[bool] = False
    """Whether gaps are filled in exactly, wherever they are."""
    why_no_samples: ClassVar[str] = ""
    """Why it draws no data, and what to do with it, for people; empty where it draws."""
    why_no_export: ClassVar[str] = ""
    """Why the network is no function of state, time and conditions, for people; empty where it is one."""

    @classmethod
    def from_objective(cls, objective: Any) -> "ModelFamily":
        """Return what an objective trains; a family with fields reads them off the objective."""
        return cls()

    @abc.abstractmethod
    def describe(self) -> str:
        """Say in a few words what the network does, as the end of "this network ..."."""

    @property
    def prediction_target(self) -> Target | None:
        """What it tells of data, of a regressor or classifier."""
        return None

    def require_path(self) -> Path:
        """Return the path that the network drives.

        Raises:
            UsageError: If there is none.
        """
        raise UsageError(f"this model has no path in time: it {self.describe()}", remedy="Use one that flows or jumps")

    def check_flow(self) -> None:
        """Refuse a process that is more than a velocity."""
        raise UsageError(f"this model has no velocity: {self.why_no_samples or f'it {self.describe()}'}")

    def check_request(self, request: SampleRequest) -> None:
        """Refuse a request that the family does not know, before any work."""
        if self.why_no_samples:
            raise UsageError(self.why_no_samples)
        if request.observed is not None and not self.is_discrete:
            raise UsageError("only symbols can be filled in so far, and this model's data are numbers")
        if request.observed is not None and request.observed.code_weights and not self.has_row_likelihood:
            raise UsageError(
                argument="given",
                expected="one cell of a column",
                found="several",
                remedy="Fit with recipe table or table-marginals, which take ranges and lists",
            )

    def sample(self, network: Any, request: SampleRequest, rng: Rng) -> tuple[State, State]:
        """Return source and end of each sample; where there is no source, the ends twice.

        Args:
            network: In eval mode.
            request: Samples of one batch, on the network's device; `check_request` has seen it.
            rng: Source of all randomness; its `first_example` is the number of the first sample.

        Raises:
            UsageError: If the family draws none, or values that are known are none of the data.
            InputError: If samples become infinite.
        """
        raise UsageError(self.why_no_samples or f"this model draws nothing: it {self.describe()}")

    def log_prob(self, network: Any, request: LogProbRequest, rng: Rng) -> LogProb:
        """Return log probabilities of states, of flows those of their densities.

        Args:
            network: In eval mode.
            request: States of one batch, on the network's device.
            rng: Source of probes, times and noise.

        Raises:
            UsageError: If the family has none.
        """
        raise UsageError(f"this model has no log probabilities: it {self.describe()}")

    def export_output(self, prediction: State, x: State, t: State) -> State:
        """Return what an exported network answers with for a prediction at states x and times t."""
        return prediction

    def output_kind_of(self, leaf: str) -> str:
        """Say what an exported network answers with for a leaf of the state, such as `lattice`; empty for the whole."""
        return self.output_kind

    def sampling_steps(self, space: Space) -> list[str]:
        """Say, for people, how a sample is drawn with the exported network."""
        raise UsageError(self.why_no_export or f"this model draws nothing: it {self.describe()}")


def family_for(objective: Any) -> ModelFamily:
    """Return what a network means that an objective trains.

    Raises:
        UsageError: If no family has the name that the objective gives.
    """
    kinds = {kind.name: kind for kind in _kinds(ModelFamily) if hasattr(kind, "name")}
    if objective.family not in kinds:
        raise UsageError(f"no family of models is called {objective.family!r}: there are {', '.join(sorted(kinds))}")
    return kinds[objective.family].from_objective(objective)


def _kinds(base: type[ModelFamily]) -> Iterator[type[ModelFamily]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


OnProgress = Callable[[float], None]
"""Hears which share is done."""


def iter_batches(rows: int | range, size: int, on_progress: OnProgress) -> Iterator[tuple[slice, OnProgress]]:
    """Yield the rows of one batch after the other, and who hears which share of that batch is done."""
    rows = range(rows) if isinstance(rows, int) else rows
    for start in range(rows.start, rows.stop, size):
        some = slice(start, min(start + size, rows.stop))

        def report_batch(done: float, some: slice = some) -> None:
            on_progress((some.start - rows.start + (some.stop - some.start) * done) / len(rows))

        yield some, report_batch


def default_batch_size(space: Space, device: torch.device) -> int:
    """Return how many states go through the network together: few enough for a processor's caches."""
    numbers = sum(math.prod(leaf.shape[1:]) for leaf in leaves(space.sample_base(0, Rng(0).stream("size"))))
    room = 2**14 if device.type == "cpu" else 2**20
    return max(32, min(4096, room // max(numbers, 1)))
