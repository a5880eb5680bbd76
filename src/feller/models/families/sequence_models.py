"""Model families that generate sequences without a time variable: text, documents and table rows."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.precision import autocast, check_precision, float32_matmul
from feller.core.pytree import State
from feller.core.rng import Rng
from feller.models.families.model_family import LogProb, LogProbRequest, ModelFamily, PartialObservation, SampleRequest
from feller.paths.discrete.token_sampler import TokenSampler
from feller.privacy.marginals.marginal_network import MarginalNetwork
from feller.sampling.autoregressive.decoding_goals import ContinuationGoal
from feller.sampling.autoregressive.document_decoding import SamplingSpec, generate
from feller.sampling.autoregressive.history_decoding import decode_histories
from feller.sampling.autoregressive.row_conditionals import NUM_COMPLETIONS, column_probs
from feller.sampling.autoregressive.row_decoding import decode_rows
from feller.sampling.autoregressive.token_decoding import decode, log_likelihood
from feller.spaces import Space
from feller.spaces.tokens import mask_until_end


class _SequentialModel(ModelFamily):
    """Base class of families that generate in a fixed order, without a solver."""

    unit_order: ClassVar[str]
    """Unit that is generated at a time, for messages."""
    has_mixed_precision: ClassVar[bool] = True
    """True if samples are computed by a neural network, for which the sampler's precision applies."""

    def describe(self) -> str:
        return f"generates {self.unit_order}, without a process in time"

    def check_request(self, request: SampleRequest) -> None:
        super().check_request(request)
        sampling = request.sampling
        has_time_options = sampling.unmasking_order or sampling.rates
        if has_time_options is not None or sampling.solver != "euler" or request.solver is not None:
            raise UsageError(
                f"this model generates {self.unit_order} in a fixed order, without a solver",
                remedy="Drop order, rates and solver",
            )

    def sample(self, network: Any, request: SampleRequest, rng: Rng) -> tuple[State, State]:
        precision = request.sampling.precision if self.has_mixed_precision else "fp32"
        device = next(network.parameters()).device
        check_precision(precision, device, option="precision")
        with autocast(precision, device), float32_matmul(precision, device):
            x = self._sample_states(network, request, rng)
        request.on_progress(1.0)
        return x, x

    @abc.abstractmethod
    def _sample_states(self, network: Any, request: SampleRequest, rng: Rng) -> State:
        """Return sampled states."""


class _NextTokenModel(_SequentialModel):
    """Base class of families with next-token logits at each position."""

    output_kind: ClassVar[str] = "logits"
    is_discrete: ClassVar[bool] = True

    def log_prob(self, network: Any, request: LogProbRequest, rng: Rng) -> LogProb:
        x_1 = request.x_1
        valid = None if request.eos_token_id is None else mask_until_end(x_1, request.eos_token_id)
        with torch.no_grad():
            value = log_likelihood(network, x_1, request.cond, valid)
        return LogProb(value, torch.zeros_like(value))

    def sampling_steps(self, space: Space) -> list[str]:
        return [
            "the answer at a place is logits of its symbol given those before it, whatever stands there and behind",
            "for each place from the first to the last: write there a draw from softmax(answer at that place)",
        ]


@dataclass(frozen=True)
class AutoregressiveModel(_NextTokenModel):
    """Autoregressive model: p(x) is the product of next-token probabilities."""

    name: ClassVar[str] = "autoregressive"
    unit_order: ClassVar[str] = "token after token"

    def _sample_states(self, network: Any, request: SampleRequest, rng: Rng) -> State:
        (length,) = request.space.sample_base(0, rng.stream("shape")).shape[1:]
        return decode(
            network,
            request.n,
            length,
            request.cond,
            rng,
            token_sampler=request.sampling.token_sampler,
            observed=None if request.observed is None else (request.observed.values, request.observed.mask),
            eos_token_id=request.eos_token_id,
            guidance_scale=cast(float, request.guidance),
        )


@dataclass(frozen=True)
class TableModel(_NextTokenModel):
    """Table model: p(row) is the product of conditional column probabilities."""

    name: ClassVar[str] = "rows"
    unit_order: ClassVar[str] = "column after column"
    has_row_likelihood: ClassVar[bool] = True
    any_order: bool = True
    """True if the network is trained on all column orders. Otherwise the network is trained on the table's order only,
    in which observed columns must come first."""

    @classmethod
    def from_objective(cls, objective: Any) -> "ModelFamily":
        return cls(objective.shuffle_prob > 0)

    @property
    def has_exact_infilling(self) -> bool:  # pyrefly: ignore[bad-override] - the training decides
        """True if infilling is exact, because observed columns can come first in the column order."""
        return self.any_order

    def _sample_states(self, network: Any, request: SampleRequest, rng: Rng) -> State:
        observed = request.observed
        return decode_rows(
            network,
            request.n,
            rng,
            token_sampler=request.sampling.token_sampler,
            observed=None if observed is None else (observed.values, observed.mask),
            any_order=self.any_order,
            num_candidates=0 if observed is None else observed.num_candidates,
            forbidden=None if observed is None else observed.forbidden,
            code_weights={} if observed is None else observed.code_weights,
            on_progress=request.on_progress,
        )

    def column_probs(
        self, network: Any, observed: PartialObservation, column: int, rng: Rng
    ) -> Float64[Tensor, "n values"]:
        return column_probs(
            network,
            observed.values,
            observed.mask,
            column,
            rng,
            any_order=self.any_order,
            num_candidates=observed.num_candidates or NUM_COMPLETIONS,
        )


