"""Claims about ways over a mountain: Mt. Rainier where its scan is given, else hills in Tennessee."""

import functools
import pathlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.conditional_control import ConditionalControl
from feller.control.bridges.costs import PointCloudSurface, SurfaceCost
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.solution import solve_bridge
from feller.core.rng import Rng
from feller.data.examples.loaders import surface as hills
from feller.data.points.scans_and_meshes import load_scan
from feller.evaluation.bridge_quality import feasibility, path_costs
from feller.networks.mlp import MLP
from feller_papers.claims import Claim, mean_of, spread_of, untestable, verdict
from feller_papers.gsbm import problems
from feller_papers.gsbm.setting import Setting
from feller_papers.setting import file_of

SCAN = ("lidar", "rainier2-thin.las")
FEW, BETWEEN = 48, 200
"""Pairs whose paths are found alone; times at which they are judged."""
CONTROL = ConditionalControl(mean_knots=30, scale_knots=30, steps=200, times=30, mean_rate=0.04, scale_rate=0.15)
HOW = BridgeSolverConfig(architecture=MLP(width=128, depth=3, frequencies=3), control=CONTROL)
BRIDGING = replace(HOW, train=replace(HOW.train, lr=2e-3))
FLOOR = 5000.0
"""The least that a state can cost, at height 0."""
PAPER = "6209, DeepGSB 7747 (second-hand)"
EASED, ARRIVED = 0.7, 0.5
"""Share of the cost of Brownian bridges that is wanted where the paper has no figure; W2 of ends to members."""

PLACES = (
    (-4.0, -2.0, 0.5),
    (-3.0, 1.5, 0.5),
    (0.0, 0.0, 0.5),
    (2.0, -2.0, 0.5),
    (3.2, -0.5, 0.5),
    (-1.0, 3.0, 0.2),
    (5.2, 0.0, 0.5),
)
COSTS = (6291.5987, 6480.7664, 22201.1550, 6952.3767, 7470.9797, 7815.1110, 14407.1026)
"""Of these places on Mt. Rainier, as the paper's functions give them."""


@dataclass(frozen=True, eq=False)
class Terrain:
    """A mountain, and who goes over it."""

    name: str
    surface: PointCloudSurface
    problem: BridgeProblem
    paper: bool
    """It is that of the paper."""

    def lies(self, x: Float[Tensor, "*b 3"]) -> tuple[float, float]:
        """Return the mean squared distance to the surface, and the mean of e^z on it."""
        off = SurfaceCost(self.surface)(x, torch.zeros(()))
        return off.mean().item(), self.surface.project(x)[..., 2].exp().mean().item()


@functools.cache
def terrain(data: pathlib.Path | None) -> Terrain:
    """Return Mt. Rainier if there is a scan of it, else the hills that come with the package."""
    scan = file_of(data, *SCAN)
    if scan is None:
        surface = PointCloudSurface(hills())
        return Terrain("hills near Jacksboro", surface, problems.jacksboro(surface), paper=False)
    surface = PointCloudSurface(problems.normalised(load_scan(scan).values))
    return Terrain("Mt. Rainier", surface, problems.lidar(surface), paper=True)


def cost_of_places(setting: Setting) -> Iterator[Claim]:
    """The cost of the paper at some places."""
    claim = "Mt. Rainier: the state cost at seven places is that of the paper's functions"
    if file_of(setting.data, *SCAN) is None:
        yield untestable(claim, "6291.5987 to 22201.1550", f"needs {'/'.join(SCAN)} in the folder of --data")
        return
    mountain = terrain(setting.data)
    found = mountain.problem.cost(torch.tensor(PLACES, dtype=torch.float64), torch.zeros(()))
    error = (found - torch.tensor(COSTS, dtype=torch.float64)).abs().max().item()
    yield Claim(
        claim,
        ", ".join(f"{cost:.1f}" for cost in COSTS),
        f"to within {error:.1e}",
        "exact, no seed",
        verdict(error < 1e-3),
    )


@dataclass(frozen=True)
class Pinned:
    """What the paths of a few pairs cost, in paper units."""

    straight: float
    """State cost of Brownian bridges."""
    state: float
    control: float
    """Energy above the Brownian bridge's, and half the squared distance."""
    off: float
    """Mean squared distance from the surface; likewise of Brownian bridges."""
    off_straight: float
    seconds: float


@functools.cache
def pinned(data: pathlib.Path | None, steps: int, seed: int) -> Pinned:
    """Find the paths of a few pairs."""
    mountain, draws = terrain(data), Rng(seed).fold_in("pinned")
    problem = mountain.problem
    x_0, x_1 = (crowd(FEW, draws.fold_in(end)) for end, crowd in enumerate(problem.populations[0]))
    straight = GaussianPaths.brownian_bridges(x_0, x_1, problem.noise, CONTROL.mean_knots, CONTROL.scale_knots)
    begun = time.process_time()
    paths, trace = replace(CONTROL, steps=steps).solve(straight, problem.cost, draws)
    seconds = time.process_time() - begun
    control = (trace.kinetic + (x_1 - x_0).square().sum(1) / 2).mean().item()
    found = []
    for one in (straight, paths):
        t = (torch.arange(BETWEEN) + 0.5) / BETWEEN
        moments = one.grid(t)
        z = draws.stream("judge").normal(tuple(moments.mean.shape))
        x = moments.mean + moments.std[..., None] * z
        found.append((problem.cost(x, t).mean().item(), mountain.lies(x)[0]))
    return Pinned(found[0][0], found[1][0], control, found[1][1], found[0][1], seconds)


