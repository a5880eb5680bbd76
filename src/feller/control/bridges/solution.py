"""Bridges that were found, and the shortest way to one."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from feller.control.bridges.bridge_config import Bridging
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.rounds import Progress, Round, kept, rounds, start
from feller.control.bridges.trajectories import Walk, grid, walk
from feller.core.rng import Rng
from feller.networks.bridge_drift import ForwardBackwardDrift
from feller.training.engine import get_engine


@dataclass(frozen=True, eq=False, repr=False)
class FoundBridge:
    """A bridge that was found."""

    problem: BridgeProblem
    how: Bridging
    progress: Progress
    rounds: tuple[Round, ...]

    def __repr__(self) -> str:
        """Say in a line what it is, without its members and weights."""
        return f"<FoundBridge of {self.progress.done} rounds, {self.how.pairs:,} pairs each: {self.problem}>"

    def walk(
        self,
        begin: Tensor | np.ndarray,
        seed: int = 0,
        *,
        backward: bool = False,
        every: int | None = None,
        tell: Callable[[float], None] = lambda share: None,
    ) -> Walk:
        """Push states of the first population through, or, backward, states of the last, with the kept drift.

        Args:
            begin: Where the trajectories begin, an array or tensor [n, *d] in the units of the problem.
            seed: Of the noise.
            backward: Go from the last time to the first.
            every: Steps between two logged states; by default as many as lie between two knots of a leg.
            tell: Hears which share of the steps is done.

        Returns:
            The trajectories.
        """
        way = kept(self.progress, backward=backward)
        times, between = grid(self.problem.times, self.how.control.mean_knots, self.how.calls)
        draws, base = Rng(seed).fold_in("push"), self.progress.base or self.problem.base
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
            tell=tell,
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
    here, number = get_engine(), how.rounds or Bridging().rounds or 1
    shape = tuple(problem.crowds[0][0](1, Rng(seed)).shape[1:])
    network = ForwardBackwardDrift(how.architecture).build(shape, {}, Rng(seed))
    progress = start(network.to(here.device), how)

    def hear(share: float, text: str) -> None:
        tell((progress.done + share) / number, text)

    found = itertools.islice(rounds(problem, how, progress, Rng(seed), here, tell=hear), number)
    return FoundBridge(problem, how, progress, tuple(found))
