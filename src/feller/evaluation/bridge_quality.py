"""How good a bridge is: whether its paths arrive, what they cost, and whether they keep out of obstacles."""

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
"""Ends that are compared with members, at most: exact transport takes their number to the third power."""
MIN_POINTS = 10
"""Ends and members below which no distance is told."""
MIN_SPLITS, MAX_SPLITS, POINTS_PER_SPLIT = 3, 8, 1600
"""Ways to cut members into halves, over which `endpoint_distances` takes the mean: as many as cut so many members in
all."""
BLUR = 0.05
"""Of the Sinkhorn divergence, in deviations of the members."""
CHUNK_SIZE = 2**22
"""Numbers of states whose cost is asked for at once."""


def feasibility(
    reached: Float[Tensor, "n d"],
    members: Float[Tensor, "m d"],
    rng: Rng,
    *,
    blur: float | None = None,
    max_points: int = MAX_POINTS,
) -> dict[str, float | None]:
    """Compare the ends that paths reached with the population that they were to reach.

    All sets have one size, half the members at most: distances between sets of other sizes do not compare. Where
    the bridge learned from the same members, it may come nearer than the floor.

    Args:
        reached: Ends of paths.
        members: Members of the population.
        rng: Choose the ends and members that are compared.
        blur: Of the divergence, in units of the data; by default a twentieth of the members' deviation.
        max_points: How many are compared, at most.

    Returns:
        `sinkhorn` and `sinkhorn_floor` in squared units of the data, `w2` and `w2_floor` in its units; None where there
        are too few.
    """
    halves = _halves(reached, members, rng, max_points)
    return _half_distances(halves, halves[:1], _blur(members) if blur is None else blur)


