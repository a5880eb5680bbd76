"""Claims about crowds in the plane: their ends are met in every round, and they cost less than those that mind nothing.

Each is a bridge between laws that can be drawn from afresh, so nothing is measured on what was learned from.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.drift_matching import ImplicitMatching, Segment
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.rounds import ema_drift, init_state, iterate_rounds
from feller.control.bridges.trajectories import Trajectories, simulate_drift, time_grid
from feller.core.rng import Rng
from feller.evaluation.bridge_quality import PathCosts, feasibility, path_costs
from feller.networks.bridge_drift import ForwardBackwardDrift, Potential
from feller.training.couplings import Coupling, IndependentCoupling, MinibatchOT
from feller.training.couplings.minibatch_ot import optimal_permutation
from feller.training.engine import get_engine
from feller.training.loop import TrainState, make_train_state, train
from feller.training.objective import Objective
from feller_papers.claims import Claim, mean_of, seeds_of, spread_of, verdict
from feller_papers.gsbm import problems
from feller_papers.gsbm.setting import Effort, Setting

FOLLOWED, FRESH = 1000, 2000
"""Trajectories that are measured, and fresh members that their ends are compared with, half of them for the floor."""
LOGGED = 15
"""Times at which the paper's code logs."""
WIDTH, BLUR = 0.2, 0.05
"""Of the kernels of the entropy and of the Sinkhorn divergence, as in the paper's code."""
GROUP = 256
"""Pairs that make up the crowd of an entropy, as in the paper: its work grows with their square."""
TIMED = 40
"""Steps of each loss that are timed."""


@dataclass(frozen=True)
class Crowd:
    """A problem, and what others found."""

    name: str
    make: Callable[[], BridgeProblem]
    rounds: int
    """At most."""
    judged: int
    """Round whose objective counts, from 1."""
    most: float
    """Of its objective."""
    paper: float
    """Objective."""
    feasible: float
    """What the paper has for the distance of the end, probably a Sinkhorn divergence."""
    plain: float
    """Objective of plain bridges, as the paper's code measures them."""
    grouped: bool = False
    """The crowd's density costs, so that pairs come in groups."""
    pairing: Coupling = field(default_factory=IndependentCoupling)
    """Of the first pairs."""
    patient: bool = False
    """Its walls are steep and its ways long: a drift keeps out of them after twice the steps, with longer averages."""

    @property
    def begins(self) -> str:
        """Say how the first pairs are made, for people."""
        return "by chance" if self.pairing == IndependentCoupling() else "at the least distance"


STUNNEL = Crowd("Stunnel", problems.stunnel, 9, 5, 470.0, 460.88, 0.03, 18_423.0, patient=True)
VNECK = Crowd("Vneck", problems.vneck, 3, 3, 155.0, 155.53, 0.01, 237.0, grouped=True)
NEAR = MinibatchOT(block_size=None)
"""By chance each of the four crowds would have to find all eight places, and members would go astray."""
GMM = Crowd("GMM", problems.gmm, 3, 3, 260.0, 229.12, 4.13, 2_708.0, grouped=True, pairing=NEAR)


@dataclass(frozen=True)
class Reached:
    """What one round reached, by fresh trajectories of its drift."""

    control: float
    state: float
    """Means over time."""
    logged: float
    """Objective as the paper's code logs it, at few times and without the last control."""
    sinkhorn: float
    sinkhorn_floor: float
    w2: float
    w2_floor: float
    inside_time: float
    inside_paths: float
    seconds: float
    """Of the processor, for the round."""

    @property
    def objective(self) -> float:
        """Sum of both costs."""
        return self.control + self.state


def settings(crowd: Crowd, effort: Effort) -> BridgeSolverConfig:
    """Return how a bridge is looked for."""
    how = replace(effort, rounds=min(effort.rounds, crowd.rounds)).of(BridgeSolverConfig(coupling=crowd.pairing))
    if crowd.patient:
        how = replace(how, train=replace(how.train, steps=2 * effort.steps, ema_decay=0.999))
    return replace(how, control=replace(how.control, chunk_size=GROUP)) if crowd.grouped else how


@functools.cache
def crossed(setting: Setting, crowd: Crowd, seed: int, implicit: bool = False) -> tuple[Reached, ...]:
    """Look for a bridge, and measure each round."""
    how, problem, draws = settings(crowd, setting.crowd), crowd.make(), Rng(seed)
    if implicit:
        how = replace(how, architecture=Potential(how.architecture), matching=ImplicitMatching(), rounds=1)
    network = ForwardBackwardDrift(how.architecture).build((2,), {}, draws)
    progress, found = init_state(network, how), []
    going = iterate_rounds(problem, how, progress, draws, get_engine())
    for number in range(how.rounds or 1):
        begun = time.process_time()
        one = next(going)
        seconds, way = time.process_time() - begun, ema_drift(progress, backward=one.backward)
        walked = follow(problem, lambda x, t, way=way: way(x, t, {}), draws.fold_in("judge", number), one.backward)
        found.append(reached(problem, walked, draws.fold_in("judge", number), seconds, backward=one.backward))
    return tuple(found)


