"""Path-integral resampling: simulation of trajectories near pinned Gaussian paths, and their importance weights.

Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233, after Kappen 2005, "Path
integrals and symmetry breaking for optimal control theory". Weights are relative to the Brownian bridge, whose steps
are sampled exactly: the only discretisation error is the quadrature of V.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feller.control.bridges.costs import PopulationDensity, StateCost
from feller.control.bridges.gaussian_paths import GaussianPaths, drift
from feller.core.errors import UsageError
from feller.core.rng import RandomStream, Rng, categorical

WINDOW = 0.05
"""Length of the time window, as a fraction of the total time, over which the noise of a trajectory is averaged.

The average estimates the correction of the drift of the Gaussian path.
"""


@dataclass(frozen=True, eq=False)
class WeightedTrajectories:
    """Trajectories with importance weights: a weighted sample from the optimal process of each endpoint pair."""

    times: Float[Tensor, " points"]
    """Times of the states, equally spaced from 0 to 1."""
    states: Float[Tensor, "n trajectories points d"]
    log_weights: Float[Tensor, "n trajectories"]
    """Log importance weights of the trajectories; the weights (not their logs) of a pair sum to 1."""
    ess: Float[Tensor, " n"]
    """Effective sample size of the trajectories of each pair."""
    log_z: Float[Tensor, " n"]
    """Log of the expectation of exp(-int V dt / noise^2) over the Brownian bridge; the optimal objective is -noise^2
    log_z."""
    is_trusted: Bool[Tensor, " n"]
    """True for pairs whose importance weights are used; the other pairs follow their Gaussian path, with uniform
    weights."""
    paths: GaussianPaths
    """Gaussian paths whose drift the trajectories follow."""

    def sample(
        self, rows: Int[Tensor, " b"], local_times: Float[Tensor, " b"], rng: RandomStream, *, backward: bool = False
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Sample states of the optimal processes of the pairs `rows`, with regression targets for the drift.

        The target is the drift of the Gaussian path. For pairs whose weights are used, the target also includes the
        mean noise of the trajectory over a window after the time (before the time, for the backward drift). The
        weighted expectation of this mean noise is the missing part of the drift.

        Args:
            rows: Pair indices.
            local_times: Times in [0, 1]; they are rounded down to a grid point, or up for the backward drift.
            rng: Random stream that selects the trajectories.
            backward: True to return targets for the backward drift.

        Returns:
            Times, states, and targets in state units per time.
        """
        steps = len(self.times) - 1
        trajectory = categorical(
            self.log_weights[rows].double().exp(), rng.uniform((len(rows),), torch.float64, rows.device)
        )
        point = (local_times * steps).long().clamp(0, steps - 1) + backward
        max_window = max(1, round(WINDOW * steps))
        window = (point if backward else steps - point).clamp(max=max_window)
        offsets = torch.arange(max_window + 1, device=rows.device)
        window_index = (point[:, None] - offsets if backward else point[:, None] + offsets).clamp(0, steps)
        x = self.states[rows[:, None], trajectory[:, None], window_index]
        moments = self.paths.moments_at(rows.repeat_interleave(max_window), self.times[window_index[:, :-1]].flatten())
        drifts = drift(
            moments,
            x[:, :-1].flatten(0, 1),
            self.times[window_index[:, :-1]].flatten(),
            self.paths.noise,
            backward=backward,
        ).unflatten(0, (-1, max_window))
        in_window = (offsets[:-1] < window[:, None])[..., None]
        displacement = x[torch.arange(len(x), device=x.device), window] - x[:, 0]
        noise = (steps * displacement - (drifts * in_window).sum(1)) / window[:, None]
        return self.times[point], x[:, 0], drifts[:, 0] + torch.where(self.is_trusted[rows, None], noise, 0)


