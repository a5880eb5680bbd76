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
from feller.training.losses import GeneralizedKL

TIME_EPS = 1e-4
"""Share of the data, or of the time, that is left to the last step, as rates are infinite at the end."""
MIN_ALPHA = 1e-12
"""Least alpha, so that rates are finite; what is left out is no more than that."""
CHUNK_SIZE = 2**22
"""Rates in one array."""


class ELBO(abc.ABC):
    """Which rates are compared. Implement one method to add one."""

    @abc.abstractmethod
    def token_divergence(
        self,
        path: TokenPath,
        logits: Float[Tensor, "m K"],
        x_1: Int[Tensor, " m"],
        x_t: Int[Tensor, " m"],
        t: Float[Tensor, " m"],
    ) -> Float[Tensor, " m"]:
        """Return the divergence per time of the conditional rates from the predicted ones, for each token."""


@dataclass(frozen=True)
class SamplingRates(ELBO):
    """The rates along which the path samples, without its corrector, order and choice."""

    def token_divergence(self, path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Take the closed form of mixtures; else compare arrays of rates, which small alphabets afford."""
        if isinstance(path, Mixture) and isinstance(path.velocity, KineticOptimalRates):
            return GeneralizedKL(path.schedule).entries(path.posterior_logits(logits, x_t, t), x_1, x_t, t)
        count = logits.shape[-1]
        posterior = path.posterior_logits(logits, x_t, t).softmax(-1)
        return _divergence(path.conditional_rates(x_1, x_t, t, count), path.rates(posterior, x_t, t))


@dataclass(frozen=True)
class ReversalRates(ELBO):
    """The rates of the noising chain run backwards, for mixtures whose source gives every symbol mass.

    With a perfect network, and one schedule for all symbols, this bound is tight, so that such sources can be compared
    with the mask. It is a bound for the chain along these rates, which a path samples with `velocity=Reversal()`.
    """

    def token_divergence(self, path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Sum the rates over the posterior in closed form, without an array of all pairs of symbols."""
        if not isinstance(path, Mixture):
            raise UsageError(
                "time reversal is known for mixtures", found=type(path).__name__, remedy="Use SamplingRates()"
            )
        count = logits.shape[-1]
        truth = path.reversal_rates(x_1, x_t, t, count)
        posterior = path.posterior_logits(logits, x_t, t).softmax(-1)
        return _divergence(truth, path.mean_reversal_rates(posterior, x_t, t))


def _divergence(truth: Float[Tensor, "m K"], model: Float[Tensor, "m K"]) -> Float[Tensor, " m"]:
    """Return the generalised KL of rates; those that stay count nothing."""
    truth, model = truth.clamp(min=0), model.clamp(min=0)
    return (torch.xlogy(truth, truth) - torch.xlogy(truth, model) - truth + model).sum(-1)


def tightest_elbo(path: TokenPath) -> ELBO:
    """Return the bound that is tight for an exact posterior, where there is one: often not of the rates that sample."""
    noisy = isinstance(path, Mixture) and path.source is not None and path.source.has_full_support
    return ReversalRates() if noisy else SamplingRates()


def sampling_elbo(path: TokenPath) -> ELBO:
    """Return the bound of the chain that samples along a path: the tight one where they are the same."""
    return tightest_elbo(path) if isinstance(path.velocity, Reversal) else SamplingRates()


class ELBOEstimate(NamedTuple):
    """An estimate of a bound, and of its error."""

    nats: Float64[Tensor, " b"]
    """Upper bound on -log p(x_1)."""
    std_err: Float64[Tensor, " b"]
    """Standard error from the draws of times and noise; nan for a single draw."""


@torch.no_grad()
def estimate_elbo(
    path: TokenPath,
    space: Space,
    network: Network,
    x_1: Int[Tensor, " b *d"],
    cond: Cond,
    rng: Rng,
    *,
    elbo: ELBO,
    times: int = 32,
) -> ELBOEstimate:
    """Estimate an upper bound on -log p(x_1), in nats, summed over the valid tokens, and its standard error.

    It is a bound for the chain along the rates that `elbo` names, in continuous time, started from the source: the
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
        cond: Conditions; `valid` says which tokens count.
        rng: Source of times, noise and source states.
        elbo: Which rates are compared.
        times: Network calls for the integral over time, rounded up to an even number unless 1; the last step takes two
            more.

    Raises:
        UsageError: If the path has no such rates.
    """
    terms = _Terms(path, space, network, x_1, cond, elbo)
    parts, each, strata = [], 2 if times > 1 else 1, -(-times // 2)
    for i in range(strata):
        parts.append([terms.draw_in_stratum((i, strata), rng.fold_in("time", i, j)) / strata for j in range(each)])
    if not terms.counts_masked_tokens:
        parts.append([terms.last_step_nll(rng.fold_in("last", j)) for j in range(each)])
    terms_drawn = torch.stack([torch.stack(part) for part in parts])  # [strata, 1 or 2, b]
    spread = terms_drawn.var(1) / 2 if each == 2 else terms_drawn.new_full(terms_drawn[:, 0].shape, torch.nan)
    return ELBOEstimate(terms_drawn.mean(1).sum(0), spread.sum(0).sqrt())


@dataclass(frozen=True)
class _Terms:
    """Terms of the bound of some examples, whose means over strata add up to it."""

    path: TokenPath
    space: Space
    network: Network
    x_1: Tensor
    given: Cond
    elbo: ELBO

    @property
    def counts_masked_tokens(self) -> bool:
        """Whether a token is its data or the mask, so that times can be drawn after the number of masked tokens."""
        path = self.path
        if not isinstance(path, Mixture) or not isinstance(path.schedule, Schedule):
            return False
        return isinstance(path.source, MaskSource) and isinstance(self.elbo, SamplingRates)

    @property
    def loss_mask(self) -> Tensor:
        """Which tokens count, in the shape of the data."""
        valid = self.given.get("valid")
        return torch.ones_like(self.x_1, dtype=torch.bool) if valid is None else append_dims(valid, self.x_1)

    def draw_in_stratum(self, stratum: tuple[int, int], rng: Rng) -> Float64[Tensor, " b"]:
        """Return one draw in one of some strata of times."""
        i, strata = stratum
        u = (i + rng.stream("time").uniform((len(self.x_1),), torch.float64, self.x_1.device)) / strata
        if self.counts_masked_tokens:
            return self._masked_tokens_term(u, rng)
        t, weight = _importance_sampled_time(self.path, self.space, u)
        return weight * self._integrand(t, self.elbo.token_divergence, rng)

    def last_step_nll(self, rng: Rng) -> Float64[Tensor, " b"]:
        """Return -log of the probability that the last step draws the data."""
        t, _ = _importance_sampled_time(
            self.path, self.space, torch.ones(len(self.x_1), dtype=torch.float64, device=self.x_1.device)
        )
        return self._integrand(t, _endpoint_nll, rng)

    def _integrand(self, t: Tensor, per_token: Callable[..., Tensor], rng: Rng) -> Tensor:
        source = self.space.sample_base(len(self.x_1), rng.stream("source"), self.x_1.device)
        x_t = self.path.sample(source, self.x_1, t, rng.stream("path"))
        each = _tokens(self.path, self.network(x_t, t.float(), self.given), self.x_1, x_t, t, per_token)
        return torch.where(self.loss_mask, each, 0.0).flatten(1).sum(1)

    def _masked_tokens_term(self, u: Tensor, rng: Rng) -> Tensor:
        """Draw how many of n counted tokens are masked, k, then which, then alpha; return n / k times their loss.

        Integrated over time, each k from 1 to n has the weight of n / k times its mean loss, and given k alpha is the
        (n - k + 1)-th of n sorted uniform numbers, whichever the schedule.
        """
        path, x_1, loss_mask = self.path, self.x_1, self.loss_mask
        n = loss_mask.flatten(1).sum(1)
        k = (1 + (u * n).floor().long()).minimum(n).clamp(min=1)
        u_token = rng.stream("path").uniform(x_1.shape, torch.float64, x_1.device)
        ranked = u_token.masked_fill(~loss_mask, torch.inf).flatten(1).sort(1).values
        alpha = ranked.gather(1, (n - k).clamp(min=0)[:, None])[:, 0].clamp(MIN_ALPHA, 1 - MIN_ALPHA)
        masked = u_token >= append_dims(alpha, x_1)
        t = cast(Schedule, cast(Mixture, path).schedule).t_from_snr(alpha / (1 - alpha))
        source = self.space.sample_base(len(x_1), rng.stream("source"), x_1.device)
        x_t = torch.where(masked, source, x_1)
        each = _tokens(path, self.network(x_t, t.float(), self.given), x_1, x_t, t, _endpoint_nll)
        return n / k * torch.where(masked & loss_mask, each, 0.0).flatten(1).sum(1)


def _importance_sampled_time(path: TokenPath, space: Space, u: Float64[Tensor, " b"]) -> tuple[Tensor, Tensor]:
    """Return times for uniform numbers, and their inverse density: dense where rates are infinite.

    For mixtures 1 - alpha is (1 - c u)^4 whatever the schedule; alpha is the mean over symbols if each has one. Near
    the end a token differs from its data with a probability of 1 - alpha and then costs 1 / (1 - alpha): uniform times
    would have an infinite variance, these have a finite fourth moment. Otherwise t is u^2 (3 - 2 u), less the end.
    """
    if not isinstance(path, Mixture):
        return (1 - TIME_EPS) * (u**2 * (3 - 2 * u)).clamp(min=MIN_ALPHA), (1 - TIME_EPS) * 6 * u * (1 - u)
    c = 1 - TIME_EPS**0.25
    sigma = (1 - c * u).pow(4).clamp(max=1 - MIN_ALPHA)
    if isinstance(path.schedule, Schedule):
        t = path.schedule.t_from_snr((1 - sigma) / sigma)
        d_alpha = torch.as_tensor(path.schedule(t).d_alpha).to(t)
    else:
        t, d_alpha = _invert_mean_sigma(path.schedule, cast(Tokens, space).vocab_size, sigma)
    return t, 4 * c * (1 - c * u) ** 3 / d_alpha


def _invert_mean_sigma(schedule: TokenSchedule, count: int, sigma: Float64[Tensor, " b"]) -> tuple[Tensor, Tensor]:
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


def _endpoint_nll(path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Return -log of the probability of the data."""
    return functional.cross_entropy(path.posterior_logits(logits, x_t, t), x_1, reduction="none")


def _tokens(
    path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor, per_token: Callable[..., Tensor]
) -> Tensor:
    """Return a number of each token, some rows at a time."""
    rows = (logits.flatten(0, -2), x_1.flatten(), x_t.flatten(), append_dims(t, x_1).expand(x_1.shape).flatten())
    size = max(1, CHUNK_SIZE // logits.shape[-1])
    parts = [
        per_token(path, some.double(), a, x, s)
        for some, a, x, s in zip(*(part.split(size) for part in rows), strict=True)
    ]
    return torch.cat(parts).reshape(x_1.shape)
