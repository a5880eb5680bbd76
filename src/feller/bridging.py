"""The alternation that finds a bridge: pinned paths of pairs, a drift that is matched to them, new pairs by its steps.

Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233.
"""

import copy
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from feller.control.bridges.crowd import Crowd
from feller.control.bridges.gaussian import GaussianPaths
from feller.control.bridges.in_leg import InLeg
from feller.control.bridges.matching import Base, Explicit, ExplicitMatching, Leg, Matching
from feller.control.bridges.path_integral import PathIntegral
from feller.control.bridges.pinned import PinnedControl, Trace
from feller.control.bridges.route import route
from feller.control.bridges.walk import Box, Walk, grid, legs_of, walk
from feller.control.costs import Cost, Function, Zero
from feller.couplings import Coupling, Independent
from feller.data.read import read
from feller.draws import Draws
from feller.errors import UsageError
from feller.networks.architecture import Architecture
from feller.networks.drift import BothWays, Drift, TwoDrifts
from feller.networks.mlp import MLP
from feller.train.engine import Engine, engine
from feller.train.loop import Learner, check_finite, make_learner, train
from feller.train.optimiser import Training

FITTED = 1024
"""Pairs that the linear part of a drift is fitted to."""
SMALL = 16
"""Numbers of a state up to which trajectories are kept at every step."""


Members = Callable[[int, Draws], Tensor]
"""(number, draws) -> members of a population, [number, *d]."""


@dataclass(frozen=True, eq=False)
class BridgeProblem:
    """What is to be bridged: populations of one kind at two times or more, noise, and what being somewhere costs.

    Wanted is the drift u that minimises E int 1/2 |u|^2 + V dt among all that carry each population to the next in
    noise of this strength.
    """

    crowds: tuple[tuple[Members, Members], ...]
    """Of each leg: the population where it begins, and that where it ends."""
    noise: float
    """Deviation of a free walk after the whole journey, in the data's units; 0 for none."""
    cost: Cost = field(default_factory=Zero)
    """V, in units of length squared, for a journey of time 1."""
    times: tuple[float, ...] = (0.0, 1.0)
    """Of the populations, increasing from 0 to 1."""
    base: Base | None = None
    """Drift that acts by itself, which costs nothing."""
    refresh: Callable[[Base, Sequence[Leg]], Base] | None = None
    """How a base drift that depends on the crowd follows new paths."""

    @classmethod
    def between(
        cls,
        populations: Sequence[Any],
        noise: float,
        cost: Cost | Callable[..., Any] | None = None,
        times: Sequence[float] | None = None,
    ) -> "BridgeProblem":
        """Return the problem of populations that are known by some members.

        Args:
            populations: Arrays or tensors [n, *d], or files of such rows or pictures, two or more, in the order of
                time.
            noise: Deviation of a free walk after the whole journey, in their units.
            cost: A function of (x, t) or (x, t, population), see `feller.control.costs.Function`, or a `Cost`.
            times: When each was seen; by default equally far apart.

        Raises:
            UsageError: If there are fewer than two populations, they are of different kinds, or there are as many times
                as there are not populations.
            InputError: If a file cannot be read.
        """
        if isinstance(populations, str | os.PathLike):
            raise UsageError(f"expected two populations or more, in a list, got {populations!r} alone")
        if len(populations) < 2 or (times is not None and len(times) != len(populations)):
            raise UsageError(
                f"expected two populations or more, and as many times, got {len(populations)} and"
                f" {'none' if times is None else len(times)}"
            )
        known = [Crowd(_members(one, number)) for number, one in enumerate(populations, 1)]
        first = list(known[0].members.shape[1:])
        for number, crowd in enumerate(known, 1):
            if list(crowd.members.shape[1:]) != first:
                raise UsageError(
                    f"expected populations of one kind: a member of the first is {first}, of number {number}"
                    f" {list(crowd.members.shape[1:])}"
                )
        when = [*range(len(known))] if times is None else times
        shares = tuple((time - when[0]) / (when[-1] - when[0]) for time in when)
        priced = cost if isinstance(cost, Cost) else Zero() if cost is None else Function(cost)
        return cls(tuple(itertools.pairwise(known)), noise, priced, shares)


def _members(population: Any, number: int) -> Tensor:
    """Return the members of a population, of a file in its own units.

    Raises:
        UsageError: If they are no numbers [n, *d].
    """
    if isinstance(population, str | os.PathLike):
        population = read(str(population)).numpy()
    try:
        members = torch.as_tensor(population, dtype=torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"population {number} must be an array or tensor [n, *d] of numbers, or a file of them, got a"
            f" {type(population).__name__}"
        ) from error
    if members.ndim < 2 or not len(members):
        raise UsageError(f"population {number} must be [n, *d], with members, got {list(members.shape)}")
    return members


