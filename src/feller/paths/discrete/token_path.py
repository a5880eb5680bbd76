"""Base class of probability paths of tokens, simulated by jumps with exact steps."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import append_dims
from feller.core.rng import RandomStream, categorical
from feller.paths.discrete.correctors import Corrector, LogOddsCorrector
from feller.paths.discrete.rates import CHUNK_SIZE, Ids, KineticOptimalRates, Logits, LogLaws, Rates, Reals
from feller.paths.discrete.step_rules import MidpointIncrement, TokenStepRule
from feller.paths.discrete.token_distribution import (
    Parameterization,
    Posterior,
    TokenDistribution,
    chunks,
    masked_uniform,
    predictions_at,
    times_at,
    unique_times,
)
from feller.paths.discrete.token_sampler import TokenSampler
from feller.paths.path import Path, Places, Times, check_times, require_rng
from feller.paths.processes import Characteristics, Jumps
from feller.spaces.space import Points


@dataclass(frozen=True, kw_only=True)
class TokenPath(TokenDistribution, Path):
    """Probability path of tokens that are independent given the data; subclasses implement `log_probabilities`.

    The network predicts logits of x_1, [b, ..., K]. A step to time s samples x_1 from these logits, then the state at
    s given x_1: with lambda the expected number of jumps given x_1, a token jumps with probability 1 - exp(-lambda).
    Thinning selects candidates before arrays of size K are sampled: with H an upper bound on lambda, a token is a
    candidate with probability 1 - exp(-H), and a candidate jumps with probability (1 - exp(-lambda)) / (1 - exp(-H)).
    This is exact, or accurate to first order in the step size if other jumps are superposed. At s = 1 all tokens equal
    the data.

    Source: Shaul et al. 2024, "Flow Matching with General Discrete Paths", arXiv 2412.03487.
    """

    has_jumps = True
    is_discrete = True
    parameterization: Parameterization = field(default_factory=Posterior)
    velocity: Rates = field(default_factory=KineticOptimalRates)
    step_rule: TokenStepRule = field(default_factory=MidpointIncrement)
    corrector: Corrector | None = None
    token_sampler: TokenSampler = field(default_factory=TokenSampler)
    """Sampler of x_1 from the logits (temperature, top-k, top-p)."""

    @property
    def has_reversal(self) -> bool:
        """True if the path supports the rates of the reversed noising chain, `Reversal`."""
        return False

    @property
    def has_mask(self) -> bool:
        """True if all tokens are masked at t = 0, so that an unmasking order applies."""
        return False

    @property
    def has_uniform_hazard(self) -> bool:
        """True if the expected number of jumps does not depend on x_1, and all jumps go to x_1."""
        return False

    def sample(self, x_0: Places, x_1: Places, t: Times, rng: RandomStream | None = None) -> Places:
        """Sample each token from p_t(x | x_1); x_0 is not used."""
        rng = require_rng(rng)
        check_times(t, x_1)
        u = rng.uniform(x_1.shape, torch.float64, x_1.device)
        flattened = [tensor.flatten() for tensor in (x_1, append_dims(t.double(), x_1).expand(x_1.shape), u)]
        num_tokens = self.log_probabilities(flattened[0][:1], flattened[1][:1]).shape[1] if x_1.numel() else 1
        row_chunks = chunks(max(1, CHUNK_SIZE // num_tokens), *flattened)
        return torch.cat([self.corrupt(a, time, v) for a, time, v in row_chunks]).view(x_1.shape)

    def target(self, x_t: Places, x_0: Places, x_1: Places, t: Times) -> Places:
        return x_1

    def posterior_logits(self, logits: Logits, x_t: Ids, t: Reals) -> Logits:
        """Convert the network's logits to logits of x_1 given the whole state."""
        return self.parameterization.posterior_logits(self, logits, x_t, t)

    def complete_prediction(
        self, prediction: Float[Tensor, "b *d K"], x_t: Places, t: Times
    ) -> Float[Tensor, "b *d K"]:
        flat = prediction.flatten(0, -2)
        times = append_dims(t, x_t).expand(x_t.shape).flatten()
        return self.posterior_logits(flat, x_t.flatten(), times).view(prediction.shape)

    def conditional_rates(self, x_1: Ids, x_t: Ids, t: Reals, vocab_size: int) -> LogLaws:
        """Return the rates u(y, x_t) from x_t to every token y given the data x_1; the rate to x_t itself is 0."""
        derivative = self.time_derivative(x_1, t, vocab_size).nan_to_num(nan=0.0)
        return self.velocity.outgoing(self.log_probabilities(x_1, t, vocab_size), derivative, x_t)

    def rates(self, posterior: Logits, x_t: Ids, t: Reals) -> LogLaws:
        """Return the marginal rates u(y, x_t) to every token y; the entry y = x_t is minus the sum of the others.

        Intended for tests and small vocabularies.
        """
        m, count = posterior.shape
        x_1 = torch.arange(count, device=x_t.device).repeat(m)
        outgoing = self.conditional_rates(x_1, x_t.repeat_interleave(count), t.repeat_interleave(count), count)
        outgoing = torch.einsum("mk,mks->ms", posterior.to(outgoing.dtype), outgoing.unflatten(0, (m, count)))
        return outgoing.scatter_add(1, x_t[:, None], -outgoing.sum(1, keepdim=True))

    def max_hazard(self, x_t: Places, t: Times, s: float, vocab_size: int) -> Points:
        """Return an upper bound, valid for every x_1, on the expected number of jumps until time s."""
        times, time_index = unique_times(t)
        if s >= 1 or len(times) * vocab_size**2 > CHUNK_SIZE:
            return torch.full(x_t.shape, torch.inf, dtype=torch.float64, device=x_t.device)
        x_1, time = (
            torch.arange(vocab_size, device=x_t.device).repeat(len(times)),
            times.double().repeat_interleave(vocab_size),
        )
        log_p, change = self.step_rule.distribution_and_change(self, x_1, time, s, vocab_size)
        total = self.velocity.max_outgoing(log_p, change)
        if self.corrector is not None:
            total = total + self.corrector.max_total_rate(log_p, change)
        table = total.unflatten(0, (len(times), vocab_size)).amax(1)
        return table[append_dims(time_index, x_t), x_t]

    def expected_jumps(self, x_1: Ids, x: Ids, t: Reals, s: float, vocab_size: int) -> tuple[Reals, LogLaws | None]:
        """Return the expected number of jumps of tokens x from t to s given x_1, and where the jumps go.

        The second result holds the unnormalized probabilities of the destinations; it is None if all jumps go to x_1.
        """
        if s >= 1:
            return torch.full_like(t, torch.inf), None
        log_p, change = self.step_rule.distribution_and_change(self, x_1, t, s, vocab_size)
        outgoing = self.velocity.outgoing(log_p, change, x)
        extra = None if self.corrector is None else self.corrector.extra_rates(log_p, change, x)
        outgoing = outgoing if extra is None else outgoing + extra
        return outgoing.sum(1), outgoing

    def characteristics(self, prediction: Float[Tensor, "b *d K"], x_t: Places, t: Times) -> Characteristics:
        """Convert logits of x_1 to jumps; x_1 is sampled only for tokens that are candidates for a jump."""
        count = prediction.shape[-1]

        @functools.cache
        def expected_renoisings(s: float) -> Tensor:
            """Return the expected number of renoisings until s, maximised over x_1, [b]."""
            if self.corrector is None:
                return torch.zeros(1, dtype=torch.float64, device=x_t.device)
            times, time_index = unique_times(t)
            x_1 = torch.arange(count, device=x_t.device).repeat(len(times))
            renoisings = self.corrector.expected_renoisings(self, x_1, times.double().repeat_interleave(count), s)
            return renoisings.unflatten(0, (len(times), count)).amax(1)[time_index]

        @functools.cache
        def hazard(s: float) -> Tensor:
            bound = self.max_hazard(x_t, t, s, count)
            return bound if self.corrector is None else bound + append_dims(expected_renoisings(s), x_t)

        def sample_destination(s: float, mask: Tensor, rng: RandomStream) -> Tensor:
            indices = mask.flatten().nonzero()[:, 0]
            tokens, logits_at = x_t.flatten(), predictions_at(prediction, x_t)
            uniforms = [masked_uniform(rng, mask) for _ in range(1 if self.has_uniform_hazard else 3)]
            destinations = []
            for chunk, u, *others in chunks(max(1, CHUNK_SIZE // count), indices, *uniforms):
                x, time = tokens[chunk], times_at(t, chunk, x_t)
                x_1 = self.token_sampler(self.posterior_logits(logits_at(chunk), x, time), u)
                if others:
                    candidate_prob = -torch.expm1(-hazard(s).flatten()[chunk])
                    x_1 = self._sample_arrival(x_1, x, time.double(), s, count, others[0] * candidate_prob, others[1])
                destinations.append(x_1)
            return destinations[0] if len(destinations) == 1 else torch.cat(destinations)

        return Characteristics(jumps=Jumps(hazard, sample_destination))

    def _sample_arrival(
        self,
        x_1: Tensor,
        x: Tensor,
        t: Tensor,
        s: float,
        vocab_size: int,
        v: Float64[Tensor, " m"],
        w: Float64[Tensor, " m"],
    ) -> Tensor:
        """Return the tokens of candidates at time s: renoised, jumped or unchanged.

        v is uniform between 0 and the probability of being a candidate, and selects among the three cases.
        """
        expected_jumps, weights = self.expected_jumps(x_1, x, t, s, vocab_size)
        destination = x_1 if weights is None else categorical(weights + (weights.sum(1, keepdim=True) == 0), w)
        if self.corrector is None:
            return torch.where(v < -torch.expm1(-expected_jumps), destination, x)
        expected_renoisings = self.corrector.expected_renoisings(self, x_1, t, s)
        renoised = self.corrupt(x_1, torch.full_like(t, s), w, vocab_size)
        moved = torch.where(v < -torch.expm1(-expected_renoisings - expected_jumps), destination, x)
        return torch.where(v < -torch.expm1(-expected_renoisings), renoised, moved)


@dataclass(frozen=True)
class SoftmaxPath(TokenPath):
    """Token path p_t(x | x_1) = softmax(logits(x_1, t)), with a user-defined function for the logits.

    At t = 0 the logits should not depend on x_1 and give the source distribution. Towards t = 1 all probability should
    move to x_1; the state at t = 1 is x_1. Source: Shaul et al. 2024, arXiv 2412.03487: a kinetic optimum for any path.
    """

    logits: Callable[[Tensor, Tensor], Tensor]
    """(x_1 [m], t [m]) -> logits of all S tokens, [m, S]; torch differentiates this function in t."""

    def __post_init__(self) -> None:
        if isinstance(self.corrector, LogOddsCorrector):
            raise UsageError(
                "LogOddsCorrector requires a mixture path, not a softmax path", remedy="Use RenoiseCorrector"
            )

    def log_probabilities(self, x_1: Ids, t: Reals, vocab_size: int | None = None) -> LogLaws:
        return self.logits(x_1, t).log_softmax(1)
