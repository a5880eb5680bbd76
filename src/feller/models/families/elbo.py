"""Bounds on the log probability of tokens, from the rates of a path and those that a network predicts.

A bound belongs to its path and its rates: with a perfect network it is tight for a mask source, and 0.5 nats too high
for a uniform one under the rates of least energy. So bounds of two paths say nothing about which is better. With an
imperfect network the chains along two kinds of rates differ too: the bound of one is no bound for samples of the other.
Source: Shaul et al. 2024, "Flow matching with general discrete paths", arXiv 2412.03487.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn import functional

from feller.core.errors import UsageError
from feller.core.pytree import append_dims
from feller.core.rng import Rng
from feller.paths import KineticOptimalRates, Mixture, Network, Reversal, TokenPath
from feller.paths.path import Cond
from feller.paths.schedules import Schedule, TokenSchedule
from feller.spaces import MaskSource, Space, Tokens
from feller.training.losses import GeneralisedKL

EDGE = 1e-4
"""Share of the data, or of the time, that is left to the last step, as rates are infinite at the end."""
EARLIEST = 1e-12
"""Least alpha, so that rates are finite; what is left out is no more than that."""
AT_ONCE = 2**22
"""Rates in one array."""


class Bound(abc.ABC):
    """Which rates are compared. Implement one method to add one."""

    @abc.abstractmethod
    def rows(
        self,
        path: TokenPath,
        logits: Float[Tensor, "m K"],
        x_1: Int[Tensor, " m"],
        x_t: Int[Tensor, " m"],
        t: Float[Tensor, " m"],
    ) -> Float[Tensor, " m"]:
        """Return the divergence per time of the conditional rates from the predicted ones, for each token."""


@dataclass(frozen=True)
class OwnRates(Bound):
    """The rates along which the path samples, without its corrector, order and choice."""

    def rows(self, path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Take the closed form of mixtures; else compare arrays of rates, which small alphabets afford."""
        if isinstance(path, Mixture) and isinstance(path.velocity, KineticOptimalRates):
            return GeneralisedKL(path.schedule).entries(path.posterior_logits(logits, x_t, t), x_1, x_t, t)
        count = logits.shape[-1]
        posterior = path.posterior_logits(logits, x_t, t).softmax(-1)
        return _divergence(path.conditional_rates(x_1, x_t, t, count), path.rates(posterior, x_t, t))


