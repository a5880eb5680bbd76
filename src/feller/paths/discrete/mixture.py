"""Mixture path: each token equals the data or still the source; also its time reversal."""

import functools
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import pad_right
from feller.core.rng import Draw, categorical
from feller.paths.discrete.correctors import BackAndForth
from feller.paths.discrete.rates import FewestJumps, Ids, KineticOptimal, Logits, LogLaws, Reals, Reversal
from feller.paths.discrete.step_rules import Ahead, Increment
from feller.paths.discrete.token_distribution import Posterior
from feller.paths.discrete.token_path import TokenPath
from feller.paths.discrete.unmasking_order import Order, ordered
from feller.paths.path import Places, Times, check_draw, check_times
from feller.paths.processes import Characteristics
from feller.paths.schedules import Linear, Scales, Schedule, TokenSchedule, check_convex, common_scales
from feller.spaces.space import Points
from feller.spaces.tokens import MaskSource, TokenSource


def step_probabilities(
    p: Float64[Tensor, " K"], now: Scales, later: Scales, x_1: Ids, x_t: Ids
) -> Float64[Tensor, "m K"]:
    """Return the distribution of x_s given x_t and x_1, for s > t: exact for a step of any length.

    By Bayes' rule it is proportional to p_s(y | x_1) q(x_t | y), where the noising chain from s to t keeps a token with
    probability alpha_t / alpha_s and else draws it from the source.

    Raises:
        ValueError: If the source lacks a symbol.
    """
    _check_mass(p)
    p = p.to(x_t.device)
    symbols = torch.arange(len(p), device=x_t.device)
    alpha, sigma = (torch.as_tensor(scale, dtype=p.dtype, device=x_t.device)[..., None] for scale in later[:2])
    keep = kept(now, later, p)[..., None]
    law = torch.where(x_1[:, None] == symbols, alpha + sigma * p, sigma * p)
    noised = (1 - keep) * p[x_t][:, None] + torch.where(x_t[:, None] == symbols, keep, 0.0)
    joint = law * noised
    return joint / joint.sum(1, keepdim=True)


def kept(now: Scales, later: Scales, like: Tensor) -> Tensor:
    """Return the probability alpha_t / alpha_s that the noising chain keeps a token; 1 where both are 0."""
    early, late = (torch.as_tensor(scales.alpha, dtype=like.dtype, device=like.device) for scales in (now, later))
    return (early / late).nan_to_num(nan=1.0).clamp(max=1)


def _check_mass(p: Float64[Tensor, " K"]) -> None:
    if (p == 0).any():
        raise ValueError(
            f"the time reversal needs a source with mass on every symbol, symbol {int((p == 0).nonzero()[0])} "
            "has none; use the rates of least energy"
        )


_SURE = 1e30
"""Logit of a symbol that leaves no doubt, and that single precision holds."""