@dataclass(frozen=True)
class HistoryModel(_SequentialModel):
    """Model of histories: p(attributes) times the probability of each row of a person given the rows before it."""

    name: ClassVar[str] = "histories"
    unit_order: ClassVar[str] = "row after row"
    is_discrete: ClassVar[bool] = True
    has_row_likelihood: ClassVar[bool] = True
    why_no_export: ClassVar[str] = "histories have variable length; sample with `feller sample`"

    def _sample_states(self, network: Any, request: SampleRequest, rng: Rng) -> State:
        observed = request.observed
        if observed is None:
            return decode_histories(network, request.n, rng, token_sampler=request.sampling.token_sampler)
        return decode_histories(
            network,
            request.n,
            rng,
            token_sampler=request.sampling.token_sampler,
            observed=(observed.values, observed.mask),
            num_candidates=observed.num_candidates or 1,
            forbidden=observed.forbidden,
            code_weights=observed.code_weights,
        )

    def log_prob(self, network: Any, request: LogProbRequest, rng: Rng) -> LogProb:
        x_1 = network.space.cropped(request.x_1)
        with torch.no_grad():
            value = network(x_1, torch.zeros(len(x_1), device=x_1.device), request.cond)
        return LogProb(value, torch.zeros_like(value))


@dataclass(frozen=True)
class GraphicalModel(_SequentialModel):
    """Graphical model: p(row) = exp(sum of potentials) / Z; the network holds the potentials."""

    name: ClassVar[str] = "graphical"
    unit_order: ClassVar[str] = "whole rows"
    is_discrete: ClassVar[bool] = True
    has_exact_infilling: ClassVar[bool] = True
    has_row_likelihood: ClassVar[bool] = True
    has_mixed_precision: ClassVar[bool] = False
    why_no_export: ClassVar[str] = "a graphical model has no neural network to export; sample with `feller sample`"

    def check_request(self, request: SampleRequest) -> None:
        super().check_request(request)
        if request.sampling.token_sampler != TokenSampler():
            raise UsageError("this model does not sample token by token", remedy="Drop temperature, top-k and top-p")
        if request.sampling.precision not in ("auto", "fp32"):
            raise UsageError("this model has no neural network", request.sampling.precision, "Drop precision")

    def _sample_states(self, network: MarginalNetwork, request: SampleRequest, rng: Rng) -> State:
        observed = request.observed
        if observed is None:
            return network.sample(request.n, rng)
        return network.sample(
            request.n, rng, (observed.values, observed.mask), observed.forbidden, observed.code_weights
        )

    def column_probs(
        self, network: MarginalNetwork, observed: PartialObservation, column: int, rng: Rng
    ) -> Float64[Tensor, "n values"]:
        return network.column_probs(observed.values, observed.mask, column)

    def log_prob(self, network: Any, request: LogProbRequest, rng: Rng) -> LogProb:
        value = network(request.x_1, torch.zeros(len(request.x_1), device=request.x_1.device), request.cond)
        return LogProb(value, torch.zeros_like(value))


@dataclass(frozen=True)
class DocumentModel(_SequentialModel):
    """Document model: p(tokens) is the product of next-token probabilities within a document.

    Text, images and infilled spans form a single sequence, see `sampling.autoregressive.masked_spans`.
    """

    name: ClassVar[str] = "documents"
    unit_order: ClassVar[str] = "token after token"
    output_kind: ClassVar[str] = "logits"
    why_no_export: ClassVar[str] = (
        "this network takes documents of variable length with custom attention masks; sample with `feller sample`"
    )

    def _sample_states(self, network: Any, request: SampleRequest, rng: Rng) -> State:
        vocabulary, n = network.vocabulary, request.n
        start = torch.tensor([vocabulary.eos])
        specs = (SamplingSpec(token_sampler=request.sampling.token_sampler),)
        samples = generate(network, [[start] * n], ContinuationGoal(network.context - 1), rng, specs=specs)
        x = torch.full((n, network.context), vocabulary.pad)
        for row, tokens in zip(x, samples, strict=True):
            row[: len(tokens) + 1] = torch.cat([start, tokens.cpu()])
        return x
