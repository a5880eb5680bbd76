"""Selection of the masked tokens that a sampling step reveals, by confidence or entropy of the prediction.

Source: Chang et al. 2022, "MaskGIT", arXiv 2202.04200. The number of revealed tokens follows the schedule. The choice
of these tokens depends on the sampled values, so samples do not follow the network's distribution.
"""

import abc
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.errors import check_number
from feller.core.rng import RandomStream
from feller.paths.discrete.rates import CHUNK_SIZE, Ids, Logits, Reals
from feller.paths.discrete.token_sampler import TokenSampler
from feller.paths.processes import Jumps


class UnmaskingOrder(abc.ABC):
    """Ranking of masked tokens; subclasses implement `score`."""

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

    def score(self, logits: Logits, x_1: Ids, u: Float64[Tensor, " m"]) -> Reals:
        gumbel = -(-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()
        if self.noise == torch.inf:
            return gumbel
        log_prob = logits.gather(1, x_1[:, None])[:, 0] - logits.logsumexp(1)
        return log_prob.double() + self.noise * gumbel


@dataclass(frozen=True)
class EntropyOrder(UnmaskingOrder):
    """Unmasking order by the entropy of the predicted distribution, lowest first."""

    def score(self, logits: Logits, x_1: Ids, u: Float64[Tensor, " m"]) -> Reals:
        log_p = logits.log_softmax(1)
        return torch.special.entr(log_p.exp()).sum(1).neg().double()


def in_unmasking_order(
    jumps: Jumps,
    order: UnmaskingOrder,
    logits_at: Callable[[tuple[Tensor, ...]], Tensor],
    token_sampler: TokenSampler,
    vocab_size: int,
) -> Jumps:
    """Return jumps that reveal the highest-ranked masked tokens, instead of independently chosen tokens.

    The number of revealed tokens of an example is the mean number of its independent jumps, rounded at random.

    Args:
        jumps: Independent jumps of tokens.
        order: Ranking of the tokens.
        logits_at: Function from indices of tokens to their logits, [m, K].
        token_sampler: Sampler of x_1 from the logits.
        vocab_size: Vocabulary size K.
    """

    def propose(mask: Tensor, rng: RandomStream) -> tuple[Tensor, Tensor]:
        """Return x_1 and the score of the tokens in a mask; both calls of this function use the same random numbers."""
        u, noise = (rng.uniform(mask.shape, torch.float64, mask.device)[mask] for _ in range(2))
        positions, x_1, scores = mask.nonzero(), [], []
        for chunk in torch.arange(len(positions), device=mask.device).split(max(1, CHUNK_SIZE // vocab_size)):
            logits = logits_at(positions[chunk].unbind(1))
            x_1.append(token_sampler(logits, u[chunk]))
            scores.append(order.score(logits, x_1[-1], noise[chunk]))
        return torch.cat(x_1), torch.cat(scores)

    def select(hazard: Tensor, s: float, rng: RandomStream) -> Tensor:
        is_masked = hazard > 0
        if not is_masked.any():
            return is_masked
        score = torch.full(hazard.shape, -torch.inf, dtype=torch.float64, device=hazard.device)
        score[is_masked] = propose(is_masked, copy.copy(rng))[1]
        rounding = rng.fork().uniform((len(hazard),), torch.float64, hazard.device)
        expected = -torch.expm1(-hazard.double().reshape(len(hazard), -1)).sum(1)
        num_selected = (expected + rounding).floor()
        rank = score.reshape(len(score), -1).argsort(stable=True, dim=1, descending=True).argsort(1)
        return (rank < num_selected[:, None]).view(hazard.shape) & is_masked

    def sample_destination(s: float, mask: Tensor, rng: RandomStream) -> Tensor:
        return propose(mask, rng)[0]

    return replace(jumps, sample_destination=sample_destination, select=select)
