"""Claims about crowds in the plane: every round meets the end distributions, and the objective is below plain bridges.

All metrics are measured on fresh samples of the populations, not on training pairs.
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
from feller_papers.gsbm.setting import Budget, Setting

NUM_TRAJECTORIES, NUM_FRESH = 1000, 2000
"""Simulated trajectories; fresh samples that their ends are compared with, half of them for the floor."""
NUM_LOGGED_TIMES = 15
"""Number of times at which the paper's code logs."""
ENTROPY_WIDTH, SINKHORN_BLUR = 0.2, 0.05
"""Kernel width of the entropy, and blur of the Sinkhorn divergence, as in the paper's code."""
CHUNK_SIZE = 256
"""Pairs per density estimate, as in the paper: the cost is quadratic."""
TIMED_STEPS = 40
"""Timed training steps of each loss."""


@dataclass(frozen=True)
class CrowdProblem:
    """A problem, with the figures of the paper."""

    name: str
    make: Callable[[], BridgeProblem]
    rounds: int
    """Maximum number of rounds."""
    judged_round: int
    """Round whose objective is judged, from 1."""
    max_objective: float
    """Largest objective at which the claim holds."""
    paper_objective: float
    """Objective in the paper."""
    paper_feasibility: float
    """Feasibility in the paper, probably a Sinkhorn divergence."""
    plain_objective: float
    """Objective of plain bridges by the paper's code."""
    chunked: bool = False
    """The cost depends on the density, so pairs are optimised in chunks."""
    coupling: Coupling = field(default_factory=IndependentCoupling)
    """Coupling of the first pairs."""
    long_training: bool = False
    """Twice the training steps and a slower EMA: the obstacles are steep and the paths long."""

    @property
    def coupling_name(self) -> str:
        """Name of the coupling of the first pairs."""
        return "by chance" if self.coupling == IndependentCoupling() else "at the least distance"


STUNNEL = CrowdProblem("Stunnel", problems.stunnel, 9, 5, 470.0, 460.88, 0.03, 18_423.0, long_training=True)
VNECK = CrowdProblem("Vneck", problems.vneck, 3, 3, 155.0, 155.53, 0.01, 237.0, chunked=True)
OPTIMAL_COUPLING = MinibatchOT(block_size=None)
"""With independent pairs each of the four modes would have to reach all eight."""
GMM = CrowdProblem("GMM", problems.gmm, 3, 3, 260.0, 229.12, 4.13, 2_708.0, chunked=True, coupling=OPTIMAL_COUPLING)


@dataclass(frozen=True)
class RoundMetrics:
    """Metrics of one round, on fresh trajectories of its drift."""

    control: float
    state: float
    """Mean state cost over time."""
    logged: float
    """Objective as the paper's code logs it, at few times and without the last control."""
    sinkhorn: float
    sinkhorn_floor: float
    w2: float
    w2_floor: float
    inside_time: float
    inside_paths: float
    seconds: float
    """CPU-seconds of the round."""

    @property
    def objective(self) -> float:
        """Sum of control and state cost."""
        return self.control + self.state


def solver_config(crowd: CrowdProblem, budget: Budget) -> BridgeSolverConfig:
    """Return the solver config of a problem."""
    config = replace(budget, rounds=min(budget.rounds, crowd.rounds)).apply(BridgeSolverConfig(coupling=crowd.coupling))
    if crowd.long_training:
        config = replace(config, train=replace(config.train, steps=2 * budget.steps, ema_decay=0.999))
    return replace(config, control=replace(config.control, chunk_size=CHUNK_SIZE)) if crowd.chunked else config


