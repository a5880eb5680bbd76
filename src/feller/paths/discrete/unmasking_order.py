"""Orders in which masked tokens are revealed: by confidence, margin or entropy of the network's prediction.

Source: Chang et al. 2022, "MaskGIT", arXiv 2202.04200. With one token per step, an order that ignores the sampled
values, such as entropy or margin, samples from the network's distribution; confidence prefers likely values.
"""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.errors import check_number
from feller.core.pytree import Cond
from feller.paths.discrete.rates import Ids, Logits, Reals
from feller.paths.path import Places, Times


class UnmaskingOrder(abc.ABC):
    """Ranking of masked tokens; subclasses implement `score`."""

    @property
    def is_token_score(self) -> bool:
        """True if the score is a log probability that the token is right, so that it also ranks revealed tokens."""
        return False

    @property
    def remasking_weight(self) -> float | None:
        """Weight of the scores of revealed tokens, which may be masked again; None if revealed tokens stay."""
        return None

    def bind(self, cond: Cond) -> "UnmaskingOrder":
        """Return the order for samples with the conditions `cond`, which the network of an order may need."""
        return self

    def planner_logits(self, x_1: Places, t: Times) -> Float[Tensor, "b *d K"] | None:
        """Return the logits that `score` reads, of the states x_1 with all masks filled; None for the denoiser's."""
        return None

    @abc.abstractmethod
    def score(self, logits: Logits, x_1: Ids, u: Float64[Tensor, " m"]) -> Reals:
        """Return a score per position, from its logits, sampled token x_1 and uniform number u.

        Tokens with the largest scores are revealed first.
        """


@dataclass(frozen=True)
class ConfidenceOrder(UnmaskingOrder):
    """Unmasking order by confidence: log p(x_1) of the sampled token plus Gumbel noise, largest first."""

    noise: float = 1.0
    """Scale of the Gumbel noise: 0 is deterministic, infinity gives a random order."""

    def __post_init__(self) -> None:
        check_number("noise", self.noise, ge=0)

    @property
    def is_token_score(self) -> bool:
        return True

    def score(self, logits: Logits, x_1: Ids, u: Float64[Tensor, " m"]) -> Reals:
        gumbel = -(-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()
        if self.noise == torch.inf:
            return gumbel
        return token_log_prob(logits, x_1) + self.noise * gumbel


@dataclass(frozen=True)
class EntropyOrder(UnmaskingOrder):
    """Unmasking order by the entropy of the predicted distribution, lowest first."""

    def score(self, logits: Logits, x_1: Ids, u: Float64[Tensor, " m"]) -> Reals:
        return entropy(logits).neg()


@dataclass(frozen=True)
class MarginOrder(UnmaskingOrder):
    """Unmasking order by the difference between the probabilities of the two most likely tokens, largest first.

    Source: Kim et al. 2025, "Train for the worst, plan for the best", arXiv 2502.06768.
    """

    def score(self, logits: Logits, x_1: Ids, u: Float64[Tensor, " m"]) -> Reals:
        p = logits.double().softmax(1)
        if p.shape[1] == 1:  # a vocabulary of one token leaves no choice
            return p[:, 0]
        first, second = p.topk(2, 1).values.unbind(1)
        return first - second


def token_log_prob(logits: Logits, x_1: Ids) -> Reals:
    """Return the log probability of the tokens x_1, in nats."""
    return (logits.gather(1, x_1[:, None])[:, 0] - logits.logsumexp(1)).double()


def entropy(logits: Logits) -> Reals:
    """Return the entropy of the predicted distributions, in nats."""
    return torch.special.entr(logits.log_softmax(1).exp()).sum(1).double()
