"""Solutions of bridge problems, and a one-call solver."""

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
    """Solution of a bridge problem: trained drifts and the results of all rounds."""

    problem: BridgeProblem
    config: BridgeSolverConfig
    state: BridgeState
    rounds: tuple[RoundResult, ...]

    def __repr__(self) -> str:
        return f"<FoundBridge of {self.state.num_rounds} rounds, {self.config.pairs:,} pairs each: {self.problem}>"

    def transport(
        self,
        x_0: Tensor | np.ndarray,
        seed: int = 0,
        *,
        backward: bool = False,
        every: int | None = None,
        on_progress: Callable[[float], None] = lambda fraction: None,
    ) -> Trajectories:
        """Simulate the best drift from states of the first population or, if `backward`, of the last population.

        Args:
            x_0: Initial states, an array or tensor [n, *d] in data units.
            seed: Random seed of the noise.
            backward: Simulate from the last time to the first.
            every: Number of simulation steps between two stored states; by default the number between two knots.
            on_progress: Callback with the completed fraction.

        Returns:
            The trajectories.
        """
        drift = best_drift(self.state, backward=backward)
        times, steps_per_knot = time_grid(self.problem.times, self.config.control.mean_knots, self.config.nfe)
        rng, base_drift = Rng(seed).fold_in("push"), self.state.base_drift or self.problem.base_drift
        x_0 = torch.as_tensor(x_0, dtype=drift.centre.dtype, device=drift.centre.device)
        return simulate_drift(
            lambda x, t: drift(x, t, {}),
            lambda _: x_0,
            self.problem.noise,
            times,
            every or steps_per_knot,
            rng,
            base_drift=base_drift,
            backward=backward,
            on_progress=on_progress,
        )

    @property
    def steps_per_knot(self) -> int:
        """Number of simulation steps between two knots of a segment."""
        return time_grid(self.problem.times, self.config.control.mean_knots, self.config.nfe)[1]


def solve_bridge(
    problem: BridgeProblem,
    config: BridgeSolverConfig | None = None,
    *,
    seed: int = 0,
    on_progress: Callable[[float, str], None] = lambda fraction, text: None,
) -> BridgeSolution:
    """Solve a bridge problem: find the forward and the backward drift.

    There are `config.rounds` rounds, which fit the forward and the backward drift in turn.

    Args:
        problem: Populations, noise and cost.
        config: Solver settings.
        seed: Random seed.
        on_progress: Callback with the completed fraction and the current stage.

    Raises:
        InputError: If trajectories diverge, or a loss or the cost is not finite.
    """
    config = config or BridgeSolverConfig()
    engine, rounds = get_engine(), config.rounds or BridgeSolverConfig().rounds or 1
    shape = tuple(problem.populations[0][0](1, Rng(seed)).shape[1:])
    network = ForwardBackwardDrift(config.architecture).build(shape, {}, Rng(seed))
    state = init_state(network.to(engine.device), config)

    def report_progress(fraction: float, text: str) -> None:
        on_progress((state.num_rounds + fraction) / rounds, text)

    results = itertools.islice(
        iterate_rounds(problem, config, state, Rng(seed), engine, on_progress=report_progress), rounds
    )
    return BridgeSolution(problem, config, state, tuple(results))
