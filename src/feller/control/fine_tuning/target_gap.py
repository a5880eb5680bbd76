"""Estimate of how far a fine-tuned flow is from its target: importance weights of memoryless roll-outs."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from feller.control.fine_tuning.memoryless_chain import ChainStep, MemorylessChain
from feller.control.fine_tuning.tuning_objective import select_counted, velocity
from feller.core.pytree import State, leaves, tree_map
from feller.paths.processes import Process
from feller.sampling.solvers.solver import expand_time

MIN_GROUP = 16
"""Minimum number of roll-outs per condition; with fewer, the normalising constant of the target is not estimated."""


@dataclass(frozen=True)
class TargetGap:
    """Distance of a fine-tuned flow from its target, the base distribution tilted by the reward."""

    kl: float
    """KL divergence of the roll-outs from those of the target, in nats; an upper bound on that of their ends."""
    reward: float
    """Mean reward of the target."""
    effective_fraction: float
    """Effective sample size of both estimates, as a fraction of the number of roll-outs."""


@dataclass(frozen=True)
class PathComparison:
    """Comparison of simulated paths with another flow."""

    cost: Float[Tensor, " b"]
    """Half the squared control that leads from the other flow to the simulated one, summed along each path.

    Its mean is the KL divergence of the paths from those of the other flow, in nats. This is an upper bound on the
    divergence of the ends, and equals it if the simulated flow samples the other distribution tilted by a function of
    the end.
    """
    log_ratio: Float[Tensor, " b"]
    """Log density of the paths up to the last step, which has no noise, minus that under the other flow."""
    end: State
    """Ends if the last step is one of the other flow."""


def compare_paths(chain: MemorylessChain, other: Process) -> PathComparison:
    """Compare roll-outs with memoryless noise with another flow.

    Args:
        chain: Roll-outs of a flow.
        other: Flow with which the simulated one is compared.
    """
    costs, log_ratios, end = [], [], chain.end
    for i, (x, simulated) in enumerate(zip(chain.states, chain.velocities, strict=True)):
        t, linear = expand_time(x, chain.times[i]), chain.linear(i)
        step = ChainStep(i, linear, velocity(other, x, t), simulated)
        counted = select_counted(chain.cond, t, simulated, step.base)
        costs.append(step.cost(counted).double())
        if i + 1 == len(chain.states):
            end = linear.mean(x, step.base)
            break
        noise = tree_map(torch.sub, chain.states[i + 1], linear.mean(x, simulated))
        products = tree_map(lambda v, w, z: ((v - w) * z).double().flatten(1).sum(1), counted, step.base, noise)
        scale = linear.on_velocity / linear.variance
        log_ratios.append(costs[-1] + scale * torch.stack(list(leaves(products))).sum(0))
    return PathComparison(torch.stack(costs).sum(0), torch.stack(log_ratios).sum(0), end)


def target_gap(
    tuned_ratio: Float[Tensor, " n"],
    tuned_reward: Float[Tensor, " n"],
    base_ratio: Float[Tensor, " n"],
    base_reward: Float[Tensor, " n"],
    *,
    reward_scale: float,
    group: Int[Tensor, " n"],
) -> TargetGap | None:
    """Return the distance from the target; None if a condition has fewer than `MIN_GROUP` roll-outs.

    A path of the target has the density of the base times exp(reward_scale * reward) / Z. Paths of both flows estimate
    Z with the balance heuristic: their weights refer to the mixture of both flows. So the estimate does not miss a mode
    that only one of them visits. Source of the heuristic: Veach and Guibas 1995.

    Args:
        tuned_ratio: Log density of paths of the tuned flow minus that under the base; see `PathComparison`.
        tuned_reward: Rewards of these paths.
        base_ratio: Log density of paths of the base flow minus that under the tuned flow.
        base_reward: Rewards of these paths.
        reward_scale: Factor that multiplies the reward.
        group: Index of the condition of each path, the same for both flows; Z depends on the condition.
    """
    n, kl, reward, effective = len(group), 0.0, 0.0, 0.0
    for index in group.unique().tolist():
        rows = group == index
        if rows.sum() < MIN_GROUP:
            return None
        rewards = torch.cat([tuned_reward[rows], base_reward[rows]]).double()
        log_ratio = torch.cat([tuned_ratio[rows], -base_ratio[rows]]).double()  # tuned to base
        log_weight = reward_scale * rewards - F.softplus(log_ratio) + math.log(2)
        log_normalizer = log_weight.logsumexp(0) - math.log(len(log_weight))
        excess = tuned_ratio[rows].double() - reward_scale * tuned_reward[rows].double()
        weights = log_weight.softmax(0)
        size = int(rows.sum())
        kl += size * (excess.mean() + log_normalizer).item()
        reward += size * (weights * rewards).sum().item()
        effective += size / weights.square().sum().item() / len(weights)
    return TargetGap(kl / n, reward / n, effective / n)
