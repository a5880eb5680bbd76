"""Jump paths of numbers, angles and rotations, and superpositions with flows of the same marginals."""

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.rng import RandomStream, categorical
from feller.paths.discrete.token_distribution import masked_uniform, times_at
from feller.paths.jumps.conditional_path import ConditionalPath
from feller.paths.jumps.endpoint_support import (
    CircularBins,
    EndpointGrid,
    EndpointSupport,
    FinalStep,
    IntervalBins,
    MeanEndpoint,
    SampleEndpoint,
)
from feller.paths.jumps.gaussian import GaussianConditionalPath
from feller.paths.jumps.jump_step_rules import IntegratedRate, JumpStepRule
from feller.paths.jumps.von_mises import VonMisesConditionalPath
from feller.paths.path import Path
from feller.paths.processes import Characteristics, Jumps
from feller.paths.schedules import Linear


@dataclass(frozen=True, kw_only=True)
class JumpPath(Path):
    """Path whose entries follow a conditional path given their endpoint z; the network predicts the posterior of z.

    One prediction gives the flow of the mean conditional velocity, the jumps of the mean conditional rates, and any
    weighted sum of both, chosen when sampling. Train an endpoint grid with cross-entropy, a point estimate with squared
    error. Jumps of several entries in one step are independent, so use small steps if entries depend on each other.

    Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587.
    """

    conditional_path: ConditionalPath = field(default_factory=GaussianConditionalPath)
    endpoint_support: EndpointSupport = field(default_factory=IntervalBins)
    jump_weight: float = 0.5
    """Weight of the jumps: 0 for the flow alone, 1 for jumps alone."""
    step_rule: JumpStepRule | None = None
    """Rule for steps of finite length; None for the default of the conditional path."""
    corrector_rate: float = 0.0
    """Rate of extra jumps, forward and time-reversed, relative to the path's jumps; extra jumps keep the marginals."""
    final_step: FinalStep = field(default_factory=SampleEndpoint)

    def __post_init__(self) -> None:
        check_number("jump_weight", self.jump_weight, ge=0, le=1)
        check_number("corrector_rate", self.corrector_rate, ge=0, lt=float("inf"))
        is_circular = isinstance(self.endpoint_support, CircularBins)
        is_von_mises = isinstance(self.conditional_path, VonMisesConditionalPath)
        is_compatible = self.conditional_path.event_ndim == 0 and is_circular == is_von_mises
        if isinstance(self.endpoint_support, EndpointGrid) and not is_compatible:
            raise UsageError(
                f"{type(self.conditional_path).__name__} does not support {type(self.endpoint_support).__name__}",
                remedy="Use CircularBins for von Mises paths, IntervalBins or LatticeLevels for Gaussian paths,"
                " PointEstimate for rotations",
            )
        is_linear = isinstance(self.conditional_path, GaussianConditionalPath) and isinstance(
            self.conditional_path.schedule, Linear
        )
        if isinstance(self._step_rule, IntegratedRate) and not is_linear:
            raise UsageError(
                f"IntegratedRate supports only real numbers with Linear(), not {self.conditional_path}",
                remedy="Use MaximalCoupling()",
            )

    @property
    def has_jumps(self) -> bool:
        return self.jump_weight > 0 or not isinstance(self.final_step, MeanEndpoint)

    @property
    def _step_rule(self) -> JumpStepRule:
        return self.step_rule or (
            self.conditional_path.default_rule_with_flow
            if 0 < self.jump_weight < 1
            else self.conditional_path.default_rule
        )

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, rng: RandomStream | None = None) -> Tensor:
        """Transport x_0 to time t along the conditional path given x_1; x_0 must be independent of the data."""
        return self.conditional_path.sample(x_0, x_1, self._time_like_parts(t, x_1))

    def target(self, x_t: Tensor, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        return self.endpoint_support.target(x_1)

    def complete_prediction(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.endpoint_support.complete_prediction(
            self.conditional_path, prediction, x_t, self._time_like_parts(t, x_t)
        )

    def initial_state(self, x_0: Tensor) -> Tensor:
        return self.conditional_path.initial_state(x_0)

    def _time_like_parts(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the times t [b] with axes of size 1, so that they broadcast against the entries of the states x.

        If all examples share one time, by `expand`, only one is returned.
        """
        if t.stride(0) == 0 and len(t):
            t = t[:1]
        return t.reshape(-1, *(1,) * (x.ndim - self.conditional_path.event_ndim - 1))

    def characteristics(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Characteristics:
        """Return (1 - jump_weight) times the flow plus jump_weight times the jumps."""
        p, z = self.endpoint_support.candidates(
            self.complete_prediction(prediction, x_t, t), self.conditional_path.event_ndim
        )
        velocity = None
        if self.jump_weight < 1:
            velocity = (1 - self.jump_weight) * self.conditional_path.mean_velocity(
                x_t, z, p, self._time_like_parts(t, x_t)
            ).to(x_t.dtype)
        return Characteristics(velocity, jumps=self._mixed_jumps(p, z, x_t, t) if self.has_jumps else None)

    def _mixed_jumps(self, p: Tensor, z: Tensor, x_t: Tensor, t: Tensor) -> Jumps:
        """Return the mixture, with weights p, of the jumps towards each endpoint z.

        An endpoint is sampled only for entries that jump.
        """
        event_ndim = self.conditional_path.event_ndim
        shape = x_t.shape[: x_t.ndim - event_ndim]

        @functools.cache
        def hazard(s: float) -> Tensor:
            if s >= 1 or self.jump_weight == 0:
                value = torch.inf if s >= 1 else 0.0
                return torch.full((1,) * len(shape), value, dtype=torch.float64, device=x_t.device).expand(shape)
            jump_prob = (p * self._jump_prob(x_t, z, self._time_like_parts(t, x_t), s)).sum(-1)
            return -torch.log1p(-jump_prob.double().clamp(max=1)).expand(shape)

        def sample_destination(s: float, mask: Tensor, rng: RandomStream) -> Tensor:
            indices = mask.flatten().nonzero()[:, 0]
            x, time = x_t.flatten(0, len(shape) - 1)[indices], times_at(t, indices, mask)
            endpoint_probs = p.flatten(0, -2)[indices]
            endpoints = z if z.ndim == 1 else z.flatten(0, len(shape) - 1)[indices]
            u, v, *uniforms = (masked_uniform(rng, mask) for _ in range(2 + self.conditional_path.num_uniforms))
            is_jump = s < 1 and self.jump_weight > 0
            # given a jump, endpoints have weight p(z | x_t) lambda(z), not p(z | x_t)
            weights = endpoint_probs * self._jump_prob(x, endpoints, time, s) if is_jump else endpoint_probs
            has_no_weight = weights.sum(-1, keepdim=True) <= 0  # all may be 0 at a later evaluation
            index = categorical(torch.where(has_no_weight, endpoint_probs, weights), u)
            if not is_jump:
                return self.final_step.endpoint(self.endpoint_support, endpoint_probs, endpoints, index, v)
            return self._sample_destination(x, endpoints, index, time, s, v, torch.stack(uniforms, -1))

        return Jumps(hazard, sample_destination)

    def _log_density_change(self, x: Tensor, z: Tensor, t: Tensor, s: float) -> Tensor:
        """Return log p_s(x | z) - log p_t(x | z) as the step rule approximates it, [..., K], for endpoints z.

        The endpoints are [K], or [..., K, *event] if each entry has its own.
        """
        t = t.double()[..., None]
        return self._step_rule.log_density_change(
            self.conditional_path, x.unsqueeze(-1 - self.conditional_path.event_ndim), z, t, torch.full_like(t, s)
        )

    def _jump_prob(self, x: Tensor, z: Tensor, t: Tensor, s: float) -> Tensor:
        """Return the probability that an entry x jumps between times t and s, for each of the endpoints z, [..., K]."""
        change = self._log_density_change(x, z, t, s)
        num_jumps = change.neg().clamp_(min=0).mul_(self.jump_weight * (1 + self.corrector_rate))
        if self.corrector_rate:
            num_jumps = num_jumps + self.jump_weight * self.corrector_rate * change.clamp(min=0)
        return -torch.expm1(-self._step_rule.hazard(num_jumps))

    def _sample_destination(
        self, x: Tensor, z: Tensor, index: Tensor, t: Tensor, s: float, v: Tensor, uniforms: Tensor
    ) -> Tensor:
        """Sample destinations at time s: where the density given the endpoint rises, or falls for reversed jumps."""
        endpoint, start = self.endpoint_support.select(z, index, v), t.double()
        a, b = self._step_rule.destination_times(start, torch.full_like(start, s))
        destination = self.conditional_path.sample_increase(endpoint, a, b, uniforms)
        if not self.corrector_rate:
            return destination
        change = self._log_density_change(x, z, t, s).gather(-1, index[:, None])[:, 0]
        is_reversed = change > 0
        return torch.where(
            is_reversed.reshape(-1, *(1,) * self.conditional_path.event_ndim),
            self.conditional_path.sample_decrease(endpoint, a, b, uniforms),
            destination,
        )
