"""Inverse problems: samples of a model that explain measurements, without training on the problem."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.control.inverse.operators import LinearOperator, Operator
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths.affine import Affine
from feller.paths.processes import Process
from feller.spaces import Space

MIN_NOISE = 0.01
"""Minimum effective noise, in units of the states; a smaller noise makes the search ill-conditioned without improving
the result."""


@dataclass(frozen=True)
class Measurement:
    """Measurements of a batch of examples, with the measurement operator and the noise level."""

    operator: Operator
    y: Float[Tensor, " b *m"]
    noise: float = 0.0
    """Standard deviation of the measurement noise, in units of the measurements."""
    to_data_units: Callable[[Tensor], Tensor] = lambda state: state
    """Affine map from states to the data units of the operator."""
    scale: float = 1.0
    """Length of one state unit in data units."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", self.operator.zero_unmeasured(self.y))

    def predict(self, x: Float[Tensor, " b *d"], unknown: Tensor | None = None) -> Float[Tensor, " b *m"]:
        """Return noise-free measurements of states; `unknown` holds the operator's unknown parameters, if any."""
        return self.operator(self.to_data_units(x), unknown)

    def residual(
        self, x: Float[Tensor, " b *d"], rows: Tensor, unknown: Tensor | None = None
    ) -> Float[Tensor, " b *m"]:
        """Return the measured values of the examples `rows` minus the values predicted from their states.

        Args:
            x: States, one per entry of `rows`.
            rows: Indices of the examples among all measurements.
            unknown: Unknown parameters of the operator, one entry per state; None if it has none.
        """
        return self.y[rows] - self.predict(x, unknown)

    @property
    def effective_noise(self) -> float:
        """Measurement noise, bounded below to keep the search well conditioned."""
        return max(self.noise, MIN_NOISE * self.scale)

    def loss(self, x: Float[Tensor, " b *d"], rows: Tensor, unknown: Tensor | None = None) -> Float[Tensor, " b"]:
        """Return half the squared residual, divided by the noise variance, in nats; arguments as for `residual`."""
        return self.residual(x, rows, unknown).square().flatten(1).sum(1) / (2 * self.effective_noise**2)

    @property
    def num_measurements(self) -> int:
        """Number of measurements per example, without masked measurements."""
        return self.operator.num_measurements(self.y[0])

    @property
    def noise_floor(self) -> float:
        """Loss at which the noise explains the residual; a lower loss overfits the noise (discrepancy principle)."""
        return self.num_measurements * self.noise**2 / (2 * self.effective_noise**2)

    def residual_mse(self, x: Float[Tensor, " b *d"], unknown: Tensor | None = None) -> Float[Tensor, " b"]:
        """Return the mean squared residual per example, in squared measurement units.

        `x` holds the states of all examples, and `unknown` the operator's unknown parameters, if it has any.
        """
        rows = torch.arange(len(x), device=x.device)
        return self.residual(x, rows, unknown).square().flatten(1).sum(1) / self.num_measurements

    def pinv(self, like: Float[Tensor, " b *d"]) -> Float[Tensor, " b *d"]:
        """Return the posterior mean of states with prior N(0, I): (A^T A + noise^2 I)^-1 A^T y in state units.

        Without noise this is the least-squares solution of minimum norm. In state units the data have about unit
        variance, so the noise is divided by `scale`.

        Args:
            like: Tensor with the shape of the states.

        Raises:
            UsageError: If the operator is not linear.
        """
        operator = require_linear(self.operator)
        zero = self.to_data_units(torch.zeros_like(like))
        return operator.pseudo_inverse(self.y - operator(zero), zero, (self.noise / self.scale) ** 2) / self.scale


def require_linear(operator: Operator) -> LinearOperator:
    """Return the operator if it is linear; UsageError otherwise."""
    if not isinstance(operator, LinearOperator):
        name = type(operator).__name__
        raise UsageError(
            f"this method needs a linear operator, but {name} is not linear", remedy="Use `dps` or `source`"
        )
    return operator