@dataclass(frozen=True)
class Mixture(TokenPath):
    """Each token is the data with probability alpha_t, else still the source; alpha_t + sigma_t must be 1.

    The network answers with logits of x_1, [b, ..., K]. One token alone is exact at any step size: it has jumped to the
    data by s with probability 1 - sigma_s / sigma_t, whatever the step. Source: Gat et al. 2024, "Discrete Flow
    Matching", arXiv 2407.15595; with schedules that depend on the token, Shaul et al. 2024, arXiv 2412.03487.
    """

    has_reversal = True
    schedule: Schedule | TokenSchedule = field(default_factory=Linear)
    """One for all tokens, or one per symbol of the data."""
    source: TokenSource | None = None
    """The law at t = 0, independent of the data. None for any source and coupling, and jumps to the data alone."""
    order: Order | None = field(default=None, kw_only=True)
    """Which masked tokens are revealed first; None for a coin each."""

    @property
    def has_mask(self) -> bool:
        """Whether that is the source."""
        return isinstance(self.source, MaskSource)

    def __post_init__(self) -> None:
        if isinstance(self.schedule, Schedule):
            check_convex(self.schedule, "a mixture path")
        plain = self._direct and self.corrector is None and isinstance(self.answer, Posterior)
        if self.source is None and not plain:
            raise UsageError(
                "an answer, velocity, stepping or corrector of its own makes a mixture path ask for the law of its"
                " source",
                remedy="Pass `source`, such as UniformSource()",
            )
        if not self._direct and self.source is not None and not self.source.everywhere:
            who = self.corrector if isinstance(self.corrector, BackAndForth) else self.velocity
            who = who if isinstance(self.stepping, Increment | Ahead) else self.stepping
            raise UsageError(
                f"{type(who).__name__} needs a source with mass on every symbol, and this one has some without",
                remedy="Use the default velocity and stepping, and Odds or Resample",
            )
        if self._reversed and (
            isinstance(self.corrector, BackAndForth) or not isinstance(self.stepping, Increment | Ahead)
        ):
            raise UsageError(
                "Reversal() takes exact steps", remedy="Leave out `stepping`, and use Resample, Odds or no corrector"
            )
        if self.order is not None and not (isinstance(self.source, MaskSource) and self.certain):
            raise UsageError(
                "an order needs `source=MaskSource()`, one schedule for all symbols, the default stepping and no "
                "corrector: it says which masked tokens are revealed first"
            )

    @property
    def _direct(self) -> bool:
        """Whether all that jump go to the data: then the exact chance is known."""
        if isinstance(self.corrector, BackAndForth) or not isinstance(self.stepping, Increment | Ahead):
            return False
        return isinstance(self.velocity, KineticOptimal | FewestJumps) or isinstance(self.source, MaskSource)

    @property
    def _reversed(self) -> bool:
        """Whether the rates are those of the reversed noising chain; under a mask they are the kinetic optimum."""
        return isinstance(self.velocity, Reversal) and not isinstance(self.source, MaskSource)

    @property
    def certain(self) -> bool:
        """Whether a token that jumps goes to x_1 for sure, with one chance for all."""
        return self._direct and self.corrector is None and isinstance(self.schedule, Schedule)

    def scales(self, t: Tensor, x_1: Tensor) -> Scales:
        """Return the scales of data x_1, at times that broadcast against them."""
        return self.schedule(t, x_1) if isinstance(self.schedule, TokenSchedule) else self.schedule(t)

    def law(self, count: int) -> Float64[Tensor, " S"]:
        """Return the probabilities of the source.

        Raises:
            UsageError: If the path does not know them.
        """
        if self.source is None:
            raise UsageError("this mixture path does not know the law of its source", remedy="Pass `source` to it")
        return _probabilities(self.source, count)

    def log_probabilities(self, x_1: Ids, t: Reals, count: int | None = None) -> LogLaws:
        """Return log [sigma p(x) + alpha 1(x = x_1)]."""
        p, here, alpha, sigma, _, _ = self._parts(x_1, t, count)
        return torch.where(here, alpha + sigma * p, sigma * p).log()

    def slope(self, x_1: Ids, t: Reals, count: int | None = None) -> LogLaws:
        """Return sigma' / sigma, and at the data its own."""
        p, here, alpha, sigma, d_alpha, d_sigma = self._parts(x_1, t, count)
        return torch.where(here, (d_alpha + d_sigma * p) / (alpha + sigma * p), d_sigma / sigma)

    def _parts(self, x_1: Tensor, t: Tensor, count: int | None) -> tuple[Tensor, ...]:
        """Return p [S], where x_1 is [m, S], and the scales [m, 1]."""
        if count is None:
            raise UsageError("a mixture path does not know its alphabet", remedy="Pass `count`")
        p = self.law(count).to(t)
        scales = (torch.as_tensor(scale).to(t).expand(t.shape)[:, None] for scale in self.scales(t, x_1))
        return (p, x_1[:, None] == torch.arange(len(p), device=x_1.device), *scales)

    def corrupt(self, x_1: Ids, t: Reals, u: Float64[Tensor, " m"], count: int | None = None) -> Ids:
        """Return the data where u is below alpha, else what the rest of u draws from the source."""
        sigma = torch.as_tensor(self.scales(t, x_1).sigma).double()
        rest = (u - (1 - sigma)) / sigma
        p = self.law(count or 0).to(u.device)
        return torch.where(rest < 0, x_1, categorical(p, rest.nan_to_num(nan=0.0).clamp(0, 1 - 2**-53)))

    def sample(self, x_0: Places, x_1: Places, t: Times, draw: Draw | None = None) -> Places:
        """Flip one coin per token."""
        draw = check_draw(draw)
        check_times(t, x_1)
        alpha = torch.as_tensor(self.scales(pad_right(t, x_1), x_1).alpha)
        return torch.where(draw.uniform(x_1.shape, t.dtype, x_1.device) < alpha, x_1, x_0)

    def inform(self, logits: Logits, x_t: Ids, t: Reals) -> Logits:
        """Turn answers into logits of x_1 given the whole state: under a mask, what is revealed is the data."""
        logits = self.answer.inform(self, logits, x_t, t)
        if not isinstance(self.source, MaskSource):
            return logits
        count = logits.shape[1]
        here = x_t[:, None] == torch.arange(count, device=x_t.device)
        return torch.where(x_t[:, None] == count, logits, torch.where(here, 0.0, -_SURE))

    def weigh(self, logits: Logits, x_t: Ids, t: Reals) -> Logits:
        """Add log p_t(x_t | x_1): under one schedule one number at x_t, as all other x_1 have the same."""
        count = logits.shape[1]
        p = self.law(count).to(t)[x_t]
        if isinstance(self.schedule, TokenSchedule):
            scales = self.schedule(t[:, None], torch.arange(count, device=x_t.device))
            here = x_t[:, None] == torch.arange(count, device=x_t.device)
            sigma = torch.as_tensor(scales.sigma)
            likelihood = torch.where(here, (scales.alpha / p[:, None] + sigma), sigma).log()
            return logits + likelihood.clamp(-_SURE, _SURE).to(logits.dtype)
        if isinstance(self.source, MaskSource):
            return logits  # the mask says nothing, and all else is revealed
        scales = self.schedule(t)
        more = torch.log1p(torch.as_tensor(scales.alpha) / (torch.as_tensor(scales.sigma) * p))
        return logits.scatter_add(1, x_t[:, None], more.nan_to_num(nan=0.0, posinf=_SURE).to(logits.dtype)[:, None])

    def conditional_rates(self, x_1: Ids, x_t: Ids, t: Reals, count: int) -> LogLaws:
        """Return alpha' / sigma from x_t to the data, 0 to all else; what a mask has revealed stays."""
        if self._reversed:
            return self.reversal_rates(x_1, x_t, t, count)
        if not self._direct:
            return super().conditional_rates(x_1, x_t, t, count)
        scales = self.scales(t, x_1)
        rate = torch.as_tensor(scales.d_alpha) / torch.as_tensor(scales.sigma)
        moves = x_t == count if isinstance(self.source, MaskSource) else x_t != x_1
        size = count + isinstance(self.source, MaskSource)
        return torch.zeros(len(t), size, dtype=t.dtype, device=t.device).scatter(
            1, x_1[:, None], torch.where(moves, rate, 0.0)[:, None]
        )

    def rates(self, posterior: Logits, x_t: Ids, t: Reals) -> LogLaws:
        """Return the marginal rates u(y, x_t) of one token, minus their sum at x_t."""
        if self._reversed:
            outward = self.mean_reversal_rates(posterior, x_t, t)
            return outward.scatter_add(1, x_t[:, None], -outward.sum(1, keepdim=True))
        if not self._direct:
            return super().rates(posterior, x_t, t)
        count = posterior.shape[1]
        scales = self.scales(t[:, None], torch.arange(count, device=x_t.device))
        flow = torch.as_tensor(scales.d_alpha) / torch.as_tensor(scales.sigma) * posterior
        if isinstance(self.source, MaskSource):
            flow = torch.nn.functional.pad(torch.where(x_t[:, None] == count, flow, 0.0), (0, 1))
        return flow.scatter_add(1, x_t[:, None], -flow.sum(1, keepdim=True))

    def reversal_rates(self, x_1: Ids, x_t: Ids, t: Reals, count: int) -> LogLaws:
        """Return alpha' / alpha p_t(y) p(x_t) / p_t(x_t) given x_1: the rates of the noising chain run backwards.

        They have the same marginals, and bounds of the likelihood without a gap where the posterior is exact.

        Raises:
            ValueError: If the source lacks a symbol.
        """
        p, (alpha, sigma, d_alpha) = self._reversing(count, self.scales(t, x_1), x_t)
        here = x_1[:, None] == torch.arange(count, device=x_t.device)
        law = torch.where(here, alpha[..., None] + sigma[..., None] * p, sigma[..., None] * p)
        outward = d_alpha[..., None] / alpha[..., None] * law * p[x_t][:, None] / law.gather(1, x_t[:, None])
        return outward.scatter(1, x_t[:, None], 0.0)

    def mean_reversal_rates(self, posterior: Logits, x_t: Ids, t: Reals) -> Logits:
        """Return the mean of `reversal_rates` over the posterior, without an array of all pairs of symbols.

        Raises:
            ValueError: If the source lacks a symbol.
        """
        symbols = torch.arange(posterior.shape[1], device=x_t.device)
        p, (alpha, sigma, d_alpha) = self._reversing(len(symbols), self.scales(t[:, None], symbols), x_t)
        there, stays = p[x_t][:, None], x_t[:, None] == symbols
        share = posterior * d_alpha / alpha * there / torch.where(stays, alpha + sigma * there, sigma * there)
        outward = p * (share * sigma).sum(1, keepdim=True) + share * alpha
        return outward.scatter(1, x_t[:, None], 0.0)

    def _reversing(self, count: int, scales: Scales, like: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the law of the source, and alpha, sigma and the slope of alpha, in its precision."""
        p = self.law(count)
        _check_mass(p)
        return p.to(like.device), [torch.as_tensor(n, dtype=p.dtype, device=like.device) for n in scales[:3]]

    def most(self, x_t: Places, t: Times, s: float, count: int) -> Points:
        """Return the expected number of jumps, the largest of any symbol; what a mask has revealed stays."""
        if self._reversed:
            return self._most_reversed(x_t, t, s, count)
        if not self._direct:
            return super().most(x_t, t, s, count)
        if isinstance(self.schedule, Schedule):
            decay = pad_right(_decay(self.schedule, t, s), x_t)
        else:
            jumps = self._jumps(torch.arange(count, device=x_t.device), t.double()[:, None], s).expand(len(t), -1)
            decay = pad_right(jumps.amax(1), x_t)
        if isinstance(self.source, MaskSource):
            return torch.where(x_t == count, decay, 0.0)
        return decay.expand(x_t.shape)

    def _most_reversed(self, x_t: Tensor, t: Tensor, s: float, count: int) -> Tensor:
        """Return an upper bound over x_1 of -log P(x_s = x_t | x_t, x_1)."""
        if s >= 1:
            return torch.full(x_t.shape, torch.inf, dtype=torch.float64, device=x_t.device)
        p, symbols = self.law(count).to(x_t.device), torch.arange(count, device=x_t.device)
        t = t.double()[:, None]
        keep = kept(self.scales(t, symbols), self.scales(torch.full_like(t, s), symbols), p)
        keep = keep.expand(len(t), -1).amin(1)
        decay = self._jumps(symbols, t, s).expand(len(t), -1).amax(1)
        keep, decay = pad_right(keep, x_t), pad_right(decay, x_t)
        return decay - (keep + (1 - keep) * p[x_t]).log()

    def _jumps(self, x_1: Tensor, t: Tensor, s: float) -> Tensor:
        """Return the expected number of jumps of tokens whose data are x_1."""
        now = self.scales(t, x_1)
        later = self.scales(torch.full_like(t, s), x_1)
        decay = torch.as_tensor(now.sigma).log() - torch.as_tensor(later.sigma).log()
        return decay.nan_to_num(nan=0.0, posinf=torch.inf)

    def jump(self, x_1: Ids, x: Ids, t: Reals, s: float, count: int) -> tuple[Reals, LogLaws | None]:
        """Return the expected number of jumps, all of them to x_1; of reversed rates also to other symbols."""
        if self._reversed and s < 1:
            later = self.scales(torch.full_like(t, s), x_1)
            step = step_probabilities(self.law(count), self.scales(t, x_1), later, x_1, x)
            outward = step.scatter(1, x[:, None], 0.0)
            return -step.gather(1, x[:, None])[:, 0].log(), outward
        if not self._direct:
            return super().jump(x_1, x, t, s, count)
        return self._jumps(x_1, t, s), None

    def characteristics(self, prediction: Float[Tensor, "b *d K"], x_t: Places, t: Times) -> Characteristics:
        """Turn logits of x_1 into jumps to the data: no array of rates, a draw only for those that jump."""
        now = super().characteristics(prediction, x_t, t)
        if self.order is None or now.jumps is None:
            return now

        def informed(here: tuple[Tensor, ...]) -> Tensor:
            return self.inform(prediction[here], x_t[here], t[here[0]])

        return replace(now, jumps=ordered(now.jumps, self.order, informed, self.choice, prediction.shape[-1]))


def _decay(schedule: Schedule, t: Times, s: float) -> Tensor:
    """Return log(sigma_t / sigma_s), [b], or [1] where all times are one."""
    later = torch.as_tensor(schedule(t.new_full((1,), s)).sigma)
    now = torch.as_tensor(common_scales(schedule, t).sigma, dtype=t.dtype, device=t.device)
    return (now.log() - later.log()).nan_to_num(nan=0.0, posinf=torch.inf)  # nan: all is data


@functools.lru_cache(maxsize=8)
def _probabilities(source: TokenSource, count: int) -> Tensor:
    return source.probabilities(count)
