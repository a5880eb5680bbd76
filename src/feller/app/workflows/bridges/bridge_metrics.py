"""The numbers of a bridge that is found: where its trajectories arrive, beside what plain paths cost."""

import numpy as np
import torch

from feller.app.workflows.bridges.bridge_run import Bridged
from feller.app.workflows.bridges.bridges_populations import Populations
from feller.control.bridges.costs import Zero
from feller.control.bridges.costs.in_leg import InLeg
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.control.bridges.path_integral import PathIntegral
from feller.control.bridges.population import Crowd
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.settings import Bridging
from feller.control.bridges.solution import FoundBridge
from feller.control.bridges.trajectories import Walk, legs_of
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.evaluation.bridge import along, arrival
from feller.training.couplings.minibatch_ot import assign
from feller.training.metrics_log import read_metrics

COMPARED, WEIGHED = 32, 100
"""Pairs whose trajectories are weighed, and how many of each."""
STEPS, ROOM = 150, 2**28
"""Steps of such trajectories, and bytes that they may take."""
SEEN = 500
"""Ends that are compared with members, at most, after each round and in the report."""
STRAIGHT = 500
"""Pairs of the plain bridge that the one found is compared with."""


def compared(how: Bridging) -> int:
    """Return how many ends are compared: as many after a round as in the report, so that both have one floor."""
    return min(SEEN, how.pairs)


def arrivals(
    walked: Walk, problem: BridgeProblem, bridged: Bridged, draws: Draws, most: int
) -> dict[str, float | None]:
    """Compare where trajectories are, at most so many, with each population that they should have become."""
    numbers: dict[str, float | None] = {}
    for leg, (begin, length) in enumerate(legs_of(problem.times)):
        place = int(np.argmin(np.abs(np.array(walked.times) - (begin + length))))
        met = arrival(walked.states[:, place].flatten(1), end_of(problem, leg), draws.named("met", leg), most)
        when = "" if leg == len(problem.crowds) - 1 else f"_{bridged.times[leg + 1]:g}"
        floors = {name: "_floor" if name.endswith("_floor") else "" for name in met}
        numbers |= {f"{name.removesuffix(floors[name])}{when}{floors[name]}": value for name, value in met.items()}
    return numbers


def end_of(problem: BridgeProblem, leg: int, *, backward: bool = False) -> Crowd:
    """Return the population where a leg ends, or, backward, where it begins."""
    crowd = problem.crowds[leg][not backward]
    if not isinstance(crowd, Crowd):
        raise TypeError("a run is of populations that are known by members")
    return crowd


def straight(problem: BridgeProblem, crowd: Populations, walked: Walk, draws: Draws) -> float | None:
    """Return the objective of plain Brownian bridges between members paired at the least distance."""
    total = 0.0
    for leg, (begin, length) in enumerate(legs_of(problem.times)):
        size = min(STRAIGHT, *map(len, crowd.states[leg : leg + 2]))
        x_0, x_1 = (
            Crowd(x)(size, draws.named("straight", leg, k)).flatten(1)
            for k, x in enumerate(crowd.states[leg : leg + 2])
        )
        x_0 = x_0[assign(x_0, x_1)]
        paths = GaussianPaths.straight(x_0, x_1, problem.noise * length**0.5, 2, 2)
        t = torch.linspace(0, 1, 29, dtype=x_0.dtype)
        moments = paths.grid(t)
        z = draws.at("straight", leg).normal(tuple(moments.mean.shape), x_0.dtype)
        states = moments.mean + moments.std[..., None] * z
        control = ((x_1 - x_0) / length)[:, None].expand(states.shape)
        times = [begin + length * share for share in t.tolist()]
        averages = along(times, states, control, problem.cost, draws.named("cost", leg)).averages()
        total += length * (averages["objective"] or 0.0)
    return total


def ess(found: FoundBridge, walked: Walk, draws: Draws) -> float | None:
    """Return which share of the trajectories of pinned paths counts; None without noise or cost, or with a crowd."""
    problem, how = found.problem, found.how
    if not problem.noise or isinstance(problem.cost, Zero) or problem.cost.crowd:
        return None
    shares, knots = [], how.control.mean_knots
    pairs = min(COMPARED, ROOM // (4 * WEIGHED * (STEPS + 1) * walked.states[0, 0].numel()))
    if not pairs:
        return None
    for leg, (begin, length) in enumerate(legs_of(problem.times)):
        states = walked.states[:pairs, leg * (knots - 1) : (leg + 1) * (knots - 1) + 1].flatten(2)
        cost = InLeg(problem.cost, begin, length)
        paths = GaussianPaths.along(states, problem.noise * length**0.5, how.control.scale_knots)
        paths, _ = how.control.solve(paths, cost, draws.named("pinned", leg))
        weighted = PathIntegral(trajectories=WEIGHED, steps=STEPS).weigh(paths, cost, draws.named("weigh", leg))
        shares.append(float(weighted.ess.mean()) / WEIGHED)
    return min(shares)


def rounds_taken(run: Run) -> dict[str, float]:
    """Return what the rounds took."""
    rows = read_metrics(run.metrics)
    last = rows[-1] if rows else {}
    return {
        "lost": max((row.get("lost", 0.0) for row in rows), default=0.0),
        "rounds": len(rows),
        "seconds": last.get("seconds", 0.0),
    }