@dataclass(frozen=True, kw_only=True)
class PathIntegral:
    """Path-integral resampling: simulate several trajectories per endpoint pair, and weight them by their state cost V.

    Weights are proportional to exp(-int V dt / noise^2), corrected for the drift of the simulated path. The method
    needs no gradient of V.
    """

    trajectories: int = 64
    """Number of trajectories per pair."""
    steps: int = 300
    min_ess_fraction: float = 0.01
    """Minimum effective sample size as a fraction of the number of trajectories; for pairs below it, the Gaussian path
    is used."""

    def sample_weighted(
        self,
        paths: GaussianPaths,
        cost: StateCost,
        rng: Rng,
        *,
        on_progress: Callable[[float], None] = lambda fraction: None,
    ) -> WeightedTrajectories:
        """Sample trajectories along the drift of each path, and compute their importance weights.

        The stored states dominate the memory use.

        Args:
            paths: Gaussian paths that serve as proposals.
            cost: State cost V. A cost that depends on the population is given the simulated trajectories of other
                endpoint pairs, unweighted.
            rng: Source of random numbers for the noise.
            on_progress: Callback with the completed fraction.

        Raises:
            UsageError: If the noise is 0.
        """
        if not paths.noise:
            raise UsageError(expected="noise above 0, because path-integral weights need random trajectories")
        n, _, d = paths.means.shape
        cost = cost.bind_pairs(paths.means[:, 0], paths.means[:, -1])
        times = torch.linspace(0, 1, self.steps + 1, dtype=paths.means.dtype, device=paths.means.device)
        states = paths.means.new_empty(n, self.trajectories, self.steps + 1, d)
        log_weights = torch.zeros_like(states[:, :, 0, 0])
        with torch.no_grad():
            for k, (x, log_step) in enumerate(self._simulate(paths, times, rng)):
                dt = 1 / self.steps if 0 < k < self.steps else 0.5 / self.steps  # trapezoid rule
                costs = self._costs_at(x, cost, paths, times[k], rng.stream("crowd", k))
                # Sum over steps; the public code takes the mean, which leaves the weights nearly uniform.
                states[:, :, k], log_weights = x, log_weights + log_step - dt / paths.noise**2 * costs
                on_progress(k / self.steps)
        return _normalize_weights(times, states, log_weights, paths, self.min_ess_fraction)

    def _simulate(self, paths: GaussianPaths, times: Tensor, rng: Rng) -> Iterator[tuple[Tensor, Tensor | float]]:
        """Yield, at each time, the states of all trajectories, and the log density ratio of the last step.

        The ratio is that of the Brownian bridge to the simulated process; it corrects the importance weights.
        """
        pair_rng = Rng(rng.seed, self.trajectories * rng.first_example)
        x_1 = paths.means[:, None, -1]
        x = paths.means[:, None, 0].expand(-1, self.trajectories, -1)
        yield x, 0.0
        for k in range(self.steps - 1):
            u = drift(paths.grid(times[k : k + 1]), x, times[k : k + 1], paths.noise)
            variance_left = (self.steps - k - 1) / (self.steps - k)  # variance of a bridge step relative to a free step
            variance = paths.noise**2 * variance_left / self.steps
            noise = variance**0.5 * pair_rng.stream("step", k).normal(
                (x[..., 0].numel(), x.shape[2]), x.dtype, x.device
            ).view_as(x)
            displacement = u / self.steps
            mean_gap = displacement - (x_1 - x) / (self.steps - k)  # difference of the two step means
            x = x + displacement + noise
            yield x, -(mean_gap * (mean_gap + 2 * noise)).sum(-1) / (2 * variance)
        yield x_1.expand_as(x), 0.0

    def _costs_at(self, x: Tensor, cost: StateCost, paths: GaussianPaths, t: Tensor, rng: RandomStream) -> Tensor:
        """Return the state cost V at the states x [n, trajectories, d] of one time, [n, trajectories].

        If V depends on the population, each state sees a trajectory of another pair, chosen by a random shift.
        """
        rows = x.flatten(0, 1)[None]
        population = None
        if cost.needs_population:
            m = self.trajectories
            num_shifts = max((len(paths.means) - 2) * m + 1, 1)  # shifts that avoid trajectories of the same pair
            shift = m + int(torch.randint(num_shifts, (), generator=rng.shared_generator()))
            moments = paths.grid(t.clamp(1 / self.steps, 1 - 1 / self.steps)[None])  # the deviation is 0 at the ends
            population = PopulationDensity(rows.roll(shift, 1), moments.mean.movedim(1, 0), moments.std.T)
        return cost(rows, t.reshape(1, 1), population)[0].reshape(x.shape[:2])


def _normalize_weights(
    times: Tensor, states: Tensor, log_weights: Tensor, paths: GaussianPaths, min_ess_fraction: float
) -> WeightedTrajectories:
    """Normalise the weights of each pair; use uniform weights where the effective sample size is too small."""
    num_samples = log_weights.shape[1]
    total = log_weights.logsumexp(1)
    ess = (2 * total - (2 * log_weights).logsumexp(1)).exp().nan_to_num(nan=0.0)  # all costs infinite: ESS 0
    is_trusted = ess >= min_ess_fraction * num_samples
    normalized = torch.where(is_trusted[:, None], log_weights - total[:, None], -math.log(num_samples))
    return WeightedTrajectories(times, states, normalized, ess, total - math.log(num_samples), is_trusted, paths)
