"""Membership inference attacks: losses, shadow models (LiRA) and density ratios (DOMIAS)."""

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
"""Number of random draws of time and noise over which the loss of an example is averaged."""
CHUNK_SIZE = 512
"""Examples per batch."""


@torch.no_grad()
def example_losses(
    network: Any, objective: Objective, data: Dataset, rng: Rng, rounds: int = ROUNDS
) -> Float64[Tensor, " n"]:
    """Return the mean loss of each example over random draws of time and noise, which do not depend on the batch."""
    device = next(network.parameters()).device
    losses = []
    for start in range(0, len(data), CHUNK_SIZE):
        chunk = data.subset(torch.arange(start, min(start + CHUNK_SIZE, len(data))))
        targets = {} if chunk.target is None else {"target": chunk.targets(chunk.target)}
        arrays = {"x_1": data.modality.encode(chunk.values), "given": chunk.given, **targets}
        batch = tree_map(lambda leaf: leaf.to(device), arrays)
        total = torch.zeros(len(chunk), dtype=torch.float64)
        for round_index in range(rounds):
            example = objective.draw(batch, replace(rng.fold_in("round", round_index), first_example=start), network)
            loss = objective.loss(network, example).double().cpu()
            total += loss.view(len(chunk), num_examples(example) // len(chunk)).mean(1)
        losses.append(total / rounds)
    return torch.cat(losses) if losses else torch.zeros(0, dtype=torch.float64)


def domias_scores(synthetic: Tensor, reference: Tensor, rows: Tensor, counts: tuple[int, ...]) -> Float64[Tensor, " n"]:
    """Return log p_synthetic(row) - log p_reference(row), with maximum spanning tree (MST) models of both densities.

    Source: van Breugel, Sun, Qian and van der Schaar 2023, "Membership inference attacks against synthetic data through
    overfitting detection" (DOMIAS), arXiv 2302.12580.

    Args:
        synthetic: Category indices of rows sampled from the model, [s, k].
        reference: Category indices of real rows outside the training set, [r, k].
        rows: Category indices of the rows to score, [n, k].
        counts: Number of categories of each column.
    """
    p, q = (mst(codes, counts, float("inf"), SeededNoise(0)).model for codes in (synthetic, reference))
    return p.log_likelihood(rows) - q.log_likelihood(rows)


MIN_SHADOWS_PER_CLASS = 16
"""Minimum number of shadow models trained with an example, and of those without it, for per-example variances."""


def shadow_splits(n: int, models: int, rng: Rng) -> Bool[Tensor, "s n"]:
    """Return, for s shadow models, the mask of the rows each is trained on; each row is in half of the training sets.

    Source: Carlini et al. 2022, "Membership inference attacks from first principles", arXiv 2112.03570, section V.

    Args:
        n: Number of rows.
        models: Number of shadow models; if odd, each row is in (models - 1) / 2 training sets.
        rng: Random streams for the choice of training sets.

    Raises:
        UsageError: If there are fewer than two models.
    """
    check_number("models", models, ge=2)
    u = torch.stack([rng.stream("half", k).uniform((n,), torch.float64) for k in range(models)])
    return u.argsort(0).argsort(0) < models // 2


def lira_scores(
    shadows: Float[Tensor, "s n"], in_training: Bool[Tensor, "s n"], losses: Float[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """Return LiRA scores: log p(loss | member) - log p(loss | non-member) with fitted normal distributions.

    Both distributions are fitted per example if each example has at least `MIN_SHADOWS_PER_CLASS` shadow models trained
    with it, and as many trained without it. Otherwise all examples share the difference of the means and the variance.

    Args:
        shadows: Losses of each example under the shadow models.
        in_training: True where a shadow model was trained on the example.
        losses: Losses of the examples under the attacked model, with the same draws of time and noise.

    Raises:
        UsageError: If an example is in the training set of all shadow models, or of none.
    """
    counts = in_training.sum(0)
    if min(counts.min(), (len(in_training) - counts).min()) < MIN_SHADOWS_PER_CLASS:
        return lira_shared_variance(shadows, in_training, losses)
    x, y = shadows.double(), losses.double()

    def log_density(mask: Tensor) -> Tensor:
        count = mask.sum(0)
        mean = (x * mask).sum(0) / count
        variance = ((x - mean).square() * mask).sum(0) / (count - 1)
        variance = variance.clamp(min=1e-12 * x.var().item() + math.ulp(0.0))
        return -(y - mean).square() / (2 * variance) - variance.log() / 2

    return log_density(in_training) - log_density(~in_training)


def lira_shared_variance(
    shadows: Float[Tensor, "s n"], in_training: Bool[Tensor, "s n"], losses: Float[Tensor, " n"]
) -> Tensor:
    """Return LiRA scores, [n], for few shadow models: all examples share one variance and one difference of the means.

    The mean itself is fitted per example. Source: Carlini et al. 2022, "Membership inference attacks from first
    principles", arXiv 2112.03570, which fits separate distributions for each example.

    Args:
        shadows: Losses of each example under the shadow models.
        in_training: True where a shadow model was trained on the example; each example needs at least one shadow model
            that was trained on it and one that was not.
        losses: Losses of the examples under the attacked model.

    Raises:
        UsageError: If an example is in the training set of all shadow models, or of none.
    """
    counts = in_training.sum(0)
    if (counts == 0).any() or (counts == len(in_training)).any():
        raise UsageError(
            "for each example, shadow models trained with it and shadow models trained without it",
            "an example in the training sets of all shadow models, or of none",
            "Train more shadow models",
        )
    x = shadows.double()
    shift = ((x * in_training).sum(0) / counts - (x * ~in_training).sum(0) / (len(in_training) - counts)).mean()
    centred = x - shift * in_training
    mean = centred.mean(0)
    variance = (centred - mean).square().sum() / max(1, (len(in_training) - 1) * len(losses))
    deviation = losses.double() - mean
    return (deviation.square() - (deviation - shift).square()) / (2 * variance)


def relative_loss_scores(shadows: Float[Tensor, "s n"], losses: Float[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Return, for each example, its mean loss under the shadow models minus its loss under the attacked model.

    Higher scores indicate membership. Two shadow models are enough.

    Sources: Watson, Guo, Cormode and Sablayrolles 2022, "On the importance of difficulty calibration in membership
    inference attacks", arXiv 2111.08440. The order of the scores is that of Zarifzadeh, Liu and Shokri 2024 (RMIA),
    arXiv 2312.03262, with the mean over all shadow models in place of the marginal probability of the example.
    """
    return shadows.double().mean(0) - losses.double()
