"""Metrics of fine-tuning: reward, divergence from the base model, and diversity."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.control.fine_tuning.memoryless_chain import control_cost, roll_out
from feller.control.fine_tuning.tuning_objective import FineTuning, check_memoryless
from feller.control.rewards.named_rewards import Reward, dataset_reward
from feller.core.errors import UsageError
from feller.core.pytree import leaves, tree_map
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.models.model import Model
from feller.paths.time_distributions import linear_grid
from feller.sampling import MemorylessEuler

MAX_PAIRED = 1000
"""Maximum number of samples among which pairwise distances are computed."""
MIN_TILTED_FRACTION = 0.01
"""Effective sample fraction below which the reward-tilted distribution has too little overlap with the base model."""
MAX_ROLLOUTS, STEPS = 256, 40
"""Maximum number of roll-outs for the control cost, and number of steps per roll-out."""


@dataclass(frozen=True, eq=False)
class TuningComparison:
    """Comparison of a fine-tuned model with its base model: metrics, notes and samples of the base model."""

    base_samples: Dataset
    """Samples of the base model from the same source points and conditions as the samples of the fine-tuned model."""
    numbers: dict[str, Any]
    """Metrics by key."""
    notes: tuple[str, ...]


def compare_tuned(
    rule: FineTuning, base: Model, tuned: Model, after: Dataset, reward: Reward | None, rng: Rng, given: dict[str, str]
) -> TuningComparison:
    """Compare samples of a fine-tuned model with those of its base model."""
    base_samples = base.sample_dataset(len(after), given=after.given, guidance=rule.guidance, rng=rng)
    metrics: dict[str, Any] = {}
    notes = []
    if reward is not None:
        base_reward, tuned_reward = (dataset_reward(reward, data) for data in (base_samples, after))
        tilted, fraction = tilted_reward(base_reward, rule.reward_scale, condition_groups(base_samples))
        metrics |= {
            "reward": tuned_reward.mean().item(),
            "reward_before": base_reward.mean().item(),
            "reward_tilted": tilted,
            "tilted_share": fraction,
        }
        if fraction < MIN_TILTED_FRACTION:
            notes.append(reward_scale_warning(rule.reward_scale, fraction))
    else:
        notes.append(
            "the reward is not evaluated: it is user code or a model that is missing; `feller tune --resume --reward`"
            " evaluates it"
        )
    try:
        check_memoryless(rule.path)
        metrics["kl"] = base_divergence(
            rule, base, tuned, rng.fold_in("roll-outs"), given, min(MAX_ROLLOUTS, len(after))
        )
    except UsageError:
        notes.append("no KL divergence from the base model: its estimate needs a memoryless noise schedule")
    metrics |= {"diversity": sample_diversity(after), "diversity_before": sample_diversity(base_samples)}
    return TuningComparison(base_samples, metrics, tuple(notes))


def reward_scale_warning(reward_scale: float, fraction: float) -> str:
    """Return a warning that the reward-tilted distribution has little overlap with the base model.

    Args:
        reward_scale: Factor that multiplies the reward.
        fraction: Effective sample size under the tilted distribution, as a fraction of the number of base samples.
    """
    return (
        f"at --strength {reward_scale:g} the effective sample size of the target distribution is {fraction:.2%} of the"
        " base model's samples: it is nearly outside the base model; use a lower strength"
    )


def condition_groups(data: Dataset) -> Int[Tensor, " n"]:
    """Return the group index of each example; examples with equal conditions have the same index."""
    conditions = [data.given[name] for name in data.modality.conditions if name in data.given]
    if not conditions:
        return torch.zeros(len(data), dtype=torch.long)
    return torch.stack(conditions, 1).unique(dim=0, return_inverse=True)[1].cpu()


def tilted_reward(reward: Float[Tensor, " n"], reward_scale: float, group: Int[Tensor, " n"]) -> tuple[float, float]:
    """Estimate the mean reward under the distribution tilted by exp(reward_scale * reward), and its effective fraction.

    The estimate uses self-normalized importance weights of base samples within each group, so that conditions keep
    their distribution. The effective fraction is the effective sample size divided by the number of samples.
    """
    total, effective, count = 0.0, 0.0, 0
    for index in group.unique().tolist():
        rewards = reward[group == index]
        weights = (reward_scale * rewards).softmax(0)
        total += len(rewards) * (weights * rewards).sum().item()
        if len(rewards) > 1:  # a single sample always has full weight
            effective, count = effective + 1 / weights.square().sum().item() - 1, count + len(rewards) - 1
    return total / len(reward), effective / max(count, 1)


def base_divergence(
    rule: FineTuning, base: Model, tuned: Model, rng: Rng, condition_words: dict[str, str], n: int = MAX_ROLLOUTS
) -> float:
    """Return the mean control cost of fine-tuned roll-outs, which is the KL divergence from the base model, in nats."""
    spec = tuned.spec
    device = next(tuned.network.parameters()).device
    cond = tree_map(
        lambda leaf: leaf.to(device),
        spec.modality.add_derived_conditions(tuned.sample_conditions(n, condition_words, rng)),
    )
    times = linear_grid(STEPS)
    with torch.no_grad():
        x_0 = spec.space.sample_base(n, rng.stream("source"), device)
        chain = roll_out(rule.process(tuned.network.eval(), cond), x_0, times, MemorylessEuler(), rng, cond)
        return control_cost(rule.process(base.network.eval(), cond), chain).double().mean().item()


def sample_diversity(data: Dataset) -> float | None:
    """Return the mean distance between encoded samples of the same class; None if no class has two samples."""
    state = data.modality.encode(data.values)
    flat = torch.cat([leaf.double().flatten(1) for leaf in leaves(state)], 1)[:MAX_PAIRED]
    group, total, count = condition_groups(data)[:MAX_PAIRED], 0.0, 0
    for index in group.unique().tolist():
        rows = flat[group == index]
        total += torch.cdist(rows, rows).sum().item()
        count += len(rows) * (len(rows) - 1)
    return total / count if count else None
