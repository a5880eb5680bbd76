"""Membership inference by losses and by shadow models."""

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.pytree import num_examples, tree_map
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.privacy.marginals.mst import mst
from feller.privacy.noise.grid_noise import SeededNoise
from feller.training.objective import Objective

ROUNDS = 16
"""Draws of time and noise that the loss of an example is the mean of."""
CHUNK_SIZE = 512
"""Examples that are asked about together."""


@torch.no_grad()
def example_losses(
    network: Any, objective: Objective, data: Dataset, rng: Rng, rounds: int = ROUNDS
) -> Float64[Tensor, " n"]:
    """Return the loss of each example, over the same draws of times and noise whatever stands beside it.

    Args:
        network: Of the model that is attacked.
        objective: What it was trained by.
        data: Examples.
        rng: Source of all randomness.
        rounds: Draws whose mean is taken.
    """
    device = next(network.parameters()).device
    found = []
    for first in range(0, len(data), CHUNK_SIZE):
        some = data.subset(torch.arange(first, min(first + CHUNK_SIZE, len(data))))
        targets = {} if some.target is None else {"target": some.targets(some.target)}
        all_of_it = {"x_1": data.modality.encode(some.values), "given": some.given, **targets}
        batch = tree_map(lambda leaf: leaf.to(device), all_of_it)
        total = torch.zeros(len(some), dtype=torch.float64)
        for number in range(rounds):
            example = objective.draw(batch, replace(rng.fold_in("round", number), first_example=first), network)
            loss = objective.loss(network, example).double().cpu()
            total += loss.view(len(some), num_examples(example) // len(some)).mean(1)
        found.append(total / rounds)
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def domias_scores(synthetic: Tensor, reference: Tensor, rows: Tensor, counts: tuple[int, ...]) -> Float64[Tensor, " n"]:
    """Return log p(row) under synthetic rows over log p(row) under others of the same law, trees of pairs both.

    Source: van Breugel, Sun, Qian and van der Schaar 2023, "Membership inference attacks against synthetic data through
    overfitting detection" (DOMIAS), arXiv 2302.12580.

    Args:
        synthetic: Codes of rows that the model drew, [s, k].
        reference: Codes of real rows that it did not learn from, [r, k].
        rows: Codes that are asked about, [n, k].
        counts: Codes of each column.
    """
    dense, thin = (mst(codes, counts, float("inf"), SeededNoise(0)).model for codes in (synthetic, reference))
    return dense.log_likelihood(rows) - thin.log_likelihood(rows)


MIN_SHADOWS_PER_CLASS = 16
"""Models with a row, and as many without it, from which its law has a mean and a deviation of its own."""


def shadow_splits(n: int, models: int, rng: Rng) -> Bool[Tensor, "s n"]:
    """Return which of n rows each of some models learns from: about half, and each row in half of the models.

    Source: Carlini et al. 2022, "Membership inference attacks from first principles", arXiv 2112.03570, section V.

    Args:
        n: Rows.
        models: How many; of an odd number each row is in the smaller half.
        rng: Source of all randomness.

    Raises:
        UsageError: If there are fewer than two models.
    """
    check_number("models", models, ge=2)
    u = torch.stack([rng.stream("half", k).uniform((n,), torch.float64) for k in range(models)])
    return u.argsort(0).argsort(0) < models // 2


def lira_scores(
    shadows: Float[Tensor, "s n"], in_training: Bool[Tensor, "s n"], losses: Float[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """Return log p(loss | learned from) / p(loss | not) by normal laws, high where an example seems a member (LiRA).

    From `MIN_SHADOWS_PER_CLASS` models of each kind every example has its own laws; of fewer, all share the shift and
    the deviation.

    Args:
        shadows: Losses of each example under models that were trained alike.
        in_training: Which examples each of these learned from.
        losses: Under the model that is attacked, over the same draws.

    Raises:
        UsageError: If an example is in all shadows, or in none.
    """
    counts = in_training.sum(0)
    if min(counts.min(), (len(in_training) - counts).min()) < MIN_SHADOWS_PER_CLASS:
        return lira_shared_variance(shadows, in_training, losses)
    x, y = shadows.double(), losses.double()

    def log_density(where: Tensor) -> Tensor:
        many = where.sum(0)
        mean = (x * where).sum(0) / many
        variance = ((x - mean).square() * where).sum(0) / (many - 1)
        variance = variance.clamp(min=1e-12 * x.var().item() + math.ulp(0.0))
        return -(y - mean).square() / (2 * variance) - variance.log() / 2

    return log_density(in_training) - log_density(~in_training)


def lira_shared_variance(
    shadows: Float[Tensor, "s n"], in_training: Bool[Tensor, "s n"], losses: Float[Tensor, " n"]
) -> Tensor:
    """Return the log likelihood ratio, [n], of losses of examples that were learned from, beside those that were not.

    Normal laws with a mean for each example; the shift by having been learned from, and the variance, are those of all
    examples together, as shadow models are few. Source: Carlini et al. 2022, "Membership inference attacks from first
    principles", arXiv 2112.03570, with a law for each example of its own.

    Args:
        shadows: Losses of each example under models that were trained alike.
        in_training: Which examples each of these learned from; each example in some, and not in others.
        losses: Of the examples under the model that is attacked.

    Raises:
        UsageError: If an example is in all shadows, or in none.
    """
    counts = in_training.sum(0)
    if (counts == 0).any() or (counts == len(in_training)).any():
        raise UsageError("each example must be in some shadow models and not in others", remedy="Make more of them")
    x = shadows.double()
    shift = ((x * in_training).sum(0) / counts - (x * ~in_training).sum(0) / (len(in_training) - counts)).mean()
    level = x - shift * in_training
    mean = level.mean(0)
    variance = (level - mean).square().sum() / max(1, (len(in_training) - 1) * len(losses))
    away = losses.double() - mean
    return (away.square() - (away - shift).square()) / (2 * variance)


def relative_loss_scores(shadows: Float[Tensor, "s n"], losses: Float[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Return by how much the loss is below what is usual for each example, which two models are enough for.

    Sources: Watson, Guo, Cormode and Sablayrolles 2022, "On the importance of difficulty calibration in membership
    inference attacks", arXiv 2111.08440; the mean over models with and without the example stands for its chance in
    Zarifzadeh, Liu and Shokri 2024 (RMIA), arXiv 2312.03262, whose rank among other examples keeps this order.
    """
    return shadows.double().mean(0) - losses.double()