@dataclass(frozen=True)
class PriorModel:
    """Pretrained flow that serves as the prior in an inverse problem, with its path and state space."""

    process: Callable[[Tensor], Process]
    """Function from indices of examples, [m], to the flow of these examples; their conditions can differ."""
    path: Affine
    """Path of the flow, which must have no noise."""
    space: Space


@dataclass(frozen=True)
class InverseSolution:
    """Solution of an inverse problem: reconstructed states and their residuals."""

    state: Float[Tensor, " b *d"]
    residual: Float[Tensor, " b"]
    """Mean squared residual, in squared measurement units."""
    nfe: Int64[Tensor, " b"]
    """Number of network evaluations per example; most evaluations include a gradient."""
    unknown: Float[Tensor, " b *u"] | None = None
    """Estimated unknown parameters of the operator."""
    source: Float[Tensor, " b *d"] | None = None
    """Source of the states, for methods that optimise it."""
    ess: Float[Tensor, "steps groups"] | None = None
    """Effective sample size of each group of particles after each step, for methods with particles."""


@dataclass(frozen=True, eq=False)
class InverseProblem:
    """Inverse problem: prior model, measurements and initial sources, which are the arguments of `restore`."""

    prior_model: PriorModel
    measurement: Measurement
    x_0: Float[Tensor, " b *d"]
    rng: Rng
    on_progress: Callable[[float], None]

    @property
    def rows(self) -> Int64[Tensor, " b"]:
        """Indices of all examples, 0 to b - 1."""
        return torch.arange(len(self.x_0), device=self.x_0.device)


class InverseSolver(abc.ABC):
    """Base class of inverse-problem methods. Subclasses implement `solve`."""

    def restore(
        self,
        prior_model: PriorModel,
        measurement: Measurement,
        x_0: Float[Tensor, " b *d"],
        rng: Rng,
        *,
        on_progress: Callable[[float], None] = lambda fraction: None,
    ) -> InverseSolution:
        """Reconstruct states from measurements; the result of an example does not depend on the other examples.

        Args:
            prior_model: Pretrained model used as the prior.
            measurement: Measurements of b examples.
            x_0: Initial source samples; different samples give different reconstructions.
            rng: Random streams.
            on_progress: Callback with the completed fraction.

        Raises:
            UsageError: If the method does not support the operator.
        """
        return self.solve(InverseProblem(prior_model, measurement, x_0, rng, on_progress))

    @abc.abstractmethod
    def solve(self, problem: InverseProblem) -> InverseSolution:
        """Reconstruct the states of a problem, which holds the arguments of `restore`, from its measurements."""


def check_no_unknown(operator: Operator, method: str) -> None:
    """Raise a UsageError if an operator has unknown parameters; the message says that `method` cannot estimate them."""
    if operator.unknown is not None:
        name = type(operator).__name__
        raise UsageError(
            f"{name} has unknown parameters, which {method} cannot estimate", remedy="Use the method `source`"
        )


def wiener_estimate(
    measurement: Measurement, mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"], shape: tuple[int, ...]
) -> Float[Tensor, " b *d"]:
    """Return the posterior mean for normally distributed data (Wiener filter), a strong baseline in squared error.

    Args:
        measurement: Measurements of a linear operator.
        mean: Mean of the flattened states.
        covariance: Covariance of the flattened states.
        shape: Shape of one state.
    """
    d = math.prod(shape)
    offset = measurement.predict(torch.zeros(1, *shape, dtype=mean.dtype)).flatten(1)
    columns = measurement.predict(torch.eye(d, dtype=mean.dtype).reshape(d, *shape)).flatten(1) - offset
    forward_matrix = columns.T  # [m, d]
    residuals = measurement.y.flatten(1).to(mean) - offset - mean @ columns
    cov_y = forward_matrix @ covariance @ columns + measurement.noise**2 * torch.eye(len(forward_matrix)).to(mean)
    estimates = mean + residuals @ torch.linalg.pinv(cov_y, hermitian=True) @ forward_matrix @ covariance
    return estimates.reshape(-1, *shape)
