"""Inverse problems: examples that explain what was observed, by a model that never saw the problem."""

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
"""Deviation of measurements, in units of the states, below which a smaller one only makes the search slower."""


@dataclass(frozen=True)
class Measurement:
    """Measurements of examples, and how they came about."""

    operator: Operator
    y: Float[Tensor, " b *m"]
    noise: float = 0.0
    """Standard deviation of the measurements, in their units."""
    to_data_units: Callable[[Tensor], Tensor] = lambda state: state
    """States -> values in the units that the operator takes; affine."""
    scale: float = 1.0
    """How much values change with states."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", self.operator.zero_unmeasured(self.y))

    def predict(self, x: Float[Tensor, " b *d"], unknown: Tensor | None = None) -> Float[Tensor, " b *m"]:
        """Return the measurements of states, without noise."""
        return self.operator(self.to_data_units(x), unknown)

    def residual(
        self, x: Float[Tensor, " b *d"], rows: Tensor, unknown: Tensor | None = None
    ) -> Float[Tensor, " b *m"]:
        """Return measured minus predicted, for the examples with some numbers."""
        return self.y[rows] - self.predict(x, unknown)

    @property
    def effective_noise(self) -> float:
        """That of the measurements, but not so small that it makes the search stiff."""
        return max(self.noise, MIN_NOISE * self.scale)

    def loss(self, x: Float[Tensor, " b *d"], rows: Tensor, unknown: Tensor | None = None) -> Float[Tensor, " b"]:
        """Return half the squared residual, in deviations: nats."""
        return self.residual(x, rows, unknown).square().flatten(1).sum(1) / (2 * self.effective_noise**2)

    @property
    def num_measurements(self) -> int:
        """Measurements of one example that tell something of it; those of a hole do not."""
        return self.operator.num_measurements(self.y[0])

    @property
    def noise_floor(self) -> float:
        """The loss at which the noise would explain what is left; going on would fit it (the discrepancy principle)."""
        return self.num_measurements * self.noise**2 / (2 * self.effective_noise**2)

    def residual_mse(self, x: Float[Tensor, " b *d"], unknown: Tensor | None = None) -> Float[Tensor, " b"]:
        """Return the mean squared residual of all examples, in squared units of the measurements."""
        rows = torch.arange(len(x), device=x.device)
        return self.residual(x, rows, unknown).square().flatten(1).sum(1) / self.num_measurements

    def pinv(self, like: Float[Tensor, " b *d"]) -> Float[Tensor, " b *d"]:
        """Return the posterior mean of states if they were N(0, I), (A^T A + noise^2 I)^-1 A^T y in their units.

        Without noise these are the states of least norm that come nearest to what was measured. States are in the units
        of the source law, in which data have about unit variance, so the noise counts in units of `scale`.

        Raises:
            UsageError: If the operator is not linear.
        """
        operator = require_linear(self.operator)
        zero = self.to_data_units(torch.zeros_like(like))
        return operator.pseudo_inverse(self.y - operator(zero), zero, (self.noise / self.scale) ** 2) / self.scale


def require_linear(operator: Operator) -> LinearOperator:
    """Return an operator, known to be linear; UsageError if it is not."""
    if not isinstance(operator, LinearOperator):
        kind = type(operator).__name__
        raise UsageError(f"this needs a linear operator, and {kind} is none", remedy="Choose `dps` or `source`")
    return operator


@dataclass(frozen=True)
class PriorModel:
    """What a model knows of data."""

    process: Callable[[Tensor], Process]
    """Numbers of examples, [m] -> their flow: each has its own conditions."""
    path: Affine
    """Whose flow it is; without noise."""
    space: Space
    """Where its states live."""


@dataclass(frozen=True)
class InverseSolution:
    """States that explain measurements."""

    state: Float[Tensor, " b *d"]
    residual: Float[Tensor, " b"]
    """Mean square, in squared units of the measurements."""
    nfe: Int64[Tensor, " b"]
    """Network calls for each example; most have a gradient, too."""
    unknown: Float[Tensor, " b *u"] | None = None
    """What was found of the operator, where it has an unknown part."""
    source: Float[Tensor, " b *d"] | None = None
    """What leads to the states, where it was looked for."""


@dataclass(frozen=True, eq=False)
class InverseProblem:
    """Measurements to be explained, as `InverseSolver.restore` tells its arguments."""

    prior_model: PriorModel
    measurement: Measurement
    x_0: Float[Tensor, " b *d"]
    rng: Rng
    on_progress: Callable[[float], None]

    @property
    def rows(self) -> Int64[Tensor, " b"]:
        """Numbers of the examples."""
        return torch.arange(len(self.x_0), device=self.x_0.device)


class InverseSolver(abc.ABC):
    """A way to states that explain measurements. Implement one method to add one."""

    def restore(
        self,
        prior_model: PriorModel,
        measurement: Measurement,
        x_0: Float[Tensor, " b *d"],
        rng: Rng,
        *,
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> InverseSolution:
        """Return states that explain what was measured; what an example becomes does not depend on the batch.

        Args:
            prior_model: The model.
            measurement: What was measured of b examples.
            x_0: Draws of the source law to begin with; other ones give other answers.
            rng: Source of all other randomness.
            on_progress: Hears the share that is done.

        Raises:
            UsageError: If this way cannot deal with the operator.
        """
        return self.solve(InverseProblem(prior_model, measurement, x_0, rng, on_progress))

    @abc.abstractmethod
    def solve(self, problem: InverseProblem) -> InverseSolution:
        """Return states that explain what was measured, as `restore` says."""


def check_no_unknown(operator: Operator, method: str) -> None:
    """Refuse an operator with an unknown part; UsageError if it has one."""
    if operator.unknown is not None:
        kind = type(operator).__name__
        raise UsageError(f"{kind} has an unknown part, which {method} cannot look for", remedy="Choose `source`")


def wiener_estimate(
    measurement: Measurement, mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"], shape: tuple[int, ...]
) -> Float[Tensor, " b *d"]:
    """Return the posterior mean if the data were normal: no network, and a hard rival by the mean squared error.

    Args:
        measurement: Of a linear operator.
        mean: Of the states, flattened.
        covariance: Of the states, flattened.
        shape: Of one state.
    """
    d = math.prod(shape)
    offset = measurement.predict(torch.zeros(1, *shape, dtype=mean.dtype)).flatten(1)
    columns = measurement.predict(torch.eye(d, dtype=mean.dtype).reshape(d, *shape)).flatten(1) - offset
    forward_matrix = columns.T  # [m, d]
    rest = measurement.y.flatten(1).to(mean) - offset - mean @ columns
    inner = forward_matrix @ covariance @ columns + measurement.noise**2 * torch.eye(len(forward_matrix)).to(mean)
    found = mean + rest @ torch.linalg.pinv(inner, hermitian=True) @ forward_matrix @ covariance
    return found.reshape(-1, *shape)
