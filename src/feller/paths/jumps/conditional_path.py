"""Base classes of conditional probability paths p_t(x | z) and of finite-step jump rules."""

import abc
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.errors import UsageError


class ConditionalPath(abc.ABC):
    """Conditional probability path p_t(x | z) of one entry of a state (number, angle or rotation) with endpoint z.

    All arguments broadcast: states x and endpoints z have `event_ndim` trailing axes more than times t and s [...].
    Jumps start where p falls and land where p rises; destinations do not depend on the start. No other jump process
    with these marginals moves less mass.
    Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587.
    """

    event_ndim: ClassVar[int] = 0
    """Number of axes of one entry: 0 for a number, 2 for a matrix."""
    num_uniforms: ClassVar[int] = 1
    """Number of uniform random numbers from which one jump destination is sampled."""

    @property
    @abc.abstractmethod
    def default_rule(self) -> "JumpStepRule":
        """Default jump rule for steps of finite length."""

    @property
    def default_rule_with_flow(self) -> "JumpStepRule":
        """Default jump rule if a superposed flow also moves the state during the step."""
        return self.default_rule

    @abc.abstractmethod
    def sample(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Transport a source sample x_0 to time t along `velocity`; the result has distribution p_t(x | z).

        The source must be independent of the data.
        """

    @abc.abstractmethod
    def log_density(self, x: Tensor, z: Tensor, t: Tensor) -> Float[Tensor, "..."]:
        """Return the log density log p_t(x | z) with respect to the volume of the space."""

    @abc.abstractmethod
    def time_derivative(self, x: Tensor, z: Tensor, t: Tensor) -> Float[Tensor, "..."]:
        """Return d/dt log p_t(x | z); where it is negative, its absolute value is the jump rate."""

    def log_density_change(self, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return log p_s(x | z) - log p_t(x | z)."""
        return self.log_density(x, z, s) - self.log_density(x, z, t)

    def integrated_derivative(self, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return the integral of `time_derivative` from t to s at a fixed state, in closed form.

        Raises:
            UsageError: If this path has no closed form.
        """
        raise UsageError(
            f"IntegratedRate supports only real numbers with Linear(), not {self}", remedy="Use MaximalCoupling()"
        )

    @abc.abstractmethod
    def velocity(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the velocity of a flow whose marginals are p_t(x | z)."""

    def mean_velocity(self, x: Tensor, z: Tensor, p: Float[Tensor, "... K"], t: Tensor) -> Tensor:
        """Return the mean of the velocities towards K endpoints z with probabilities p."""
        velocities = self.velocity(x.unsqueeze(-1 - self.event_ndim), z, t[..., None])
        weights = p.to(velocities.dtype).reshape(*p.shape, *(1,) * self.event_ndim)
        return (weights * velocities).sum(-1 - self.event_ndim)

    @abc.abstractmethod
    def sample_increase(self, z: Tensor, t: Tensor, s: Tensor, u: Float[Tensor, "... n"]) -> Tensor:
        """Sample jump destinations from the positive part of p_s - p_t, or of the time derivative of p if t equals s.

        Args:
            z: Endpoints.
            t: Start times.
            s: End times.
            u: Uniform numbers in float64, `num_uniforms` per sample.
        """

    @abc.abstractmethod
    def sample_decrease(self, z: Tensor, t: Tensor, s: Tensor, u: Float[Tensor, "... n"]) -> Tensor:
        """Sample destinations of time-reversed jumps, from the negative part of p_s - p_t.

        Arguments are those of `sample_increase`.
        """

    def initial_state(self, x_0: Tensor) -> Tensor:
        """Return the state at t = 0 from a source sample."""
        return x_0


class JumpStepRule(abc.ABC):
    """Jump rule for a step from t to s, based on the change of log p; subclasses implement `log_density_change`."""

    @abc.abstractmethod
    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        """Return the change of log p(x | z) from t to s.

        Where the change is negative, its absolute value is the expected number of jumps.
        """

    def hazard(self, number: Tensor) -> Tensor:
        """Convert the expected number of jumps to the hazard h for which the jump probability is 1 - exp(-h)."""
        return number

    def destination_times(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the start and end time to pass to `ConditionalPath.sample_increase` for a step from t to s.

        If both are equal, destinations are sampled from the time derivative of p.
        """
        return s, s


def same_times(t: Tensor, s: Tensor) -> bool:
    """Return True if two tensors of times are equal."""
    return t is s or bool(torch.eq(t, s).all())


@dataclass(frozen=True)
class ConcentrationSchedule:
    """Concentration kappa_t = kappa_min + scale (factor^t - 1) of the density around the endpoint at time t.

    For large kappa_t, the standard deviation around the endpoint is about 1 / sqrt(kappa_t) radians. For rotations, it
    is that of half the rotation vector, along each axis.

    arXiv 2410.20587 uses ConcentrationSchedule(0.01, 1.0, 200.99**4) for protein orientations, with kappa_1 = 1.6e9.
    """

    kappa_min: float = 0.0
    scale: float = 0.05
    factor: float = 8001.0

    def __post_init__(self) -> None:
        if not (self.kappa_min >= 0 and self.scale > 0 and self.factor > 1):
            raise UsageError("kappa_min >= 0, scale > 0 and factor > 1, so that kappa is positive and grows", self)

    def __call__(self, t: Tensor) -> Float64[Tensor, "..."]:
        """Return kappa_t."""
        return self.kappa_min + self.scale * torch.expm1(math.log(self.factor) * t.double())

    def time_derivative(self, t: Tensor) -> Float64[Tensor, "..."]:
        """Return the time derivative of kappa_t."""
        return self.scale * math.log(self.factor) * torch.exp(math.log(self.factor) * t.double())
