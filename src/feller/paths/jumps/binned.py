"""Jump path with rates predicted in bins, optionally with a velocity."""

import functools
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from feller.core.errors import UsageError, check_number
from feller.core.pytree import append_dims
from feller.core.rng import RandomStream, categorical
from feller.paths.discrete.token_distribution import masked_uniform
from feller.paths.jumps.conditional_path import ConditionalPath
from feller.paths.jumps.endpoint_support import CircularBins, EndpointGrid, IntervalBins
from feller.paths.jumps.gaussian import GaussianConditionalPath
from feller.paths.jumps.von_mises import VonMisesConditionalPath
from feller.paths.path import Path, Times
from feller.paths.processes import Characteristics, Jumps
from feller.paths.schedules import Linear
from feller.spaces.space import Points

_LOG_ZERO_RATE = -1e30
"""Finite value for the logarithm of a rate of 0."""


@dataclass(frozen=True, kw_only=True)
class BinnedJumpPath(Path):
    """Jump path whose network predicts logits of the destination bin, a jump rate and optionally a velocity.

    Predictions are [b, ..., bins + 1], or bins + 2 with a velocity. The rate is the softplus of its entry, divided
    by 1 - t, so that the learned part stays bounded. The loss is `InfinitesimalKL` over all bins but the state's own,
    or `RateAndVelocityLoss` with a velocity. This is the paper's parameterization; `JumpPath` needs only a posterior.

    Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587.
    """

    conditional_path: ConditionalPath = field(default_factory=GaussianConditionalPath)
    bins: EndpointGrid = field(default_factory=lambda: IntervalBins(-1.65, 1.65))
    """Bins of jump destinations. They must reach beyond the data: early jumps towards data in [-1, 1] reach +-1.618."""
    jump_weight: float | None = None
    """Weight w of the jumps; the flow has weight 1 - w. None for jumps alone, without a predicted velocity."""

    def __post_init__(self) -> None:
        check_number("jump_weight", self.jump_weight, ge=0, le=1)
        if self.conditional_path.event_ndim or isinstance(self.bins, CircularBins) != isinstance(
            self.conditional_path, VonMisesConditionalPath
        ):
            raise UsageError(
                "a Gaussian path requires IntervalBins or LatticeLevels; a von Mises path requires CircularBins"
            )

    @property
    def has_jumps(self) -> bool:
        return self.jump_weight != 0

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, rng: RandomStream | None = None) -> Tensor:
        """Transport x_0 to time t along the conditional path given x_1; x_0 must be independent of the data."""
        return self.conditional_path.sample(x_0, x_1, append_dims(t, x_1))

    def target(self, x_t: Points, x_0: Points, x_1: Points, t: Tensor) -> Float[Tensor, "b *d K"]:
        """Return (1 - t) times the rate to each bin given the data, followed by the velocity if it is predicted.

        The rate to the state's own bin is 0.
        """
        t = append_dims(t, x_1)
        rate = self.conditional_path.time_derivative(x_t, x_1, t).neg().clamp(min=0) * (1 - t)
        rates = torch.where(
            self._own_bin_mask(x_t), 0.0, rate.to(x_t.dtype)[..., None] * self.destination_probs(x_1, t)
        )
        if self.jump_weight is None:
            return rates
        if isinstance(self.conditional_path, GaussianConditionalPath):  # no quotient of small numbers near t = 1
            velocity = self.conditional_path.schedule.time_derivative(x_0, x_1, t)
        else:
            velocity = self.conditional_path.velocity(x_t, x_1, t)
        return torch.cat([rates, velocity[..., None].to(rates.dtype)], -1)

    def destination_probs(self, x_1: Points, t: Tensor) -> Float[Tensor, "b *d K"]:
        """Return the probability that a jump lands in each bin, given the data x_1, from densities at the bin centres.

        If all densities are 0, the bin of the data has probability 1.
        """
        centres = self.bins.centres.to(device=x_1.device, dtype=x_1.dtype)
        z, t = x_1[..., None], t[..., None]
        log_odds = self.conditional_path.time_derivative(centres, z, t).clamp(
            min=0
        ).log() + self.conditional_path.log_density(centres, z, t)
        has_no_mass = log_odds.isneginf().all(-1, keepdim=True)
        data_bin = functional.one_hot(self.bins.target(x_1), len(centres)).to(x_1.dtype)
        return torch.where(has_no_mass, data_bin, torch.where(has_no_mass, 0.0, log_odds).softmax(-1))

    def _own_bin_mask(self, x: Tensor) -> Tensor:
        return self.bins.target(x)[..., None] == torch.arange(len(self.bins.centres), device=x.device)

    def complete_prediction(self, prediction: Float[Tensor, "b *d n"], x_t: Points, t: Tensor) -> Tensor:
        """Return log((1 - t) rate) for each bin, -1e30 for the state's own bin, and the velocity unchanged."""
        count = len(self.bins.centres)
        expected_size = count + 1 + (self.jump_weight is not None)
        if prediction.shape[-1] != expected_size:
            raise UsageError(
                f"predictions with last dimension {expected_size}, {count} of them for the bins", list(prediction.shape)
            )
        log_rate = _log_softplus(prediction[..., count : count + 1])
        log_rates = torch.where(
            self._own_bin_mask(x_t), _LOG_ZERO_RATE, log_rate + prediction[..., :count].log_softmax(-1)
        )
        return torch.cat([log_rates, prediction[..., count + 1 :]], -1)

    def initial_state(self, x_0: Tensor) -> Tensor:
        return self.conditional_path.initial_state(x_0)

    def characteristics(self, prediction: Float[Tensor, "b *d n"], x_t: Points, t: Times) -> Characteristics:
        completed, count = self.complete_prediction(prediction, x_t, t), len(self.bins.centres)
        rates = completed[..., :count].exp()
        jump_weight = 1.0 if self.jump_weight is None else self.jump_weight
        velocity = (1 - jump_weight) * prediction[..., -1].to(x_t.dtype) if jump_weight < 1 else None

        if not self.has_jumps:
            return Characteristics(velocity)

        @functools.cache
        def hazard(s: float) -> Tensor:
            return jump_weight * rates.sum(-1).double() * append_dims(self._rate_integral(t, s), x_t)

        def sample_destination(s: float, mask: Tensor, rng: RandomStream) -> Tensor:
            u, v = masked_uniform(rng, mask), masked_uniform(rng, mask)
            if s < 1:
                return self.bins.select(self.bins.centres.to(x_t.device), categorical(rates[mask], u), v)
            # all entries jump, possibly within their bin
            x, probs = x_t[mask], prediction[..., :count][mask].softmax(-1)
            index = categorical(probs, u)
            is_same_bin = index == self.bins.target(x)
            return torch.where(is_same_bin, x.double(), self.bins.select(self.bins.centres.to(x_t.device), index, v))

        return Characteristics(velocity, jumps=Jumps(hazard, sample_destination))

    def _rate_integral(self, t: Times, s: float) -> Tensor:
        """Return the integral from t to s of the jump rate at a fixed state, for a rate of 1 / (1 - t) at time t."""
        time_ratio = (1 - t.double()) / max(1 - s, 1e-300)
        is_linear = isinstance(self.conditional_path, GaussianConditionalPath) and isinstance(
            self.conditional_path.schedule, Linear
        )
        return (time_ratio.square() - 1) / 2 if is_linear else time_ratio.log()


def _log_softplus(x: Tensor) -> Tensor:
    """Return log(softplus(x)), stable for large negative x."""
    return torch.where(x < -15, x, functional.softplus(x.clamp(min=-15)).log())
