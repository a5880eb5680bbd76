"""Metrics of fine-tuning: reward, divergence from the base model, and diversity."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.control.fine_tuning.memoryless_chain import roll_out
from feller.control.fine_tuning.target_gap import MIN_GROUP, compare_paths, target_gap
from feller.control.fine_tuning.tuning_objective import FineTuning, check_memoryless
from feller.control.rewards.named_rewards import Reward, StateReward, dataset_reward
from feller.control.rewards.reward import evaluate_reward
from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, leaves, tree_map
from feller.core.rng import Rng
from feller.data.modality import Dataset, Modality
from feller.models.model import Model
from feller.paths.time_distributions import linear_grid
from feller.sampling import MemorylessEuler

DrawConditions = Callable[[Model, int, Rng], Cond]
"""Function that draws the conditions of n samples of a model."""
MAX_PAIRED = 1000
"""Maximum number of samples among which pairwise distances are computed."""
MIN_TILTED_FRACTION = 0.01
"""Effective sample fraction below which the reward-tilted distribution has too little overlap with the base model."""
MAX_ROLLOUTS, ROLLOUT_BATCH, STEPS = 256, 64, 80
"""Maximum number of roll-outs for the divergences, number of roll-outs that are simulated at once, and number of steps
per roll-out. With half the steps, `kl_target` is 0.05 nats too high for two modes at a distance of nine standard
deviations."""


@dataclass(frozen=True, eq=False)
class TuningComparison:
    """Comparison of a fine-tuned model with its base model: metrics, notes and samples of the base model."""

    base_samples: Dataset
    """Samples of the base model from the same source points and conditions as the samples of the fine-tuned model."""
    numbers: dict[str, Any]
    """Metrics by key."""
    notes: tuple[str, ...]


def compare_tuned(
    rule: FineTuning,
    base: Model,
    tuned: Model,
    after: Dataset,
    reward: Reward | None,
    rng: Rng,
    conditions: DrawConditions,
) -> TuningComparison:
    """Compare samples of a fine-tuned model with those of its base model; `conditions` draws those of roll-outs."""
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
        n = min(MAX_ROLLOUTS, len(after))
        metrics |= measure_divergences(rule, base, tuned, reward, rng.fold_in("roll-outs"), conditions, n)
        if reward is not None and "kl_target" not in metrics:
            notes.append(
                f"no divergence from the target distribution: its estimate needs {MIN_GROUP} roll-outs of each"
                " combination of conditions"
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
    return _condition_groups(data.given, data.modality, len(data))


def _condition_groups(cond: Cond, modality: Modality, n: int) -> Int[Tensor, " n"]:
    names = [name for name in (*modality.conditions, *modality.selected_conditions) if name in cond]
    rows = [b"".join(row) for row in zip(*(_row_bytes(cond[name]) for name in names), strict=True)]
    groups: dict[bytes, int] = {}
    return torch.tensor([groups.setdefault(row, len(groups)) for row in rows or [b""] * n])


def _row_bytes(values: Tensor) -> list[bytes]:
    """Return the bytes of the values of each example."""
    return [row.tobytes() for row in values.detach().cpu().numpy()]


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


def measure_divergences(
    rule: FineTuning,
    base: Model,
    tuned: Model,
    reward: Reward | None,
    rng: Rng,
    conditions: DrawConditions,
    n: int = MAX_ROLLOUTS,
) -> dict[str, float]:
    """Return the divergences of a fine-tuned model from its base and from its target, estimated from n roll-outs.

    `kl` is the mean control cost of the roll-outs, which is the KL divergence from the base model, in nats. With a
    reward, `kl_target` is the KL divergence from the target, `reward_target` the mean reward of the target, and
    `target_ess` the effective fraction of roll-outs of these two; see `target_gap`. They are left out if a condition
    has too few roll-outs.
    """
    spec = tuned.spec
    device = next(tuned.network.parameters()).device
    cond = tree_map(
        lambda leaf: leaf.to(device),
        spec.modality.add_derived_conditions(conditions(tuned, n, rng)),
    )
    per_batch = []
    for start in range(0, n, ROLLOUT_BATCH):
        batch_cond = tree_map(lambda leaf, start=start: leaf[start : start + ROLLOUT_BATCH], cond)
        batch_rng = replace(rng, first_example=start)
        x_0 = spec.space.sample_base(min(ROLLOUT_BATCH, n - start), batch_rng.stream("source"), device)
        with torch.no_grad():
            per_batch.append(_compare_roll_outs(rule, base, tuned, reward, x_0, batch_cond, batch_rng))
    values = {name: torch.cat([batch[name] for batch in per_batch]).cpu() for name in per_batch[0]}
    metrics = {"kl": values.pop("cost").mean().item()}
    group = _condition_groups(cond, spec.modality, n)
    gap = target_gap(**values, reward_scale=rule.reward_scale, group=group) if values else None
    if gap is None:
        return metrics
    return {**metrics, "kl_target": gap.kl, "reward_target": gap.reward, "target_ess": gap.effective_fraction}


def _compare_roll_outs(
    rule: FineTuning, base: Model, tuned: Model, reward: Reward | None, x_0: State, cond: Cond, rng: Rng
) -> dict[str, Tensor]:
    """Return the control cost of roll-outs of the tuned model and, with a reward, the arguments of `target_gap`."""
    times, solver = linear_grid(STEPS), MemorylessEuler()
    tuned_flow, base_flow = (rule.process(model.network.eval(), cond) for model in (tuned, base))
    compared = compare_paths(roll_out(tuned_flow, x_0, times, solver, rng, cond), base_flow)
    if reward is None:
        return {"cost": compared.cost}
    base_chain = roll_out(base_flow, x_0, times, solver, rng.fold_in("base"), cond)
    state_reward = StateReward(reward, tuned.spec.modality)
    return {
        "cost": compared.cost,
        "tuned_ratio": compared.log_ratio,
        "tuned_reward": evaluate_reward(state_reward, compared.end, cond),
        "base_ratio": compare_paths(base_chain, tuned_flow).log_ratio,
        "base_reward": evaluate_reward(state_reward, base_chain.end, cond),
    }


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
