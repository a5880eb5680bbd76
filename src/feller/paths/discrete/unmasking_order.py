"""Which masked tokens are revealed first.

Source: Chang et al. 2022, "MaskGIT", arXiv 2202.04200. The number of tokens follows the schedule; which ones are chosen
is no longer independent of what they are, so that the law of a sample is not that of the network.
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
    """Ranks tokens. Implement one method to add one."""

    @abc.abstractmethod
    def score(self, logits: Logits, x_1: Ids, u: Float64[Tensor, " m"]) -> Reals:
        """Return a number for each token with logits, its drawn symbol, and a uniform number; large goes first."""


@dataclass(frozen=True)
class ConfidenceOrder(UnmaskingOrder):
    """The likeliest drawn symbols first: log p(x_1), and Gumbel noise so that it is not always the same ones."""

    noise: float = 1.0
    """Size of the noise; 0 takes the likeliest for sure, infinity takes any."""

    def __post_init__(self) -> None:
        check_number("noise", self.noise, ge=0)

    def score(self, logits: Logits, x_1: Ids, u: Float64[Tensor, " m"]) -> Reals:
        """Return log p(x_1) + noise times a Gumbel number."""
        gumbel = -(-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()
        if self.noise == torch.inf:
            return gumbel
        likely = logits.gather(1, x_1[:, None])[:, 0] - logits.logsumexp(1)
        return likely.double() + self.noise * gumbel


@dataclass(frozen=True)
class EntropyOrder(UnmaskingOrder):
    """The tokens about which the network is surest first: those whose law has the lowest entropy."""

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
    """Return jumps that happen to those tokens that an order puts first, as many as coins would choose on average.

    Args:
        jumps: Of tokens, each by its own coin.
        order: Ranks them.
        logits_at: Indices of tokens -> their logits, [m, K].
        token_sampler: Draws x_1 from these.
        vocab_size: K.
    """

    def propose(mask: Tensor, rng: RandomStream) -> tuple[Tensor, Tensor]:
        """Return x_1 and the score of the marked tokens; their numbers are addressed by place, so twice the same."""
        u, noise = (rng.uniform(mask.shape, torch.float64, mask.device)[mask] for _ in range(2))
        places, x_1, scores = mask.nonzero(), [], []
        for part in torch.arange(len(places), device=mask.device).split(max(1, CHUNK_SIZE // vocab_size)):
            logits = logits_at(places[part].unbind(1))
            x_1.append(token_sampler(logits, u[part]))
            scores.append(order.score(logits, x_1[-1], noise[part]))
        return torch.cat(x_1), torch.cat(scores)

    def select(hazard: Tensor, s: float, rng: RandomStream) -> Tensor:
        open_ = hazard > 0
        if not open_.any():
            return open_
        score = torch.full(hazard.shape, -torch.inf, dtype=torch.float64, device=hazard.device)
        score[open_] = propose(open_, copy.copy(rng))[1]
        rounding = rng.fork().uniform((len(hazard),), torch.float64, hazard.device)
        expected = -torch.expm1(-hazard.double().reshape(len(hazard), -1)).sum(1)
        num_selected = (expected + rounding).floor()
        rank = score.reshape(len(score), -1).argsort(stable=True, dim=1, descending=True).argsort(1)
        return (rank < num_selected[:, None]).view(hazard.shape) & open_

    def sample_destination(s: float, mask: Tensor, rng: RandomStream) -> Tensor:
        return propose(mask, rng)[0]

    return replace(jumps, sample_destination=sample_destination, select=select)
