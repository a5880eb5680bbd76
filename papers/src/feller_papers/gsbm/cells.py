"""Claims about a time course of single cells: a held-out time, predicted by a bridge and by straight transport."""

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

HELD_OUT_HOURS = ("24", "48")
"""Hours that are held out, one at a time."""
NUM_SEEDS = 5
"""Number of bridges whose mean is judged in a full run."""
NUM_TRAJECTORIES = 1000
"""Simulated trajectories per held-out hour."""
NOISE, COST = 0.5, 0.1
"""Noise, in standard deviations within an hour; cost of one nat of log density, in mean squared distances between the
first and the last hour. Not tuned on the held-out hours."""

Cells = Float64[Tensor, "_ 5"]


@dataclass(frozen=True, eq=False)
class TimeCourse:
    """Cells measured at each hour."""

    hours: tuple[str, ...]
    cells: tuple[Cells, ...]

    @staticmethod
    def load() -> "TimeCourse":
        """Return the time course of the package."""
        return TimeCourse(HOURS, tuple(read(f"example:cells/{hour}").values.double() for hour in HOURS))

    def at(self, hour: str) -> Cells:
        """Return the cells of an hour."""
        return self.cells[self.hours.index(hour)]

    def drop(self, hour: str) -> "TimeCourse":
        """Return the time course without an hour."""
        remaining = [(other, cells) for other, cells in zip(self.hours, self.cells, strict=True) if other != hour]
        return TimeCourse(tuple(other for other, _ in remaining), tuple(cells for _, cells in remaining))

    def time_of(self, hour: str) -> float:
        """Return the time of an hour, scaled to [0, 1]."""
        first, last = float(self.hours[0]), float(self.hours[-1])
        return (float(hour) - first) / (last - first)

    def neighbours(self, hour: str) -> tuple[str, str]:
        """Return the hours before and after."""
        index = self.hours.index(hour)
        return self.hours[index - 1], self.hours[index + 1]


def transport_distance(before: Cells, after: Cells, time: float, target: Cells) -> float:
    """Return W1 between target cells and the displacement interpolation of exact optimal transport at a time."""
    import ot

    costs = torch.cdist(before, after).square().numpy()
    plan = np.asarray(ot.emd([], [], costs))
    rows, columns = np.nonzero(plan)
    between = torch.lerp(before[rows], after[columns], time)
    weights = plan[rows, columns]
    return float(ot.emd2(weights / weights.sum(), [], torch.cdist(between, target).numpy()))  # pyrefly: ignore


def bridge_problem(course: TimeCourse) -> BridgeProblem:
    """Return the bridge problem through the cells of all hours, with a data density cost."""
    std_within = torch.stack([(cells - cells.mean(0)).square().mean() for cells in course.cells]).mean().sqrt()
    distance_between = torch.cdist(course.cells[0], course.cells[-1]).square().mean()
    density = DataDensityCost.fit(torch.cat(course.cells).float(), Rng(0).fold_in("cells"))
    populations = [cells.float() for cells in course.cells]
    cost = COST * distance_between.item() * density
    return BridgeProblem.between(populations, NOISE * std_within.item(), cost, [float(hour) for hour in course.hours])


def initial_state(problem: BridgeProblem, config: BridgeSolverConfig, seed: int) -> BridgeState:
    """Return a solver state whose first pairs are coupled by optimal transport; random pairs need many more rounds."""
    rng = Rng(seed)
    state = init_state(ForwardBackwardDrift(config.architecture).build((5,), {}, rng), config)
    path = torch.linspace(0, 1, config.control.mean_knots)[:, None]
    for leg, crowds in enumerate(problem.populations):
        x_0, x_1 = (crowd(config.pairs, rng.fold_in("begin", leg, k)) for k, crowd in enumerate(crowds))
        x_0 = x_0[optimal_permutation(x_0, x_1)]
        state.knots.append(x_0[:, None] + path * (x_1 - x_0)[:, None])
    for drift in (state.network.forward_drift, state.network.backward_drift):
        drift.fit_scale(torch.cat(state.knots)[:, [0, -1]].flatten(0, 1))
    return state


def predict_cells(course: TimeCourse, hour: str, setting: Setting, seed: int) -> Cells:
    """Return the predicted cells at a held-out hour.

    Half of the trajectories start at the hour before and run forward, half at the hour after and run backward.
    """
    remaining, (before, after) = course.drop(hour), course.neighbours(hour)
    problem, config, rng = bridge_problem(remaining), setting.cells.apply(BridgeSolverConfig()), Rng(seed)
    state = initial_state(problem, config, seed)
    for _ in itertools.islice(iterate_rounds(problem, config, state, rng, get_engine()), config.rounds):
        pass
    leg, time = remaining.hours.index(before), course.time_of(hour)
    times, _ = time_grid(problem.times[leg : leg + 2], config.control.mean_knots, config.nfe)
    predicted = []
    for backward, start_hour in ((False, before), (True, after)):
        drift, cells = ema_drift(state, backward=backward), course.at(start_hour).float()
        trajectories = simulate_drift(
            lambda x, t, drift=drift: drift(x, t, {}),
            lambda member_rng, cells=cells: Population(cells)(NUM_TRAJECTORIES // 2, member_rng),
            problem.noise,
            times,
            1,
            rng.fold_in("cells", start_hour),
            backward=backward,
        )
        step = int(np.abs(np.array(trajectories.times) - time).argmin())
        predicted.append(trajectories.states[:, step].double())
    return torch.cat(predicted)


def left_out(setting: Setting) -> Iterator[Claim]:
    """Return one claim per held-out hour."""
    name = "Muscle cells, {} h left out: a bridge through the others comes nearer to them than straight transport"
    paper = "not in the paper; here by exact W1 in five principal components, in the mean of five seeds"
    if importlib.util.find_spec("ot") is None:
        yield untestable(name.format(" or ".join(HELD_OUT_HOURS)), paper, "needs POT: pip install 'feller[bridges]'")
        return
    course, seeds = TimeCourse.load(), range(NUM_SEEDS) if len(setting.seeds) > 1 else setting.seeds
    for hour in HELD_OUT_HOURS:
        cells, (before, after) = course.at(hour), course.neighbours(hour)
        time = (float(hour) - float(before)) / (float(after) - float(before))
        baseline = transport_distance(course.at(before), course.at(after), time, cells)
        distances = [wasserstein(predict_cells(course, hour, setting, seed), cells, 1) for seed in seeds]
        end_distances = {other: wasserstein(course.at(other), cells, 1) for other in (before, after)}
        end_words = " and ".join(f"{value:.1f} (those of {other} h)" for other, value in end_distances.items())
        yield Claim(
            name.format(hour),
            paper,
            f"{statistics.fmean(distances):.2f}, straight transport {baseline:.2f}; the cells before and after are at"
            f" {end_words}",
            spread_of(distances),
            verdict(statistics.fmean(distances) < baseline),
        )
