"""Alternating rounds that fit the forward and the backward drift of a bridge, and the state of the solver."""

import copy
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.conditional_control import ControlTrace
from feller.control.bridges.costs.unit_conversion import RescaledCost
from feller.control.bridges.drift_matching import BaseDrift, ExplicitMatchingObjective, Segment
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.control.bridges.initial_paths import plan_path
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.trajectories import Bounds, Trajectories, segments_of, simulate_drift, time_grid
from feller.core.rng import Rng
from feller.networks.bridge_drift import Drift, ForwardBackwardNetwork
from feller.training.engine import Engine
from feller.training.loop import TrainState, check_finite, make_train_state, train


@dataclass
class BridgeState:
    """State of the bridge solver between rounds: networks, optimisers, endpoint pairs and the best weights."""

    network: ForwardBackwardNetwork
    forward_state: TrainState
    backward_state: TrainState
    knots: list[Tensor]
    """Knots of the mean paths, [pairs, knots, d] per segment, from which the next round starts to optimise the pinned
    paths (paths between fixed endpoints); empty before the first round."""
    num_rounds: int = 0
    """Number of completed rounds."""
    seconds: float = 0.0
    base_drift: BaseDrift | None = None
    """Base drift, updated with the paths of the last round."""
    best_weights: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """EMA weights of the best round of the forward drift (key `ahead`) and of the backward drift (key `back`). If a key
    is missing, the EMA weights of the last round are used."""
    best_rounds: dict[str, int] = field(default_factory=dict)
    """Round number of the best round, by direction."""

    def train_state(self, *, backward: bool) -> TrainState:
        """Return the training state of the forward or the backward drift."""
        return self.backward_state if backward else self.forward_state

    def drift(self, *, backward: bool) -> Drift:
        """Return the network of the forward or the backward drift."""
        return self.network.backward_drift if backward else self.network.forward_drift


def init_state(network: ForwardBackwardNetwork, config: BridgeSolverConfig) -> BridgeState:
    """Create the initial solver state of a network with both drifts."""
    return BridgeState(
        network,
        make_train_state(network.forward_drift, config.train),
        make_train_state(network.backward_drift, config.train),
        [],
    )


def ema_drift(state: BridgeState, *, backward: bool) -> Drift:
    """Return a copy of the forward or backward drift with its EMA weights."""
    train_state = state.train_state(backward=backward)
    drift = copy.deepcopy(state.drift(backward=backward))
    train_state.ema.copy_to(drift)
    return drift.requires_grad_(False)


def best_drift(state: BridgeState, *, backward: bool) -> Drift:
    """Return the forward or backward drift with the EMA weights of its best round.

    If `BridgeState.best_weights` contains no weights for this direction, the EMA weights of the last round are used.
    """
    drift = ema_drift(state, backward=backward)
    best = state.best_weights.get("back" if backward else "ahead")
    if best is not None:
        drift.load_state_dict(best)
    return drift


LINEAR_FIT_PAIRS = 1024
"""Number of endpoint pairs used to fit the linear part of a drift."""
MAX_DIM_LOGGED = 16
"""Maximum dimension of states that are stored at every simulation step; larger states are stored at the knots only."""


@dataclass(frozen=True, eq=False)
class RoundResult:
    """Result of one round: pinned paths (paths between fixed endpoints), loss and simulated trajectories.

    A round optimises the pinned paths, fits the forward or the backward drift to them, and simulates this drift.

    Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233.
    """

    number: int
    """Round number, from 1."""
    backward: bool
    """True if the round matched the backward drift."""
    segments: tuple[Segment, ...]
    """Pinned paths of each segment."""
    traces: tuple[ControlTrace, ...]
    """Optimisation traces of the paths, one per segment."""
    loss: float
    """Matching loss, averaged over the last 5 training steps of the round."""
    trajectories: tuple[Trajectories, ...]
    """Simulated trajectories of each segment; their endpoints are the pairs of the next round."""


