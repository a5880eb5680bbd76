"""Claims about a course of single cells: what a bridge says of a time that was left out, beside straight transport."""

import importlib.util
import itertools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.costs.near_data import DataDensityCost
from feller.control.bridges.population import Population
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.rounds import BridgeState, ema_drift, init_state, iterate_rounds
from feller.control.bridges.trajectories import simulate_drift, time_grid
from feller.core.rng import Rng
from feller.data.examples.registry import HOURS
from feller.data.loading.dataset_reader import read
from feller.evaluation.two_sample import wasserstein
from feller.networks.bridge_drift import ForwardBackwardDrift
from feller.training.couplings.minibatch_ot import optimal_permutation
from feller.training.engine import get_engine
from feller_papers.claims import Claim, spread_of, untestable, verdict
from feller_papers.gsbm.setting import Setting

LEFT_OUT = ("24", "48")
"""Hours in between."""
SEEDS = 5
"""Bridges whose mean counts, where more than one seed is asked for."""
FOLLOWED = 1000
"""Trajectories."""
NOISE, COST = 0.5, 0.1
"""Of the whole journey in deviations within the hours; of one nat of density in mean squared distances: chosen for
neither hour."""

Cells = Float64[Tensor, "_ 5"]


@dataclass(frozen=True, eq=False)
class Course:
    """Cells by their hours."""

    hours: tuple[str, ...]
    cells: tuple[Cells, ...]

    @staticmethod
    def measured() -> "Course":
        """Return that of the package."""
        return Course(HOURS, tuple(read(f"example:cells/{hour}").values.double() for hour in HOURS))

    def at(self, hour: str) -> Cells:
        """Return the cells of an hour."""
        return self.cells[self.hours.index(hour)]

    def without(self, hour: str) -> "Course":
        """Return the others."""
        kept = [(one, cells) for one, cells in zip(self.hours, self.cells, strict=True) if one != hour]
        return Course(tuple(one for one, _ in kept), tuple(cells for _, cells in kept))

    def share(self, hour: str) -> float:
        """Return the time of an hour, of a journey from 0 to 1."""
        first, last = float(self.hours[0]), float(self.hours[-1])
        return (float(hour) - first) / (last - first)

    def around(self, hour: str) -> tuple[str, str]:
        """Return the hours before and after."""
        place = self.hours.index(hour)
        return self.hours[place - 1], self.hours[place + 1]


def straight(before: Cells, after: Cells, share: float, wanted: Cells) -> float:
    """Return W1 from wanted cells to those on the lines of exact transport, a share of the way."""
    import ot

    costs = torch.cdist(before, after).square().numpy()
    plan = np.asarray(ot.emd([], [], costs))
    rows, columns = np.nonzero(plan)
    between = torch.lerp(before[rows], after[columns], share)
    weights = plan[rows, columns]
    return float(ot.emd2(weights / weights.sum(), [], torch.cdist(between, wanted).numpy()))  # pyrefly: ignore


def posed(course: Course) -> BridgeProblem:
    """Return the bridge through the cells of some hours, that prefers to be where cells are."""
    within = torch.stack([(cells - cells.mean(0)).square().mean() for cells in course.cells]).mean().sqrt()
    apart = torch.cdist(course.cells[0], course.cells[-1]).square().mean()
    density = DataDensityCost.fit(torch.cat(course.cells).float(), Rng(0).fold_in("cells"))
    populations = [cells.float() for cells in course.cells]
    cost = COST * apart.item() * density
    return BridgeProblem.between(populations, NOISE * within.item(), cost, [float(hour) for hour in course.hours])


def begun(problem: BridgeProblem, how: BridgeSolverConfig, seed: int) -> BridgeState:
    """Begin with pairs at the least distance instead of any: by chance they would need many rounds to find together."""
    draws = Rng(seed)
    progress = init_state(ForwardBackwardDrift(how.architecture).build((5,), {}, draws), how)
    way = torch.linspace(0, 1, how.control.mean_knots)[:, None]
    for leg, crowds in enumerate(problem.populations):
        x_0, x_1 = (crowd(how.pairs, draws.fold_in("begin", leg, k)) for k, crowd in enumerate(crowds))
        x_0 = x_0[optimal_permutation(x_0, x_1)]
        progress.knots.append(x_0[:, None] + way * (x_1 - x_0)[:, None])
    for drift in (progress.network.forward_drift, progress.network.backward_drift):
        drift.fit_scale(torch.cat(progress.knots)[:, [0, -1]].flatten(0, 1))
    return progress


def bridged(course: Course, hour: str, setting: Setting, seed: int) -> Cells:
    """Return where trajectories are at an hour whose cells were left out.

    Half of them go ahead from the cells of the hour before, half back from those of the hour after.
    """
    kept, (before, after) = course.without(hour), course.around(hour)
    problem, how, draws = posed(kept), setting.cells.of(BridgeSolverConfig()), Rng(seed)
    progress = begun(problem, how, seed)
    for _ in itertools.islice(iterate_rounds(problem, how, progress, draws, get_engine()), how.rounds):
        pass
    leg, share = kept.hours.index(before), course.share(hour)
    times, _ = time_grid(problem.times[leg : leg + 2], how.control.mean_knots, how.nfe)
    found = []
    for backward, near in ((False, before), (True, after)):
        way, cells = ema_drift(progress, backward=backward), course.at(near).float()
        walked = simulate_drift(
            lambda x, t, way=way: way(x, t, {}),
            lambda fresh, cells=cells: Population(cells)(FOLLOWED // 2, fresh),
            problem.noise,
            times,
            1,
            draws.fold_in("cells", near),
            backward=backward,
        )
        place = int(np.abs(np.array(walked.times) - share).argmin())
        found.append(walked.states[:, place].double())
    return torch.cat(found)


def left_out(setting: Setting) -> Iterator[Claim]:
    """Each inner hour left out once."""
    name = "Muscle cells, {} h left out: a bridge through the others comes nearer to them than straight transport"
    wanted = "not in the paper; here by exact W1 in five principal components, in the mean of five seeds"
    if importlib.util.find_spec("ot") is None:
        yield untestable(name.format(" or ".join(LEFT_OUT)), wanted, "needs POT: pip install 'feller[bridges]'")
        return
    course, seeds = Course.measured(), range(SEEDS) if len(setting.seeds) > 1 else setting.seeds
    for hour in LEFT_OUT:
        cells, (before, after) = course.at(hour), course.around(hour)
        share = (float(hour) - float(before)) / (float(after) - float(before))
        line = straight(course.at(before), course.at(after), share, cells)
        found = [wasserstein(bridged(course, hour, setting, seed), cells, 1) for seed in seeds]
        near = {one: wasserstein(course.at(one), cells, 1) for one in (before, after)}
        ends = " and ".join(f"{value:.1f} (those of {one} h)" for one, value in near.items())
        yield Claim(
            name.format(hour),
            wanted,
            f"{statistics.fmean(found):.2f}, straight transport {line:.2f}; the cells before and after are at {ends}",
            spread_of(found),
            verdict(statistics.fmean(found) < line),
        )
