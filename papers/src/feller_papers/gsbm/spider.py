"""Claim about a corridor between two boxes, a problem of the paper's code only."""

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

CONFIG = BridgeSolverConfig(control=ConditionalControl(times=30))
MAX_ROUNDS, NUM_TRAJECTORIES, NUM_TIMES = 5, 512, 200
"""Maximum number of rounds; number of trajectories; number of times on Brownian bridges."""
MAX_W2 = 0.3
"""Largest W2 of the ends at which the claim holds."""


@dataclass(frozen=True)
class SpiderMetrics:
    """Metrics of a crowd in the corridor."""

    objective: float
    inside_fraction: float
    """Fraction of time inside a box."""
    straight_inside: float
    """The same fraction for Brownian bridges."""
    w2: float
    """Exact W2 between end states and target samples."""
    w2_floor: float
    """Exact W2 between two sets of target samples."""


@functools.cache
def solve_trajectories(setting: Setting, seed: int) -> Trajectories:
    """Return trajectories of a solved bridge from fresh samples."""
    problem = problems.spider()
    budget = replace(setting.crowd, rounds=min(setting.crowd.rounds, MAX_ROUNDS))
    solution = solve_bridge(problem, budget.apply(CONFIG), seed=seed)
    return solution.transport(problem.populations[0][0](NUM_TRAJECTORIES, Rng(seed).fold_in("judge").fold_in(0)), seed)


@functools.cache
def solve_spider(setting: Setting, seed: int) -> SpiderMetrics:
    """Return the metrics of the trajectories."""
    problem, rng, trajectories = problems.spider(), Rng(seed).fold_in("judge"), solve_trajectories(setting, seed)
    source, target = (
        population(NUM_TRAJECTORIES, rng.fold_in(index)) for index, population in enumerate(problem.populations[0])
    )
    costs = path_costs(trajectories.times, trajectories.states, trajectories.control, problem.cost, rng).averages()
    end_metrics = feasibility(
        trajectories.states[:, -1], problem.populations[0][1](2 * NUM_TRAJECTORIES, rng.fold_in("members")), rng
    )
    moments = GaussianPaths.brownian_bridges(source, target, problem.noise, 2, 2).grid(torch.linspace(0, 1, NUM_TIMES))
    x = moments.mean + moments.std[..., None] * rng.stream("straight").normal(tuple(moments.mean.shape))
    straight_inside = problem.cost.is_blocked(x).double().mean().item()
    return SpiderMetrics(
        costs["objective"] or 0.0,
        costs["inside_time"] or 0.0,
        straight_inside,
        end_metrics["w2"] or 0.0,
        end_metrics["w2_floor"] or 0.0,
    )


def corridor(setting: Setting) -> Iterator[Claim]:
    """Return the claim about the corridor."""
    rows = [solve_spider(setting, seed) for seed in setting.seeds]
    fractions = [row.inside_fraction for row in rows]
    yield Claim(
        "Drunken spider: a crowd goes through the corridor between two boxes, and arrives",
        "no figures: the problem is in the paper's code alone",
        f"inside a box {_percent(fractions)} of the time, plain bridges"
        f" {_percent([row.straight_inside for row in rows])}; ends reached to a W2 of"
        f" {mean_of([row.w2 for row in rows], 3)}, members from each other"
        f" {mean_of([row.w2_floor for row in rows], 3)}; objective {mean_of([row.objective for row in rows])}. Wanted:"
        f" a tenth of the time of Brownian bridges, W2 at most {MAX_W2:g}",
        f"{spread_of(fractions)}, share of the time",
        verdict(all(row.inside_fraction <= row.straight_inside / 10 and row.w2 <= MAX_W2 for row in rows)),
    )


def _percent(fractions: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(fractions):.2g} %"
