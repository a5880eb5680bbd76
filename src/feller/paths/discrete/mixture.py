"""Mixture path, on which each token is its data token or a source token, and the time reversal of this path."""

import functools
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Cond, append_dims
from feller.core.rng import RandomStream, categorical
from feller.paths.discrete.correctors import ReversibleCorrector
from feller.paths.discrete.rates import FewestJumps, Ids, KineticOptimalRates, Logits, LogLaws, Reals, Reversal
from feller.paths.discrete.remasking import RemaskingCorrector, RemaskingStep
from feller.paths.discrete.step_rules import ForwardIncrement, MidpointIncrement
from feller.paths.discrete.token_distribution import Posterior, masked_uniform
from feller.paths.discrete.token_path import TokenPath
from feller.paths.discrete.token_schedules import TokenSchedule
from feller.paths.discrete.unmasking_count import ScheduledCount, UnmaskingCount
from feller.paths.discrete.unmasking_order import UnmaskingOrder, token_log_prob
from feller.paths.discrete.unmasking_step import UnmaskingStep, early_finish
from feller.paths.path import Network, Places, Times, check_times, require_rng
from feller.paths.processes import Characteristics, Process
from feller.paths.schedules import AlphaSigma, Linear, Schedule, check_convex, shared_alpha_sigma
from feller.spaces.space import Points
from feller.spaces.tokens import MaskSource, TokenSource


def step_probabilities(
    p: Float64[Tensor, " K"], now: AlphaSigma, later: AlphaSigma, x_1: Ids, x_t: Ids
) -> Float64[Tensor, "m K"]:
    """Return p(x_s | x_t, x_1) for s > t and source probabilities `p`, exact for a step of any length.

    By Bayes' rule, the probability of x_s = y is proportional to p_s(y | x_1) q(x_t | y). The noising chain q from s to
    t keeps a token with probability alpha_t / alpha_s and otherwise samples it from the source.

    Args:
        p: Probability of each token under the source.
        now: Schedule values at time t.
        later: Schedule values at time s.
        x_1: Data tokens.
        x_t: Tokens at time t.

    Raises:
        ValueError: If the source gives a token zero probability.
    """
    _check_mass(p)
    p = p.to(x_t.device)
    tokens = torch.arange(len(p), device=x_t.device)
    alpha, sigma = (torch.as_tensor(scale, dtype=p.dtype, device=x_t.device)[..., None] for scale in later[:2])
    keep_prob = keep_probability(now, later, p)[..., None]
    p_s = torch.where(x_1[:, None] == tokens, alpha + sigma * p, sigma * p)
    likelihood = (1 - keep_prob) * p[x_t][:, None] + torch.where(x_t[:, None] == tokens, keep_prob, 0.0)
    joint = p_s * likelihood
    return joint / joint.sum(1, keepdim=True)


def keep_probability(now: AlphaSigma, later: AlphaSigma, like: Tensor) -> Tensor:
    """Return the probability alpha_t / alpha_s that the noising chain keeps a token; 1 if both alpha are 0.

    Args:
        now: Schedule values at time t.
        later: Schedule values at time s > t.
        like: Tensor whose dtype and device the result has.
    """
    alpha_t, alpha_s = (torch.as_tensor(scales.alpha, dtype=like.dtype, device=like.device) for scales in (now, later))
    return (alpha_t / alpha_s).nan_to_num(nan=1.0).clamp(max=1)


def _check_mass(p: Float64[Tensor, " K"]) -> None:
    if (p == 0).any():
        raise ValueError(
            "expected a source with positive probability for every token, as the time reversal requires; found 0 for "
            f"token {int((p == 0).nonzero()[0])}. Use KineticOptimalRates()"
        )


_SURE = 1e30
"""Logit of a token with probability 1, finite in float32."""


