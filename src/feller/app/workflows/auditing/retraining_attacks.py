"""Attacks that retrain the model: shadow models and canaries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from feller.app.reporter import Tell, in_words
from feller.app.workflows.auditing.attacks import MOST, Attacked
from feller.app.workflows.auditing.audit_target import Opened
from feller.app.workflows.auditing.canary_audit import CANDIDATES, check_planted, planted, slower
from feller.app.workflows.auditing.retrain import Again, again_of, joined
from feller.core.errors import check_number
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.evaluation.attacks.attack_scores import membership_scores
from feller.evaluation.attacks.membership import example_losses, lira_scores, relative_loss_scores, shadow_splits
from feller.evaluation.comparison import subsample
from feller.evaluation.report.report_page import ReportTable
from feller.models.model import Model

LEAST = 10
"""Held-out examples below which nobody is told from them."""


def shadowed(it: Opened, again: Again, shadows: int, draws: Rng, tell: Tell) -> Attacked:
    """Train models again, and tell members by how their losses differ between these.

    Args:
        it: What is attacked.
        again: How it was made.
        shadows: Models that are trained.
        draws: Source of all randomness.
        tell: Hears how it goes.

    Raises:
        UsageError: If the run cannot be made again of half of its rows.
    """
    train, held_out = it.train, it.held_out
    if len(held_out) < LEAST:
        note = f"{len(held_out):,} examples are held out, fewer than {LEAST}: no shadow models were trained"
        return Attacked({}, notes=(note,))
    whole = joined(train, held_out)
    seen = shadow_splits(len(whole), shadows, draws)
    smaller = again.smaller(len(whole) // 2)
    members = subsample(_numbers(len(train), train), MOST, draws.fold_in("members")).values
    others = subsample(_numbers(len(held_out), held_out), MOST, draws.fold_in("others")).values + len(train)
    asked = torch.cat([members, others])
    found = []

    def lost(one: Model) -> Tensor:
        """Return the losses under a model; members and others meet times and noise of one law."""
        both = (whole.subset(rows) for rows in (members, others))
        return torch.cat([example_losses(one.network, again.objective, rows, draws.fold_in("loss")) for rows in both])

    tell.task("training shadow models")
    for k in range(shadows):
        mine = whole.subset(seen[k].nonzero()[:, 0])
        shadow = smaller.of(
            mine,
            draws.fold_in("shadow", k).seed,
            tell=lambda share, k=k: tell.progress((k + share) / shadows, f"model {k + 1} of {shadows}"),
        )
        found.append(lost(shadow))
        tell.progress((k + 1) / shadows, f"model {k + 1} of {shadows}")
    tell.done()
    attacked = lost(it.model)
    ways = {
        "shadow": lira_scores(torch.stack(found), seen[:, asked], attacked),
        "relative": relative_loss_scores(torch.stack(found), attacked),
    }
    numbers: dict[str, float | None] = {"shadows": float(shadows)}
    for way, scores in ways.items():
        numbers |= membership_scores(scores[: len(members)], scores[len(members) :], it.delta).with_prefix(way)
    return Attacked(numbers)


def _numbers(n: int, data: Dataset) -> Dataset:
    """Return the numbers of examples in the place of their values, to pick some."""
    return Dataset(torch.arange(n), {}, data.modality)


@dataclass(frozen=True, eq=False)
class Retraining:
    """What is trained again for an audit."""

    again: Again | None
    """How; None where nothing is."""
    shadows: int | None
    canaries: int | None

    @staticmethod
    def of(it: Opened, shadows: int | None, canaries: int | None) -> "Retraining":
        """Refuse what cannot be, before anything is attacked."""
        if shadows is None and canaries is None:
            return Retraining(None, None, None)
        again = again_of(it)
        check_number("shadows", shadows, ge=2, remedy="8 or 16 are usual")
        if canaries is not None:
            check_planted(again, canaries)
        return Retraining(again, shadows, canaries)

    def beside(self, found: Attacked, it: Opened, draws: Rng, tell: Tell) -> Attacked:
        """Return what other attacks found, and what these add."""
        if self.again is None:
            return found
        again = self.again
        if self.shadows:
            tell.say(f"{self.shadows} models are trained again: about {in_words(self.shadows * again.seconds)}")
            found = found.with_(shadowed(it, again, self.shadows, draws.fold_in("shadows"), tell))
        if self.canaries:
            longer = slower(again, self.canaries)
            tell.say(f"one model is trained again, with planted rows: about {in_words(longer * again.seconds)}")
            found = found.with_(planted(it, again, self.canaries, draws.fold_in("canaries"), tell))
        return found


def flags(numbers: Mapping[str, Any]) -> list[str]:
    """Return the words with which this was asked for."""
    asked = {name: numbers.get(name) for name in ("shadows", "canaries")}
    return [word for name, count in asked.items() if count for word in (f"--{name}", f"{count:.0f}")]


def candidates(numbers: Mapping[str, Any]) -> list[ReportTable]:
    """List how well candidates were told apart, where that was tried."""
    if numbers.get("candidates_right") is None:
        return []
    names = ("candidates_places", "candidates_right", "candidates_least", "candidates_bound", "candidates_blind")
    return [
        ReportTable(
            f"Which of {CANDIDATES} candidates was learned from",
            "In a training of its own, each of some places held one of several rows. An attacker who knows all else and"
            " sees every noisy gradient named the likeliest. A chance that is at least more than what is allowed would"
            " mean that the guarantee does not hold.",
            ("attacker", "places", "named right", "chance of that at least", "allowed at most", "blind guess"),
            [("knows all but the row", *(numbers[name] for name in names))],
        )
    ]