def iterate_rounds(
    problem: BridgeProblem,
    config: BridgeSolverConfig,
    state: BridgeState,
    rng: Rng,
    engine: Engine,
    *,
    on_progress: Callable[[float, str], None] = lambda fraction, text: None,
) -> Iterator[RoundResult]:
    """Alternate forward and backward rounds without end; update `state` in place and yield the result of each round.

    A round optimises the paths between the endpoint pairs, fits the forward or the backward drift to them, and
    simulates this drift. The endpoints of the simulated trajectories are the pairs of the next round. A round depends
    only on the state, the seed and the round number, so a resumed run is bitwise identical.

    Args:
        problem: Bridge problem.
        config: Solver settings.
        state: Networks, optimisers and pairs.
        rng: Random streams.
        engine: Device and processes; processes share the training batches and repeat all other work.
        on_progress: Callback with the completed fraction of a round and the current stage.

    Raises:
        InputError: If more than 1 % of the trajectories diverge, or the loss is not finite.
    """
    base = state.base_drift = state.base_drift or problem.base_drift
    while True:
        round_rng, start_time = rng.fold_in("round", state.num_rounds), time.monotonic()
        backward = state.num_rounds % 2 == 1
        if not state.knots:
            _init_pairs(problem, config, state, round_rng.fold_in("pairs"))
        segments, traces = [], []
        for segment_index, (interval, knots) in enumerate(zip(segments_of(problem.times), state.knots, strict=True)):
            segment, trace = _solve_paths(
                problem,
                config,
                base,
                interval,
                engine.to_device(knots),
                round_rng.fold_in("control", segment_index),
                lambda fraction, k=segment_index: on_progress(0.3 * (k + fraction) / len(state.knots), "pinned paths"),
                backward=backward,
            )
            segments.append(segment)
            traces.append(trace)
        if base is not None and problem.update_base_drift is not None:
            base = state.base_drift = problem.update_base_drift(base, segments)
        loss = _train_drift(
            config, base, segments, state, round_rng.fold_in("match"), engine, on_progress, backward=backward
        )
        trajectories = []
        for segment_index in range(len(segments)):
            on_progress(0.9 + 0.1 * segment_index / len(segments), "new pairs")
            trajectories.append(
                simulate_segment(
                    problem,
                    config,
                    base,
                    state,
                    segment_index,
                    round_rng.fold_in("walk", segment_index),
                    backward=backward,
                )
            )
        state.knots = [walk.thin(config.control.mean_knots).states.flatten(2) for walk in trajectories]
        on_progress(1.0, "done")
        state.num_rounds += 1
        state.seconds += time.monotonic() - start_time
        yield RoundResult(state.num_rounds, backward, tuple(segments), tuple(traces), loss, tuple(trajectories))


def _init_pairs(problem: BridgeProblem, config: BridgeSolverConfig, state: BridgeState, rng: Rng) -> None:
    """Sample the first pairs, each along a straight line or a planned path around obstacles."""
    k, endpoints = config.control.mean_knots, []
    for segment_index, (start, duration) in enumerate(segments_of(problem.times)):
        x_0, x_1 = (
            sampler(config.pairs, rng.fold_in(k, segment_index))
            for k, sampler in enumerate(problem.populations[segment_index])
        )
        endpoints += [x_0, x_1]
        a, b = x_0.flatten(1), x_1.flatten(1)
        a = config.coupling(a, b, {}, rng.stream("pairing", segment_index))
        planned = plan_path(a, b, RescaledCost(problem.cost, start, duration), k) if a.shape[1] == 2 else None
        fractions = torch.linspace(0, 1, k, dtype=a.dtype, device=a.device)[:, None]
        state.knots.append(a[:, None] + fractions * (b - a)[:, None] if planned is None else planned)
    for drift in (state.network.forward_drift, state.network.backward_drift):
        drift.fit_scale(torch.cat(endpoints))