@dataclass(frozen=True, kw_only=True)
class Bridging:
    """How a bridge is looked for."""

    architecture: Architecture = field(default_factory=lambda: MLP(width=128, depth=3))
    """Of each drift; `Potential` of another for drifts that are gradients."""
    rounds: int | None = 7
    """Drifts that are matched, that ahead first and then back and ahead in turn; an odd number ends ahead."""
    pairs: int = 1024
    """Pairs of each round, between each two neighbouring populations."""
    pairing: Coupling = field(default_factory=Independent)
    """Which members are the first pairs: any two, or those that `MinibatchTransport` finds near each other, where
    places lie so far apart in the noise that pairs by chance would need many rounds to become those of the bridge."""
    control: PinnedControl = field(default_factory=PinnedControl)
    resampling: PathIntegral | None = None
    """Weighs trajectories beside the pinned paths by the cost; None to trust the paths."""
    matching: Matching = field(default_factory=Explicit)
    train: Training = field(
        default_factory=lambda: Training(batch=512, steps=1500, lr=1e-3, average=0.998, decay=0.0, warmup=0)
    )
    """Of the drift in each round: `steps` are those of one round."""
    calls: int = 210
    """Steps of a simulation, at least."""

    def __post_init__(self) -> None:
        least = {"rounds": (self.rounds, 1), "pairs": (self.pairs, 2), "calls": (self.calls, 1)}
        for name, (value, most) in least.items():
            if value is not None and value < most:
                raise UsageError(f"{name} of a bridge must be {most} or more, got {value}")
        if self.train.sharded or self.train.compile:
            raise UsageError("the drifts of a bridge are neither sharded nor compiled; leave these out")
        if not self.train.steps:
            raise UsageError("a bridge needs the number of training steps of each round (--train.steps)")


@dataclass
class Progress:
    """All that changes, and all that a bridge that goes on must hold."""

    network: TwoDrifts
    ahead: Learner
    back: Learner
    knots: list[Tensor]
    """Of each leg: where the pairs' next pinned paths begin to be looked for, [pairs, knots, d]; none at first."""
    done: int = 0
    """Rounds."""
    seconds: float = 0.0
    base: Base | None = None
    """The drift that acts by itself, as the last paths make it."""

    def learner(self, *, backward: bool) -> Learner:
        """Return that of one direction."""
        return self.back if backward else self.ahead

    def drift(self, *, backward: bool) -> Drift:
        """Return the network of one direction."""
        return self.network.back if backward else self.network.ahead


def start(network: TwoDrifts, how: Bridging) -> Progress:
    """Begin with a fresh network."""
    return Progress(network, make_learner(network.ahead, how.train), make_learner(network.back, how.train), [])


@dataclass(frozen=True, eq=False)
class Round:
    """What one round found."""

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
    draws: Draws,
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
        here, begun = draws.named("round", progress.done), time.monotonic()
        backward = progress.done % 2 == 1
        if not progress.knots:
            _begin(problem, how, progress, here.named("pairs"))
        legs, traces = [], []
        for leg, (place, knots) in enumerate(zip(legs_of(problem.times), progress.knots, strict=True)):
            found, trace = _pinned(
                problem,
                how,
                base,
                place,
                engine.place(knots),
                here.named("control", leg),
                lambda share, leg=leg: tell(0.3 * (leg + share) / len(progress.knots), "pinned paths"),
                backward=backward,
            )
            legs.append(found)
            traces.append(trace)
        if base is not None and problem.refresh is not None:
            base = progress.base = problem.refresh(base, legs)
        loss = _match(how, base, legs, progress, here.named("match"), engine, tell, backward=backward)
        walks = []
        for leg in range(len(legs)):
            tell(0.9 + 0.1 * leg / len(legs), "new pairs")
            walks.append(walk_leg(problem, how, base, progress, leg, here.named("walk", leg), backward=backward))
        progress.knots = [one.thinned(how.control.mean_knots).states.flatten(2) for one in walks]
        tell(1.0, "done")
        progress.done += 1
        progress.seconds += time.monotonic() - begun
        yield Round(progress.done, backward, tuple(legs), tuple(traces), loss, tuple(walks))


