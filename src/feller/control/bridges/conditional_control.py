"""Optimisation of the Gaussian path of each endpoint pair by its knots (points of its mean and standard deviation).

Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233. Unlike in the paper, the kinetic
energy is computed in closed form and only the state cost is sampled: without a cost the gradient has no noise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.bridges.conditional_cost import BaseDrift, ConditionalCost, Knots, PathNoise
from feller.control.bridges.costs import StateCost
from feller.control.bridges.gaussian_paths import GaussianPaths, interpolation, quadrature
from feller.core.errors import UsageError
from feller.core.rng import Rng

NUM_EVALUATIONS = 8
"""Number of Monte Carlo estimates averaged for the final value of the objective."""
MOMENTUM = 0.5
"""Weight of the previous value in the momentum, which is an exponential moving average of the steps."""
SECOND_MOMENT_DECAY = 0.8
"""Weight of the previous value in the running second moment of the steps."""
AVERAGED_FRACTION = 0.25
"""Fraction of the optimisation steps, at their end, over which the knots are averaged."""
MIN_STEP_BOUND = 1e-12
"""Lower limit of the bound on the length of a step, which decays during the optimisation."""
MIN_LOGGED_STEPS = 30
"""Minimum number of optimisation steps at which the objective is logged."""


@dataclass(frozen=True, eq=False)
class ControlTrace:
    """Values of the objective during and after the optimisation of paths, relative to that of the Brownian bridge.

    Values are in squared state units per time.
    """

    steps: tuple[int, ...]
    objective: tuple[float, ...]
    """Monte Carlo estimate, at each logged step, of the mean objective over the pairs."""
    kinetic: Float[Tensor, " n"]
    """Final kinetic energy of each pair."""
    state: Float[Tensor, " n"]
    """Final state cost of each pair, estimated with new samples."""


@dataclass(frozen=True, kw_only=True)
class ConditionalControl:
    """Optimiser of the Gaussian path between each pair of endpoints.

    It minimises E int 1/2 |u|^2 + V dt, where u is the drift of the path and V the state cost. The variables are the
    knots of the path: values of its mean and standard deviation at equally spaced times. The length of each step is
    bounded, and the bound decays during the optimisation.
    """

    mean_knots: int = 15
    """Number of knots of the mean, both ends included."""
    scale_knots: int = 30
    """Number of knots of the ratio of the standard deviation to that of the Brownian bridge, both ends included."""
    steps: int = 200
    times: int = 60
    """Number of times sampled per step, stratified over [0, 1]."""
    num_samples: int = 2
    """Number of states sampled per path and time; even, because the states are antithetic pairs around the mean."""
    mean_rate: float = 0.03
    """Bound on the first step of the mean knots, in units of the root mean square distance between the endpoints."""
    scale_rate: float = 0.2
    """Bound on the first step of the knots of the standard deviation ratio, before the softplus is applied."""
    chunk_size: int | None = None
    """Number of endpoint pairs optimised together, which also form the population of a mean-field cost; None for all
    pairs."""

    def __post_init__(self) -> None:
        if self.num_samples < 2 or self.num_samples % 2:
            raise UsageError("an even number of samples, for antithetic pairs", f"{self.num_samples}")
        pairs = 1 if self.chunk_size is None else self.chunk_size
        if min(self.mean_knots, self.scale_knots) < 2 or min(self.steps, self.times, pairs) < 1:
            raise UsageError(
                "mean_knots and scale_knots of at least 2, and steps, times and chunk_size of at least 1",
                (self.mean_knots, self.scale_knots, self.steps, self.times, self.chunk_size),
            )

    def solve(
        self,
        paths: GaussianPaths,
        cost: StateCost,
        rng: Rng,
        *,
        base_drift: BaseDrift | None = None,
        backward: bool = False,
        on_progress: Callable[[float], None] = lambda fraction: None,
    ) -> tuple[GaussianPaths, ControlTrace]:
        """Optimise the knots of paths; the number of knots does not change.

        For a cost without a gradient, a score-function gradient is estimated from cost values at antithetic states.
        It needs more samples. It is unbiased, except that it ignores how a pair affects the population term of
        other pairs. Above 128 dimensions its variance is too high, so only differentiable cost terms contribute.

        Args:
            paths: Initial paths.
            cost: State cost V.
            rng: Source of random numbers; the result of a pair depends on other pairs only if the cost depends on the
                population.
            base_drift: Drift f of the uncontrolled process; the energy becomes 1/2 |u - f|^2. The gradient of this
                energy is estimated from values of f, so f may be discontinuous; above 128 dimensions autograd is used
                instead.
            backward: True to use, with a base drift f, the energy 1/2 |v + f|^2 of the backward drift v.
            on_progress: Callback with the completed fraction.

        Raises:
            UsageError: If the noise is 0 and the cost has no gradient.
        """
        if not paths.noise and not cost.differentiable:
            raise UsageError(expected="noise above 0, because a cost without a gradient needs samples around the path")
        chunk_size = _even_chunk_size(len(paths.means), self.chunk_size)
        starts = range(0, len(paths.means), chunk_size)
        rate = self.mean_rate * _length_unit(paths)
        solutions: list[tuple[GaussianPaths, ControlTrace]] = []
        for start in starts:
            chunk = paths.select(slice(start, start + chunk_size))
            objective = ConditionalCost(
                cost.bind_pairs(chunk.means[:, 0], chunk.means[:, -1]), paths.noise, base_drift, backward
            )
            chunk_rng = Rng(rng.seed, rng.first_example + start, rng.global_batch_size)
            done = len(solutions)
            solutions.append(
                self._solve(
                    chunk,
                    objective,
                    rate,
                    chunk_rng,
                    lambda progress, done=done: on_progress((done + progress) / len(starts)),
                )
            )
        return _concatenate_solutions(solutions)

    def _solve(
        self,
        paths: GaussianPaths,
        objective: ConditionalCost,
        rate: float,
        rng: Rng,
        on_progress: Callable[[float], None],
    ) -> tuple[GaussianPaths, ControlTrace]:
        """Return the optimised paths of a group of endpoint pairs, and the trace of the objective."""
        optimizer, logged = KnotOptimizer(self, paths, objective, rate), dict[int, Tensor]()
        for step in range(self.steps):
            value = optimizer.step(step, rng)
            if step % max(1, self.steps // MIN_LOGGED_STEPS) == 0:
                logged[step] = value
                on_progress(step / self.steps)
        solution = optimizer.finish().to_paths(paths.noise)
        values = torch.stack([*logged.values()]).tolist()
        return solution, ControlTrace(tuple(logged), tuple(values), *optimizer.evaluate(rng.fold_in("judge")))


class KnotOptimizer:
    """Gradient descent on the knots of the path of each endpoint pair, preconditioned by the Hessian of its energy.

    The knots are values of the mean and standard deviation of the path. The Hessian is that of the kinetic energy.

    Without a state cost, one step is a Newton step. Step lengths are bounded by a running second moment, as in Adam,
    because bounding a rare large step by its own length would bias the mean. The result is the average of the knots
    over the last steps.
    """

    def __init__(
        self, config: ConditionalControl, paths: GaussianPaths, objective: ConditionalCost, rate: float
    ) -> None:
        self.config, self.objective = config, objective
        self.knots = Knots.from_paths(paths)
        (d, k, _), num_scales = self.knots.means.shape, len(self.knots.scales)
        metrics = stiffness_of_means(k), stiffness_of_scales(num_scales, d * (paths.noise or 1.0) ** 2)
        self._descents = [
            _Descent(knots, torch.linalg.inv(metric).to(knots), bound)
            for knots, metric, bound in zip(self.knots, metrics, (rate, config.scale_rate), strict=True)
        ]

    def step(self, number: int, rng: Rng) -> Tensor:
        """Take one optimisation step; return the objective before the step, averaged over the pairs.

        Args:
            number: Index of the step, from which the bound on its length is computed.
            rng: Source of random numbers for the estimate of the objective.
        """
        with torch.enable_grad():
            energy, state = self.objective.estimate(self.knots, self._sample(rng, number))
            objective = energy + state
            grads = torch.autograd.grad(objective.sum(), self.knots, allow_unused=True)
        decay = (1 + math.cos(math.pi * number / self.config.steps)) / 2
        for descent, grad in zip(self._descents, grads, strict=True):
            if grad is not None:  # without noise there is no deviation
                descent.step(grad, decay, average=number >= (1 - AVERAGED_FRACTION) * self.config.steps)
        return objective.detach().mean()

    def finish(self) -> Knots:
        """Return the knots averaged over the last steps."""
        for descent in self._descents:
            descent.finish()
        return self.knots

    def evaluate(self, rng: Rng) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return the kinetic energy and the state cost of each pair."""
        with torch.no_grad():
            evaluations = [self.objective.estimate(self.knots, self._sample(rng, k)) for k in range(NUM_EVALUATIONS)]
            energy, state = (torch.stack(values).mean(0) for values in zip(*evaluations, strict=True))
            return energy, state

    def _sample(self, rng: Rng, step: int) -> PathNoise:
        return PathNoise.sample(self.knots, self.config.times, self.config.num_samples // 2, rng, step)


def _even_chunk_size(n: int, max_size: int | None) -> int:
    """Return the size of nearly equal chunks of at most `max_size` pairs.

    Unequal chunks could leave a single pair, whose population would be itself.
    """
    return n if max_size is None else -(-n // -(-n // max_size))


class _Descent:
    """Optimiser of the knots of all means, or of all scales: momentum, and steps of bounded size."""

    def __init__(self, knots: Tensor, inverse: Tensor, bound: float) -> None:
        self.knots, self.inverse, self.bound = knots.detach()[..., 1:-1, :], inverse, bound  # the ends stay
        self.momentum_buffer, self.total = torch.zeros_like(self.knots), torch.zeros_like(self.knots)
        self.second_moment = self.knots.new_zeros(self.knots.shape[-1])
        self.steps = self.averaged = 0

    def step(self, grad: Tensor, decay: float, *, average: bool) -> None:
        """Take one preconditioned step of bounded size; `decay` multiplies the bound of the first step.

        With `average`, the new knots count in the average that `finish` takes.
        """
        direction = self.inverse @ grad[..., 1:-1, :]
        self.steps += 1
        self.momentum_buffer.lerp_(direction, 1 - MOMENTUM)
        self.second_moment.lerp_(direction.square().reshape(-1, direction.shape[-1]).mean(0), 1 - SECOND_MOMENT_DECAY)
        rms = (self.second_moment / (1 - SECOND_MOMENT_DECAY**self.steps)).sqrt()
        bound = max(decay * self.bound, MIN_STEP_BOUND)
        self.knots -= self.momentum_buffer * (bound / (1 - MOMENTUM**self.steps) / (rms + bound))
        if average:
            self.total += self.knots
            self.averaged += 1

    def finish(self) -> None:
        """Replace the knots by their average over the steps with `average`."""
        if self.averaged:
            self.knots.copy_(self.total / self.averaged)


def stiffness_of_means(knots: int) -> Float[Tensor, "k k"]:
    """Return the Hessian of 1/2 int |m'|^2 dt, the kinetic energy of the mean m of a path.

    It is the Hessian with respect to the inner knots of one coordinate. `knots` is the number of knots, both ends
    included.
    """
    inner = torch.eye(knots - 2, dtype=torch.float64)
    return (knots - 1) * (2 * inner - inner.roll(1, 0).tril() - inner.roll(-1, 0).triu())


def stiffness_of_scales(knots: int, size: float) -> Float[Tensor, "l l"]:
    """Return the Hessian, at the Brownian bridge, of the kinetic energy with respect to the inner scale knots.

    Args:
        knots: Number of knots, both ends included.
        size: Dimension of the state times the squared noise.
    """
    t, weights = quadrature(knots)
    values, slopes = (matrix[:, 1:-1] for matrix in interpolation(t, knots))
    bridge_variance, softplus_slope = t * (1 - t), 1 - math.exp(-1)  # derivative of softplus where its value is 1
    value_term = values.T * (weights / bridge_variance) @ values
    slope_term = slopes.T * (weights * bridge_variance) @ slopes
    return size * softplus_slope**2 * (value_term + slope_term)


def _length_unit(paths: GaussianPaths) -> float:
    """Return the length by which learning rates are multiplied: sqrt(d^2 + noise^2).

    d is the root mean squared distance, per coordinate, between the start and end points of the paths.
    """
    mean_sq = (paths.means[:, -1] - paths.means[:, 0]).square().mean().item()
    return math.sqrt(mean_sq + paths.noise**2)


def _concatenate_solutions(
    solutions: Sequence[tuple[GaussianPaths, ControlTrace]],
) -> tuple[GaussianPaths, ControlTrace]:
    paths, traces = zip(*solutions, strict=True)
    counts = torch.tensor([len(chunk.means) for chunk in paths], dtype=torch.float64)
    objective = counts / counts.sum() @ torch.tensor([trace.objective for trace in traces], dtype=torch.float64)
    return (
        GaussianPaths(
            torch.cat([chunk.means for chunk in paths]), torch.cat([chunk.scales for chunk in paths]), paths[0].noise
        ),
        ControlTrace(
            traces[0].steps,
            tuple(objective.tolist()),
            torch.cat([trace.kinetic for trace in traces]),
            torch.cat([trace.state for trace in traces]),
        ),
    )