@dataclass(frozen=True)
class TimeReversal(Bound):
    """The rates of the noising chain run backwards, for mixtures whose source gives every symbol mass.

    With a perfect network, and one schedule for all symbols, this bound is tight, so that such sources can be compared
    with the mask. It is a bound for the chain along these rates, which a path samples with `velocity=Reversal()`.
    """

    def rows(self, path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Sum the rates over the posterior in closed form, without an array of all pairs of symbols."""
        if not isinstance(path, Mixture):
            raise UsageError("time reversal is known for mixtures", found=type(path).__name__, remedy="Use OwnRates()")
        count = logits.shape[-1]
        truth = path.reversal_rates(x_1, x_t, t, count)
        posterior = path.posterior_logits(logits, x_t, t).softmax(-1)
        return _divergence(truth, path.mean_reversal_rates(posterior, x_t, t))


def _divergence(truth: Float[Tensor, "m K"], model: Float[Tensor, "m K"]) -> Float[Tensor, " m"]:
    """Return the generalised KL of rates; those that stay count nothing."""
    truth, model = truth.clamp(min=0), model.clamp(min=0)
    return (torch.xlogy(truth, truth) - torch.xlogy(truth, model) - truth + model).sum(-1)


def tightest(path: TokenPath) -> Bound:
    """Return the bound that is tight for an exact posterior, where there is one: often not of the rates that sample."""
    noisy = isinstance(path, Mixture) and path.source is not None and path.source.has_full_support
    return TimeReversal() if noisy else OwnRates()


def rates_of(path: TokenPath) -> Bound:
    """Return the bound of the chain that samples along a path: the tight one where they are the same."""
    return tightest(path) if isinstance(path.velocity, Reversal) else OwnRates()


class BoundEstimate(NamedTuple):
    """An estimate of a bound, and of its error."""

    nats: Float64[Tensor, " b"]
    """Upper bound on -log p(x_1)."""
    std_err: Float64[Tensor, " b"]
    """Standard error from the draws of times and noise; nan for a single draw."""


@torch.no_grad()
def estimate_bound(
    path: TokenPath,
    space: Space,
    network: Network,
    x_1: Int[Tensor, " b *d"],
    given: Cond,
    draws: Rng,
    *,
    kind: Bound,
    times: int = 32,
) -> BoundEstimate:
    """Estimate an upper bound on -log p(x_1), in nats, summed over the valid tokens, and its standard error.

    It is a bound for the chain along the rates that `kind` names, in continuous time, started from the source: the
    chain that samples along the path only if these are its rates, without corrector, order or choice of its own.

    Times are stratified, with two independent draws in each stratum, from which the standard error follows. For a mask
    under one schedule the number of masked tokens is stratified instead, and the estimate is unbiased. Otherwise one
    step at alpha = 1 - 1e-4 (at t = 1 - 1e-4 if the path is no mixture) draws the data from the posterior; that it may
    miss them counts.

    Args:
        path: What the network was trained on.
        space: Whose reference is the source.
        network: Answers with logits.
        x_1: Data.
        given: Conditions; `valid` says which tokens count.
        draws: Source of times, noise and source states.
        kind: Which rates are compared.
        times: Network calls for the integral over time, rounded up to an even number unless 1; the last step takes two
            more.

    Raises:
        UsageError: If the path has no such rates.
    """
    terms = _Terms(path, space, network, x_1, given, kind)
    parts, each, strata = [], 2 if times > 1 else 1, -(-times // 2)
    for i in range(strata):
        parts.append([terms.at((i, strata), draws.fold_in("time", i, j)) / strata for j in range(each)])
    if not terms.hides:
        parts.append([terms.last(draws.fold_in("last", j)) for j in range(each)])
    found = torch.stack([torch.stack(part) for part in parts])  # [strata, 1 or 2, b]
    spread = found.var(1) / 2 if each == 2 else found.new_full(found[:, 0].shape, torch.nan)
    return BoundEstimate(found.mean(1).sum(0), spread.sum(0).sqrt())


@dataclass(frozen=True)
class _Terms:
    """Terms of the bound of some examples, whose means over strata add up to it."""

    path: TokenPath
    space: Space
    network: Network
    x_1: Tensor
    given: Cond
    kind: Bound

    @property
    def hides(self) -> bool:
        """Whether a token is its data or the mask, so that times can be drawn after the number of masked tokens."""
        path = self.path
        if not isinstance(path, Mixture) or not isinstance(path.schedule, Schedule):
            return False
        return isinstance(path.source, MaskSource) and isinstance(self.kind, OwnRates)

    @property
    def counted(self) -> Tensor:
        """Which tokens count, in the shape of the data."""
        valid = self.given.get("valid")
        return torch.ones_like(self.x_1, dtype=torch.bool) if valid is None else append_dims(valid, self.x_1)

    def at(self, stratum: tuple[int, int], draws: Rng) -> Float64[Tensor, " b"]:
        """Return one draw in one of some strata of times."""
        i, strata = stratum
        u = (i + draws.stream("time").uniform((len(self.x_1),), torch.float64, self.x_1.device)) / strata
        if self.hides:
            return self._hidden(u, draws)
        t, weight = _time(self.path, self.space, u)
        return weight * self._total(t, self.kind.rows, draws)

    def last(self, draws: Rng) -> Float64[Tensor, " b"]:
        """Return -log of the probability that the last step draws the data."""
        t, _ = _time(self.path, self.space, torch.ones(len(self.x_1), dtype=torch.float64, device=self.x_1.device))
        return self._total(t, _drawn, draws)

    def _total(self, t: Tensor, rows: Callable[..., Tensor], draws: Rng) -> Tensor:
        source = self.space.sample_base(len(self.x_1), draws.stream("source"), self.x_1.device)
        x_t = self.path.sample(source, self.x_1, t, draws.stream("path"))
        each = _tokens(self.path, self.network(x_t, t.float(), self.given), self.x_1, x_t, t, rows)
        return torch.where(self.counted, each, 0.0).flatten(1).sum(1)

    def _hidden(self, u: Tensor, draws: Rng) -> Tensor:
        """Draw how many of n counted tokens are masked, k, then which, then alpha; return n / k times their loss.

        Integrated over time, each k from 1 to n has the weight of n / k times its mean loss, and given k alpha is the
        (n - k + 1)-th of n sorted uniform numbers, whichever the schedule.
        """
        path, x_1, counted = self.path, self.x_1, self.counted
        n = counted.flatten(1).sum(1)
        k = (1 + (u * n).floor().long()).minimum(n).clamp(min=1)
        marks = draws.stream("path").uniform(x_1.shape, torch.float64, x_1.device)
        ranked = marks.masked_fill(~counted, torch.inf).flatten(1).sort(1).values
        alpha = ranked.gather(1, (n - k).clamp(min=0)[:, None])[:, 0].clamp(EARLIEST, 1 - EARLIEST)
        masked = marks >= append_dims(alpha, x_1)
        t = cast(Schedule, cast(Mixture, path).schedule).t_from_snr(alpha / (1 - alpha))
        source = self.space.sample_base(len(x_1), draws.stream("source"), x_1.device)
        x_t = torch.where(masked, source, x_1)
        each = _tokens(path, self.network(x_t, t.float(), self.given), x_1, x_t, t, _drawn)
        return n / k * torch.where(masked & counted, each, 0.0).flatten(1).sum(1)


def _time(path: TokenPath, space: Space, u: Float64[Tensor, " b"]) -> tuple[Tensor, Tensor]:
    """Return times for uniform numbers, and their inverse density: dense where rates are infinite.

    For mixtures 1 - alpha is (1 - c u)^4 whatever the schedule; alpha is the mean over symbols if each has one. Near
    the end a token differs from its data with a probability of 1 - alpha and then costs 1 / (1 - alpha): uniform times
    would have an infinite variance, these have a finite fourth moment. Otherwise t is u^2 (3 - 2 u), less the end.
    """
    if not isinstance(path, Mixture):
        return (1 - EDGE) * (u**2 * (3 - 2 * u)).clamp(min=EARLIEST), (1 - EDGE) * 6 * u * (1 - u)
    c = 1 - EDGE**0.25
    sigma = (1 - c * u).pow(4).clamp(max=1 - EARLIEST)
    if isinstance(path.schedule, Schedule):
        t = path.schedule.t_from_snr((1 - sigma) / sigma)
        slope = torch.as_tensor(path.schedule(t).d_alpha).to(t)
    else:
        t, slope = _mean_clock(path.schedule, cast(Tokens, space).vocab_size, sigma)
    return t, 4 * c * (1 - c * u) ** 3 / slope


def _mean_clock(schedule: TokenSchedule, count: int, sigma: Float64[Tensor, " b"]) -> tuple[Tensor, Tensor]:
    """Return when the mean of sigma over symbols has a value, by bisection, and the slope of alpha there."""
    symbols = torch.arange(count, device=sigma.device)

    def mean(t: Tensor) -> tuple[Tensor, Tensor]:
        scales = schedule(t[:, None], symbols)
        sigma, rate = (torch.as_tensor(part).to(t).expand(len(t), count) for part in (scales.sigma, scales.d_alpha))
        return sigma.mean(1), rate.mean(1)

    low, high = torch.zeros_like(sigma), torch.ones_like(sigma)
    for _ in range(64):
        middle = (low + high) / 2
        before = mean(middle)[0] > sigma
        low, high = torch.where(before, middle, low), torch.where(before, high, middle)
    t = (low + high) / 2
    return t, mean(t)[1]


def _drawn(path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Return -log of the probability of the data."""
    return functional.cross_entropy(path.posterior_logits(logits, x_t, t), x_1, reduction="none")


def _tokens(
    path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor, of_rows: Callable[..., Tensor]
) -> Tensor:
    """Return a number of each token, some rows at a time."""
    rows = (logits.flatten(0, -2), x_1.flatten(), x_t.flatten(), append_dims(t, x_1).expand(x_1.shape).flatten())
    size = max(1, AT_ONCE // logits.shape[-1])
    parts = [
        of_rows(path, some.double(), a, x, s)
        for some, a, x, s in zip(*(part.split(size) for part in rows), strict=True)
    ]
    return torch.cat(parts).reshape(x_1.shape)
