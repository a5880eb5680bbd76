"""Twisted sequential Monte Carlo: groups of weighted particles that sample a steered model, exactly in the limit.

Source: Wu et al. 2023, "Practical and asymptotically exact conditional sampling in diffusion models", arXiv 2306.17775.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError, check_number
from feller.core.pytree import State, leaves, num_examples, tree_map
from feller.core.rng import RandomStream, Rng
from feller.paths.time_distributions import Shifted

RESAMPLING_FRACTION = 0.5
"""Effective sample size, as a fraction of the particles of a group, below which the group is resampled."""


@dataclass(frozen=True)
class Outlook:
    """Twist of a chain at a state, and the predictions and gradients that the next step needs."""

    log_twist: Float[Tensor, " b"]
    """Estimated log likelihood of what is asked for, given the state; exact at the last time."""
    values: dict[str, State]
    """Predictions and gradients at the state, by name."""


class TwistedChain(abc.ABC):
    """Base class of sampling chains with a twist. Subclasses implement `look` and `move`."""

    @abc.abstractmethod
    def look(self, x: State, t: float) -> Outlook:
        """Evaluate the network and the twist at states x and time t."""

    @abc.abstractmethod
    def move(
        self, x: State, outlook: Outlook, t: float, s: float, rng: RandomStream
    ) -> tuple[State, Float[Tensor, " b"]]:
        """Sample the states at time s, and return them with the log density of the model's step minus that of this."""


@dataclass(frozen=True)
class Particles:
    """Equally weighted particles at the last time, with the effective sample size of each step."""

    state: State
    ess: Float[Tensor, "steps groups"]
    """Effective number of particles of each group after each step, before resampling; the last is that of the end.

    Copies that a step without noise has left equal count as one particle."""


@torch.no_grad()
def run_particles(
    chain: TwistedChain,
    x: State,
    times: Sequence[float],
    particles: int,
    rng: Rng,
    *,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Particles:
    """Simulate a twisted chain with resampling; consecutive states form the groups.

    The weight of a particle changes by the ratio of the model's step to the proposal, times the ratio of the twists. A
    group is resampled if its effective sample size falls below half of its particles, and at the end. As the number of
    particles grows, the states at the last time follow the model's chain weighted by exp(log_twist) of that time, for
    any twist at the earlier times. Numbers of a group do not depend on the other groups.

    Args:
        chain: Chain of the model, with its twist.
        x: States at the first time, [groups * particles, ...].
        times: Increasing times, from source to data.
        particles: Number of particles per group, at least 2.
        rng: Random streams.
        on_progress: Callback with the completed fraction.

    Raises:
        UsageError: If there are fewer than 2 particles, or the states are not a multiple of the particles.
        InputError: If a twist is not finite.
    """
    check_number("particles", particles, ge=2)
    n = num_examples(x)
    if n % particles:
        raise UsageError(argument="x", expected=f"a multiple of {particles} states", found=f"{n}")
    outlook, effective = chain.look(x, times[0]), []
    log_weight = outlook.log_twist.double()
    for number, (t, s) in enumerate(pairwise(times)):
        x, log_ratio = chain.move(x, outlook, t, s, rng.stream("simulate", number))
        previous, outlook = outlook, chain.look(x, s)
        log_weight = log_weight + log_ratio.double() + outlook.log_twist.double() - previous.log_twist.double()
        if log_weight.isnan().any() or (log_weight == torch.inf).any():
            raise InputError("finite weights of the particles", f"a weight that is not, at time {s:.3g}")
        weights = log_weight.unflatten(0, (-1, particles)).softmax(1)
        ess = 1 / _merge_copies(weights, x).square().sum(1)
        effective.append(ess)
        uniform = rng.stream("resample", number).uniform((n,), torch.float64, weights.device)[::particles]
        is_poor = ess < RESAMPLING_FRACTION * particles if s < times[-1] else torch.ones_like(ess, dtype=torch.bool)
        if is_poor.any():
            index = torch.where(
                is_poor[:, None], resample(weights, uniform), torch.arange(particles, device=weights.device)
            )
            index = (index + torch.arange(0, n, particles, device=index.device)[:, None]).flatten()
            x = tree_map(lambda leaf, index=index: leaf[index], x)
            outlook = Outlook(
                outlook.log_twist[index],
                {name: tree_map(lambda leaf, i=index: leaf[i], value) for name, value in outlook.values.items()},
            )
            log_weight = torch.where(is_poor[:, None], 0.0, log_weight.unflatten(0, (-1, particles))).flatten()
        on_progress((number + 1) / (len(times) - 1))
    return Particles(x, torch.stack(effective))


def _merge_copies(weights: Float[Tensor, "groups particles"], x: State) -> Float[Tensor, "groups particles"]:
    """Return the weights, where the first of equal neighbours has their sum and the others have 0.

    Copies of a resampled particle are neighbours, and stay equal in a step without noise. Tokens are left alone, since
    they may be equal by chance.
    """
    if not all(leaf.is_floating_point() for leaf in leaves(x)):
        return weights
    groups, particles = weights.shape
    is_copy = torch.ones(groups * particles, dtype=torch.bool, device=weights.device)
    for leaf in leaves(x):
        is_copy = is_copy & (leaf == leaf.roll(1, 0)).flatten(1).all(1)
    is_copy = is_copy.unflatten(0, (groups, particles))
    first = torch.cat([torch.zeros_like(is_copy[:, :1]), is_copy[:, 1:]], 1).logical_not().cumsum(1) - 1
    return torch.zeros_like(weights).scatter_add(1, first, weights)


def particle_grid(steps: int) -> list[float]:
    """Return a time grid from 0 to 1 with more steps near the source, where the weights of modes are decided.

    With 32 steps, it halves the error of these weights of a memoryless chain, compared with equal steps.
    """
    return Shifted(1.5).quantile(torch.linspace(0, 1, steps + 1, dtype=torch.float64)).tolist()


def resample(
    weights: Float[Tensor, "groups particles"], uniform: Float[Tensor, " groups"]
) -> Int64[Tensor, "groups particles"]:
    """Return indices of particles by systematic resampling: index i occurs floor or ceil of n weight_i times.

    Args:
        weights: Normalised weights of the particles of each group.
        uniform: One uniform number per group.
    """
    n = weights.shape[1]
    points = (torch.arange(n, device=weights.device) + uniform[:, None]) / n
    return torch.searchsorted(weights.cumsum(1), points, right=True).clamp(max=n - 1)