def paths_of_pairs(setting: Setting) -> Iterator[Claim]:
    """Pinned paths alone."""
    mountain = terrain(setting.data)
    rows = [pinned(setting.data, setting.mountain.control, seed) for seed in setting.seeds]
    totals = [row.state + row.control for row in rows]
    if mountain.paper:
        holds = max(totals) <= 6600 and all(row.off <= 0.015 for row in rows)
    else:
        holds = all(total <= EASED * row.straight for total, row in zip(totals, rows, strict=True))
    yield Claim(
        f"{mountain.name}: pinned paths of {FEW} pairs go around heights (state cost and control)",
        PAPER if mountain.paper else f"on Mt. Rainier {PAPER}",
        f"{_costs(totals, rows)}; Brownian bridges {_mean(rows, 'straight', 6)}. Mean squared distance to the surface"
        f" {_mean(rows, 'off', 3)}, of Brownian bridges {_mean(rows, 'off_straight', 3)}."
        f" {setting.mountain.control} steps, {_mean(rows, 'seconds', 3)} CPU-seconds. Wanted: at most"
        f" {'6600, squared distance at most 0.015' if mountain.paper else f'{EASED:g} of the Brownian bridges'}",
        spread_of(totals),
        verdict(holds),
    )


@dataclass(frozen=True)
class Crossed:
    """What learned trajectories cost and reach."""

    objective: float
    control: float
    off: float
    high: float
    """Mean of e^z on the surface."""
    reached: float
    """Exact W2 between ends and members, and between members."""
    floor: float
    lost: int
    seconds: float


@functools.cache
def crossed(setting: Setting, seed: int) -> Crossed:
    """Learn to cross."""
    mountain, begun = terrain(setting.data), time.process_time()
    found = solve_bridge(mountain.problem, setting.mountain.of(BRIDGING), seed=seed)
    seconds, draws = time.process_time() - begun, Rng(seed).fold_in("judge")
    walked = found.rounds[-1].trajectories[0].thin(found.config.control.mean_knots)
    averages = path_costs(walked.times, walked.states, walked.control, mountain.problem.cost, draws).averages()
    members = mountain.problem.populations[0][1](2 * len(walked.states), draws)
    ends = feasibility(walked.states[:, -1], members, draws)
    off, high = mountain.lies(walked.states)
    return Crossed(
        averages["objective"] or 0.0,
        averages["control_cost"] or 0.0,
        off,
        high,
        ends["w2"] or 0.0,
        ends["w2_floor"] or 0.0,
        sum(walk.num_lost for one in found.rounds for walk in one.trajectories),
        seconds,
    )


def crossing(setting: Setting) -> Iterator[Claim]:
    """The whole alternation."""
    mountain, effort = terrain(setting.data), setting.mountain
    rows = [crossed(setting, seed) for seed in setting.seeds]
    totals = [row.objective for row in rows]
    if mountain.paper:
        holds = max(totals) <= 6800
    else:
        straight = [pinned(setting.data, effort.control, seed).straight for seed in setting.seeds]
        holds = all(total <= EASED * bound for total, bound in zip(totals, straight, strict=True))
    yield Claim(
        f"{mountain.name}: learned trajectories go around heights and arrive (state cost and control)",
        PAPER if mountain.paper else f"on Mt. Rainier {PAPER}",
        f"{_costs(totals, rows)}. Mean squared distance to the surface {_mean(rows, 'off', 3)}, mean e^z"
        f" {_mean(rows, 'high')}; ends reached to a W2 of {_mean(rows, 'reached', 3)}, members from each other"
        f" {_mean(rows, 'floor', 3)}; {sum(row.lost for row in rows)} trajectories lost; {effort.rounds} rounds of"
        f" {effort.pairs} pairs, {_mean(rows, 'seconds', 3)} CPU-seconds. Wanted: at most"
        f" {'6800' if mountain.paper else f'{EASED:g} of the Brownian bridges'}, W2 at most {ARRIVED:g}",
        spread_of(totals),
        verdict(holds and all(row.reached <= ARRIVED for row in rows)),
    )


def _costs(totals: Sequence[float], rows: Sequence[Pinned] | Sequence[Crossed]) -> str:
    beyond = mean_of([total - FLOOR for total in totals])
    return f"{mean_of(totals, 5)}, of which control {_mean(rows, 'control')}; {beyond} above the least of {FLOOR:.0f}"


def _mean(rows: Sequence[Pinned] | Sequence[Crossed], name: str, digits: int = 4) -> str:
    return mean_of([getattr(row, name) for row in rows], digits)
