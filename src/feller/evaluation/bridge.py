"""How good a bridge is: whether its paths arrive, what they cost, and whether they keep out of obstacles."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.control.bridges.costs import Cost, Population
from feller.control.bridges.costs.gaussian_mixture import scott
from feller.control.bridges.population import Crowd
from feller.core.errors import InputError
from feller.core.rng import Rng, categorical
from feller.evaluation.two_sample import sinkhorn_divergence, wasserstein

MOST = 1000
"""Ends that are compared with members, at most: exact transport takes their number to the third power."""
FEWEST = 10
"""Ends and members below which no distance is told."""
LEAST_CUTS, MOST_CUTS, CUT = 3, 8, 1600
"""Ways to cut members into halves, over which `arrival` takes the mean: as many as cut so many members in all."""
BLUR = 0.05
"""Of the Sinkhorn divergence, in deviations of the members."""
AT_ONCE = 2**22
"""Numbers of states whose cost is asked for at once."""


def feasibility(
    reached: Float[Tensor, "n d"],
    real: Float[Tensor, "m d"],
    draws: Rng,
    *,
    blur: float | None = None,
    most: int = MOST,
) -> dict[str, float | None]:
    """Compare the ends that paths reached with the population that they were to reach.

    All sets have one size, half the members at most: distances between sets of other sizes do not compare. Where
    the bridge learned from the same members, it may come nearer than the floor.

    Args:
        reached: Ends of paths.
        real: Members of the population.
        draws: Choose the ends and members that are compared.
        blur: Of the divergence, in units of the data; by default a twentieth of the members' deviation.
        most: How many are compared, at most.

    Returns:
        `sinkhorn` and `sinkhorn_floor` in squared units of the data, `w2` and `w2_floor` in its units; None where there
        are too few.
    """
    halves = _halves(reached, real, draws, most)
    return _compared(halves, halves[:1], _blur(real) if blur is None else blur)


def arrival(reached: Float[Tensor, "n d"], population: Crowd, draws: Rng, most: int = MOST) -> dict[str, float | None]:
    """Compare ends with a population as `feasibility` does, but each half of its members, by as many of the ends.

    The mean square of both distances counts: that of all that are compared, taken together, is no larger, however the
    halves are chosen. It is the mean over several ways to cut the members into halves, which are always the same, so
    that the floor is one number for a population and a size. Where members count unlike, those of each half are drawn
    as often as they count.
    """
    real = population.members.flatten(1)
    size = min(len(reached), len(real) // 2, most)
    if size < FEWEST:
        return _compared([], [], 1.0)
    told: list[dict[str, float | None]] = []
    for cut in range(max(LEAST_CUTS, min(MOST_CUTS, CUT // size))):
        ends = reached[_some(len(reached), draws.fold_in("reached", cut))].double()
        one, other = (real[rows].double() for rows in _cut(population, size, Rng(0).fold_in("cut", cut)))
        halves = [(ends[:size], one), (ends[-size:], other)]
        told.append(_compared(halves, halves, _blur(real)))
    return {name: _mean([float(each[name] or 0.0) for each in told], name.startswith("w2")) for name in told[0]}


def _cut(population: Crowd, size: int, draws: Rng) -> tuple[Tensor, Tensor]:
    """Return the numbers of members of two halves that share none, each as often as it counts."""
    order = _some(len(population.members), draws.fold_in("real"))
    if population.weights is None:
        return order[:size], order[size : 2 * size]
    even = (torch.arange(size, dtype=torch.float64) + draws.stream("weighted").uniform((1,), torch.float64)) / size
    weights = population.weights.double().cpu()
    one, other = (half[categorical(weights[half], even)] for half in order.tensor_split(2))
    return one, other


def _mean(values: Sequence[float], is_length: bool) -> float:
    """Return the mean; of lengths the root of that of their squares."""
    if is_length:
        return (sum(value**2 for value in values) / len(values)) ** 0.5
    return sum(values) / len(values)


def _halves(reached: Tensor, real: Tensor, draws: Rng, most: int) -> list[tuple[Tensor, Tensor]]:
    """Return both halves of the members, each beside as many ends; none where there are too few."""
    size = min(len(reached), len(real) // 2, most)
    if size < FEWEST:
        return []
    ends = reached[_some(len(reached), draws.fold_in("reached"))].double()
    one, other = real[_some(len(real), draws.fold_in("real"))[: 2 * size]].double().split(size)
    return [(ends[:size], one), (ends[-size:], other)]


def _compared(
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


def _some(n: int, draws: Rng) -> Tensor:
    return torch.randperm(n, generator=draws.stream("some").shared_generator())


@dataclass(frozen=True, eq=False)
class Along:
    """What trajectories do, time by time; means over them."""

    times: Float64[Tensor, " s"]
    """From 0 to 1."""
    control: Float64[Tensor, " s"]
    """Half the squared control."""
    state: Float64[Tensor, " s"]
    """What being there costs."""
    inside: Float64[Tensor, " s"] | None
    """Share that is inside an obstacle; None where there are none."""
    touched: float | None
    """Share of the trajectories that is inside at some of the times."""

    def averages(self) -> dict[str, float | None]:
        """Return the means over the journey, by the trapezoidal rule, by their names in `METRICS`."""
        control, state = self._over(self.control), self._over(self.state)
        return {
            "objective": control + state,
            "control_cost": control,
            "state_cost": state,
            "inside_paths": self.touched,
            "inside_time": None if self.inside is None else self._over(self.inside),
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
        control = self.control[::every].clone()
        control[0 if backward else -1] = 0
        return control.mean().item(), self.state[::every].mean().item()

    def _over(self, values: Float64[Tensor, " s"]) -> float:
        whole = (self.times[-1] - self.times[0]).item()
        return torch.trapezoid(values, self.times).item() / whole


def along(
    times: Sequence[float],
    states: Float[Tensor, "n s d"],
    control: Float[Tensor, "n s d"],
    cost: Cost,
    draws: Rng,
    *,
    width: float | None = None,
) -> Along:
    """Measure trajectories.

    Args:
        times: Of the journey from 0 to 1, increasing.
        states: Where the trajectories are then.
        control: Their drift, without what acts by itself.
        cost: V.
        draws: Choose the other member of the crowd that a state meets.
        width: Of the kernels that make up the crowd's density; by default Scott's, time by time.
    """
    when = torch.tensor(list(times), dtype=torch.float64)
    moved = states.movedim(1, 0)
    priced = cost.for_pairs(states[:, 0], states[:, -1])
    some = max(1, AT_ONCE // states[:, 0].numel())
    at = when.to(states)[:, None]
    with torch.no_grad():
        state = torch.cat(
            [
                priced(moved[rows], at[rows], _crowd(moved[rows], draws.fold_in(int(rows[0])), width)).double().mean(1)
                for rows in torch.arange(len(when)).split(some)
            ]
        )
    if state.isnan().any():
        raise InputError(f"the cost is no number at some states, first at t = {when[state.isnan()][0]:.4g} of 0 to 1")
    inside = cost.blocked(moved) if cost.obstacles else None
    return Along(
        when,
        control.double().square().sum(2).mean(0).cpu() / 2,
        state.cpu(),
        None if inside is None else inside.double().mean(1).cpu(),
        None if inside is None else inside.any(0).double().mean().item(),
    )


def _crowd(x: Float[Tensor, "s n d"], draws: Rng, width: float | None) -> Population:
    """Return the trajectories as a crowd: each state meets that of another trajectory."""
    n = x.shape[1]
    shift = 1 + int(draws.stream("partner").randint(max(n - 1, 1), (1,)))
    widths = scott(x)[:, None].expand(x.shape[:2]) if width is None else width
    return Population(x.roll(shift, 1), x, widths)
