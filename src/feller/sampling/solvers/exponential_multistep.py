"""Exponential multistep solvers for flows on affine paths: DPM-Solver++, UniPC and DEIS.

Each treats the part of the flow that is linear in the state exactly, and extrapolates the predicted data or noise from
previous steps. They need one network evaluation per step. Times are measured by lambda = log(alpha / sigma), the log of
the square root of the signal-to-noise ratio, which is infinite where alpha or sigma is 0; a step to or from there is of
order 1.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from feller.core.errors import UsageError, check_kind
from feller.core.pytree import State, tree_map
from feller.core.rng import RandomStream
from feller.paths.predictions import (
    DataPrediction,
    NoisePrediction,
    Prediction,
    VelocityPrediction,
    conversion_coefficients,
    linear_combination,
)
from feller.paths.processes import Process
from feller.paths.schedules import Linear, Schedule
from feller.sampling.solvers.linear_step import Ancestral, alpha_sigma_at
from feller.sampling.solvers.solver import (
    MultistepSolver,
    MultistepStepper,
    add_noise,
    check_continuous,
    expand_time,
    flow_velocity,
)

PANELS, POINTS = 40, 8
"""Panels of the quadrature of DEIS in each half of a step, and its points in each panel."""


class MultistepWeights(NamedTuple):
    """Step x_s = on_state x_t + sum_k on_predictions[k] prediction_k + sqrt(variance) noise; k = 0 is the newest."""

    on_state: float
    on_predictions: Sequence[float]
    variance: float = 0.0


@dataclass(frozen=True)
class ExponentialMultistep(MultistepSolver):
    """Base class of exponential multistep solvers; subclasses implement `weights`."""

    schedule: Schedule = field(default_factory=Linear)
    """Schedule of the path."""

    prediction: ClassVar[Prediction] = DataPrediction()
    """Type of the prediction that is extrapolated."""
    order: ClassVar[int] = 2
    """Number of predictions in a step."""
    first_eta: ClassVar[float] = 0.0
    """Noise of the first step, which is one of `Ancestral`: 0 for DDIM."""

    def __post_init__(self) -> None:
        check_kind("schedule", self.schedule, Schedule, "feller.VP()")

    @abc.abstractmethod
    def weights(self, times: Sequence[float], s: float) -> MultistepWeights:
        """Return the weights of a step to time s.

        Args:
            times: Times of 2 to `order` predictions, newest first; the step starts at the first.
            s: Time at the end of the step.
        """

    def corrector_weights(self, times: Sequence[float], s: float) -> MultistepWeights | None:
        """Return the weights of the corrected step that ended at s, or None without a correction.

        The newest prediction is the one at time s, which the next step needs, too; the others are at `times`.
        """
        return None

    def init_stepper(self) -> MultistepStepper:
        return _ExponentialStepper(self)


class _ExponentialStepper(MultistepStepper):
    """Stepper whose memory holds the last times and predictions, and the state at the start of the last step."""

    def __init__(self, rule: ExponentialMultistep) -> None:
        self.rule = rule

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        rule, name = self.rule, type(self.rule).__name__
        check_continuous(x, name)
        if s < t:
            expected, found = f"an increasing grid for {name}", f"a step from {t:g} to {s:g}"
            raise UsageError(argument="times", expected=expected, found=found, remedy="Use Midpoint() to go back")
        velocity = tree_map(lambda leaf: flow_velocity(leaf, name), process(x, expand_time(x, t)))
        c, d = conversion_coefficients(VelocityPrediction(), rule.prediction, alpha_sigma_at(rule.schedule, t))
        prediction = tree_map(lambda x, v: linear_combination(c, x, d, v), x, velocity)
        times, predictions, start = self.memory or ((), (), None)
        corrected = rule.corrector_weights(times, t) if times else None
        if corrected is not None:
            x = _combine(corrected, start, (prediction, *predictions))
        times, predictions = (t, *times)[: rule.order], (prediction, *predictions)[: rule.order]
        self.memory = (times, predictions, x)
        if len(times) == 1:  # also from alpha = 0, where noise predictions do not determine the data
            first = Ancestral(rule.schedule, rule.first_eta).linear_step(t, s)
            mean, variance = first.mean(x, velocity), first.variance
        else:
            step = rule.weights(times, s)
            mean, variance = _combine(step, x, predictions), step.variance
        return tree_map(lambda mean: add_noise(mean, _broadcast(variance, mean), rng), mean)


def _combine(step: MultistepWeights, x: State, predictions: Sequence[State]) -> State:
    """Return the mean of a step."""

    def combine(x: Tensor, *values: Tensor) -> Tensor:
        total = step.on_state * x
        for weight, value in zip(step.on_predictions, values, strict=False):
            total = torch.add(total, value, alpha=weight)
        return total

    return tree_map(combine, x, *predictions)


def _broadcast(variance: float, mean: Tensor) -> Tensor | None:
    return mean.new_full((1,) * mean.ndim, variance) if variance else None


class _Scales(NamedTuple):
    """Values of a schedule at one time, and lambda = log(alpha / sigma)."""

    alpha: float
    sigma: float
    log_snr: float


def _scales(schedule: Schedule, time: float) -> _Scales:
    alpha, sigma, *_ = alpha_sigma_at(schedule, time)
    alpha, sigma = float(alpha), float(sigma)
    log_snr = -math.inf if alpha <= 0 else math.inf if sigma <= 0 else math.log(alpha / sigma)
    return _Scales(alpha, sigma, log_snr)


@dataclass(frozen=True)
class DPMSolver(ExponentialMultistep):
    """DPM-Solver++(2M): order 2, by linear extrapolation of the data prediction in lambda = log(alpha / sigma).

    With `stochastic`, a step is one of SDE-DPM-Solver++(2M), which adds noise. The first step is one of DDIM, or of
    ancestral sampling if noise is added. Source: Lu et al. 2022, "DPM-Solver++", arXiv 2211.01095, algorithm 2.
    """

    stochastic: bool = False
    """Solve the reverse SDE instead of the ODE."""

    @property
    def first_eta(self) -> float:  # pyrefly: ignore[bad-override] - depends on the field
        """Noise of the first step: 1 for ancestral sampling."""
        return float(self.stochastic)

    def weights(self, times: Sequence[float], s: float) -> MultistepWeights:
        then, start, end = (_scales(self.schedule, time) for time in (times[1], times[0], s))
        ratio = end.sigma / start.sigma
        decay = ratio * start.alpha / end.alpha  # exp(-h), with the step h in lambda
        shrink = decay**2 if self.stochastic else decay
        gain = end.alpha * (1 - shrink)
        step = end.log_snr - start.log_snr
        slope = step / (start.log_snr - then.log_snr) / 2 if math.isfinite(step) else 0.0
        return MultistepWeights(
            ratio * decay if self.stochastic else ratio,
            (gain * (1 + slope), -gain * slope),
            end.sigma**2 * (1 - shrink) if self.stochastic else 0.0,
        )


@dataclass(frozen=True)
class UniPC(ExponentialMultistep):
    """UniPC: a predictor through the last 2 or 3 data predictions, and a corrector without further evaluations.

    The corrector improves the state at the start of a step by the prediction there; the last state is not corrected.
    The function B(h) of the source is exp(h) - 1 ("bh2"). Source: Zhao et al. 2023, "UniPC", arXiv 2302.04867.
    """

    order: int = 2  # pyrefly: ignore[bad-override] - a field here
    """Number of predictions in the predictor: 2 or 3."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (2, 3):
            raise UsageError("order 2 or 3", self.order, argument="order")

    def weights(self, times: Sequence[float], s: float) -> MultistepWeights:
        start, end = (_scales(self.schedule, time) for time in (times[0], s))
        return self._weights(times, start, end, corrected=False)

    def corrector_weights(self, times: Sequence[float], s: float) -> MultistepWeights | None:
        start, end = (_scales(self.schedule, time) for time in (times[0], s))
        if not math.isfinite(end.log_snr - start.log_snr):
            return None
        return self._weights(times, start, end, corrected=True)

    def _weights(self, times: Sequence[float], start: _Scales, end: _Scales, *, corrected: bool) -> MultistepWeights:
        earlier = [_scales(self.schedule, time).log_snr for time in times[1:]]
        ratio, h = end.sigma / start.sigma, end.log_snr - start.log_snr
        gain = end.alpha - ratio * start.alpha
        nodes = [(value - start.log_snr) / h for value in earlier if math.isfinite(value)] if math.isfinite(h) else []
        all_nodes = [1.0, *nodes] if corrected else nodes
        differences = [gain * a / r for a, r in zip(_bh2_coefficients(all_nodes, h), all_nodes, strict=True)]
        on_end, on_earlier = (differences[:1], differences[1:]) if corrected else ([], differences)
        return MultistepWeights(ratio, [*on_end, gain - sum(differences), *on_earlier])


