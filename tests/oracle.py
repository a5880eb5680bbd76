"""Closed forms and exact tools for comparison."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.pytree import append_dims
from feller.core.rng import Rng
from feller.paths import DataPrediction, NoisePrediction, Prediction, ScorePrediction, VelocityPrediction, VPrediction
from feller.paths.processes import Characteristics, Process
from feller.paths.schedules import Linear, Schedule
from feller.sampling import GaussianSolver, Solver

F64 = torch.float64


def f64(*values: float) -> Tensor:
    """Return a float64 tensor of some numbers."""
    return torch.tensor(values, dtype=F64)


def column(*values: float) -> Tensor:
    """Return numbers as states of one entry each, [b, 1]."""
    return f64(*values)[:, None]


def number(value: Tensor | float) -> float:
    """Return a scale, a float or a tensor of one entry, as a float."""
    return float(value)


@dataclass(frozen=True)
class Normal:
    """Data N(m, s^2) and a source N(0, 1) on an affine path: every prediction and the flow are known."""

    schedule: Schedule = field(default_factory=Linear)
    m: float = 1.0
    s: float = 0.5

    def moments(self, t: float) -> tuple[float, float]:
        """Return mean and variance of X_t."""
        scales = self.schedule(f64(t))
        alpha, sigma = number(scales.alpha), number(scales.sigma)
        return alpha * self.m, (alpha * self.s) ** 2 + sigma**2

    def predict(self, kind: Prediction, x: Tensor, t: Tensor) -> Tensor:
        """Return the exact prediction at states [b, ...] and times [b]."""
        a, s, d_a, d_s = (append_dims(torch.as_tensor(v, dtype=x.dtype).expand(t.shape), x) for v in self.schedule(t))
        variance, away = (a * self.s) ** 2 + s**2, x - a * self.m
        answers = {
            VelocityPrediction: d_a * self.m + (a * d_a * self.s**2 + s * d_s) / variance * away,
            DataPrediction: self.m + a * self.s**2 / variance * away,
            NoisePrediction: s / variance * away,
            ScorePrediction: -away / variance,
        }
        answers[VPrediction] = (a * answers[NoisePrediction] - s * answers[DataPrediction]) / (a**2 + s**2).sqrt()
        return answers[type(kind)]

    def flow(self, x: Tensor, t: Tensor) -> Characteristics:
        """Return the velocity alone, as a process."""
        return Characteristics(velocity=self.predict(VelocityPrediction(), x, t))

    def carry(self, x: Tensor, t: float, s: float) -> Tensor:
        """Integrate the exact flow from time t to s."""
        (mean, variance), (then, later) = self.moments(t), self.moments(s)
        return then + math.sqrt(later / variance) * (x - mean)


def chain(
    solver: GaussianSolver, process: Process, times: Sequence[float], mean: float, variance: float
) -> tuple[float, float]:
    """Return mean and variance after a chain of Gaussian steps whose means are affine in x, exactly.

    Two states tell the whole map of a step: x = 0 its offset, x = 1 its slope.
    """
    for t, s in itertools.pairwise(times):
        mapped, noise = solver.moments(process, column(0.0, 1.0), t, s)
        offset, slope = mapped[0].item(), (mapped[1] - mapped[0]).item()
        mean, variance = offset + slope * mean, slope**2 * variance
        variance += 0.0 if noise is None else noise.flatten()[0].item()
    return mean, variance


def orders(solver: Solver, process: Process, x: Tensor, truth: Tensor, grids: Sequence[Sequence[float]]) -> list[float]:
    """Return log2 of the ratio of errors from one grid to the next, twice as fine."""
    errors = []
    for times in grids:
        y, stepper = x, solver.init_stepper()
        for i, (t, s) in enumerate(itertools.pairwise(times)):
            y = stepper.step(process, y, t, s, Rng(0).stream("simulate", i))
        errors.append((y - truth).abs().max().item())
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


def close(actual: Tensor, expected: Tensor | Sequence[float] | float, tolerance: float) -> None:
    """Compare to an absolute tolerance."""
    torch.testing.assert_close(
        actual, torch.as_tensor(expected, dtype=actual.dtype).reshape(actual.shape), rtol=0, atol=tolerance
    )
