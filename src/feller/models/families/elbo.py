"""Negative evidence lower bounds (ELBO) of discrete paths: upper bounds on -log p(x_1) from jump rates.

A bound compares the conditional rates of the path with those predicted by the network, and is specific to path and
rates. If the predicted posterior is exact, the bound is tight for a mask source, but 0.5 nats too high for a uniform
source with kinetic-optimal rates; so bounds of different paths cannot be compared. If the posterior is not exact, the
bound for one choice of rates does not hold for samples drawn with other rates. Source: Shaul et al. 2024, "Flow
matching with general discrete paths", arXiv 2412.03487.
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
from feller.paths.discrete.token_schedules import TokenSchedule
from feller.paths.path import Cond
from feller.paths.schedules import Schedule
from feller.spaces import MaskSource, Space, Tokens
from feller.training.losses import GeneralizedKL

TIME_EPS = 1e-4
"""Value of 1 - alpha(t), or of 1 - t for paths that are not mixtures, at which the last step starts. The bound needs a
last step since rates diverge at t = 1."""
MIN_ALPHA = 1e-12
"""Minimum alpha, so that rates are finite; the truncation error has the same size."""
CHUNK_SIZE = 2**22
"""Maximum number of rates per array."""


class ELBO(abc.ABC):
    """Base class for the choice of the jump rates to which a bound applies. Subclasses implement `token_divergence`."""

    @abc.abstractmethod
    def token_divergence(
        self,
        path: TokenPath,
        logits: Float[Tensor, "m K"],
        x_1: Int[Tensor, " m"],
        x_t: Int[Tensor, " m"],
        t: Float[Tensor, " m"],
    ) -> Float[Tensor, " m"]:
        """Return each token's divergence of the conditional rates from the predicted rates, per unit of time."""


