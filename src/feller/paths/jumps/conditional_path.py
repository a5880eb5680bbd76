"""Base classes: conditional probability path p_t(x given z), and rules of finite jump steps."""

import abc
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.errors import UsageError


class ConditionalPath(abc.ABC):
    """The law p_t(x | z) of one part of a state, such as a number or an angle, where z is the end of its path.

    All arguments broadcast: states x and ends z `[..., *event_ndim]`, times t and s [...]. Jumps that carry the law
    along leave where p falls and land where it rises, wherever they come from: no jumps move less mass.
    Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587.
    """

    event_ndim: ClassVar[int] = 0
    """Axes of one part of the state: 0 for a number, 2 for a matrix."""
    num_uniforms: ClassVar[int] = 1
    """Uniform numbers that a landing takes."""

    @property
    @abc.abstractmethod
    def default_rule(self) -> "JumpStepRule":
        """How steps of finite length are taken, unless another way is asked for."""

    @property
    def default_rule_with_flow(self) -> "JumpStepRule":
        """The same for jumps beside a flow, which carries the others meanwhile."""
        return self.default_rule

    @abc.abstractmethod
    def sample(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return what becomes of a draw x_0 of the source by the time t; its law is p_t, and it moves with `velocity`.

        The source must not depend on the data.
        """

    @abc.abstractmethod
    def log_density(self, x: Tensor, z: Tensor, t: Tensor) -> Float[Tensor, "..."]:
        """Return log p_t(x | z) with respect to the volume."""

    @abc.abstractmethod
    def time_derivative(self, x: Tensor, z: Tensor, t: Tensor) -> Float[Tensor, "..."]:
        """Return d/dt log p_t(x | z): minus the rate of jumps where negative."""

    def log_density_change(self, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return log p_s(x | z) - log p_t(x | z)."""
        return self.log_density(x, z, s) - self.log_density(x, z, t)

    def integrated_derivative(self, x: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "..."]:
        """Return the integral of the slope until s in closed form, of which only the state is held.

        Raises:
            UsageError: If it is not known for this law.
        """
        raise UsageError(
            f"IntegratedRate is known for numbers on straight paths, not for {self}", remedy="Use MaximalCoupling()"
        )

    @abc.abstractmethod
    def velocity(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the velocity with which a flow has the law."""

    def mean_velocity(self, x: Tensor, z: Tensor, p: Float[Tensor, "... K"], t: Tensor) -> Tensor:
        """Return the mean of velocities towards ends `[..., K, *event_ndim]` with probabilities p."""
        towards = self.velocity(x.unsqueeze(-1 - self.event_ndim), z, t[..., None])
        weight = p.to(towards.dtype).reshape(*p.shape, *(1,) * self.event_ndim)
        return (weight * towards).sum(-1 - self.event_ndim)

    @abc.abstractmethod
    def sample_increase(self, z: Tensor, t: Tensor, s: Tensor, u: Float[Tensor, "... n"]) -> Tensor:
        """Return draws from where p rises between t and s, in proportion; where the two are one, from its slope.

        Args:
            z: Ends.
            t: Earlier times.
            s: Later times.
            u: Uniform numbers in float64, `num_uniforms` for each.
        """

    @abc.abstractmethod
    def sample_decrease(self, z: Tensor, t: Tensor, s: Tensor, u: Float[Tensor, "... n"]) -> Tensor:
        """Return draws from where p falls between t and s: where the jumps of the law that runs backwards land."""

    def initial_state(self, x_0: Tensor) -> Tensor:
        """Return the state at t = 0 from a draw of the source."""
        return x_0


class JumpStepRule(abc.ABC):
    """What a step from t to s takes for the change of log p. Implement one method to add a way."""

    @abc.abstractmethod
    def log_density_change(
        self, path: ConditionalPath, x: Tensor, z: Tensor, t: Tensor, s: Tensor
    ) -> Float[Tensor, "..."]:
        """Return the change of log p(x | z): minus the expected number of jumps where negative."""

    def hazard(self, number: Tensor) -> Tensor:
        """Return the hazard whose chance of a jump, 1 - exp(-hazard), is the one of this way for a number of jumps."""
        return number

    def destination_times(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the times between which the law rises where jumps land; one time twice for its slope."""
        return s, s


def same_times(t: Tensor, s: Tensor) -> bool:
    """Tell whether two arrays of times are one."""
    return t is s or bool(torch.eq(t, s).all())


@dataclass(frozen=True)
class ConcentrationSchedule:
    """kappa_t = least + scale (factor^t - 1): from nearly uniform at t = 0 to a deviation of 1 / sqrt(kappa_1) radians.

    The paper's, for the orientations of proteins, is ConcentrationSchedule(0.01, 1.0, 200.99**4), with kappa_1 = 1.6e9.
    """

    kappa_min: float = 0.0
    scale: float = 0.05
    factor: float = 8001.0

    def __post_init__(self) -> None:
        if not (self.kappa_min >= 0 and self.scale > 0 and self.factor > 1):
            raise UsageError(
                "a concentration must not be negative and must grow, expected least >= 0, scale > 0, factor > 1",
                found=self,
            )

    def __call__(self, t: Tensor) -> Float64[Tensor, "..."]:
        """Return kappa."""
        return self.kappa_min + self.scale * torch.expm1(math.log(self.factor) * t.double())

    def time_derivative(self, t: Tensor) -> Float64[Tensor, "..."]:
        """Return the time derivative of kappa."""
        return self.scale * math.log(self.factor) * torch.exp(math.log(self.factor) * t.double())