def follow(problem: BridgeProblem, way: Callable[[Tensor, Tensor], Tensor], draws: Rng, backward: bool) -> Trajectories:
    """Follow a drift from fresh members, and keep all steps."""
    times, _ = time_grid(problem.times, LOGGED, BridgeSolverConfig().nfe)
    begin = problem.populations[0][backward]
    return simulate_drift(way, lambda fresh: begin(FOLLOWED, fresh), problem.noise, times, 1, draws, backward=backward)


def reached(problem: BridgeProblem, walked: Trajectories, draws: Rng, seconds: float, *, backward: bool) -> Reached:
    """Measure trajectories: what they cost, and whether they arrive at the end that was learned."""
    seen = path_costs(walked.times, walked.states, walked.control, problem.cost, draws, width=WIDTH)
    real = problem.populations[0][not backward](FRESH, draws.fold_in("real"))
    ends = feasibility(walked.states[:, 0 if backward else -1], real, draws, blur=BLUR)
    control, state = seen.logged(LOGGED, backward=backward)
    costs = {name: value or 0.0 for name, value in {**seen.averages(), **ends}.items()}
    return Reached(
        control=costs["control_cost"],
        state=costs["state_cost"],
        logged=control + state,
        seconds=seconds,
        **{name: costs[name] for name in ("sinkhorn", "sinkhorn_floor", "w2", "w2_floor")},
        **{name: costs[name] for name in ("inside_time", "inside_paths")},
    )


@functools.cache
def plain(crowd: Crowd, seed: int) -> PathCosts:
    """Measure Brownian bridges between members paired at the least distance, with half its square for control."""
    problem, draws = crowd.make(), Rng(seed).fold_in("plain")
    x_0, x_1 = (members(FOLLOWED, draws.fold_in(k)) for k, members in enumerate(problem.populations[0]))
    x_0 = x_0[optimal_permutation(x_0, x_1)]
    times, _ = time_grid(problem.times, LOGGED, BridgeSolverConfig().nfe)
    moments = GaussianPaths.brownian_bridges(x_0, x_1, problem.noise, 2, 2).grid(torch.tensor(times))
    z = draws.stream("states").normal(tuple(moments.mean.shape))
    states, control = moments.mean + moments.std[..., None] * z, (x_1 - x_0)[:, None].expand(moments.mean.shape)
    return path_costs(times, states, control, problem.cost, draws, width=WIDTH)


def over(setting: Setting, crowd: Crowd) -> list[tuple[Reached, ...]]:
    """Return all rounds of all seeds."""
    return [crossed(setting, crowd, seed) for seed in setting.seeds]


