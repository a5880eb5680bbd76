"""Alternating rounds of forward and backward drift matching, and their state."""

import copy
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from feller.control.bridges.bridge_config import Bridging
from feller.control.bridges.costs.rescaled import InLeg
from feller.control.bridges.drift_matching import Base, ExplicitMatching, Leg
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.control.bridges.obstacle_routes import route
from feller.control.bridges.pinned_control import Trace
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.trajectories import Box, Walk, grid, legs_of, walk
from feller.core.rng import Rng
from feller.networks.bridge_drift import Drift, ForwardBackwardNetwork
from feller.training.engine import Engine
from feller.training.loop import TrainState, check_finite, make_train_state, train


@dataclass
class Progress:
    """All that changes, and all that a bridge that goes on must hold."""

    network: ForwardBackwardNetwork
    ahead: TrainState
    back: TrainState
    knots: list[Tensor]
    """Of each leg: where the pairs' next pinned paths begin to be looked for, [pairs, knots, d]; none at first."""
    done: int = 0
    """Rounds."""
    seconds: float = 0.0
    base: Base | None = None
    """The drift that acts by itself, as the last paths make it."""
    best: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Averaged weights of the kept round of each direction, `ahead` and `back`; empty for those of the last round."""
    kept: dict[str, int] = field(default_factory=dict)
    """Numbers of these rounds."""

    def learner(self, *, backward: bool) -> TrainState:
        """Return that of one direction."""
        return self.back if backward else self.ahead

    def drift(self, *, backward: bool) -> Drift:
        """Return the network of one direction."""
        return self.network.backward_drift if backward else self.network.forward_drift


def start(network: ForwardBackwardNetwork, how: Bridging) -> Progress:
    """Begin with a fresh network."""
    return Progress(
        network,
        make_train_state(network.forward_drift, how.train),
        make_train_state(network.backward_drift, how.train),
        [],
    )


def averaged(progress: Progress, *, backward: bool) -> Drift:
    """Return a drift with the averaged weights."""
    learner = progress.learner(backward=backward)
    drift = copy.deepcopy(progress.drift(backward=backward))
    learner.ema.copy_to(drift)
    return drift.requires_grad_(False)


def kept(progress: Progress, *, backward: bool) -> Drift:
    """Return a drift with the averaged weights of the round that is kept, by default the last."""
    drift = averaged(progress, backward=backward)
    best = progress.best.get("back" if backward else "ahead")
    if best is not None:
        drift.load_state_dict(best)
    return drift


FITTED = 1024
"""Pairs that the linear part of a drift is fitted to."""
SMALL = 16
"""Numbers of a state up to which trajectories are kept at every step."""


@dataclass(frozen=True, eq=False)
class Round:
    """What one round found.

    Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233.
    """

    number: int
    """From 1."""
    backward: bool
    """The drift that was matched goes back in time."""
    legs: tuple[Leg, ...]
    """Pinned paths that it was matched to."""
    traces: tuple[Trace, ...]
    """How they were found, one for each leg."""
    loss: float
    """Mean of the last steps of matching."""
    walks: tuple[Walk, ...]
    """New trajectories of each leg, which give the next pairs."""


def rounds(
    problem: BridgeProblem,
    how: Bridging,
    progress: Progress,
    draws: Rng,
    engine: Engine,
    *,
    tell: Callable[[float, str], None] = lambda share, text: None,
) -> Iterator[Round]:
    """Alternate for ever, the caller stops; yield after each round, with `progress` changed in place.

    What a round does depends on progress, the seed and its number alone, so one that goes on gives the same bits.

    Args:
        problem: What is to be bridged.
        how: Settings.
        progress: Network, optimisers and pairs.
        draws: Source of all randomness.
        engine: Device and processes; all do the same but for the batches of the matching, which they share.
        tell: Hears which share of a round is done, and what is going on.

    Raises:
        InputError: If more than 1 % of the trajectories run away, or the loss is no number.
    """
    base = progress.base = progress.base or problem.base
    while True:
        here, begun = draws.fold_in("round", progress.done), time.monotonic()
        backward = progress.done % 2 == 1
        if not progress.knots:
            _begin(problem, how, progress, here.fold_in("pairs"))
        legs, traces = [], []
        for leg, (place, knots) in enumerate(zip(legs_of(problem.times), progress.knots, strict=True)):
            found, trace = _pinned(
                problem,
                how,
                base,
                place,
                engine.to_device(knots),
                here.fold_in("control", leg),
                lambda share, leg=leg: tell(0.3 * (leg + share) / len(progress.knots), "pinned paths"),
                backward=backward,
            )
            legs.append(found)
            traces.append(trace)
        if base is not None and problem.refresh is not None:
            base = progress.base = problem.refresh(base, legs)
        loss = _match(how, base, legs, progress, here.fold_in("match"), engine, tell, backward=backward)
        walks = []
        for leg in range(len(legs)):
            tell(0.9 + 0.1 * leg / len(legs), "new pairs")
            walks.append(walk_leg(problem, how, base, progress, leg, here.fold_in("walk", leg), backward=backward))
        progress.knots = [one.thinned(how.control.mean_knots).states.flatten(2) for one in walks]
        tell(1.0, "done")
        progress.done += 1
        progress.seconds += time.monotonic() - begun
        yield Round(progress.done, backward, tuple(legs), tuple(traces), loss, tuple(walks))


def _begin(problem: BridgeProblem, how: Bridging, progress: Progress, draws: Rng) -> None:
    """Pair members, each pair along a straight line or around what is in its way."""
    k, ends = how.control.mean_knots, []
    for leg, (begin, length) in enumerate(legs_of(problem.times)):
        x_0, x_1 = (crowd(how.pairs, draws.fold_in(k, leg)) for k, crowd in enumerate(problem.crowds[leg]))
        ends += [x_0, x_1]
        a, b = x_0.flatten(1), x_1.flatten(1)
        a = how.pairing(a, b, {}, draws.stream("pairing", leg))
        around = route(a, b, InLeg(problem.cost, begin, length), k) if a.shape[1] == 2 else None
        way = torch.linspace(0, 1, k, dtype=a.dtype, device=a.device)[:, None]
        progress.knots.append(a[:, None] + way * (b - a)[:, None] if around is None else around)
    for drift in (progress.network.forward_drift, progress.network.backward_drift):
        drift.fit_scale(torch.cat(ends))


def _pinned(
    problem: BridgeProblem,
    how: Bridging,
    base: Base | None,
    place: tuple[float, float],
    knots: Tensor,
    draws: Rng,
    tell: Callable[[float], None],
    *,
    backward: bool,
) -> tuple[Leg, Trace]:
    """Find the best pinned paths of the pairs of a leg, from where their knots are."""
    begin, length = place
    noise, cost = problem.noise * length**0.5, InLeg(problem.cost, begin, length)
    paths = GaussianPaths.along(knots, noise, how.control.scale_knots)
    own = None if base is None else lambda x, t: length * base(x, begin + length * t)
    paths, trace = how.control.solve(paths, cost, draws, base=own, backward=backward, tell=tell)
    weighted = None if how.resampling is None else how.resampling.weigh(paths, cost, draws.fold_in("weigh"))
    return Leg(begin, length, paths, weighted), trace


def _match(
    how: Bridging,
    base: Base | None,
    legs: Sequence[Leg],
    progress: Progress,
    draws: Rng,
    engine: Engine,
    tell: Callable[[float, str], None],
    *,
    backward: bool,
) -> float:
    """Fit the linear part of a drift to the paths, then train the rest; return the loss of the last steps."""
    learner, steps = progress.learner(backward=backward), how.train.steps or 1
    network = progress.drift(backward=backward)
    shape = tuple(network.centre.shape)
    objective = how.matching.objective(legs, shape, base, backward=backward)
    some = torch.arange(min(FITTED, how.pairs), device=network.centre.device)
    sees = ExplicitMatching(legs, shape, backward=backward)
    seen = [sees.at(t, some, draws.stream("linear", k)) for k, t in enumerate(network.knot_times.tolist())]
    network.fit_linear(torch.stack([x for x, _ in seen]), torch.stack([target for _, target in seen]))

    def feed(step: int, rows: slice) -> dict[str, Tensor]:
        first, last, _ = rows.indices(how.train.batch_size)
        some = Rng(draws.seed, first, how.train.batch_size).stream("pairs", step)
        return {"x_1": some.randint(how.pairs, (last - first,))}

    training = replace(how.train, steps=None, minutes=None)
    losses: list[float] = []
    steadily = train(learner, objective, feed, training, rng=draws, engine=engine)
    for done, report in enumerate(itertools.islice(steadily, steps), 1):
        if done % 50 == 0 or done == steps:
            losses.append(check_finite(report))
            tell(0.3 + 0.6 * done / steps, f"loss {losses[-1]:.4g}")
    return sum(losses[-5:]) / len(losses[-5:])


def walk_leg(
    problem: BridgeProblem,
    how: Bridging,
    base: Base | None,
    progress: Progress,
    leg: int,
    draws: Rng,
    *,
    backward: bool,
) -> Walk:
    """Walk a leg with the averaged weights, from fresh members of the population where it begins.

    Small states are kept at every step, so that what is measured of them misses no wall between two knots.

    Raises:
        InputError: If too many trajectories run away.
    """
    way, crowd = averaged(progress, backward=backward), problem.crowds[leg][backward]
    times, between = grid(problem.times[leg : leg + 2], how.control.mean_knots, how.calls)
    ends = [one(how.pairs, draws.fold_in("box")).flatten(1) for one in problem.crowds[leg]]
    every = 1 if ends[0].shape[1] <= SMALL else between
    return walk(
        lambda x, t: way(x, t, {}),
        lambda fresh: crowd(how.pairs, fresh).to(way.centre.device),
        problem.noise,
        times,
        every,
        draws,
        box=Box.around(torch.cat(ends), problem.noise),
        base=base,
        backward=backward,
    )
