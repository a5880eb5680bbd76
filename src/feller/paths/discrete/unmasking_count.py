"""Numbers of masked tokens that a sampling step reveals: by the schedule, by confidence or by entropy."""

import abc
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from feller.core.errors import check_number
from feller.paths.discrete.rates import Ids, Logits, Reals
from feller.paths.discrete.unmasking_order import (
    ConfidenceOrder,
    EntropyOrder,
    UnmaskingOrder,
    entropy,
    token_log_prob,
)


class UnmaskingCount(abc.ABC):
    """Rule for how many masked tokens a step reveals; subclasses implement `measure` and `select`."""

    @property
    def is_adaptive(self) -> bool:
        """True if the number depends on the prediction instead of the schedule, so that samples may end early."""
        return True

    @property
    def default_order(self) -> UnmaskingOrder:
        """Order of the tokens for a path without an unmasking order."""
        return ConfidenceOrder(0.0)

    @abc.abstractmethod
    def measure(self, logits: Logits, x_1: Ids) -> Reals:
        """Return the number per position that `select` reads, from the logits and the sampled token x_1."""

    @abc.abstractmethod
    def select(
        self,
        rank: Int64[Tensor, "b n"],
        measure: Float64[Tensor, "b n"],
        is_masked: Bool[Tensor, "b n"],
        target_count: Float64[Tensor, " b"],
    ) -> Bool[Tensor, "b n"]:
        """Return the mask of the tokens to reveal.

        Args:
            rank: Rank of each token in the unmasking order, 0 for the first; tokens that are not masked come last.
            measure: Result of `measure`; 0 for tokens that are not masked.
            is_masked: True for masked tokens.
            target_count: Number by the schedule, before it is rounded down.
        """


@dataclass(frozen=True)
class ScheduledCount(UnmaskingCount):
    """Number of the schedule: the mean number of tokens that independent jumps would reveal, rounded at random."""

    @property
    def is_adaptive(self) -> bool:
        return False

    def measure(self, logits: Logits, x_1: Ids) -> Reals:
        return torch.zeros(len(x_1), dtype=torch.float64, device=x_1.device)

    def select(
        self,
        rank: Int64[Tensor, "b n"],
        measure: Float64[Tensor, "b n"],
        is_masked: Bool[Tensor, "b n"],
        target_count: Float64[Tensor, " b"],
    ) -> Bool[Tensor, "b n"]:
        return (rank < target_count.floor()[:, None]) & is_masked


@dataclass(frozen=True)
class ConfidenceThreshold(UnmaskingCount):
    """All masked tokens whose sampled value has at least the probability p, and always the first of the order.

    Source: Wu et al. 2025, "Fast-dLLM", arXiv 2505.22618.
    """

    p: float
    """Probability: 0 reveals all tokens at once, 1 one token per step and those of which the network is certain."""

    def __post_init__(self) -> None:
        check_number("p", self.p, ge=0, le=1)

    def measure(self, logits: Logits, x_1: Ids) -> Reals:
        return token_log_prob(logits, x_1)

    def select(
        self,
        rank: Int64[Tensor, "b n"],
        measure: Float64[Tensor, "b n"],
        is_masked: Bool[Tensor, "b n"],
        target_count: Float64[Tensor, " b"],
    ) -> Bool[Tensor, "b n"]:
        log_p = math.log(self.p) if self.p else -math.inf
        return ((measure >= log_p) | (rank == 0)) & is_masked


@dataclass(frozen=True)
class EntropyBound(UnmaskingCount):
    """Longest beginning of the order whose entropies, summed without the largest, are at most gamma; at least one.

    Entropies bound the error of sampling these tokens independently of each other. Source: Ben-Hamu et al. 2025,
    "Accelerated sampling from masked diffusion models via entropy bounded unmasking", arXiv 2505.24857.
    """

    gamma: float
    """Bound in nats: 0 reveals one token per step and those without entropy, infinity all tokens at once."""

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, ge=0)

    @property
    def default_order(self) -> UnmaskingOrder:
        return EntropyOrder()

    def measure(self, logits: Logits, x_1: Ids) -> Reals:
        return entropy(logits)

    def select(
        self,
        rank: Int64[Tensor, "b n"],
        measure: Float64[Tensor, "b n"],
        is_masked: Bool[Tensor, "b n"],
        target_count: Float64[Tensor, " b"],
    ) -> Bool[Tensor, "b n"]:
        in_order = torch.zeros_like(measure).scatter(1, rank, measure)
        excess = in_order.cumsum(1) - in_order.cummax(1).values
        is_first = rank == 0  # alone, a token has no excess but rounding
        return (is_first | (excess.gather(1, rank) <= self.gamma)) & is_masked