@functools.cache
def solve_rounds(setting: Setting, crowd: CrowdProblem, seed: int, implicit: bool = False) -> tuple[RoundMetrics, ...]:
    """Return the metrics of each round of a solved bridge."""
    config, problem, rng = solver_config(crowd, setting.crowd), crowd.make(), Rng(seed)
    if implicit:
        config = replace(config, architecture=Potential(config.architecture), matching=ImplicitMatching(), rounds=1)
    network = ForwardBackwardDrift(config.architecture).build((2,), {}, rng)
    state, results = init_state(network, config), []
    iterator = iterate_rounds(problem, config, state, rng, get_engine())
    for index in range(config.rounds or 1):
        start = time.process_time()
        round_result = next(iterator)
        seconds, drift = time.process_time() - start, ema_drift(state, backward=round_result.backward)
        trajectories = simulate_fresh(
            problem, lambda x, t, drift=drift: drift(x, t, {}), rng.fold_in("judge", index), round_result.backward
        )
        results.append(
            measure_round(problem, trajectories, rng.fold_in("judge", index), seconds, backward=round_result.backward)
        )
    return tuple(results)


def simulate_fresh(
    problem: BridgeProblem, drift: Callable[[Tensor, Tensor], Tensor], rng: Rng, backward: bool
) -> Trajectories:
    """Return trajectories of a drift from fresh samples, with all steps."""
    times, _ = time_grid(problem.times, NUM_LOGGED_TIMES, BridgeSolverConfig().nfe)
    population = problem.populations[0][backward]
    return simulate_drift(
        drift,
        lambda member_rng: population(NUM_TRAJECTORIES, member_rng),
        problem.noise,
        times,
        1,
        rng,
        backward=backward,
    )


def measure_round(
    problem: BridgeProblem, trajectories: Trajectories, rng: Rng, seconds: float, *, backward: bool
) -> RoundMetrics:
    """Return the costs of trajectories and the distance of their ends to the target population."""
    path_metrics = path_costs(
        trajectories.times, trajectories.states, trajectories.control, problem.cost, rng, width=ENTROPY_WIDTH
    )
    target = problem.populations[0][not backward](NUM_FRESH, rng.fold_in("real"))
    end_metrics = feasibility(trajectories.states[:, 0 if backward else -1], target, rng, blur=SINKHORN_BLUR)
    control, state_cost = path_metrics.logged(NUM_LOGGED_TIMES, backward=backward)
    costs = {name: value or 0.0 for name, value in {**path_metrics.averages(), **end_metrics}.items()}
    return RoundMetrics(
        control=costs["control_cost"],
        state=costs["state_cost"],
        logged=control + state_cost,
        seconds=seconds,
        **{name: costs[name] for name in ("sinkhorn", "sinkhorn_floor", "w2", "w2_floor")},
        **{name: costs[name] for name in ("inside_time", "inside_paths")},
    )


@functools.cache
def plain_bridge_costs(crowd: CrowdProblem, seed: int) -> PathCosts:
    """Return the costs of Brownian bridges between optimally coupled pairs; control is half the squared distance."""
    problem, rng = crowd.make(), Rng(seed).fold_in("plain")
    x_0, x_1 = (members(NUM_TRAJECTORIES, rng.fold_in(k)) for k, members in enumerate(problem.populations[0]))
    x_0 = x_0[optimal_permutation(x_0, x_1)]
    times, _ = time_grid(problem.times, NUM_LOGGED_TIMES, BridgeSolverConfig().nfe)
    moments = GaussianPaths.brownian_bridges(x_0, x_1, problem.noise, 2, 2).grid(torch.tensor(times))
    z = rng.stream("states").normal(tuple(moments.mean.shape))
    states, control = moments.mean + moments.std[..., None] * z, (x_1 - x_0)[:, None].expand(moments.mean.shape)
    return path_costs(times, states, control, problem.cost, rng, width=ENTROPY_WIDTH)


def all_seeds(setting: Setting, crowd: CrowdProblem) -> list[tuple[RoundMetrics, ...]]:
    """Return the metrics of all rounds, for each seed."""
    return [solve_rounds(setting, crowd, seed) for seed in setting.seeds]