def _solve_paths(
    problem: BridgeProblem,
    config: BridgeSolverConfig,
    base_drift: BaseDrift | None,
    interval: tuple[float, float],
    knots: Tensor,
    rng: Rng,
    on_progress: Callable[[float], None],
    *,
    backward: bool,
) -> tuple[Segment, ControlTrace]:
    """Optimise the pinned paths of a segment, starting from the given knots."""
    start, duration = interval
    noise, cost = problem.noise * duration**0.5, RescaledCost(problem.cost, start, duration)
    paths = GaussianPaths.from_knots(knots, noise, config.control.scale_knots)
    local_drift = None if base_drift is None else lambda x, t: duration * base_drift(x, start + duration * t)
    paths, trace = config.control.solve(
        paths, cost, rng, base_drift=local_drift, backward=backward, on_progress=on_progress
    )
    weighted = (
        None if config.resampling is None else config.resampling.sample_weighted(paths, cost, rng.fold_in("weigh"))
    )
    return Segment(start, duration, paths, weighted), trace


def _train_drift(
    config: BridgeSolverConfig,
    base_drift: BaseDrift | None,
    segments: Sequence[Segment],
    state: BridgeState,
    rng: Rng,
    engine: Engine,
    on_progress: Callable[[float, str], None],
    *,
    backward: bool,
) -> float:
    """Fit the linear part of a drift, then train the rest; return the mean loss of the last 5 steps."""
    train_state, steps = state.train_state(backward=backward), config.train.steps or 1
    network = state.drift(backward=backward)
    shape = tuple(network.centre.shape)
    objective = config.matching.objective(segments, shape, base_drift, backward=backward)
    pair_index = torch.arange(min(LINEAR_FIT_PAIRS, config.pairs), device=network.centre.device)
    sampler = ExplicitMatchingObjective(segments, shape, backward=backward)
    linear_data = [
        sampler.sample_at(t, pair_index, rng.stream("linear", k)) for k, t in enumerate(network.knot_times.tolist())
    ]
    network.fit_linear(torch.stack([x for x, _ in linear_data]), torch.stack([target for _, target in linear_data]))

    def feed(step: int, rows: slice) -> dict[str, Tensor]:
        start, stop, _ = rows.indices(config.train.batch_size)
        stream = Rng(rng.seed, start, config.train.batch_size).stream("pairs", step)
        return {"x_1": stream.randint(config.pairs, (stop - start,))}

    training = replace(config.train, steps=None, minutes=None)
    losses: list[float] = []
    reports = train(train_state, objective, feed, training, rng=rng, engine=engine)
    for count, report in enumerate(itertools.islice(reports, steps), 1):
        if count % 50 == 0 or count == steps:
            losses.append(check_finite(report))
            on_progress(0.3 + 0.6 * count / steps, f"loss {losses[-1]:.4g}")
    return sum(losses[-5:]) / len(losses[-5:])


def simulate_segment(
    problem: BridgeProblem,
    config: BridgeSolverConfig,
    base_drift: BaseDrift | None,
    state: BridgeState,
    segment_index: int,
    rng: Rng,
    *,
    backward: bool,
) -> Trajectories:
    """Simulate the EMA drift on one segment, from new samples of the population at which the simulation starts.

    States with at most `MAX_DIM_LOGGED` dimensions are stored at every step, so that metrics also detect obstacles
    between two knots.

    Raises:
        InputError: If more than 1 % of the trajectories diverge.
    """
    drift, population = ema_drift(state, backward=backward), problem.populations[segment_index][backward]
    times, steps_per_knot = time_grid(
        problem.times[segment_index : segment_index + 2], config.control.mean_knots, config.nfe
    )
    endpoints = [sampler(config.pairs, rng.fold_in("box")).flatten(1) for sampler in problem.populations[segment_index]]
    log_every = 1 if endpoints[0].shape[1] <= MAX_DIM_LOGGED else steps_per_knot
    return simulate_drift(
        lambda x, t: drift(x, t, {}),
        lambda start_rng: population(config.pairs, start_rng).to(drift.centre.device),
        problem.noise,
        times,
        log_every,
        rng,
        box=Bounds.around(torch.cat(endpoints), problem.noise),
        base_drift=base_drift,
        backward=backward,
    )