@dataclass(frozen=True)
class Mixture(TokenPath):
    """Mixture path: each token is its data token with probability alpha_t, else a source token; alpha_t + sigma_t = 1.

    The network predicts logits of x_1, [b, ..., K]. A single token is simulated exactly at any step size: it jumps to
    the data by time s with probability 1 - sigma_s / sigma_t. Source: Gat et al. 2024, "Discrete Flow Matching", arXiv
    2407.15595; with schedules that depend on the token, Shaul et al. 2024, arXiv 2412.03487.
    """

    has_reversal = True
    schedule: Schedule | TokenSchedule = field(default_factory=Linear)
    """Schedule, either shared by all tokens or dependent on the data token."""
    source: TokenSource | None = None
    """Distribution at t = 0, independent of the data; None allows any source and coupling, with jumps to data only."""
    unmasking_order: UnmaskingOrder | None = field(default=None, kw_only=True)
    """Order in which masked tokens are revealed; None reveals them independently."""
    unmasking_count: UnmaskingCount | None = field(default=None, kw_only=True)
    """Number of masked tokens that a step reveals; None follows the schedule. Its order is the default of the count."""

    @property
    def has_mask(self) -> bool:
        return isinstance(self.source, MaskSource)

    def __post_init__(self) -> None:
        if isinstance(self.schedule, Schedule):
            check_convex(self.schedule, "a mixture path")
        is_default = self._jumps_to_data and self.corrector is None and isinstance(self.parameterization, Posterior)
        if self.source is None and not is_default:
            raise UsageError(
                "a mixture path with a custom parameterization, velocity, step_rule or corrector requires a source",
                remedy="Pass `source`, such as UniformSource()",
            )
        if not self._jumps_to_data and self.source is not None and not self.source.has_full_support:
            culprit = self.corrector if isinstance(self.corrector, ReversibleCorrector) else self.velocity
            culprit = culprit if isinstance(self.step_rule, MidpointIncrement | ForwardIncrement) else self.step_rule
            raise UsageError(
                f"{type(culprit).__name__} requires a source with positive probability for every token",
                remedy="Use the default velocity and step_rule, and LogOddsCorrector or RenoiseCorrector",
            )
        if self._uses_reversal and (
            isinstance(self.corrector, ReversibleCorrector)
            or not isinstance(self.step_rule, MidpointIncrement | ForwardIncrement)
        ):
            raise UsageError(
                "Reversal() requires the default step_rule and no ReversibleCorrector",
                remedy="Omit `step_rule`, and use RenoiseCorrector, LogOddsCorrector or no corrector",
            )
        is_planned = self.unmasking_order is not None or self.unmasking_count is not None
        if is_planned and not (isinstance(self.source, MaskSource) and self.has_uniform_hazard):
            raise UsageError(
                "an unmasking order or count requires `source=MaskSource()`, one schedule for all tokens, the default"
                " step_rule and no corrector"
            )
        if isinstance(self.corrector, RemaskingCorrector) and not (self.has_mask and self._jumps_to_data_at_once):
            raise UsageError(
                "RemaskingCorrector requires `source=MaskSource()`, one schedule for all tokens and the default"
                " step_rule"
            )

    @property
    def _jumps_to_data(self) -> bool:
        """True if all jumps go to the data, so that their exact probability is known."""
        if isinstance(self.corrector, ReversibleCorrector) or not isinstance(
            self.step_rule, MidpointIncrement | ForwardIncrement
        ):
            return False
        return isinstance(self.velocity, KineticOptimalRates | FewestJumps) or isinstance(self.source, MaskSource)

    @property
    def _uses_reversal(self) -> bool:
        """True if rates are those of the reversed noising chain; with a mask source, they are kinetic-optimal."""
        return isinstance(self.velocity, Reversal) and not isinstance(self.source, MaskSource)

    @property
    def _jumps_to_data_at_once(self) -> bool:
        """True if all jumps go to the data, with a probability that does not depend on the data."""
        return self._jumps_to_data and isinstance(self.schedule, Schedule)

    @property
    def has_uniform_hazard(self) -> bool:
        return self._jumps_to_data_at_once and self.corrector is None

    def alpha_sigma(self, t: Tensor, x_1: Tensor) -> AlphaSigma:
        """Return alpha and sigma for data tokens x_1, at times that broadcast against the tokens."""
        return self.schedule(t, x_1) if isinstance(self.schedule, TokenSchedule) else self.schedule(t)

    def source_probs(self, vocab_size: int) -> Float64[Tensor, " S"]:
        """Return the probability of each token under the source distribution.

        Raises:
            UsageError: If the path has no `source`.
        """
        if self.source is None:
            raise UsageError("this mixture path has no source distribution", remedy="Pass `source` to the path")
        return _probabilities(self.source, vocab_size)

    def log_probabilities(self, x_1: Ids, t: Reals, vocab_size: int | None = None) -> LogLaws:
        """Return log p_t(x | x_1) = log [sigma p(x) + alpha 1(x = x_1)] of all tokens x, for source probabilities p."""
        p, is_data, alpha, sigma, _, _ = self._source_and_scales(x_1, t, vocab_size)
        return torch.where(is_data, alpha + sigma * p, sigma * p).log()

    def time_derivative(self, x_1: Ids, t: Reals, vocab_size: int | None = None) -> LogLaws:
        p, is_data, alpha, sigma, d_alpha, d_sigma = self._source_and_scales(x_1, t, vocab_size)
        return torch.where(is_data, (d_alpha + d_sigma * p) / (alpha + sigma * p), d_sigma / sigma)

    def _source_and_scales(self, x_1: Tensor, t: Tensor, vocab_size: int | None) -> tuple[Tensor, ...]:
        """Return the source p [S], the one-hot mask of x_1 [m, S], and alpha, sigma, alpha' and sigma' [m, 1]."""
        if vocab_size is None:
            raise UsageError("a mixture path requires the vocabulary size", remedy="Pass `vocab_size`")
        p = self.source_probs(vocab_size).to(t)
        scales = (torch.as_tensor(scale).to(t).expand(t.shape)[:, None] for scale in self.alpha_sigma(t, x_1))
        return (p, x_1[:, None] == torch.arange(len(p), device=x_1.device), *scales)

    def corrupt(self, x_1: Ids, t: Reals, u: Float64[Tensor, " m"], vocab_size: int | None = None) -> Ids:
        """Sample x_t from uniform numbers u: x_1 where u < alpha, else a source token.

        The source token is sampled with the uniform number (u - alpha) / sigma.
        """
        sigma = torch.as_tensor(self.alpha_sigma(t, x_1).sigma).double()
        rescaled = (u - (1 - sigma)) / sigma
        p = self.source_probs(vocab_size or 0).to(u.device)
        return torch.where(rescaled < 0, x_1, categorical(p, rescaled.nan_to_num(nan=0.0).clamp(0, 1 - 2**-53)))

    def sample(self, x_0: Places, x_1: Places, t: Times, rng: RandomStream | None = None) -> Places:
        rng = require_rng(rng)
        check_times(t, x_1)
        alpha = torch.as_tensor(self.alpha_sigma(append_dims(t, x_1), x_1).alpha)
        return torch.where(rng.uniform(x_1.shape, t.dtype, x_1.device) < alpha, x_1, x_0)

    def posterior_logits(self, logits: Logits, x_t: Ids, t: Reals) -> Logits:
        """Convert network outputs to logits of p(x_1 | x_t); with a mask source, unmasked tokens keep their value."""
        logits = self.parameterization.posterior_logits(self, logits, x_t, t)
        if not isinstance(self.source, MaskSource):
            return logits
        vocab_size = logits.shape[1]
        is_data = x_t[:, None] == torch.arange(vocab_size, device=x_t.device)
        return torch.where(x_t[:, None] == vocab_size, logits, torch.where(is_data, 0.0, -_SURE))

    def add_log_likelihood(self, logits: Logits, x_t: Ids, t: Reals) -> Logits:
        """Add log p_t(x_t | x_1), up to a constant, to logits of x_1.

        With a schedule shared by all tokens, only the logit of x_1 = x_t changes.
        """
        vocab_size = logits.shape[1]
        p = self.source_probs(vocab_size).to(t)[x_t]
        if isinstance(self.schedule, TokenSchedule):
            scales = self.schedule(t[:, None], torch.arange(vocab_size, device=x_t.device))
            is_data = x_t[:, None] == torch.arange(vocab_size, device=x_t.device)
            sigma = torch.as_tensor(scales.sigma)
            likelihood = torch.where(is_data, (scales.alpha / p[:, None] + sigma), sigma).log()
            return logits + likelihood.clamp(-_SURE, _SURE).to(logits.dtype)
        if isinstance(self.source, MaskSource):
            return logits  # masks are uninformative, and other tokens are revealed
        scales = self.schedule(t)
        log_likelihood = torch.log1p(torch.as_tensor(scales.alpha) / (torch.as_tensor(scales.sigma) * p))
        return logits.scatter_add(
            1, x_t[:, None], log_likelihood.nan_to_num(nan=0.0, posinf=_SURE).to(logits.dtype)[:, None]
        )

    def conditional_rates(self, x_1: Ids, x_t: Ids, t: Reals, vocab_size: int) -> LogLaws:
        """Return the jump rates from x_t: alpha' / sigma to x_1, 0 to others; with a mask source, only masks jump."""
        if self._uses_reversal:
            return self.reversal_rates(x_1, x_t, t, vocab_size)
        if not self._jumps_to_data:
            return super().conditional_rates(x_1, x_t, t, vocab_size)
        scales = self.alpha_sigma(t, x_1)
        rate = torch.as_tensor(scales.d_alpha) / torch.as_tensor(scales.sigma)
        can_jump = x_t == vocab_size if isinstance(self.source, MaskSource) else x_t != x_1
        num_tokens = vocab_size + isinstance(self.source, MaskSource)
        return torch.zeros(len(t), num_tokens, dtype=t.dtype, device=t.device).scatter(
            1, x_1[:, None], torch.where(can_jump, rate, 0.0)[:, None]
        )

    def rates(self, posterior: Logits, x_t: Ids, t: Reals) -> LogLaws:
        if self._uses_reversal:
            outgoing = self.mean_reversal_rates(posterior, x_t, t)
            return outgoing.scatter_add(1, x_t[:, None], -outgoing.sum(1, keepdim=True))
        if not self._jumps_to_data:
            return super().rates(posterior, x_t, t)
        vocab_size = posterior.shape[1]
        scales = self.alpha_sigma(t[:, None], torch.arange(vocab_size, device=x_t.device))
        flow = torch.as_tensor(scales.d_alpha) / torch.as_tensor(scales.sigma) * posterior
        if isinstance(self.source, MaskSource):
            flow = torch.nn.functional.pad(torch.where(x_t[:, None] == vocab_size, flow, 0.0), (0, 1))
        return flow.scatter_add(1, x_t[:, None], -flow.sum(1, keepdim=True))

    def reversal_rates(self, x_1: Ids, x_t: Ids, t: Reals, vocab_size: int) -> LogLaws:
        """Return the rates (alpha' / alpha) p_t(y) p(x_t) / p_t(x_t) from x_t to y of the reversed noising chain.

        Here p is the source and p_t the distribution given x_1. A process with these rates has the marginals of the
        path. The likelihood bound is tight for these rates if the posterior is exact.

        Raises:
            ValueError: If the source gives a token zero probability.
        """
        p, (alpha, sigma, d_alpha) = self._reversing(vocab_size, self.alpha_sigma(t, x_1), x_t)
        is_data = x_1[:, None] == torch.arange(vocab_size, device=x_t.device)
        p_t = torch.where(is_data, alpha[..., None] + sigma[..., None] * p, sigma[..., None] * p)
        outgoing = d_alpha[..., None] / alpha[..., None] * p_t * p[x_t][:, None] / p_t.gather(1, x_t[:, None])
        return outgoing.scatter(1, x_t[:, None], 0.0)

    def mean_reversal_rates(self, posterior: Logits, x_t: Ids, t: Reals) -> Logits:
        """Return the mean of `reversal_rates` over the posterior of x_1, without an array over all pairs of tokens.

        Raises:
            ValueError: If the source gives a token zero probability.
        """
        tokens = torch.arange(posterior.shape[1], device=x_t.device)
        p, (alpha, sigma, d_alpha) = self._reversing(len(tokens), self.alpha_sigma(t[:, None], tokens), x_t)
        p_x, is_x = p[x_t][:, None], x_t[:, None] == tokens
        weight = posterior * d_alpha / alpha * p_x / torch.where(is_x, alpha + sigma * p_x, sigma * p_x)
        outgoing = p * (weight * sigma).sum(1, keepdim=True) + weight * alpha
        return outgoing.scatter(1, x_t[:, None], 0.0)

    def _reversing(self, vocab_size: int, scales: AlphaSigma, like: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the source probabilities, and alpha, sigma and alpha' as tensors, on the device of `like`."""
        p = self.source_probs(vocab_size)
        _check_mass(p)
        return p.to(like.device), [torch.as_tensor(scale, dtype=p.dtype, device=like.device) for scale in scales[:3]]

    def max_hazard(self, x_t: Places, t: Times, s: float, vocab_size: int) -> Points:
        """Return an upper bound, valid for every x_1, on the expected number of jumps until time s.

        With a mask source, the bound is 0 for tokens that are not masked.
        """
        if self._uses_reversal:
            return self._max_hazard_reversal(x_t, t, s, vocab_size)
        if not self._jumps_to_data:
            return super().max_hazard(x_t, t, s, vocab_size)
        if isinstance(self.schedule, Schedule):
            hazard = append_dims(_decay(self.schedule, t, s), x_t)
        else:
            hazards = self._expected_jumps(torch.arange(vocab_size, device=x_t.device), t.double()[:, None], s).expand(
                len(t), -1
            )
            hazard = append_dims(hazards.amax(1), x_t)
        if isinstance(self.source, MaskSource):
            return torch.where(x_t == vocab_size, hazard, 0.0)
        return hazard.expand(x_t.shape)

    def _max_hazard_reversal(self, x_t: Tensor, t: Tensor, s: float, vocab_size: int) -> Tensor:
        """Return the maximum, over data tokens x_1, of -log P(x_s = x_t | x_t, x_1), a bound on the jump hazard."""
        if s >= 1:
            return torch.full(x_t.shape, torch.inf, dtype=torch.float64, device=x_t.device)
        p, tokens = self.source_probs(vocab_size).to(x_t.device), torch.arange(vocab_size, device=x_t.device)
        t = t.double()[:, None]
        keep_prob = keep_probability(self.alpha_sigma(t, tokens), self.alpha_sigma(torch.full_like(t, s), tokens), p)
        keep_prob = keep_prob.expand(len(t), -1).amin(1)
        hazard = self._expected_jumps(tokens, t, s).expand(len(t), -1).amax(1)
        keep_prob, hazard = append_dims(keep_prob, x_t), append_dims(hazard, x_t)
        return hazard - (keep_prob + (1 - keep_prob) * p[x_t]).log()

    def _expected_jumps(self, x_1: Tensor, t: Tensor, s: float) -> Tensor:
        at_t = self.alpha_sigma(t, x_1)
        at_s = self.alpha_sigma(torch.full_like(t, s), x_1)
        log_ratio = torch.as_tensor(at_t.sigma).log() - torch.as_tensor(at_s.sigma).log()
        return log_ratio.nan_to_num(nan=0.0, posinf=torch.inf)

    def expected_jumps(self, x_1: Ids, x: Ids, t: Reals, s: float, vocab_size: int) -> tuple[Reals, LogLaws | None]:
        """Return the expected number of jumps from t to s given x_1, and the unnormalized destination probabilities.

        The second result is None if all jumps go to x_1.
        """
        if self._uses_reversal and s < 1:
            at_s = self.alpha_sigma(torch.full_like(t, s), x_1)
            probs = step_probabilities(self.source_probs(vocab_size), self.alpha_sigma(t, x_1), at_s, x_1, x)
            outgoing = probs.scatter(1, x[:, None], 0.0)
            return -probs.gather(1, x[:, None])[:, 0].log(), outgoing
        if not self._jumps_to_data:
            return super().expected_jumps(x_1, x, t, s, vocab_size)
        return self._expected_jumps(x_1, t, s), None

    def process(self, network: Network, cond: Cond) -> Process:
        count, order = self.unmasking_count, self.unmasking_order
        path = self if order is None else replace(self, unmasking_order=order.bind(cond))
        process = super(Mixture, path).process
        if count is None or not count.is_adaptive or not isinstance(self.schedule, Schedule):
            return process(network, cond)
        return early_finish(process, network, cond, self.schedule)

    def characteristics(self, prediction: Float[Tensor, "b *d K"], x_t: Places, t: Times) -> Characteristics:
        if isinstance(self.corrector, RemaskingCorrector):
            return self._remasking(self.corrector, prediction, x_t, t)
        independent = super().characteristics(prediction, x_t, t)
        if independent.jumps is None or (self.unmasking_order is None and self.unmasking_count is None):
            return independent
        count = self.unmasking_count or ScheduledCount()
        step = UnmaskingStep(
            order=self.unmasking_order or count.default_order,
            count=count,
            token_sampler=self.token_sampler,
            prediction=prediction,
            posterior_at=functools.partial(self._posterior_at, prediction, x_t, t),
            x_t=x_t,
            t=t,
        )
        return replace(independent, jumps=step.jumps(independent.jumps))

    def _posterior_at(self, prediction: Tensor, x_t: Tensor, t: Tensor, index: tuple[Tensor, ...]) -> Tensor:
        """Return the logits of x_1 of the tokens with the given indices, [m, K]."""
        return self.posterior_logits(prediction[index], x_t[index], t[index[0]])

    def _remasking(self, corrector: RemaskingCorrector, prediction: Tensor, x_t: Tensor, t: Tensor) -> Characteristics:
        """Return the jumps of the path with a re-masking corrector."""

        def alpha(t: Tensor) -> Tensor:
            return torch.as_tensor(self.alpha_sigma(t.double(), torch.zeros_like(t, dtype=torch.long)).alpha)

        def sample_x_1(mask: Tensor, rng: RandomStream) -> Tensor:
            posterior = self._posterior_at(prediction, x_t, t, mask.nonzero().unbind(1))
            return self.token_sampler(posterior, masked_uniform(rng, mask))

        vocab_size = prediction.shape[-1]
        tokens = x_t.flatten().clamp(max=vocab_size - 1)  # masked tokens have no confidence
        step = RemaskingStep(
            probability=corrector.probability,
            x_t=x_t,
            mask_token=vocab_size,
            confidence=token_log_prob(prediction.flatten(0, -2), tokens).exp().view(len(x_t), -1),
            alpha_t=alpha(t),
            alpha_at=lambda s: alpha(torch.full_like(t, s)),
            sample_x_1=sample_x_1,
        )
        return Characteristics(jumps=step.jumps())


def _decay(schedule: Schedule, t: Times, s: float) -> Tensor:
    """Return log(sigma_t / sigma_s) per example, [b], or [1] if all examples share one time."""
    sigma_s = torch.as_tensor(schedule(t.new_full((1,), s)).sigma)
    sigma_t = torch.as_tensor(shared_alpha_sigma(schedule, t).sigma, dtype=t.dtype, device=t.device)
    return (sigma_t.log() - sigma_s.log()).nan_to_num(nan=0.0, posinf=torch.inf)  # nan: sigma is 0 at both times


@functools.lru_cache(maxsize=8)
def _probabilities(source: TokenSource, vocab_size: int) -> Tensor:
    return source.probabilities(vocab_size)
