"""Who was learned from, told by losses: what was seen is less surprising."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.pytree import length, tree_map
from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.privacy.marginals.mst import mst
from feller.privacy.noise.grid_noise import Repeatable
from feller.training.objective import Objective

ROUNDS = 16
"""Draws of time and noise that the loss of an example is the mean of."""
AT_ONCE = 512
"""Examples that are asked about together."""


@torch.no_grad()
def losses(
    network: Any, objective: Objective, data: Dataset, draws: Draws, rounds: int = ROUNDS
) -> Float64[Tensor, " n"]:
    """Return the loss of each example, over the same draws of times and noise whatever stands beside it.

    Args:
        network: Of the model that is attacked.
        objective: What it was trained by.
        data: Examples.
        draws: Source of all randomness.
        rounds: Draws whose mean is taken.
    """
    device = next(network.parameters()).device
    found = []
    for first in range(0, len(data), AT_ONCE):
        some = data.subset(torch.arange(first, min(first + AT_ONCE, len(data))))
        wanted = {} if some.target is None else {"target": some.wanted(some.target)}
        all_of_it = {"x_1": data.modality.encode(some.values), "given": some.given, **wanted}
        batch = tree_map(lambda leaf: leaf.to(device), all_of_it)
        total = torch.zeros(len(some), dtype=torch.float64)
        for number in range(rounds):
            example = objective.draw(network, batch, replace(draws.named("round", number), first=first))
            loss = objective.loss(network, example).double().cpu()
            total += loss.view(len(some), length(example) // len(some)).mean(1)
        found.append(total / rounds)
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def by_density(synthetic: Tensor, reference: Tensor, rows: Tensor, counts: tuple[int, ...]) -> Float64[Tensor, " n"]:
    """Return log p(row) under synthetic rows over log p(row) under others of the same law, trees of pairs both.

    Source: van Breugel, Sun, Qian and van der Schaar 2023, "Membership inference attacks against synthetic data through
    overfitting detection" (DOMIAS), arXiv 2302.12580.

    Args:
        synthetic: Codes of rows that the model drew, [s, k].
        reference: Codes of real rows that it did not learn from, [r, k].
        rows: Codes that are asked about, [n, k].
        counts: Codes of each column.
    """
    dense, thin = (mst(codes, counts, float("inf"), Repeatable(0)).model for codes in (synthetic, reference))
    return dense.log_likelihood(rows) - thin.log_likelihood(rows)
