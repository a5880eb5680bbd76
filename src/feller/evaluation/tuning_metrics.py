"""What tuning changed: reward, divergence from the base, and diversity."""

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
"""Samples whose distances from each other are measured."""
MIN_TILTED_FRACTION = 0.01
"""Share of the base's samples that the tilted law is like, below which the base hardly knows it."""
MAX_ROLLOUTS, STEPS = 256, 40
"""Roll-outs whose control is summed, no more than there are samples, and their steps."""


@dataclass(frozen=True, eq=False)
class TuningComparison:
    """What tuning changed."""

    base_samples: Dataset
    """Samples of the base, with the sources and conditions of those after."""
    numbers: dict[str, Any]
    """By their names in `METRICS`."""
    notes: tuple[str, ...]


def compare_tuned(
    rule: FineTuning,
    base: Model,
    tuned: Model,
    after: Dataset,
    reward: Reward | None,
    rng: Rng,
    given: dict[str, str],
) -> TuningComparison:
    """Compare samples of a tuned model with those of its base.

    Args:
        rule: How it was tuned.
        base: What it was before.
        tuned: What it is now.
        after: Its samples.
        reward: What it was tuned to; None if that cannot be known here.
        rng: Those that `after` was drawn with.
        given: Conditions that were always so while tuning, in words.
    """
    before = base.sample_dataset(len(after), given=after.given, guidance=rule.guidance, rng=rng)
    numbers: dict[str, Any] = {}
    notes = []
    if reward is not None:
        first, last = (dataset_reward(reward, data) for data in (before, after))
        tilted, fraction = tilted_reward(first, rule.reward_scale, condition_groups(before))
        numbers |= {
            "reward": last.mean().item(),
            "reward_before": first.mean().item(),
            "reward_tilted": tilted,
            "tilted_share": fraction,
        }
        if fraction < MIN_TILTED_FRACTION:
            notes.append(reward_scale_warning(rule.reward_scale, fraction))
    else:
        notes.append(
            "the reward is not measured: it is code of yours, or a model that is gone; `feller tune --resume --reward`"
            " measures it"
        )
    try:
        check_memoryless(rule.path)
        numbers["kl"] = base_divergence(
            rule, base, tuned, rng.fold_in("roll-outs"), given, min(MAX_ROLLOUTS, len(after))
        )
    except UsageError:
        notes.append(
            "there is no divergence from the base, since this model has no memoryless noise to measure it with"
        )
    numbers |= {"diversity": sample_diversity(after), "diversity_before": sample_diversity(before)}
    return TuningComparison(before, numbers, tuple(notes))


def reward_scale_warning(reward_scale: float, fraction: float) -> str:
    """Say that the base hardly knows what is asked for."""
    return (
        f"at a strength of {reward_scale:g} the law aimed at is like {fraction:.2%} of the base's samples: the base"
        " hardly knows it, and a lower strength is safer"
    )


def condition_groups(data: Dataset) -> Int[Tensor, " n"]:
    """Return a number for each different combination of conditions."""
    named = [data.given[name] for name in data.modality.conditions if name in data.given]
    if not named:
        return torch.zeros(len(data), dtype=torch.long)
    return torch.stack(named, 1).unique(dim=0, return_inverse=True)[1].cpu()


def tilted_reward(reward: Float[Tensor, " n"], reward_scale: float, group: Int[Tensor, " n"]) -> tuple[float, float]:
    """Estimate the mean reward of the tilted law from samples of the base, and the share of them that this rests on.

    Conditions keep their law, so that weights add up to one within each group.
    """
    total, effective, counted = 0.0, 0.0, 0
    for number in group.unique().tolist():
        some = reward[group == number]
        weights = (reward_scale * some).softmax(0)
        total += len(some) * (weights * some).sum().item()
        if len(some) > 1:  # one alone says nothing of how alike the two laws are
            effective, counted = effective + 1 / weights.square().sum().item() - 1, counted + len(some) - 1
    return total / len(reward), effective / max(counted, 1)


def base_divergence(
    rule: FineTuning, base: Model, tuned: Model, rng: Rng, condition_words: dict[str, str], n: int = MAX_ROLLOUTS
) -> float:
    """Return the mean control cost of roll-outs of the tuned model, with the conditions that are wanted."""
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
    """Return the mean distance between states of samples of one class; None where no class has two."""
    state = data.modality.encode(data.values)
    flat = torch.cat([leaf.double().flatten(1) for leaf in leaves(state)], 1)[:MAX_PAIRED]
    group, total, count = condition_groups(data)[:MAX_PAIRED], 0.0, 0
    for number in group.unique().tolist():
        some = flat[group == number]
        total += torch.cdist(some, some).sum().item()
        count += len(some) * (len(some) - 1)
    return total / count if count else None