def endpoint_distances(
    reached: Float[Tensor, "n d"], population: Population, rng: Rng, max_points: int = MAX_POINTS
) -> dict[str, float | None]:
    """Compare ends with a population as `feasibility` does, but each half of its members, by as many of the ends.

    The mean square of both distances counts: that of all that are compared, taken together, is no larger, however the
    halves are chosen. It is the mean over several ways to cut the members into halves, which are always the same, so
    that the floor is one number for a population and a size. Where members count unlike, those of each half are drawn
    as often as they count.
    """
    real = population.members.flatten(1)
    size = min(len(reached), len(real) // 2, max_points)
    if size < MIN_POINTS:
        return _half_distances([], [], 1.0)
    splits: list[dict[str, float | None]] = []
    for cut in range(max(MIN_SPLITS, min(MAX_SPLITS, POINTS_PER_SPLIT // size))):
        ends = reached[_random_order(len(reached), rng.fold_in("reached", cut))].double()
        one, other = (real[rows].double() for rows in _split_population(population, size, Rng(0).fold_in("cut", cut)))
        halves = [(ends[:size], one), (ends[-size:], other)]
        splits.append(_half_distances(halves, halves, _blur(real)))
    return {name: _mean([float(each[name] or 0.0) for each in splits], name.startswith("w2")) for name in splits[0]}


def _split_population(population: Population, size: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """Return the numbers of members of two halves that share none, each as often as it counts."""
    order = _random_order(len(population.members), rng.fold_in("real"))
    if population.weights is None:
        return order[:size], order[size : 2 * size]
    even = (torch.arange(size, dtype=torch.float64) + rng.stream("weighted").uniform((1,), torch.float64)) / size
    weights = population.weights.double().cpu()
    one, other = (half[categorical(weights[half], even)] for half in order.tensor_split(2))
    return one, other


def _mean(values: Sequence[float], is_length: bool) -> float:
    """Return the mean; of lengths the root of that of their squares."""
    if is_length:
        return (sum(value**2 for value in values) / len(values)) ** 0.5
    return sum(values) / len(values)


def _halves(reached: Tensor, members: Tensor, rng: Rng, max_points: int) -> list[tuple[Tensor, Tensor]]:
    """Return both halves of the members, each beside as many ends; none where there are too few."""
    size = min(len(reached), len(members) // 2, max_points)
    if size < MIN_POINTS:
        return []
    ends = reached[_random_order(len(reached), rng.fold_in("reached"))].double()
    one, other = members[_random_order(len(members), rng.fold_in("real"))[: 2 * size]].double().split(size)
    return [(ends[:size], one), (ends[-size:], other)]


def _half_distances(
    halves: Sequence[tuple[Tensor, Tensor]], met: Sequence[tuple[Tensor, Tensor]], blur: float
) -> dict[str, float | None]:
    """Return the distances of ends from their halves of the members, over those in `met`, and of the halves."""
    if not halves:
        return dict.fromkeys(("w2", "w2_floor", "sinkhorn", "sinkhorn_floor"))
    (_, one), (_, other) = halves
    return {
        "w2": (sum(wasserstein(ends, half) ** 2 for ends, half in met) / len(met)) ** 0.5,
        "w2_floor": wasserstein(other, one),
        "sinkhorn": sum(sinkhorn_divergence(ends, half, blur=blur) for ends, half in met) / len(met),
        "sinkhorn_floor": sinkhorn_divergence(other, one, blur=blur),
    }


def _blur(real: Tensor) -> float:
    deviation = (real.double() - real.double().mean(0)).square().sum(1).mean().sqrt().item()
    return BLUR * deviation or 1.0  # members that are all alike have no unit


def _random_order(n: int, rng: Rng) -> Tensor:
    return torch.randperm(n, generator=rng.stream("some").shared_generator())


@dataclass(frozen=True, eq=False)
class PathCosts:
    """What trajectories do, time by time; means over them."""

    times: Float64[Tensor, " s"]
    """From 0 to 1."""
    control_cost: Float64[Tensor, " s"]
    """Half the squared control."""
    state_cost: Float64[Tensor, " s"]
    """What being there costs."""
    inside_fraction: Float64[Tensor, " s"] | None
    """Share that is inside an obstacle; None where there are none."""
    touched_fraction: float | None
    """Share of the trajectories that is inside at some of the times."""

    def averages(self) -> dict[str, float | None]:
        """Return the means over the journey, by the trapezoidal rule, by their names in `METRICS`."""
        control, state = self._time_average(self.control_cost), self._time_average(self.state_cost)
        return {
            "objective": control + state,
            "control_cost": control,
            "state_cost": state,
            "inside_paths": self.touched_fraction,
            "inside_time": None if self.inside_fraction is None else self._time_average(self.inside_fraction),
        }

    def logged(self, number: int = 15, *, backward: bool = False) -> tuple[float, float]:
        """Return control and state cost as the code of the GSBM paper logs them: means over a few times.

        The last control of a simulation counts as 0 there, so that the first mean is low by 1 / number.

        Args:
            number: Of equally spaced times, both ends among them.
            backward: The simulation ended at the first time.
        """
        if (len(self.times) - 1) % (number - 1):
            raise ValueError(f"expected some times {number - 1} steps apart, got {len(self.times)} times")
        every = (len(self.times) - 1) // (number - 1)
        control = self.control_cost[::every].clone()
        control[0 if backward else -1] = 0
        return control.mean().item(), self.state_cost[::every].mean().item()

    def _time_average(self, values: Float64[Tensor, " s"]) -> float:
        whole = (self.times[-1] - self.times[0]).item()
        return torch.trapezoid(values, self.times).item() / whole


def path_costs(
    times: Sequence[float],
    states: Float[Tensor, "n s d"],
    control: Float[Tensor, "n s d"],
    cost: StateCost,
    rng: Rng,
    *,
    width: float | None = None,
) -> PathCosts:
    """Measure trajectories.

    Args:
        times: Of the journey from 0 to 1, increasing.
        states: Where the trajectories are then.
        control: Their drift, without what acts by itself.
        cost: V.
        rng: Choose the other member of the crowd that a state meets.
        width: Of the kernels that make up the crowd's density; by default Scott's, time by time.
    """
    when = torch.tensor(list(times), dtype=torch.float64)
    moved = states.movedim(1, 0)
    priced = cost.bind_pairs(states[:, 0], states[:, -1])
    some = max(1, CHUNK_SIZE // states[:, 0].numel())
    at = when.to(states)[:, None]
    with torch.no_grad():
        state = torch.cat(
            [
                priced(moved[rows], at[rows], _population_density(moved[rows], rng.fold_in(int(rows[0])), width))
                .double()
                .mean(1)
                for rows in torch.arange(len(when)).split(some)
            ]
        )
    if state.isnan().any():
        raise InputError(f"the cost is no number at some states, first at t = {when[state.isnan()][0]:.4g} of 0 to 1")
    inside = cost.is_blocked(moved) if cost.obstacles else None
    return PathCosts(
        when,
        control.double().square().sum(2).mean(0).cpu() / 2,
        state.cpu(),
        None if inside is None else inside.double().mean(1).cpu(),
        None if inside is None else inside.any(0).double().mean().item(),
    )


def _population_density(x: Float[Tensor, "s n d"], rng: Rng, width: float | None) -> PopulationDensity:
    """Return the trajectories as a crowd: each state meets that of another trajectory."""
    n = x.shape[1]
    shift = 1 + int(rng.stream("partner").randint(max(n - 1, 1), (1,)))
    widths = scott(x)[:, None].expand(x.shape[:2]) if width is None else width
    return PopulationDensity(x.roll(shift, 1), x, widths)