def row(values: Sequence[float], digits: int) -> str:
    """Write numbers of one round after the other."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def rows(found: Sequence[Sequence[Reached]], name: str, digits: int) -> str:
    """Write a number of each round, for each seed."""
    return "; ".join(row([getattr(one, name) for one in each], digits) for each in found)


def ends_are_met(setting: Setting) -> list[Claim]:
    """The end that each round learned, beside fresh members, for all three problems."""
    found = over(setting, STUNNEL)
    late = [one.sinkhorn for each in found for one in each[1:]]
    claims = [
        Claim(
            "Stunnel: ends are met in every round of training, not only at its end",
            "feasibility 0.03, probably a Sinkhorn divergence; here at most 0.06 in each round from the second, and"
            " never above 0.2",
            f"Sinkhorn divergence of the learned end, round by round: {rows(found, 'sinkhorn', 3)} (fresh members:"
            f" {mean_of([each[-1].sinkhorn_floor for each in found], 2)}); exact W2: {rows(found, 'w2', 2)} (fresh"
            f" members: {mean_of([each[-1].w2_floor for each in found], 2)})",
            f"{spread_of(late)} from the second round on",
            verdict(max(late, default=1.0) <= 0.06 and max(one.sinkhorn for each in found for one in each) <= 0.2),
        )
    ]
    for crowd in (VNECK, GMM):
        found = over(setting, crowd)
        last = [each[-1].sinkhorn for each in found]
        claims.append(
            Claim(
                f"{crowd.name}: the end is met",
                f"feasibility {crowd.feasible:g}, probably a Sinkhorn divergence; here at most that in the mean",
                f"Sinkhorn divergence of the last end {mean_of(last, 3)} (fresh members"
                f" {mean_of([each[-1].sinkhorn_floor for each in found], 3)}), exact W2"
                f" {mean_of([each[-1].w2 for each in found], 3)}"
                f" ({mean_of([each[-1].w2_floor for each in found], 3)})",
                spread_of(last),
                verdict(statistics.fmean(last) <= crowd.feasible),
            )
        )
    return claims


def less_than_plain(setting: Setting) -> Iterator[Claim]:
    """The objective, beside that of bridges that do not know the cost."""
    for crowd in (STUNNEL, VNECK, GMM):
        found = over(setting, crowd)
        judged = [each[min(crowd.judged, len(each)) - 1] for each in found]
        totals = [one.objective for one in judged]
        agnostic = [plain(crowd, seed).averages()["objective"] or 0.0 for seed in setting.seeds]
        parts = " + ".join(mean_of([getattr(one, name) for one in judged], 4) for name in ("control", "state"))
        yield Claim(
            f"{crowd.name}: a bridge that knows the cost costs less than one that does not",
            f"{crowd.paper:g}, as its code logs it, beside {crowd.plain:g} of plain bridges; here at most"
            f" {crowd.most:g} in round {crowd.judged} as it is logged",
            f"as logged {mean_of([one.logged for one in judged])}, as a mean over time {mean_of(totals)} ({parts});"
            f" first pairs {crowd.begins}; plain bridges {mean_of(agnostic)};"
            f" round by round {rows(found, 'objective', 0)}; paths that meet an obstacle"
            f" {mean_of([100 * each[-1].inside_paths for each in found], 2)} %, time inside"
            f" {mean_of([100 * each[-1].inside_time for each in found], 2)} %;"
            f" {mean_of([one.seconds for each in found for one in each], 3)} s a round of one processor",
            spread_of(totals),
            verdict(statistics.fmean(one.logged for one in judged) <= crowd.most),
        )


def both_losses(setting: Setting) -> list[Claim]:
    """The explicit loss beside the implicit one, on Stunnel."""
    explicit = [each[0] for each in over(setting, STUNNEL)]
    implicit = [crossed(setting, STUNNEL, seed, implicit=True)[0] for seed in setting.seeds]
    states = [statistics.fmean(one.state for one in found) for found in (explicit, implicit)]
    seconds = seconds_of_a_step(setting)
    ratio, apart = seconds[1] / seconds[0], abs(states[1] / states[0] - 1)
    return [
        Claim(
            "Stunnel: the explicit and the implicit loss find alike bridges, and the explicit one is faster",
            "2.76 times as fast; here a state cost within 20 %, and steps at least twice as fast",
            f"first round: cost of states {states[0]:.1f} and {states[1]:.1f}, of control"
            f" {mean_of([one.control for one in explicit])} and {mean_of([one.control for one in implicit])}, Sinkhorn"
            f" divergence of the end {mean_of([one.sinkhorn for one in explicit], 2)} and"
            f" {mean_of([one.sinkhorn for one in implicit], 2)}; {1000 * seconds[0]:.1f} and {1000 * seconds[1]:.1f} ms"
            f" of a processor a step, {ratio:.2f} times",
            f"{seeds_of(setting.seeds)}, cost of states {row([one.state for one in explicit], 1)} and"
            f" {row([one.state for one in implicit], 1)}",
            verdict(apart <= 0.2 and ratio >= 2),
        )
    ]


def seconds_of_a_step(setting: Setting) -> tuple[float, float]:
    """Return the time of a step of each loss, on straight paths and by turns."""
    how, problem = settings(STUNNEL, setting.crowd), STUNNEL.make()
    x_0, x_1 = (members(how.pairs, Rng(k)) for k, members in enumerate(problem.populations[0]))
    legs = [Segment(0.0, 1.0, GaussianPaths.brownian_bridges(x_0, x_1, problem.noise, 2, 2))]
    explicit = how.matching.objective(legs, (2,), None, backward=False)
    implicit = ImplicitMatching().objective(legs, (2,), None, backward=False)
    plain_network = ForwardBackwardDrift(how.architecture).build((2,), {}, Rng(0)).forward_drift
    potential = ForwardBackwardDrift(Potential(how.architecture)).build((2,), {}, Rng(0)).forward_drift
    steps = [
        _steps(objective, make_train_state(network, how.train), how)
        for objective, network in ((explicit, plain_network), (implicit, potential))
    ]
    spent = [0.0, 0.0]
    for turn in range(5):
        for k, one in enumerate(steps):
            begun = time.process_time()
            for _ in itertools.islice(one, TIMED // 4):
                pass
            spent[k] += (time.process_time() - begun) if turn else 0.0  # the first turn warms up
    return spent[0] / TIMED, spent[1] / TIMED


def _steps(objective: Objective, learner: TrainState, how: BridgeSolverConfig) -> Iterator[object]:
    """Train for ever."""

    def feed(step: int, rows: slice) -> dict[str, Tensor]:
        first, last, _ = rows.indices(how.train.batch_size)
        return {"x_1": Rng(0, first, how.train.batch_size).stream("pairs", step).randint(how.pairs, (last - first,))}

    steady = replace(how.train, steps=None, minutes=None)
    return train(learner, objective, feed, steady, rng=Rng(0), engine=get_engine())
