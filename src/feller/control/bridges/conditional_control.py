"""The best Gaussian path between the two ends of each pair: a control problem per pair, solved for its knots.

Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233. Unlike there the energy of the
control is known in closed form and only the cost is drawn, so that there is no noise where there is no cost.
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
"""Samples like those of a step that the solution is judged by."""
MOMENTUM = 0.5
"""Share of the last step in the next."""
SECOND_MOMENT_DECAY = 0.8
"""Share of what is remembered of the lengths of steps."""
AVERAGED_FRACTION = 0.25
"""Share of the steps, the last ones, whose mean is what is found."""
MIN_STEP_BOUND = 1e-12
"""The least bound of a step."""
MIN_LOGGED_STEPS = 30
"""Steps whose objective is noted, at least."""


@dataclass(frozen=True, eq=False)
class ControlTrace:
    """How pinned paths were found, and what they cost: state squared per time, relative to the Brownian bridge."""

    steps: tuple[int, ...]
    objective: tuple[float, ...]
    """Mean over the pairs before each of these steps, by its own draws."""
    kinetic: Float[Tensor, " n"]
    """Energy of each pair's control at the end."""
    state: Float[Tensor, " n"]
    """Its cost, by draws of its own."""


@dataclass(frozen=True, kw_only=True)
class ConditionalControl:
    """Finds the knots that minimise E int 1/2 |u|^2 + V dt of each pair, by steps whose bound falls to 0."""

    mean_knots: int = 15
    """Where the mean may bend, with both ends."""
    scale_knots: int = 30
    """Where the deviation may, relative to that of the Brownian bridge."""
    steps: int = 200
    times: int = 60
    """Drawn in each step, one in each equal part of [0, 1]."""
    num_samples: int = 2
    """States of each pair at each time, half of them mirror images of the others."""
    mean_rate: float = 0.03
    """Bound of the first step of a mean, in units of the distance between the ends; root mean squares over entries."""
    scale_rate: float = 0.2
    """Bound of the first step of a deviation's knots."""
    chunk_size: int | None = None
    """Pairs that are solved at once, which are also the crowd that they see; None for all."""

    def __post_init__(self) -> None:
        if self.num_samples < 2 or self.num_samples % 2:
            raise UsageError("an even number of draws", f"{self.num_samples}: each has its mirror image")
        pairs = 1 if self.chunk_size is None else self.chunk_size
        if min(self.mean_knots, self.scale_knots) < 2 or min(self.steps, self.times, pairs) < 1:
            raise UsageError(
                "2 knots or more and 1 step, time and pair or more",
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
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> tuple[GaussianPaths, ControlTrace]:
        """Improve paths, with as many knots as they have.

        A cost without gradient is followed by its values on both sides of the mean. That is as right, but takes more
        draws; and of a crowd it sees what the others cost a pair, not what the pair costs the others. In more than 128
        dimensions the noise of that would drown it: only parts that have a gradient are followed then.

        Args:
            paths: Where to begin.
            cost: V.
            rng: Source of all randomness; without a crowd, a pair's path does not depend on who is solved beside it.
            base_drift: Drift f that acts by itself; then the energy is 1/2 |u - f|^2. It is followed by its values, so
                it may jump; in more than 128 dimensions by its gradient.
            backward: With a base, count 1/2 |v + f|^2 of the control back in time.
            on_progress: Hears which share is done.

        Raises:
            UsageError: If there is neither noise nor a gradient, so that nothing tells where to go.
        """
        if not paths.noise and not cost.differentiable:
            raise UsageError(
                expected="noise above 0 for a cost without gradient: without noise nothing tells what is beside a path"
            )
        size = _even_chunk_size(len(paths.means), self.chunk_size)
        begins = range(0, len(paths.means), size)
        rate = self.mean_rate * _length_unit(paths)
        solved: list[tuple[GaussianPaths, ControlTrace]] = []
        for begin in begins:
            some = paths.select(slice(begin, begin + size))
            objective = ConditionalCost(
                cost.bind_pairs(some.means[:, 0], some.means[:, -1]), paths.noise, base_drift, backward
            )
            here = Rng(rng.seed, rng.first_example + begin, rng.global_batch_size)
            done = len(solved)
            solved.append(
                self._solve(
                    some, objective, rate, here, lambda share, done=done: on_progress((done + share) / len(begins))
                )
            )
        return _concatenate_solutions(solved)

    def _solve(
        self,
        paths: GaussianPaths,
        objective: ConditionalCost,
        rate: float,
        rng: Rng,
        on_progress: Callable[[float], None],
    ) -> tuple[GaussianPaths, ControlTrace]:
        """Improve paths that are one crowd."""
        search, logged = KnotOptimizer(self, paths, objective, rate), dict[int, Tensor]()
        for step in range(self.steps):
            value = search.step(step, rng)
            if step % max(1, self.steps // MIN_LOGGED_STEPS) == 0:
                logged[step] = value
                on_progress(step / self.steps)
        found = search.finish().to_paths(paths.noise)
        values = torch.stack([*logged.values()]).tolist()
        return found, ControlTrace(tuple(logged), tuple(values), *search.evaluate(rng.fold_in("judge")))


class KnotOptimizer:
    """Steps downhill from some paths: gradients in the metric of the energy, of bounded length for each pair.

    Without a cost one such step is Newton's. With one it bends a path as a whole, whatever the number of knots. Steps
    are bounded by lengths of earlier ones: by their own, that of a rare long one would count for less, and so would
    what it says. What is found is the mean over the last steps.
    """

    def __init__(
        self, config: ConditionalControl, paths: GaussianPaths, objective: ConditionalCost, rate: float
    ) -> None:
        self.config, self.objective = config, objective
        self.knots = Knots.from_paths(paths)
        (d, k, _), number = self.knots.means.shape, len(self.knots.scales)
        stiffness = stiffness_of_means(k), stiffness_of_scales(number, d * (paths.noise or 1.0) ** 2)
        self._descents = [
            _Descent(knots, torch.linalg.inv(metric).to(knots), bound)
            for knots, metric, bound in zip(self.knots, stiffness, (rate, config.scale_rate), strict=True)
        ]

    def step(self, number: int, rng: Rng) -> Tensor:
        """Take one, and return the mean objective before it."""
        with torch.enable_grad():
            energy, state = self.objective.estimate(self.knots, self._sample(rng, number))
            objective = energy + state
            slopes = torch.autograd.grad(objective.sum(), self.knots, allow_unused=True)
        fall = (1 + math.cos(math.pi * number / self.config.steps)) / 2
        for descent, slope in zip(self._descents, slopes, strict=True):
            if slope is not None:  # without noise there is no deviation
                descent.step(slope, fall, average=number >= (1 - AVERAGED_FRACTION) * self.config.steps)
        return objective.detach().mean()

    def finish(self) -> Knots:
        """Return the mean over the last steps."""
        for descent in self._descents:
            descent.finish()
        return self.knots

    def evaluate(self, rng: Rng) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return energy and cost of each pair."""
        with torch.no_grad():
            evaluations = [self.objective.estimate(self.knots, self._sample(rng, k)) for k in range(NUM_EVALUATIONS)]
            energy, state = (torch.stack(part).mean(0) for part in zip(*evaluations, strict=True))
            return energy, state

    def _sample(self, rng: Rng, step: int) -> PathNoise:
        return PathNoise.sample(self.knots, self.config.times, self.config.num_samples // 2, rng, step)


def _even_chunk_size(n: int, max_size: int | None) -> int:
    """Return the size of equal parts of pairs, of a bounded number each: a crowd of one would meet itself."""
    return n if max_size is None else -(-n // -(-n // max_size))


class _Descent:
    """Steps of one kind of knots."""

    def __init__(self, knots: Tensor, inverse: Tensor, bound: float) -> None:
        self.knots, self.inverse, self.bound = knots.detach()[..., 1:-1, :], inverse, bound  # the ends stay
        self.momentum_buffer, self.total = torch.zeros_like(self.knots), torch.zeros_like(self.knots)
        self.second_moment = self.knots.new_zeros(self.knots.shape[-1])
        self.steps = self.averaged = 0

    def step(self, slope: Tensor, fall: float, *, average: bool) -> None:
        """Take one; `fall` scales the bound."""
        newest = self.inverse @ slope[..., 1:-1, :]
        self.steps += 1
        self.momentum_buffer.lerp_(newest, 1 - MOMENTUM)
        self.second_moment.lerp_(newest.square().reshape(-1, newest.shape[-1]).mean(0), 1 - SECOND_MOMENT_DECAY)
        length = (self.second_moment / (1 - SECOND_MOMENT_DECAY**self.steps)).sqrt()
        bound = max(fall * self.bound, MIN_STEP_BOUND)
        self.knots -= self.momentum_buffer * (bound / (1 - MOMENTUM**self.steps) / (length + bound))
        if average:
            self.total += self.knots
            self.averaged += 1

    def finish(self) -> None:
        """Put the mean in place."""
        if self.averaged:
            self.knots.copy_(self.total / self.averaged)


def stiffness_of_means(knots: int) -> Float[Tensor, "k k"]:
    """Return the second derivatives of 1/2 int |m'|^2 dt in the knots of one entry, the ends left out."""
    inner = torch.eye(knots - 2, dtype=torch.float64)
    return (knots - 1) * (2 * inner - inner.roll(1, 0).tril() - inner.roll(-1, 0).triu())


def stiffness_of_scales(knots: int, size: float) -> Float[Tensor, "l l"]:
    """Return the second derivatives of the deviation's energy at the Brownian bridge, the ends left out.

    Args:
        knots: Number of knots.
        size: Dimensions times noise squared.
    """
    t, weights = quadrature(knots)
    values, slopes = (matrix[:, 1:-1] for matrix in interpolation(t, knots))
    square, rise = t * (1 - t), 1 - math.exp(-1)  # of softplus where it is 1
    of_values, of_slopes = values.T * (weights / square) @ values, slopes.T * (weights * square) @ slopes
    return size * rise**2 * (of_values + of_slopes)


def _length_unit(paths: GaussianPaths) -> float:
    """Return how far a mean may have to go: the distance between the ends, or what noise makes of none."""
    squares = (paths.means[:, -1] - paths.means[:, 0]).square().mean().item()
    return math.sqrt(squares + paths.noise**2)


def _concatenate_solutions(solved: Sequence[tuple[GaussianPaths, ControlTrace]]) -> tuple[GaussianPaths, ControlTrace]:
    """Join what was found for parts of the pairs."""
    paths, traces = zip(*solved, strict=True)
    numbers = torch.tensor([len(one.means) for one in paths], dtype=torch.float64)
    objective = numbers / numbers.sum() @ torch.tensor([one.objective for one in traces], dtype=torch.float64)
    return (
        GaussianPaths(
            torch.cat([one.means for one in paths]), torch.cat([one.scales for one in paths]), paths[0].noise
        ),
        ControlTrace(
            traces[0].steps,
            tuple(objective.tolist()),
            torch.cat([one.kinetic for one in traces]),
            torch.cat([one.state for one in traces]),
        ),
    )
