"""Metric path: token probabilities concentrate around the data as beta(t) grows."""

import abc
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import append_dims
from feller.paths.discrete.correctors import LogOddsCorrector
from feller.paths.discrete.rates import CHUNK_SIZE, Ids, KineticOptimalRates, LogLaws, Reals
from feller.paths.discrete.step_rules import ForwardIncrement, MidpointIncrement
from feller.paths.discrete.token_distances import TokenDistance
from feller.paths.discrete.token_path import TokenPath
from feller.paths.path import Places, Times
from feller.spaces.space import Points
from feller.spaces.tokens import UniformSource

BetaFunction = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function from times to (beta, time derivative of beta), both in the shape of the times."""
_NODES = 257
_ANCHORS = 256
"""Maximum number of data tokens over which the Fisher speed (root of the Fisher information) is averaged."""


class BetaSchedule(abc.ABC):
    """Increasing function beta(t) of a metric path; subclasses implement `build`.

    Source: Shaul et al. 2024, "Flow Matching with General Discrete Paths", arXiv 2412.03487.
    """

    @abc.abstractmethod
    def build(self, distance: TokenDistance) -> BetaFunction:
        """Return the function beta(t) and its time derivative, for a token distance."""


@dataclass(frozen=True)
class PowerBeta(BetaSchedule):
    """Power schedule beta = c (t / (1 - t))^a.

    Published values: a = 5, c = 1 and distance exponent 3 for pixels; a = 0.9, c = 3 for codebooks.

    Source: Shaul et al. 2024, "Flow Matching with General Discrete Paths", arXiv 2412.03487.
    """

    a: float = 2.0
    c: float = 3.0

    def __post_init__(self) -> None:
        if not (0 < self.a < float("inf") and 0 < self.c < float("inf")):
            raise UsageError("a and c must be positive and finite", found=f"{self.a:g} and {self.c:g}")

    def build(self, distance: TokenDistance) -> BetaFunction:

        def beta(t: Tensor) -> tuple[Tensor, Tensor]:
            odds = t / (1 - t)
            return self.c * odds**self.a, self.c * self.a * odds ** (self.a - 1) / (1 - t) ** 2

        return beta


@dataclass(frozen=True)
class ConstantSpeedBeta(BetaSchedule):
    """Minimal-energy beta: the root of the Fisher information, averaged over the data, is constant in time.

    A metric path is the same curve for any beta, so this is a parameterization by arc length:
    int_0^beta sqrt(mean of Var d) is proportional to t. Here Var d is the variance of the distance d(x, x_1) over the
    tokens x of the path, and the mean is over the data tokens x_1.

    Source: Shaul et al. 2024, "Flow Matching with General Discrete Paths", arXiv 2412.03487.
    """

    max_beta: float | None = None
    """Limit of beta at t = 1; default: 8 / (median distance of nearest tokens).

    With the default, a token at this distance from the data is e^-8 times as likely as the data token.
    """
    weights: tuple[float, ...] | None = None
    """Frequency of each token in the data; None for uniform frequencies."""

    def __post_init__(self) -> None:
        check_number("max_beta", self.max_beta, gt=0, lt=float("inf"))
        for token, weight in enumerate(self.weights or ()):
            check_number(f"weights[{token}]", weight, ge=0, lt=float("inf"))

    def build(self, distance: TokenDistance) -> BetaFunction:
        """Return beta(t): tabulate the arc length over log beta, then invert the table by cubic Hermite splines."""
        anchors, weights = self._data(distance)
        max_distance = float(distance.max_distance(anchors).max())
        if not 0 < max_distance < float("inf"):
            raise UsageError("a largest distance that is positive and finite", f"{max_distance:g}")
        scale = 1 / max_distance  # above this, the grid of beta is logarithmic
        max_beta = 8 / distance.median_nearest() if self.max_beta is None else self.max_beta
        log_beta = torch.linspace(0, math.log1p(max_beta / scale), _NODES, dtype=torch.float64)
        betas = scale * torch.expm1(log_beta)
        d = distance.to_data(anchors)
        speed = torch.stack([_speed(beta, d, weights) for beta in betas.tolist()]) * (betas + scale)
        arc_length = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumulative_trapezoid(speed, log_beta)])
        times, derivatives = arc_length / arc_length[-1], arc_length[-1] / speed

        def beta(t: Tensor) -> tuple[Tensor, Tensor]:
            x = t.double()
            t_0, y_0, m_0 = (table.to(t.device) for table in (times, log_beta, derivatives))
            i = (torch.searchsorted(t_0, x.contiguous(), right=True) - 1).clamp(0, _NODES - 2)
            interval = t_0[i + 1] - t_0[i]
            u = (x - t_0[i]) / interval
            difference, m, n = y_0[i + 1] - y_0[i], m_0[i] * interval, m_0[i + 1] * interval
            quadratic, cubic = 3 * difference - 2 * m - n, m + n - 2 * difference
            y = y_0[i] + u * (m + u * (quadratic + u * cubic))
            derivative = (m + u * (2 * quadratic + u * 3 * cubic)) / interval
            value = torch.where(x >= 1, torch.inf, scale * torch.expm1(y))
            return value.to(t.dtype), (scale * torch.exp(y) * derivative).to(t.dtype)

        return beta

    def _data(self, distance: TokenDistance) -> tuple[Tensor, Tensor]:
        """Return the data tokens over which the speed is averaged, and their weights.

        For large vocabularies these are evenly spaced token ids, a subset of all.
        """
        if self.weights is not None and len(self.weights) != distance.vocab_size:
            raise UsageError(f"{distance.vocab_size} weights, one per token", len(self.weights))
        count = min(distance.vocab_size, _ANCHORS, max(16, CHUNK_SIZE // distance.vocab_size))
        anchors = torch.linspace(0, distance.vocab_size - 1, count, dtype=torch.float64).round().long()
        weights = torch.ones(count, dtype=torch.float64)
        if self.weights is not None:
            weights = torch.tensor(self.weights, dtype=torch.float64)[anchors]
        return anchors, weights / weights.sum()


def _speed(beta: float, d: Tensor, weights: Tensor) -> Tensor:
    """Return the Fisher speed sqrt(E_a Var(d)) at beta, where p(x | a) is proportional to exp(-beta d).

    `d` [n, K] is the distance from each data token a to each token x, and `weights` averages over the data tokens.
    """
    p = (-beta * d).softmax(1)
    mean = (p * d).sum(1, keepdim=True)
    return ((p * (d - mean) ** 2).sum(1) @ weights).sqrt()


@dataclass(frozen=True)
class MetricPath(TokenPath):
    """Metric path p_t(x | x_1) = softmax(-beta_t d(x, x_1)): uniform at t = 0; tokens only move closer to the data.

    Source: Shaul et al. 2024, "Flow Matching with General Discrete Paths", arXiv 2412.03487.
    """

    source = UniformSource()
    distance: TokenDistance
    schedule: BetaSchedule = field(default_factory=ConstantSpeedBeta)

    def __post_init__(self) -> None:
        if isinstance(self.corrector, LogOddsCorrector):
            raise UsageError(
                "LogOddsCorrector requires a mixture path, not a metric path", remedy="Use RenoiseCorrector"
            )

    @functools.cached_property
    def beta(self) -> BetaFunction:
        """Function from times to beta and its time derivative."""
        return self.schedule.build(self.distance)

    def log_probabilities(self, x_1: Ids, t: Reals, vocab_size: int | None = None) -> LogLaws:
        beta, d = self.beta(t)[0][:, None], self._distances(x_1, t, vocab_size)
        return torch.where(d == 0, 0.0, -beta * d).log_softmax(1)

    def time_derivative(self, x_1: Ids, t: Reals, vocab_size: int | None = None) -> LogLaws:
        d = self._distances(x_1, t, vocab_size)
        mean = (self.log_probabilities(x_1, t, vocab_size).exp() * d).sum(1, keepdim=True)
        return self.beta(t)[1][:, None] * (mean - d)

    def _distances(self, x_1: Tensor, t: Tensor, vocab_size: int | None) -> Tensor:
        if vocab_size not in (None, self.distance.vocab_size):
            raise UsageError(f"logits of {self.distance.vocab_size} tokens, as in the distance of the path", vocab_size)
        return self.distance.to_data(x_1).to(t.dtype)

    def max_hazard(self, x_t: Places, t: Times, s: float, vocab_size: int) -> Points:
        """Return a bound on the expected number of jumps until time s: increase of beta times the largest distance."""
        is_default = isinstance(self.velocity, KineticOptimalRates) and isinstance(
            self.step_rule, MidpointIncrement | ForwardIncrement
        )
        if s >= 1 or self.corrector is not None or not is_default:
            return super().max_hazard(x_t, t, s, vocab_size)
        t = t.double()
        increase = self.beta(torch.full_like(t, s))[0] - self.beta(t)[0]
        return append_dims(increase.nan_to_num(nan=0.0), x_t) * self.distance.max_distance(x_t)
