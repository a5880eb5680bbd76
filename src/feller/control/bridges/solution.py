"""Bridges that were found, and the shortest way to one."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.rounds import BridgeState, RoundResult, best_drift, init_state, iterate_rounds
from feller.control.bridges.trajectories import Trajectories, simulate_drift, time_grid
from feller.core.rng import Rng
from feller.networks.bridge_drift import ForwardBackwardDrift
from feller.training.engine import get_engine


@dataclass(frozen=True, eq=False, repr=False)
class BridgeSolution:
    """A bridge that was found."""

    problem: BridgeProblem
    config: BridgeSolverConfig
    state: BridgeState
    rounds: tuple[RoundResult, ...]

    def __repr__(self) -> str:
        """Say in a line what it is, without its members and weights."""
        return f"<FoundBridge of {self.state.num_rounds} rounds, {self.config.pairs:,} pairs each: {self.problem}>"

    def transport(
        self,
        x_0: Tensor | np.ndarray,
        seed: int = 0,
        *,
        backward: bool = False,
        every: int | None = None,
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> Trajectories:
        """Push states of the first population through, or, backward, states of the last, with the kept drift.

        Args:
            x_0: Where the trajectories begin, an array or tensor [n, *d] in the units of the problem.
            seed: Of the noise.
            backward: Go from the last time to the first.
            every: Steps between two logged states; by default as many as lie between two knots of a leg.
            on_progress: Hears which share of the steps is done.

        Returns:
            The trajectories.
        """
        drift = best_drift(self.state, backward=backward)
        times, between = time_grid(self.problem.times, self.config.control.mean_knots, self.config.nfe)
        rng, base = Rng(seed).fold_in("push"), self.state.base_drift or self.problem.base_drift
        x_0 = torch.as_tensor(x_0, dtype=drift.centre.dtype, device=drift.centre.device)
        return simulate_drift(
            lambda x, t: drift(x, t, {}),
            lambda fresh: x_0,
            self.problem.noise,
            times,
            every or between,
            rng,
            base_drift=base,
            backward=backward,
            on_progress=on_progress,
        )

    @property
    def steps_per_knot(self) -> int:
        """Return the steps between two knots of a leg."""
        return time_grid(self.problem.times, self.config.control.mean_knots, self.config.nfe)[1]


def solve_bridge(
    problem: BridgeProblem,
    config: BridgeSolverConfig | None = None,
    *,
    seed: int = 0,
    on_progress: Callable[[float, str], None] = lambda share, text: None,
) -> BridgeSolution:
    """Look for a bridge for as many rounds as the settings say.

    Args:
        problem: Populations, noise and cost.
        config: Settings.
        seed: Of all randomness.
        on_progress: Hears which share is done, and what is going on.

    Raises:
        InputError: If trajectories run away, or a loss or the cost is no number.
    """
    config = config or BridgeSolverConfig()
    here, number = get_engine(), config.rounds or BridgeSolverConfig().rounds or 1
    shape = tuple(problem.populations[0][0](1, Rng(seed)).shape[1:])
    network = ForwardBackwardDrift(config.architecture).build(shape, {}, Rng(seed))
    progress = init_state(network.to(here.device), config)

    def report_progress(share: float, text: str) -> None:
        on_progress((progress.num_rounds + share) / number, text)

    found = itertools.islice(
        iterate_rounds(problem, config, progress, Rng(seed), here, on_progress=report_progress), number
    )
    return BridgeSolution(problem, config, progress, tuple(found))