@dataclass(frozen=True)
class SamplingRates(ELBO):
    """Choice of the rates with which the path's sampler jumps.

    The bound holds for a sampler without corrector, unmasking order or token sampler.
    """

    def token_divergence(self, path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the divergence of the conditional rates from the predicted rates for each token, per unit of time.

        For mixture paths with kinetic-optimal rates it is computed in closed form. For other paths the arrays of all
        rates are computed, which requires a small vocabulary.
        """
        if isinstance(path, Mixture) and isinstance(path.velocity, KineticOptimalRates):
            return GeneralizedKL(path.schedule).entries(path.posterior_logits(logits, x_t, t), x_1, x_t, t)
        count = logits.shape[-1]
        posterior = path.posterior_logits(logits, x_t, t).softmax(-1)
        return _divergence(path.conditional_rates(x_1, x_t, t, count), path.rates(posterior, x_t, t))


@dataclass(frozen=True)
class ReversalRates(ELBO):
    """Choice of the rates of the time-reversed noising chain, for mixtures whose source has full support.

    If the posterior is exact and all tokens have the same schedule, this bound is tight, so these sources can be
    compared with the mask source. The bound holds for the chain with these rates, which is sampled with
    `velocity=Reversal()`.
    """

    def token_divergence(self, path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the divergence of the conditional rates from the predicted rates for each token, per unit of time.

        The predicted rates are sums over the posterior, which are computed in closed form.
        """
        if not isinstance(path, Mixture):
            raise UsageError(
                "time reversal needs a mixture path", found=type(path).__name__, remedy="Use SamplingRates()"
            )
        count = logits.shape[-1]
        truth = path.reversal_rates(x_1, x_t, t, count)
        posterior = path.posterior_logits(logits, x_t, t).softmax(-1)
        return _divergence(truth, path.mean_reversal_rates(posterior, x_t, t))


def _divergence(truth: Float[Tensor, "m K"], model: Float[Tensor, "m K"]) -> Float[Tensor, " m"]:
    """Return the generalised KL divergence sum(a log(a / b) - a + b) of true rates a from the model's rates b."""
    truth, model = truth.clamp(min=0), model.clamp(min=0)
    return (torch.xlogy(truth, truth) - torch.xlogy(truth, model) - truth + model).sum(-1)


def tightest_elbo(path: TokenPath) -> ELBO:
    """Return the choice of rates with the tightest bound: `ReversalRates` if the path has them, else `SamplingRates`.

    Mixture paths whose source has full support have `ReversalRates`. Their bound is tight for an exact posterior, but
    they may differ from the rates of the sampler.
    """
    has_full_support = isinstance(path, Mixture) and path.source is not None and path.source.has_full_support
    return ReversalRates() if has_full_support else SamplingRates()


def sampling_elbo(path: TokenPath) -> ELBO:
    """Return the choice of rates whose bound holds for the chain that samples along a path."""
    return tightest_elbo(path) if isinstance(path.velocity, Reversal) else SamplingRates()


class ELBOEstimate(NamedTuple):
    """Estimate of an upper bound on -log p(x_1), with its standard error."""

    nats: Float64[Tensor, " b"]
    """Upper bound on -log p(x_1)."""
    std_err: Float64[Tensor, " b"]
    """Monte Carlo standard error; NaN for a single sample."""


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
    """Estimate an upper bound on -log p(x_1) of each example in nats, summed over the valid tokens.

    The bound holds for the continuous-time chain with the rates of `elbo`, started at the source. The sampler follows
    this chain only if it uses these rates and has no corrector, unmasking order or token sampler.

    Times are stratified, with two independent samples per stratum for the standard error. For a mask source with the
    same schedule for all tokens, the number of masked tokens is stratified instead, and the estimate is unbiased.
    Otherwise the bound includes a last step, which samples x_1 from the posterior at alpha = 1 - 1e-4 (at t = 1 - 1e-4
    for paths that are not mixtures).

    Args:
        path: Path that the network was trained on.
        space: Space whose base distribution is the source.
        network: Network that predicts logits.
        x_1: Data tokens.
        cond: Conditions; `valid` masks padding.
        rng: Random streams for times, noise and source states.
        elbo: Choice of the rates in the bound.
        times: Number of network evaluations for the time integral, rounded up to an even number unless it is 1; the
            last step needs two more.

    Raises:
        UsageError: If `elbo` does not support the path.
    """
    terms = _Terms(path, space, network, x_1, cond, elbo)
    estimates, num_draws, strata = [], 2 if times > 1 else 1, -(-times // 2)
    for i in range(strata):
        estimates.append(
            [terms.draw_in_stratum((i, strata), rng.fold_in("time", i, j)) / strata for j in range(num_draws)]
        )
    if not terms.counts_masked_tokens:
        estimates.append([terms.last_step_nll(rng.fold_in("last", j)) for j in range(num_draws)])
    samples = torch.stack([torch.stack(draws) for draws in estimates])  # [strata, 1 or 2, b]
    variance = samples.var(1) / 2 if num_draws == 2 else samples.new_full(samples[:, 0].shape, torch.nan)
    return ELBOEstimate(samples.mean(1).sum(0), variance.sum(0).sqrt())


@dataclass(frozen=True)
class _Terms:
    """Estimator of the bound on -log p(x_1) for one batch: it returns the terms at random times, in strata.

    The bound is the sum of the means of the terms over the strata.
    """

    path: TokenPath
    space: Space
    network: Network
    x_1: Tensor
    given: Cond
    elbo: ELBO

    @property
    def counts_masked_tokens(self) -> bool:
        """True for a mask source with one schedule, where the number of masked tokens can be stratified."""
        path = self.path
        if not isinstance(path, Mixture) or not isinstance(path.schedule, Schedule):
            return False
        return isinstance(path.source, MaskSource) and isinstance(self.elbo, SamplingRates)

    @property
    def loss_mask(self) -> Tensor:
        """Mask of the tokens in the bound, in the shape of the data."""
        valid = self.given.get("valid")
        return torch.ones_like(self.x_1, dtype=torch.bool) if valid is None else append_dims(valid, self.x_1)

    def draw_in_stratum(self, stratum: tuple[int, int], rng: Rng) -> Float64[Tensor, " b"]:
        """Sample the integrand of the bound at a random time in stratum i of n; `stratum` is (i, n)."""
        i, strata = stratum
        u = (i + rng.stream("time").uniform((len(self.x_1),), torch.float64, self.x_1.device)) / strata
        if self.counts_masked_tokens:
            return self._masked_tokens_term(u, rng)
        t, weight = _importance_sampled_time(self.path, self.space, u)
        return weight * self._integrand(t, self.elbo.token_divergence, rng)

    def last_step_nll(self, rng: Rng) -> Float64[Tensor, " b"]:
        """Return the negative log probability that the last step samples the data."""
        t, _ = _importance_sampled_time(
            self.path, self.space, torch.ones(len(self.x_1), dtype=torch.float64, device=self.x_1.device)
        )
        return self._integrand(t, _endpoint_nll, rng)

    def _integrand(self, t: Tensor, per_token: Callable[..., Tensor], rng: Rng) -> Tensor:
        source = self.space.sample_base(len(self.x_1), rng.stream("source"), self.x_1.device)
        x_t = self.path.sample(source, self.x_1, t, rng.stream("path"))
        token_terms = _tokens(self.path, self.network(x_t, t.float(), self.given), self.x_1, x_t, t, per_token)
        return torch.where(self.loss_mask, token_terms, 0.0).flatten(1).sum(1)

    def _masked_tokens_term(self, u: Tensor, rng: Rng) -> Tensor:
        """Sample the number k of masked tokens out of n, their positions, and alpha; return n / k times their loss.

        The integral over time equals the mean over k = 1, ..., n of n / k times the mean loss of k masked tokens. Given
        k, alpha is the (n - k + 1)-th order statistic of n uniform variables, for any schedule.
        """
        path, x_1, loss_mask = self.path, self.x_1, self.loss_mask
        n = loss_mask.flatten(1).sum(1)
        k = (1 + (u * n).floor().long()).minimum(n).clamp(min=1)
        u_token = rng.stream("path").uniform(x_1.shape, torch.float64, x_1.device)
        sorted_u = u_token.masked_fill(~loss_mask, torch.inf).flatten(1).sort(1).values
        alpha = sorted_u.gather(1, (n - k).clamp(min=0)[:, None])[:, 0].clamp(MIN_ALPHA, 1 - MIN_ALPHA)
        is_masked = u_token >= append_dims(alpha, x_1)
        t = cast(Schedule, cast(Mixture, path).schedule).t_from_snr(alpha / (1 - alpha))
        source = self.space.sample_base(len(x_1), rng.stream("source"), x_1.device)
        x_t = torch.where(is_masked, source, x_1)
        token_terms = _tokens(path, self.network(x_t, t.float(), self.given), x_1, x_t, t, _endpoint_nll)
        return n / k * torch.where(is_masked & loss_mask, token_terms, 0.0).flatten(1).sum(1)


def _importance_sampled_time(path: TokenPath, space: Space, u: Float64[Tensor, " b"]) -> tuple[Tensor, Tensor]:
    """Map uniform variables to importance-sampled times, and return their inverse density.

    For mixtures 1 - alpha = (1 - c u)^4 for any schedule, with the mean alpha if it differs between tokens. A token
    differs from the data with probability 1 - alpha and then costs 1 / (1 - alpha). Uniform times would thus have
    infinite variance; these have a finite fourth moment. Other paths use t = u^2 (3 - 2 u), truncated at the end.
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
    """Return the time at which the mean of sigma over all tokens equals `sigma`, and the mean of d alpha / dt there."""
    tokens = torch.arange(count, device=sigma.device)

    def mean(t: Tensor) -> tuple[Tensor, Tensor]:
        scales = schedule(t[:, None], tokens)
        sigma, rate = (torch.as_tensor(value).to(t).expand(len(t), count) for value in (scales.sigma, scales.d_alpha))
        return sigma.mean(1), rate.mean(1)

    low, high = torch.zeros_like(sigma), torch.ones_like(sigma)
    for _ in range(64):
        middle = (low + high) / 2
        is_before = mean(middle)[0] > sigma
        low, high = torch.where(is_before, middle, low), torch.where(is_before, high, middle)
    t = (low + high) / 2
    return t, mean(t)[1]


def _endpoint_nll(path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    return functional.cross_entropy(path.posterior_logits(logits, x_t, t), x_1, reduction="none")


def _tokens(
    path: TokenPath, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor, per_token: Callable[..., Tensor]
) -> Tensor:
    """Return the result of `per_token` for each token, computed in chunks of tokens to limit memory."""
    inputs = (logits.flatten(0, -2), x_1.flatten(), x_t.flatten(), append_dims(t, x_1).expand(x_1.shape).flatten())
    size = max(1, CHUNK_SIZE // logits.shape[-1])
    chunks = [
        per_token(path, chunk.double(), a, x, s)
        for chunk, a, x, s in zip(*(tensor.split(size) for tensor in inputs), strict=True)
    ]
    return torch.cat(chunks).reshape(x_1.shape)