def _bh2_coefficients(nodes: Sequence[float], h: float) -> list[float]:
    """Return the coefficients of the differences to the predictions at `nodes`, in units of the step h in lambda.

    They solve sum_k a_k r_k^(i - 1) = i! phi_(i + 1)(-h) / phi_1(-h) for i = 1, 2, ..., with the nodes r_k. A single
    node has the coefficient 1/2.
    """
    if len(nodes) < 2:
        return [0.5] * len(nodes)
    phi_1 = phi = math.expm1(-h) / -h
    targets = []
    for i in range(1, len(nodes) + 1):
        phi = (phi - 1 / math.factorial(i)) / -h
        targets.append(math.factorial(i) * phi / phi_1)
    return np.linalg.solve(np.vander(nodes, increasing=True).T, targets).tolist()


@dataclass(frozen=True)
class DEIS(ExponentialMultistep):
    """DEIS: exponential integrator through the last 2 to 4 noise predictions, by a polynomial in t (tAB-DEIS).

    The first steps use fewer predictions. The integrals of the polynomial against the schedule are computed by
    quadrature. Source: Zhang and Chen 2022, "Fast sampling of diffusion models with exponential integrator",
    arXiv 2204.13902.
    """

    order: int = 2  # pyrefly: ignore[bad-override] - a field here
    """Number of predictions in a step: 2, 3 or 4."""

    prediction = NoisePrediction()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (2, 3, 4):
            raise UsageError("order 2, 3 or 4", self.order, argument="order")

    def weights(self, times: Sequence[float], s: float) -> MultistepWeights:
        start, end = (_scales(self.schedule, time) for time in (times[0], s))
        integrals = _integrals(self.schedule, times, s)
        return MultistepWeights(end.alpha / start.alpha, [end.alpha * value for value in integrals])


