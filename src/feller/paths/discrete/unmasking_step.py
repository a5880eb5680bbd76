"""Steps that reveal the highest-ranked masked tokens, and processes whose samples are finished early."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from feller.core.pytree import Cond, State
from feller.core.rng import RandomStream
from feller.paths.discrete.rates import CHUNK_SIZE, Reals
from feller.paths.discrete.token_sampler import TokenSampler
from feller.paths.discrete.unmasking_count import UnmaskingCount
from feller.paths.discrete.unmasking_order import UnmaskingOrder
from feller.paths.path import Network, Places, Times
from feller.paths.processes import Characteristics, Jumps, Process
from feller.paths.schedules import Schedule

Index = tuple[Tensor, ...]
"""Indices of tokens, one tensor per axis of the state."""
_LOWEST = -1e300
"""Lowest score of a candidate, above that of other tokens, -inf."""


@dataclass(frozen=True, eq=False)
class UnmaskingStep:
    """Step from a state x_t, in which an order ranks the tokens, and a count says how many are revealed."""

    order: UnmaskingOrder
    count: UnmaskingCount
    token_sampler: TokenSampler
    prediction: Float[Tensor, "b *d K"]
    """Output of the network, which scores the tokens."""
    posterior_at: Callable[[Index], Tensor]
    """Function from indices of tokens to their logits of x_1, [m, K]."""
    x_t: Places
    t: Times

    def jumps(self, independent: Jumps) -> Jumps:
        """Return the jumps of the step, given the independent jumps of tokens, which determine the scheduled number."""
        if self.order.remasking_weight is None:
            return Jumps(independent.hazard, self._sample_destination, select=self._select)
        # revealed tokens may jump to the mask; `select` decides on it, so that any positive hazard will do
        is_masked = self._is_masked
        return Jumps(
            lambda s: independent.hazard(s).where(is_masked, 1.0), self._sample_destination, select=self._select
        )

    @property
    def _mask_token(self) -> int:
        return self.prediction.shape[-1]

    @property
    def _is_masked(self) -> Bool[Tensor, " b *d"]:
        return self.x_t == self._mask_token

    def _chunks(self, mask: Tensor) -> tuple[Tensor, ...]:
        """Return the indices of the tokens in a mask, [m, axes], in chunks."""
        return mask.nonzero().split(max(1, CHUNK_SIZE // self._mask_token))

    def _sample(self, mask: Tensor, rng: RandomStream) -> Tensor:
        """Sample x_1 of the tokens in a mask, [m]; a token's value does not depend on the other tokens in it."""
        u = rng.uniform(mask.shape, torch.float64, mask.device)
        chunks = [index.unbind(1) for index in self._chunks(mask)]
        return torch.cat([self.token_sampler(self.posterior_at(index), u[index]) for index in chunks])

    def _sample_destination(self, s: float, mask: Tensor, rng: RandomStream) -> Tensor:
        """Return x_1 for masked tokens, and the mask for revealed ones."""
        unmasks = mask & self._is_masked
        return self.x_t.masked_fill(mask, self._mask_token).masked_scatter(
            unmasks, self._sample(unmasks, rng).to(self.x_t.dtype)
        )[mask]

    def _scores(self, mask: Tensor, x_1: Tensor, noise: Tensor, logits: Tensor) -> Float64[Tensor, "b n"]:
        """Return the scores of the tokens in a mask; -inf for the others."""
        score = torch.full(mask.shape, -torch.inf, dtype=torch.float64, device=mask.device)
        scores = [self.order.score(logits[i], x_1[i], noise[i]) for i in (c.unbind(1) for c in self._chunks(mask))]
        score[mask] = torch.cat(scores).clamp(min=_LOWEST)
        return score.reshape(len(mask), -1)

    def _measures(self, mask: Tensor, x_1: Tensor) -> Float64[Tensor, "b n"]:
        measure = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        indices = [index.unbind(1) for index in self._chunks(mask)]
        measure[mask] = torch.cat([self.count.measure(self.posterior_at(i), x_1[i]) for i in indices])
        return measure.reshape(len(mask), -1)

    def _select(self, hazard: Tensor, s: float, rng: RandomStream) -> Tensor:
        """Return the mask of the tokens that change: those that are revealed or masked again."""
        can_jump = hazard > 0  # observed tokens have no hazard
        masked = can_jump & self._is_masked
        if not can_jump.any() or (self.order.remasking_weight is None and not masked.any()):
            return masked
        proposals = copy.copy(rng)
        x_1 = self.x_t.masked_scatter(masked, self._sample(masked, proposals).to(self.x_t.dtype))
        noise = proposals.uniform(hazard.shape, torch.float64, hazard.device)
        rounding = rng.fork().uniform((len(hazard),), torch.float64, hazard.device)
        logits = self.order.planner_logits(x_1, self.t)
        logits = self.prediction if logits is None else logits
        score, is_masked = self._scores(masked, x_1, noise, logits), masked.reshape(len(masked), -1)
        expected = -torch.expm1(-hazard.masked_fill(~masked, 0.0).double().reshape(len(hazard), -1)).sum(1)
        reveals = self.count.select(rank_of(score), self._measures(masked, x_1), is_masked, expected + rounding)
        if self.order.remasking_weight is None:
            return reveals.view(hazard.shape)
        revealed = can_jump & ~masked
        is_revealed = revealed.reshape(len(revealed), -1)
        own = self._scores(revealed, x_1, noise, logits).where(is_revealed, 0.0) * self.order.remasking_weight
        keeps = rank_of(score.where(~is_revealed, own)) < (reveals | is_revealed).sum(1, keepdim=True)
        return ((is_masked & keeps) | (is_revealed & ~keeps)).view(hazard.shape)


def rank_of(score: Float64[Tensor, "b n"]) -> Tensor:
    """Return the rank of each score in its row, 0 for the largest; ties in the order of positions."""
    return score.argsort(stable=True, dim=1, descending=True).argsort(1)


def early_finish(
    process: Callable[[Network, Cond], Process], network: Network, cond: Cond, schedule: Schedule
) -> Process:
    """Return a process for adaptive counts, without network calls once no token of the batch is masked.

    The network is called with the time at which the schedule reveals the fraction of tokens that are revealed, since
    the steps of adaptive counts are ahead of the time grid. Only the first call has the time of the grid.

    Args:
        process: Function from a network and conditions to their process.
        network: Network of the process.
        cond: Conditions.
        schedule: Schedule of the path, with alpha + sigma = 1.
    """
    mask_token: int | None = None  # known after the first call

    def timed_network(x_t: State, t: State, cond: Cond) -> State:
        nonlocal mask_token
        if mask_token is not None:
            t = _time_of(schedule, (x_t != mask_token).reshape(len(x_t), -1).to(t.dtype).mean(1))
        logits = network(x_t, t, cond)
        mask_token = logits.shape[-1]
        return logits

    inner = process(timed_network, cond)

    def finishing_process(x_t: State, t: State) -> State:
        if mask_token is not None and not (x_t == mask_token).any():
            return Characteristics()
        return inner(x_t, t)

    finishing_process.path = inner.path  # pyrefly: ignore[missing-attribute] - read by `check_schedule` of solvers
    return finishing_process


def _time_of(schedule: Schedule, alpha: Reals) -> Reals:
    """Return the times at which a convex schedule has the given alpha, [b]; slightly before the end for alpha = 1."""
    alpha = alpha.clamp(max=1 - 1e-6)
    return schedule.t_from_snr(alpha / (1 - alpha))