def format_row(values: Sequence[float], digits: int) -> str:
    """Return values joined by commas."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def format_rounds(seeds: Sequence[Sequence[RoundMetrics]], name: str, digits: int) -> str:
    """Return a metric of each round, for each seed."""
    return "; ".join(format_row([getattr(metrics, name) for metrics in per_round], digits) for per_round in seeds)


def ends_are_met(setting: Setting) -> list[Claim]:
    """Return claims about the distance of the ends to fresh samples, for all three problems."""
    seeds = all_seeds(setting, STUNNEL)
    late_sinkhorn = [metrics.sinkhorn for per_round in seeds for metrics in per_round[1:]]
    claims = [
        Claim(
            "Stunnel: ends are met in every round of training, not only at its end",
            "feasibility 0.03, probably a Sinkhorn divergence; here at most 0.06 in each round from the second, and"
            " never above 0.2",
            f"Sinkhorn divergence of the learned end, round by round: {format_rounds(seeds, 'sinkhorn', 3)} (fresh"
            f" members: {mean_of([per_round[-1].sinkhorn_floor for per_round in seeds], 2)}); exact W2:"
            f" {format_rounds(seeds, 'w2', 2)} (fresh members:"
            f" {mean_of([per_round[-1].w2_floor for per_round in seeds], 2)})",
            f"{spread_of(late_sinkhorn)} from the second round on",
            verdict(
                max(late_sinkhorn, default=1.0) <= 0.06
                and max(metrics.sinkhorn for per_round in seeds for metrics in per_round) <= 0.2
            ),
        )
    ]
    for crowd in (VNECK, GMM):
        seeds = all_seeds(setting, crowd)
        last_sinkhorn = [per_round[-1].sinkhorn for per_round in seeds]
        claims.append(
            Claim(
                f"{crowd.name}: the end is met",
                f"feasibility {crowd.paper_feasibility:g}, probably a Sinkhorn divergence; here at most that in the"
                " mean",
                f"Sinkhorn divergence of the last end {mean_of(last_sinkhorn, 3)} (fresh members"
                f" {mean_of([per_round[-1].sinkhorn_floor for per_round in seeds], 3)}), exact W2"
                f" {mean_of([per_round[-1].w2 for per_round in seeds], 3)}"
                f" ({mean_of([per_round[-1].w2_floor for per_round in seeds], 3)})",
                spread_of(last_sinkhorn),
                verdict(statistics.fmean(last_sinkhorn) <= crowd.paper_feasibility),
            )
        )
    return claims


def less_than_plain(setting: Setting) -> Iterator[Claim]:
    """Return claims about the objective against plain bridges."""
    for crowd in (STUNNEL, VNECK, GMM):
        seeds = all_seeds(setting, crowd)
        judged_metrics = [per_round[min(crowd.judged_round, len(per_round)) - 1] for per_round in seeds]
        objectives = [metrics.objective for metrics in judged_metrics]
        plain_totals = [plain_bridge_costs(crowd, seed).averages()["objective"] or 0.0 for seed in setting.seeds]
        cost_parts = " + ".join(
            mean_of([getattr(metrics, name) for metrics in judged_metrics], 4) for name in ("control", "state")
        )
        yield Claim(
            f"{crowd.name}: a bridge that knows the cost costs less than one that does not",
            f"{crowd.paper_objective:g}, as its code logs it, beside {crowd.plain_objective:g} of plain bridges; here"
            f" at most {crowd.max_objective:g} in round {crowd.judged_round} as it is logged",
            f"as logged {mean_of([metrics.logged for metrics in judged_metrics])}, as a mean over time"
            f" {mean_of(objectives)} ({cost_parts}); first pairs {crowd.coupling_name}; plain bridges"
            f" {mean_of(plain_totals)}; round by round {format_rounds(seeds, 'objective', 0)}; paths that meet an"
            f" obstacle {mean_of([100 * per_round[-1].inside_paths for per_round in seeds], 2)} %, time inside"
            f" {mean_of([100 * per_round[-1].inside_time for per_round in seeds], 2)} %;"
            f" {mean_of([metrics.seconds for per_round in seeds for metrics in per_round], 3)} s a round of one"
            " processor",
            spread_of(objectives),
            verdict(statistics.fmean(metrics.logged for metrics in judged_metrics) <= crowd.max_objective),
        )


def both_losses(setting: Setting) -> list[Claim]:
    """Return a claim about the explicit and the implicit loss, on Stunnel."""
    explicit = [seed_rounds[0] for seed_rounds in all_seeds(setting, STUNNEL)]
    implicit = [solve_rounds(setting, STUNNEL, seed, implicit=True)[0] for seed in setting.seeds]
    state_costs = [
        statistics.fmean(metrics.state for metrics in metrics_of_loss) for metrics_of_loss in (explicit, implicit)
    ]
    step_seconds = seconds_per_step(setting)
    ratio, relative_difference = step_seconds[1] / step_seconds[0], abs(state_costs[1] / state_costs[0] - 1)
    return [
        Claim(
            "Stunnel: the explicit and the implicit loss find alike bridges, and the explicit one is faster",
            "2.76 times as fast; here a state cost within 20 %, and steps at least twice as fast",
            f"first round: cost of states {state_costs[0]:.1f} and {state_costs[1]:.1f}, of control"
            f" {mean_of([metrics.control for metrics in explicit])} and"
            f" {mean_of([metrics.control for metrics in implicit])}, Sinkhorn divergence of the end"
            f" {mean_of([metrics.sinkhorn for metrics in explicit], 2)} and"
            f" {mean_of([metrics.sinkhorn for metrics in implicit], 2)}; {1000 * step_seconds[0]:.1f} and"
            f" {1000 * step_seconds[1]:.1f} ms of a processor a step, {ratio:.2f} times",
            f"{seeds_of(setting.seeds)}, cost of states {format_row([metrics.state for metrics in explicit], 1)} and"
            f" {format_row([metrics.state for metrics in implicit], 1)}",
            verdict(relative_difference <= 0.2 and ratio >= 2),
        )
    ]


def seconds_per_step(setting: Setting) -> tuple[float, float]:
    """Return the CPU-seconds per training step of each loss, on straight paths, measured alternately."""
    config, problem = solver_config(STUNNEL, setting.crowd), STUNNEL.make()
    x_0, x_1 = (members(config.pairs, Rng(k)) for k, members in enumerate(problem.populations[0]))
    segments = [Segment(0.0, 1.0, GaussianPaths.brownian_bridges(x_0, x_1, problem.noise, 2, 2))]
    explicit = config.matching.objective(segments, (2,), None, backward=False)
    implicit = ImplicitMatching().objective(segments, (2,), None, backward=False)
    plain_network = ForwardBackwardDrift(config.architecture).build((2,), {}, Rng(0)).forward_drift
    potential = ForwardBackwardDrift(Potential(config.architecture)).build((2,), {}, Rng(0)).forward_drift
    steps = [
        _training_steps(objective, make_train_state(network, config.train), config)
        for objective, network in ((explicit, plain_network), (implicit, potential))
    ]
    totals = [0.0, 0.0]
    for repeat in range(5):
        for k, iterator in enumerate(steps):
            start = time.process_time()
            for _ in itertools.islice(iterator, TIMED_STEPS // 4):
                pass
            totals[k] += (time.process_time() - start) if repeat else 0.0  # the first turn warms up
    return totals[0] / TIMED_STEPS, totals[1] / TIMED_STEPS


def _training_steps(objective: Objective, train_state: TrainState, config: BridgeSolverConfig) -> Iterator[object]:
    """Return an endless iterator over training steps."""

    def batches(step: int, format_rounds: slice) -> dict[str, Tensor]:
        first, last, _ = format_rounds.indices(config.train.batch_size)
        return {
            "x_1": Rng(0, first, config.train.batch_size).stream("pairs", step).randint(config.pairs, (last - first,))
        }

    endless = replace(config.train, steps=None, minutes=None)
    return train(train_state, objective, batches, endless, rng=Rng(0), engine=get_engine())
