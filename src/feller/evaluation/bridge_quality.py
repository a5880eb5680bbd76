"""Metrics of a bridge: distances of endpoints from the populations, path costs and collisions with obstacles."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.control.bridges.costs import PopulationDensity, StateCost
from feller.control.bridges.costs.gaussian_mixture import scott
from feller.control.bridges.population import Population
from feller.core.errors import InputError
from feller.core.rng import Rng, categorical
from feller.evaluation.two_sample import sinkhorn_divergence, wasserstein

MAX_POINTS = 1000
"""Maximum number of compared endpoints; the time of exact optimal transport is cubic in this number."""
MIN_POINTS = 10
"""Minimum number of endpoints, and of population members, to compute a distance."""
MIN_SPLITS, MAX_SPLITS, POINTS_PER_SPLIT = 3, 8, 1600
"""Minimum and maximum number of random splits in `endpoint_distances`; between these bounds, the number of splits is
POINTS_PER_SPLIT divided by the set size."""
BLUR = 0.05
"""Blur of the Sinkhorn divergence, in standard deviations of the population."""
CHUNK_SIZE = 2**22
"""Number of state entries per evaluation of the state cost."""


def feasibility(
    reached: Float[Tensor, "n d"],
    members: Float[Tensor, "m d"],
    rng: Rng,
    *,
    blur: float | None = None,
    max_points: int = MAX_POINTS,
) -> dict[str, float | None]:
    """Compute distances of path endpoints from the target population, and their floors.

    A floor is the same distance between two halves of the population, the best value to expect.

    All compared sets have the same size, at most half the population, since distances depend on the size. If the bridge
    was trained on the same members, the distances can be below the floors.

    Args:
        reached: Endpoints of paths.
        members: Members of the target population.
        rng: Random streams for subsampling.
        blur: Blur of the Sinkhorn divergence, in units of the data; default: BLUR standard deviations of the members.
        max_points: Maximum size of a compared set.

    Returns:
        `sinkhorn` and `sinkhorn_floor` in squared units of the data, `w2` and `w2_floor` in units of the data; None if
        there are fewer than MIN_POINTS endpoints or members.
    """
    halves = _halves(reached, members, rng, max_points)
    return _half_distances(halves, halves[:1], _blur(members) if blur is None else blur)


def endpoint_distances(
    reached: Float[Tensor, "n d"], population: Population, rng: Rng, max_points: int = MAX_POINTS
) -> dict[str, float | None]:
    """Compute the same distances and floors as `feasibility`, averaged over several random splits of the population.

    Each split divides the population into two halves, and the endpoints `reached` are compared with both halves.

    W2 is averaged as a root mean square over halves and splits, which is at least the W2 between the pooled sets. The
    splits are fixed, so the floor depends only on the population and the set size. Weighted members are resampled
    within each half.
    """
    real = population.members.flatten(1)
    size = min(len(reached), len(real) // 2, max_points)
    if size < MIN_POINTS:
        return _half_distances([], [], 1.0)
    splits: list[dict[str, float | None]] = []
    for k in range(max(MIN_SPLITS, min(MAX_SPLITS, POINTS_PER_SPLIT // size))):
        endpoints = reached[_random_order(len(reached), rng.fold_in("reached", k))].double()
        a, b = (real[rows].double() for rows in _split_population(population, size, Rng(0).fold_in("cut", k)))
        halves = [(endpoints[:size], a), (endpoints[-size:], b)]
        splits.append(_half_distances(halves, halves, _blur(real)))
    return {name: _mean([float(split[name] or 0.0) for split in splits], name.startswith("w2")) for name in splits[0]}


def _split_population(population: Population, size: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """Return the indices of `size` samples from each of two disjoint halves of a population, drawn by weight."""
    order = _random_order(len(population.members), rng.fold_in("real"))
    if population.weights is None:
        return order[:size], order[size : 2 * size]
    quantiles = (torch.arange(size, dtype=torch.float64) + rng.stream("weighted").uniform((1,), torch.float64)) / size
    weights = population.weights.double().cpu()
    first_half, second_half = (indices[categorical(weights[indices], quantiles)] for indices in order.tensor_split(2))
    return first_half, second_half


def _mean(values: Sequence[float], is_length: bool) -> float:
    # root mean square for lengths
    if is_length:
        return (sum(value**2 for value in values) / len(values)) ** 0.5
    return sum(values) / len(values)


def _halves(reached: Tensor, members: Tensor, rng: Rng, max_points: int) -> list[tuple[Tensor, Tensor]]:
    size = min(len(reached), len(members) // 2, max_points)
    if size < MIN_POINTS:
        return []
    endpoints = reached[_random_order(len(reached), rng.fold_in("reached"))].double()
    first_half, second_half = members[_random_order(len(members), rng.fold_in("real"))[: 2 * size]].double().split(size)
    return [(endpoints[:size], first_half), (endpoints[-size:], second_half)]


def _half_distances(
    halves: Sequence[tuple[Tensor, Tensor]], pairs: Sequence[tuple[Tensor, Tensor]], blur: float
) -> dict[str, float | None]:
    """Return W2 and Sinkhorn distances between end points and a half of the population, averaged over `pairs`.

    The floor is the distance between the two halves.
    """
    if not halves:
        return dict.fromkeys(("w2", "w2_floor", "sinkhorn", "sinkhorn_floor"))
    (_, first_half), (_, second_half) = halves
    return {
        "w2": (sum(wasserstein(endpoints, half) ** 2 for endpoints, half in pairs) / len(pairs)) ** 0.5,
        "w2_floor": wasserstein(second_half, first_half),
        "sinkhorn": sum(sinkhorn_divergence(endpoints, half, blur=blur) for endpoints, half in pairs) / len(pairs),
        "sinkhorn_floor": sinkhorn_divergence(second_half, first_half, blur=blur),
    }


def _blur(real: Tensor) -> float:
    deviation = (real.double() - real.double().mean(0)).square().sum(1).mean().sqrt().item()
    return BLUR * deviation or 1.0  # all members are equal


def _random_order(n: int, rng: Rng) -> Tensor:
    return torch.randperm(n, generator=rng.stream("some").shared_generator())


@dataclass(frozen=True, eq=False)
class PathCosts:
    """Costs of trajectories at each time, averaged over trajectories."""

    times: Float64[Tensor, " s"]
    control_cost: Float64[Tensor, " s"]
    """Mean of half the squared norm of the control at each time."""
    state_cost: Float64[Tensor, " s"]
    """Mean state cost at each time."""
    inside_fraction: Float64[Tensor, " s"] | None
    """Fraction of trajectories inside an obstacle at each time; None without obstacles."""
    touched_fraction: float | None
    """Fraction of trajectories that are inside an obstacle at one or more of the times."""

    def averages(self) -> dict[str, float | None]:
        """Return metrics by name: the costs and `inside_fraction` averaged over time, and `touched_fraction`.

        Averages use the trapezoidal rule; `objective` is the sum of control cost and state cost.
        """
        control, state = self._time_average(self.control_cost), self._time_average(self.state_cost)
        return {
            "objective": control + state,
            "control_cost": control,
            "state_cost": state,
            "inside_paths": self.touched_fraction,
            "inside_time": None if self.inside_fraction is None else self._time_average(self.inside_fraction),
        }

    def logged(self, number: int = 15, *, backward: bool = False) -> tuple[float, float]:
        """Return the mean control cost and mean state cost over `number` times, as the published GSBM code logs them.

        Like that code, this method sets the control at the last time of the simulation to 0, so the control cost is too
        low by a factor of about 1 - 1 / number.

        Args:
            number: Number of equally spaced times, including 0 and 1.
            backward: True if the trajectories were simulated backward in time, from 1 to 0.
        """
        if (len(self.times) - 1) % (number - 1):
            raise ValueError(f"expected a multiple of {number - 1} steps, got {len(self.times) - 1}")
        stride = (len(self.times) - 1) // (number - 1)
        control = self.control_cost[::stride].clone()
        control[0 if backward else -1] = 0
        return control.mean().item(), self.state_cost[::stride].mean().item()

    def _time_average(self, values: Float64[Tensor, " s"]) -> float:
        duration = (self.times[-1] - self.times[0]).item()
        return torch.trapezoid(values, self.times).item() / duration


def path_costs(
    times: Sequence[float],
    states: Float[Tensor, "n s d"],
    control: Float[Tensor, "n s d"],
    cost: StateCost,
    rng: Rng,
    *,
    width: float | None = None,
) -> PathCosts:
    """Compute the costs of trajectories at each time.

    Args:
        times: Increasing times from 0 to 1.
        states: States of the trajectories at those times.
        control: Control at those times: the drift minus the base drift.
        cost: State cost V.
        rng: Random streams for the pairs of trajectories in an interaction cost.
        width: Kernel width of the population density; default: Scott's rule at each time.
    """
    grid = torch.tensor(list(times), dtype=torch.float64)
    x = states.movedim(1, 0)
    bound_cost = cost.bind_pairs(states[:, 0], states[:, -1])
    chunk_size = max(1, CHUNK_SIZE // states[:, 0].numel())
    t = grid.to(states)[:, None]
    with torch.no_grad():
        costs = torch.cat(
            [
                bound_cost(x[rows], t[rows], _population_density(x[rows], rng.fold_in(int(rows[0])), width))
                .double()
                .mean(1)
                for rows in torch.arange(len(grid)).split(chunk_size)
            ]
        )
    if costs.isnan().any():
        raise InputError(f"the state cost is NaN, first at t = {grid[costs.isnan()][0]:.4g} (times run from 0 to 1)")
    is_blocked = cost.is_blocked(x) if cost.obstacles else None
    return PathCosts(
        grid,
        control.double().square().sum(2).mean(0).cpu() / 2,
        costs.cpu(),
        None if is_blocked is None else is_blocked.double().mean(1).cpu(),
        None if is_blocked is None else is_blocked.any(0).double().mean().item(),
    )


def _population_density(x: Float[Tensor, "s n d"], rng: Rng, width: float | None) -> PopulationDensity:
    """Return the kernel density of the trajectories x at each time; each state is compared with another trajectory.

    `width` is the kernel width; None to choose it by Scott's rule.
    """
    n = x.shape[1]
    shift = 1 + int(rng.stream("partner").randint(max(n - 1, 1), (1,)))
    widths = scott(x)[:, None].expand(x.shape[:2]) if width is None else width
    return PopulationDensity(x.roll(shift, 1), x, widths)
