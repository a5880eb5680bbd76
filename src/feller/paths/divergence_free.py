"""Construction of processes that leave a distribution invariant.

Added to another process, they keep its marginals and correct earlier deviations from them, such as errors of a network.

Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587, proposition 3. Add them with
`feller.paths.processes.add`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State, append_dims, broadcast_time, tree_map
from feller.core.rng import RandomStream
from feller.paths.processes import Characteristics, Jumps, Process, Score

Diffusion = float | Callable[[Tensor], Tensor]
"""Variance g^2 of a diffusion, in state squared per time: a constant, or a function of times [b]."""


def langevin(score: Score, diffusion: Diffusion) -> Process:
    """Return the Langevin process with diffusion g^2 and drift g^2 / 2 times the score.

    Args:
        score: (x, t) -> gradient of the log density of the marginal at t.
        diffusion: Variance g^2 per unit of time: a constant, or a function of times [b].
    """

    def process(x: State, t: State) -> State:
        def leaf_characteristics(x: Tensor, score: Tensor, time: Tensor) -> Characteristics:
            variance = torch.as_tensor(diffusion(time) if callable(diffusion) else diffusion).to(x)
            variance = append_dims(variance.reshape(-1), x)
            return Characteristics(variance / 2 * score, variance)

        return tree_map(leaf_characteristics, x, score(x, t), broadcast_time(t, x) if isinstance(t, Tensor) else t)

    return process


def metropolis(log_density: Callable[[Tensor, Tensor], Tensor], scale: float, rate: float) -> Process:
    """Return Metropolis jumps of whole examples: propose a Gaussian move, then accept or reject it.

    Proposals start from the state at the beginning of a step. If a flow also moves the state, this causes an error
    proportional to rate times step size, so steps should be short compared to 1 / rate. The jumps can be added to
    velocities, noise and other jumps of whole examples.

    Args:
        log_density: (x, t) -> log density of the marginal at t, up to a constant, [b].
        scale: Standard deviation of a proposal, in units of the state.
        rate: Proposals per unit of time.

    Raises:
        UsageError: If scale or rate is not positive.
    """
    if not (scale > 0 and rate > 0):
        raise UsageError("scale and rate must be positive", found=f"{scale:g} and {rate:g}")

    def process(x: Tensor, t: Tensor) -> Characteristics:
        def hazard(s: float) -> Tensor:
            return rate * (s - t.double())

        def sample_destination(s: float, mask: Tensor, rng: RandomStream) -> Tensor:
            current, time = x[mask], t[mask]
            proposal = current + scale * rng.normal(x.shape, x.dtype, x.device)[mask]
            log_ratio = (log_density(proposal, time) - log_density(current, time)).double()
            is_accepted = rng.uniform((len(x),), torch.float64, x.device)[mask].log() < log_ratio
            return torch.where(append_dims(is_accepted, current), proposal, current)

        return Characteristics(jumps=Jumps(hazard, sample_destination))

    return process
