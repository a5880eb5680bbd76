"""A claim about the corridor between two boxes, a problem that the paper's code poses and its text does not tell of."""

import functools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.conditional_control import ConditionalControl
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.control.bridges.solution import solve_bridge
from feller.control.bridges.trajectories import Trajectories
from feller.core.rng import Rng
from feller.evaluation.bridge_quality import feasibility, path_costs
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.gsbm import problems
from feller_papers.gsbm.setting import Setting

HOW = BridgeSolverConfig(control=ConditionalControl(times=30))
MOST, FOLLOWED, BETWEEN = 5, 512, 200
"""Rounds, at most; trajectories that are measured; times at which Brownian bridges are."""
ARRIVED = 0.3
"""W2 of ends to members that is wanted."""


@dataclass(frozen=True)
class Passed:
    """How a crowd went through a corridor."""

    objective: float
    inside: float
    """Share of the time inside a box."""
    straight: float
    """The same of Brownian bridges."""
    reached: float
    """Exact W2 between ends and members."""
    floor: float
    """The same between members."""


@functools.cache
def walked(setting: Setting, seed: int) -> Trajectories:
    """Learn to pass, and follow fresh members."""
    posed = problems.spider()
    effort = replace(setting.crowd, rounds=min(setting.crowd.rounds, MOST))
    found = solve_bridge(posed, effort.of(HOW), seed=seed)
    return found.transport(posed.populations[0][0](FOLLOWED, Rng(seed).fold_in("judge").fold_in(0)), seed)


@functools.cache
def passed(setting: Setting, seed: int) -> Passed:
    """Measure how they passed."""
    posed, draws, way = problems.spider(), Rng(seed).fold_in("judge"), walked(setting, seed)
    begin, end = (crowd(FOLLOWED, draws.fold_in(place)) for place, crowd in enumerate(posed.populations[0]))
    measured = path_costs(way.times, way.states, way.control, posed.cost, draws).averages()
    ends = feasibility(way.states[:, -1], posed.populations[0][1](2 * FOLLOWED, draws.fold_in("members")), draws)
    moments = GaussianPaths.brownian_bridges(begin, end, posed.noise, 2, 2).grid(torch.linspace(0, 1, BETWEEN))
    x = moments.mean + moments.std[..., None] * draws.stream("straight").normal(tuple(moments.mean.shape))
    stuck = posed.cost.is_blocked(x).double().mean().item()
    return Passed(
        measured["objective"] or 0.0, measured["inside_time"] or 0.0, stuck, ends["w2"] or 0.0, ends["w2_floor"] or 0.0
    )


def corridor(setting: Setting) -> Iterator[Claim]:
    """The corridor between two boxes."""
    rows = [passed(setting, seed) for seed in setting.seeds]
    shares = [row.inside for row in rows]
    yield Claim(
        "Drunken spider: a crowd goes through the corridor between two boxes, and arrives",
        "no figures: the problem is in the paper's code alone",
        f"inside a box {_percent(shares)} of the time, plain bridges {_percent([row.straight for row in rows])}; ends"
        f" reached to a W2 of {mean_of([row.reached for row in rows], 3)}, members from each other"
        f" {mean_of([row.floor for row in rows], 3)}; objective {mean_of([row.objective for row in rows])}."
        f" Wanted: a tenth of the time of Brownian bridges, W2 at most {ARRIVED:g}",
        f"{spread_of(shares)}, share of the time",
        verdict(all(row.inside <= row.straight / 10 and row.reached <= ARRIVED for row in rows)),
    )


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(shares):.2g} %"
