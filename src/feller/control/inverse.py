"""Inverse problems: examples that explain what was observed, by a model that never saw the problem."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.operators import LinearOperator, Operator
from feller.errors import UsageError
from feller.paths.affine import Affine
from feller.paths.predictions import Data, Velocity, convert
from feller.processes import Characteristics, Process
from feller.schedules import common_scales
from feller.tree import pad_right

LEAST = 0.01
"""Deviation of measurements, in units of the states, below which a smaller one only makes the search slower."""


@dataclass(frozen=True)
class Observation:
    """Measurements of examples, and how they came about."""

    operator: Operator
    measured: Float[Tensor, " b *m"]
    noise: float = 0.0
    """Standard deviation of the measurements, in their units."""
    values: Callable[[Tensor], Tensor] = lambda state: state
    """States -> values in the units that the operator takes; affine."""
    scale: float = 1.0
    """How much values change with states."""

    def predicted(self, x: Float[Tensor, " b *d"], unknown: Tensor | None = None) -> Float[Tensor, " b *m"]:
        """Return the measurements of states, without noise."""
        return self.operator(self.values(x), unknown)

    def residual(
        self, x: Float[Tensor, " b *d"], rows: Tensor, unknown: Tensor | None = None
    ) -> Float[Tensor, " b *m"]:
        """Return measured minus predicted, for the examples with some numbers."""
        return self.measured[rows] - self.predicted(x, unknown)

    @property
    def deviation(self) -> float:
        """That of the measurements, but not so small that it makes the search stiff."""
        return max(self.noise, LEAST * self.scale)

    def loss(self, x: Float[Tensor, " b *d"], rows: Tensor, unknown: Tensor | None = None) -> Float[Tensor, " b"]:
        """Return half the squared residual, in deviations: nats."""
        return self.residual(x, rows, unknown).square().flatten(1).sum(1) / (2 * self.deviation**2)

    @property
    def enough(self) -> float:
        """The loss at which the noise would explain what is left; going on would fit it (the discrepancy principle)."""
        counted = self.measured[0].numel()
        return counted * self.noise**2 / (2 * self.deviation**2)


class Guidance(abc.ABC):
    """What is added to the velocity so that the end explains the measurements. Implement one method to add one."""

    @abc.abstractmethod
    def force(self, seen: "Seen") -> Float[Tensor, " b *d"]:
        """Return what is added, in state per time."""


@dataclass(frozen=True)
class Seen:
    """A state on its way, and the end that the model expects from there."""

    observation: Observation
    x_t: Float[Tensor, " b *d"]
    """Wants a gradient."""
    expected: Float[Tensor, " b *d"]
    """E[x_1 | x_t], a function of x_t."""
    rows: Tensor
    alpha: float
    sigma: float
    eta: float
    """Weight of a score in the velocity."""

    def residual(self) -> Float[Tensor, " b *m"]:
        """Return measured minus predicted of the expected end."""
        return self.observation.residual(self.expected, self.rows)

    def pulled(self, output: Tensor, weights: Tensor) -> Float[Tensor, " b *d"]:
        """Return the gradient in the state of a weighted sum of outputs."""
        return torch.autograd.grad(output, self.x_t, weights)[0]


@dataclass(frozen=True)
class PiGDM(Guidance):
    """The score of the measurements if the end were normal around what is expected, with variance r^2.

    r^2 = sigma^2 / (sigma^2 + alpha^2), right for normal data of variance 1. Needs a linear operator. Source: Song et
    al. 2023, "Pseudoinverse-guided diffusion models for inverse problems", ICLR; on flows Pokle et al. 2023,
    arXiv 2310.04432.
    """

    scale: float = 1.0
    """On the score; larger ones than 1 often are better by the mean squared error."""

    def force(self, seen: Seen) -> Float[Tensor, " b *d"]:
        """Return eta J^T A^T (r^2 A A^T + noise^2)^-1 (y - A expected)."""
        about = seen.observation
        operator = about.operator
        if not isinstance(operator, LinearOperator):
            raise UsageError("this guidance needs a linear operator; choose `dps` or a search for the source")
        r = seen.sigma**2 / (seen.sigma**2 + seen.alpha**2)
        predicted = about.predicted(seen.expected)
        rest = (about.measured[seen.rows] - predicted).detach()
        weights = operator.solve(rest, about.values(seen.expected).detach(), r * about.scale**2, about.noise**2)
        return self.scale * seen.eta * seen.pulled(predicted, weights)


@dataclass(frozen=True)
class DPS(Guidance):
    """The slope of the distance between measured and predicted, for any operator; its scale is for you to choose.

    Source: Chung et al. 2023, "Diffusion posterior sampling for general noisy inverse problems", arXiv 2209.14687.
    """

    scale: float = 10.0

    def force(self, seen: Seen) -> Float[Tensor, " b *d"]:
        """Return minus the scaled gradient of `|y - A expected|`."""
        distance = seen.residual().square().flatten(1).sum(1).add(1e-12).sqrt() / seen.observation.scale
        return -self.scale * seen.pulled(distance, torch.ones_like(distance))


def guided(process: Process, path: Affine, observation: Observation, guidance: Guidance, rows: Tensor) -> Process:
    """Let measurements steer a flow.

    Args:
        process: The flow of the examples with these numbers.
        path: An affine path without noise, whose flow it is.
        observation: What was measured.
        guidance: How it is heard.
        rows: Numbers of the examples.
    """

    def steered(x: Tensor, t: Tensor) -> Characteristics:
        scales = common_scales(path.schedule, t)
        with torch.enable_grad():
            x_t = x.detach().requires_grad_()
            velocity = process(x_t, t).velocity
            expected = convert(velocity, Velocity(), Data(), x_t, scales)
            alpha, sigma = (float(torch.as_tensor(n).flatten()[0]) for n in scales[:2])
            eta = min(float(scales.eta.flatten()[0]), MOST_ETA)
            force = guidance.force(Seen(observation, x_t, expected, rows, alpha, sigma, eta))
        return Characteristics(velocity.detach() + force.detach())

    return steered


MOST_ETA = 1e3
"""Of the weight of a score, which is infinite at the source."""


@dataclass(frozen=True)
class RedDiff:
    """A regularised fit: examples move until they explain the measurements, and the model finds them likely.

    Source: Mardani et al. 2023, "A variational perspective on solving inverse problems with diffusion models", arXiv
    2305.04391.
    """

    weight: float = 0.25
    """Of the model against the measurements."""
    lr: float = 0.1
    steps: int = 100

    def run(
        self,
        process: Process,
        path: Affine,
        observation: Observation,
        start: Float[Tensor, " b *d"],
        noises: Callable[[int], Tensor],
        rows: Tensor,
    ) -> Float[Tensor, " b *d"]:
        """Return the fitted states.

        Args:
            process: The flow of the examples with these numbers.
            path: An affine path without noise, whose flow it is.
            observation: What was measured.
            start: States to start from, such as those of the pseudo-inverse.
            noises: Number of a step -> normal numbers in the shape of the states.
            rows: Numbers of the examples.
        """
        x = start.clone()
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        for step in range(self.steps):
            time = (step + 0.5) / self.steps
            t = torch.full((len(x),), time, dtype=x.dtype, device=x.device)
            scales = path.schedule(t)
            alpha, sigma = (pad_right(torch.as_tensor(n, dtype=x.dtype).expand(len(x)), x) for n in scales[:2])
            noise = noises(step)
            with torch.no_grad():
                state = alpha * x + sigma * noise
                expected = convert(process(state, t).velocity, Velocity(), Data(), state, scales)
                away = (state - alpha * expected) / sigma - noise
            with torch.enable_grad():
                here = x.detach().requires_grad_()
                fit = observation.residual(here, rows).square().sum() / (2 * observation.scale**2)
                (slope,) = torch.autograd.grad(fit, here)
            slope = slope + self.weight * away * (sigma / alpha).clamp(max=1 / LEAST)
            first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope.square()
            size = (second / (1 - 0.99 ** (step + 1))).sqrt() + 1e-8
            x = x - self.lr * first / (1 - 0.9 ** (step + 1)) / size
        return x


def wiener(
    observation: Observation, mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"], shape: tuple[int, ...]
) -> Float[Tensor, " b *d"]:
    """Return the posterior mean if the data were normal: no network, and a hard rival by the mean squared error.

    Args:
        observation: Of a linear operator.
        mean: Of the states, flattened.
        covariance: Of the states, flattened.
        shape: Of one state.
    """
    d = math.prod(shape)
    offset = observation.predicted(torch.zeros(1, *shape, dtype=mean.dtype)).flatten(1)
    columns = observation.predicted(torch.eye(d, dtype=mean.dtype).reshape(d, *shape)).flatten(1) - offset
    seen = columns.T  # [m, d]
    rest = observation.measured.flatten(1).to(mean) - offset - mean @ columns
    inner = seen @ covariance @ columns + (observation.noise**2 + 1e-8) * torch.eye(len(seen), dtype=mean.dtype)
    found = mean + torch.linalg.solve(inner, rest.T).T @ seen @ covariance
    return found.reshape(-1, *shape)
