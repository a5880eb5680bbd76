"""Members told from others by models that are trained again, each on half of all rows."""

import torch
from torch import Tensor

from feller.app.reporter import Tell
from feller.app.workflows.auditing.attacks import MOST, Attacked
from feller.app.workflows.auditing.retrain import Again, joined
from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.evaluation.attacks.attack_scores import told
from feller.evaluation.attacks.membership import losses
from feller.evaluation.attacks.shadow import halves, likelihood_ratio, relative
from feller.evaluation.comparison import pick
from feller.models.model import Model

LEAST = 10
"""Held-out examples below which nobody is told from them."""


def shadowed(
    model: Model,
    again: Again,
    train: Dataset,
    held_out: Dataset,
    shadows: int,
    delta: float,
    draws: Draws,
    tell: Tell,
) -> Attacked:
    """Train models again, and tell members by how their losses differ between these.

    Args:
        model: That is attacked.
        again: How it was made.
        train: What it learned from.
        held_out: Others of the same law.
        shadows: Models that are trained.
        delta: Of the guarantee, for what is proven.
        draws: Source of all randomness.
        tell: Hears how it goes.

    Raises:
        UsageError: If the run cannot be made again of half of its rows.
    """
    if len(held_out) < LEAST:
        note = f"{len(held_out):,} examples are held out, fewer than {LEAST}: no shadow models were trained"
        return Attacked({}, notes=(note,))
    whole = joined(train, held_out)
    seen = halves(len(whole), shadows, draws)
    smaller = again.smaller(len(whole) // 2)
    members = pick(_numbers(len(train), train), MOST, draws.named("members")).values
    others = pick(_numbers(len(held_out), held_out), MOST, draws.named("others")).values + len(train)
    asked = torch.cat([members, others])
    found = []

    def lost(one: Model) -> Tensor:
        """Return the losses under a model; members and others meet times and noise of one law."""
        both = (whole.subset(rows) for rows in (members, others))
        return torch.cat([losses(one.network, again.recipe.objective, rows, draws.named("loss")) for rows in both])

    tell.task("training shadow models")
    for k in range(shadows):
        mine = whole.subset(seen[k].nonzero()[:, 0])
        shadow = smaller.of(
            mine,
            draws.named("shadow", k).seed,
            tell=lambda share, k=k: tell.progress((k + share) / shadows, f"model {k + 1} of {shadows}"),
        )
        found.append(lost(shadow))
        tell.progress((k + 1) / shadows, f"model {k + 1} of {shadows}")
    tell.done()
    attacked = lost(model)
    ways = {
        "shadow": likelihood_ratio(torch.stack(found), seen[:, asked], attacked),
        "relative": relative(torch.stack(found), attacked),
    }
    numbers: dict[str, float | None] = {"shadows": float(shadows)}
    for way, scores in ways.items():
        numbers |= told(scores[: len(members)], scores[len(members) :], delta).under(way)
    return Attacked(numbers)


def _numbers(n: int, data: Dataset) -> Dataset:
    """Return the numbers of examples in the place of their values, to pick some."""
    return Dataset(torch.arange(n), {}, data.modality)
