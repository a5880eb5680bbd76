"""Straight and curved lines between real vectors: flow matching, and diffusion as one of its processes."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_kind
from feller.core.pytree import pad_right
from feller.core.rng import Draw
from feller.paths.path import Path, Times, check_times, leads_elsewhere
from feller.paths.predictions import Prediction, Score, Velocity, coefficients, combine
from feller.paths.processes import Characteristics
from feller.paths.schedules import Linear, Number, Scales, Schedule, common_scales
from feller.spaces import Euclidean, Manifold, Space, Tokens
from feller.spaces.space import Points


class NoiseLevel(abc.ABC):
    """How much noise the process carries; every level keeps the marginals of the path."""

    @abc.abstractmethod
    def variance(self, scales: Scales) -> Number:
        """Return g^2 at the times of the scales, [b], or one for all."""


@dataclass(frozen=True)
class Constant(NoiseLevel):
    """g^2 at all times; the drift is infinite at t = 1 where sigma is 0, so give the solver small last steps."""

    g: float = 1.0

    def variance(self, scales: Scales) -> Number:
        """Return g^2."""
        return self.g**2


@dataclass(frozen=True)
class Vanishing(NoiseLevel):
    """g(t)^2 = c sigma_t: the drift stays finite at both ends."""

    c: float = 1.0

    def variance(self, scales: Scales) -> Number:
        """Return c sigma_t."""
        return self.c * scales.sigma


@dataclass(frozen=True)
class Memoryless(NoiseLevel):
    """g^2 = 2 sigma W / alpha, infinite at t = 0 but for a cap: the end knows nothing of the start."""

    most: float = 200.0

    def variance(self, scales: Scales) -> Number:
        """Return 2 sigma W / alpha, capped."""
        return (2 * scales.eta).clamp(max=self.most)


@dataclass(frozen=True)
class Level(NoiseLevel):
    """g^2 from a formula of your own, a function of the scales: it means the same on every schedule.

    `scales.sigma` and so on are tensors. Let it vanish at least as fast as sigma, or the drift is infinite at t = 1.
    """

    formula: Callable[[Scales], Tensor]

    def variance(self, scales: Scales) -> Number:
        """Evaluate the formula."""
        plain = (torch.as_tensor(n, dtype=torch.float64) if isinstance(n, float) else n for n in scales)
        return self.formula(Scales(*plain))


@dataclass(frozen=True)
class Affine(Path):
    """x_t = alpha_t x_1 + sigma_t x_0.

    Source: Lipman et al. 2024, arXiv 2412.06264, section 4; with noise, section 10.4 there: the drift gains
    g^2 / 2 times the score, which keeps every marginal.
    """

    answers_like_state = True
    schedule: Schedule = field(default_factory=Linear)
    prediction: Prediction = field(default_factory=Velocity)
    """What the network answers."""
    noise: NoiseLevel | None = None
    """None for a flow; a noise level needs a standard normal source, independent of the data."""

    def __post_init__(self) -> None:
        check_kind("schedule", self.schedule, Schedule, "feller.Linear()")
        check_kind("prediction", self.prediction, Prediction, "feller.Source() for epsilon, feller.Data() for x_1")
        if self.noise is not None:
            check_kind("noise", self.noise, NoiseLevel, "feller.Vanishing()")

    def check_space(self, space: Space, name: str = "path") -> None:
        """Refuse symbols, and curved spaces, which straight lines leave."""
        curved = isinstance(space, Manifold) and not isinstance(space, Euclidean)
        if curved or isinstance(space, Tokens):
            why = "whose straight lines leave it" if curved else "a path of real numbers"
            raise leads_elsewhere(self, space, name, why)

    @property
    def affine_schedule(self) -> Schedule:
        """Return the schedule."""
        return self.schedule

    def sample(self, x_0: Points, x_1: Points, t: Times, draw: Draw | None = None) -> Points:
        """Return the point between the ends; there is nothing to draw."""
        check_times(t, x_1)
        return self.schedule.point(x_0, x_1, pad_right(t, x_1))

    def sample_with_target(self, x_0: Points, x_1: Points, t: Times, draw: Draw | None = None) -> tuple[Points, Points]:
        """Return both; times are not looked at, since laws of ours draw them and those of others were."""
        column = pad_right(t, x_1)
        if isinstance(self.prediction, Velocity):
            return self.schedule.point_with_slope(x_0, x_1, column)
        x_t = self.schedule.point(x_0, x_1, column)
        return x_t, self.target(x_t, x_0, x_1, t)

    def target(self, x_t: Points, x_0: Points, x_1: Points, t: Times) -> Points:
        """Return what the network predicts, in terms of the ends: by default alpha' x_1 + sigma' x_0."""
        t = pad_right(t, x_1)
        if isinstance(self.prediction, Velocity):
            return self.schedule.slope(x_0, x_1, t)
        scales = self.schedule(t)
        a, b = self.prediction.row(scales)
        return (a * x_1 + b * x_0) * self.prediction.unit(scales)

    def characteristics(self, prediction: Points, x_t: Points, t: Times) -> Characteristics:
        """Return the velocity, and with a noise level its diffusion and the drift that pays for it."""
        if self.noise is None and isinstance(self.prediction, Velocity):
            return Characteristics(velocity=prediction)
        if prediction.shape != x_t.shape:  # torch would give each column the answer about one
            raise UsageError(
                f"the network answers with {list(prediction.shape)} and the state is {list(x_t.shape)}; it must answer"
                " in the state's shape"
            )
        scales = common_scales(self.schedule, t)
        c, d = coefficients(self.prediction, Velocity(), scales)
        if self.noise is None:
            return Characteristics(velocity=combine(c, x_t, d, prediction))
        variance = self.noise.variance(scales)
        score_c, score_d = coefficients(self.prediction, Score(), scales)
        drift = combine(c + variance / 2 * score_c, x_t, d + variance / 2 * score_d, prediction)
        diffusion = torch.as_tensor(variance, dtype=x_t.dtype, device=x_t.device).reshape(-1)
        return Characteristics(velocity=drift, diffusion=pad_right(diffusion, x_t))

    def start(self, x_0: Tensor) -> Tensor:
        """Return sigma_0 x_0: a schedule that explodes the variance scales its source."""
        sigma = self.schedule(torch.zeros((), dtype=torch.float64)).sigma
        return x_0 * float(sigma)