def _begin(problem: BridgeProblem, how: Bridging, progress: Progress, draws: Draws) -> None:
    """Pair members, each pair along a straight line or around what is in its way."""
    k, ends = how.control.mean_knots, []
    for leg, (begin, length) in enumerate(legs_of(problem.times)):
        x_0, x_1 = (crowd(how.pairs, draws.named(k, leg)) for k, crowd in enumerate(problem.crowds[leg]))
        ends += [x_0, x_1]
        a, b = x_0.flatten(1), x_1.flatten(1)
        a = how.pairing(a, b, {}, draws.at("pairing", leg))
        around = route(a, b, InLeg(problem.cost, begin, length), k) if a.shape[1] == 2 else None
        way = torch.linspace(0, 1, k, dtype=a.dtype, device=a.device)[:, None]
        progress.knots.append(a[:, None] + way * (b - a)[:, None] if around is None else around)
    for drift in (progress.network.ahead, progress.network.back):
        drift.look_at(torch.cat(ends))


def _pinned(
    problem: BridgeProblem,
    how: Bridging,
    base: Base | None,
    place: tuple[float, float],
    knots: Tensor,
    draws: Draws,
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
    weighted = None if how.resampling is None else how.resampling.weigh(paths, cost, draws.named("weigh"))
    return Leg(begin, length, paths, weighted), trace


def _match(
    how: Bridging,
    base: Base | None,
    legs: Sequence[Leg],
    progress: Progress,
    draws: Draws,
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
    seen = [sees.at(t, some, draws.at("linear", k)) for k, t in enumerate(network.times.tolist())]
    network.fit_linear(torch.stack([x for x, _ in seen]), torch.stack([target for _, target in seen]))

    def feed(step: int, rows: slice) -> dict[str, Tensor]:
        first, last, _ = rows.indices(how.train.batch)
        some = Draws(draws.seed, first, how.train.batch).at("pairs", step)
        return {"x_1": some.integers(how.pairs, (last - first,))}

    training = replace(how.train, steps=None, minutes=None)
    losses: list[float] = []
    steadily = train(learner, objective, feed, training, draws=draws, engine=engine)
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
    draws: Draws,
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
    ends = [one(how.pairs, draws.named("box")).flatten(1) for one in problem.crowds[leg]]
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


@dataclass(frozen=True, eq=False)
class FoundBridge:
    """A bridge that was found."""

    problem: BridgeProblem
    how: Bridging
    progress: Progress
    rounds: tuple[Round, ...]

    def walk(self, begin: Any, seed: int = 0, *, backward: bool = False, every: int | None = None) -> Walk:
        """Push states of the first population through, or, backward, states of the last.

        Args:
            begin: Where the trajectories begin, an array or tensor [n, *d] in the units of the problem.
            seed: Of the noise.
            backward: Go from the last time to the first.
            every: Steps between two logged states; by default as many as lie between two knots of a leg.

        Returns:
            The trajectories.
        """
        way = averaged(self.progress, backward=backward)
        times, between = grid(self.problem.times, self.how.control.mean_knots, self.how.calls)
        draws, base = Draws(seed).named("push"), self.progress.base or self.problem.base
        begin = torch.as_tensor(begin, dtype=way.centre.dtype, device=way.centre.device)
        return walk(
            lambda x, t: way(x, t, {}),
            lambda fresh: begin,
            self.problem.noise,
            times,
            every or between,
            draws,
            base=base,
            backward=backward,
        )

    @property
    def between(self) -> int:
        """Return the steps between two knots of a leg."""
        return grid(self.problem.times, self.how.control.mean_knots, self.how.calls)[1]


def solve_bridge(
    problem: BridgeProblem,
    how: Bridging | None = None,
    *,
    seed: int = 0,
    tell: Callable[[float, str], None] = lambda share, text: None,
) -> FoundBridge:
    """Look for a bridge for as many rounds as the settings say.

    Args:
        problem: Populations, noise and cost.
        how: Settings.
        seed: Of all randomness.
        tell: Hears which share is done, and what is going on.

    Raises:
        InputError: If trajectories run away, or a loss or the cost is no number.
    """
    how = how or Bridging()
    here, number = engine(), how.rounds or Bridging().rounds or 1
    shape = tuple(problem.crowds[0][0](1, Draws(seed)).shape[1:])
    network = BothWays(how.architecture).build(shape, {}, Draws(seed))
    progress = start(network.to(here.device), how)

    def hear(share: float, text: str) -> None:
        tell((progress.done + share) / number, text)

    found = itertools.islice(rounds(problem, how, progress, Draws(seed), here, tell=hear), number)
    return FoundBridge(problem, how, progress, tuple(found))


def averaged(progress: Progress, *, backward: bool) -> Drift:
    """Return a drift with the averaged weights."""
    learner = progress.learner(backward=backward)
    drift = copy.deepcopy(progress.drift(backward=backward))
    learner.average.copy_to(drift)
    return drift.requires_grad_(False)