def _integrals(schedule: Schedule, nodes: Sequence[float], s: float) -> list[float]:
    """Return the integrals of the Lagrange polynomials of `nodes` against d(sigma / alpha), from nodes[0] to s.

    They are integrated by parts, since the derivative of sigma may be infinite where there is no noise; their sum is
    exact. Gauss-Legendre
    quadrature on panels that shrink towards both ends, where the derivative may grow without bound.
    """
    t = nodes[0]
    growing = torch.tensor([0.0, *(2.0**-k for k in range(PANELS, 0, -1))], dtype=torch.float64)
    edges = torch.cat([growing, 1 - growing[:-1].flip(0)])
    points, point_weights = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(POINTS))
    half = (edges[1:] - edges[:-1])[:, None] / 2
    offsets = (s - t) * (half * points + (edges[1:] + edges[:-1])[:, None] / 2).flatten().numpy()
    scales = schedule(torch.from_numpy(t + offsets))
    ratios = torch.as_tensor(scales.sigma / scales.alpha).numpy()
    cells = ((s - t) * (half * point_weights)).flatten().numpy()
    start, end = (_scales(schedule, time) for time in (t, s))
    integrals = []
    for node in nodes:
        others = [other - t for other in nodes if other != node]
        polynomial = np.poly1d(others, r=True) / math.prod(node - t - other for other in others)
        boundary = polynomial(s - t) * end.sigma / end.alpha - polynomial(0.0) * start.sigma / start.alpha
        integrals.append(float(boundary - (cells * ratios * np.polyval(polynomial.deriv(), offsets)).sum()))
    return integrals
