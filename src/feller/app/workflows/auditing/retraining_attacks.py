"""Attacks that retrain the model: shadow models and canaries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from feller.app.reporter import Reporter, format_duration
from feller.app.workflows.auditing.attacks import MAX_ROWS, AttackResults
from feller.app.workflows.auditing.audit_target import AuditTarget
from feller.app.workflows.auditing.canary_audit import CANDIDATES, canary_attack, check_canaries, training_slowdown
from feller.app.workflows.auditing.retrain import Retrainer, concatenate_datasets, make_retrainer
from feller.core.errors import check_number
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.evaluation.attacks.attack_scores import membership_scores
from feller.evaluation.attacks.membership import example_losses, lira_scores, relative_loss_scores, shadow_splits
from feller.evaluation.comparison import subsample
from feller.evaluation.report.report_page import ReportTable
from feller.models.model import Model

MIN_HELD_OUT = 10
"""Minimum number of held-out examples for shadow models."""


def shadow_model_attack(
    it: AuditTarget, retrainer: Retrainer, shadows: int, rng: Rng, reporter: Reporter
) -> AttackResults:
    """Infer which rows were in the training set of a run, by comparing their losses under the run and shadow models.

    Each shadow model is trained on a random half of all rows, which are the training rows and held-out rows of the run.
    The results are metrics of the attack. If there are too few held-out rows, the results are only a note.

    Raises:
        UsageError: If the run cannot be retrained on half of the rows.
    """
    train, held_out = it.train, it.held_out
    if len(held_out) < MIN_HELD_OUT:
        note = f"shadow models skipped: they need {MIN_HELD_OUT} held-out examples, and there are {len(held_out):,}"
        return AttackResults({}, notes=(note,))
    all_rows = concatenate_datasets(train, held_out)
    membership = shadow_splits(len(all_rows), shadows, rng)
    half_retrainer = retrainer.for_rows(len(all_rows) // 2)
    members = subsample(_numbers(len(train), train), MAX_ROWS, rng.fold_in("members")).values
    non_members = subsample(_numbers(len(held_out), held_out), MAX_ROWS, rng.fold_in("others")).values + len(train)
    indices = torch.cat([members, non_members])
    shadow_losses = []

    def losses_under(model: Model) -> Tensor:
        """Return the losses of all rows under a model, with the same random numbers for each model."""
        groups = (all_rows.subset(rows) for rows in (members, non_members))
        return torch.cat(
            [example_losses(model.network, retrainer.objective, rows, rng.fold_in("loss")) for rows in groups]
        )

    reporter.start("training shadow models")
    for k in range(shadows):
        shadow_rows = all_rows.subset(membership[k].nonzero()[:, 0])
        shadow = half_retrainer.train(
            shadow_rows,
            rng.fold_in("shadow", k).seed,
            on_progress=lambda fraction, k=k: reporter.progress(
                (k + fraction) / shadows, f"model {k + 1} of {shadows}"
            ),
        )
        shadow_losses.append(losses_under(shadow))
        reporter.progress((k + 1) / shadows, f"model {k + 1} of {shadows}")
    reporter.finish()
    losses = losses_under(it.model)
    attack_scores = {
        "shadow": lira_scores(torch.stack(shadow_losses), membership[:, indices], losses),
        "relative": relative_loss_scores(torch.stack(shadow_losses), losses),
    }
    metrics: dict[str, float | None] = {"shadows": float(shadows)}
    for attack_name, scores in attack_scores.items():
        metrics |= membership_scores(scores[: len(members)], scores[len(members) :], it.delta).with_prefix(attack_name)
    return AttackResults(metrics)


def _numbers(n: int, data: Dataset) -> Dataset:
    """Return a dataset of the n row indices 0 to n - 1, from which the attacks choose rows to train on."""
    return Dataset(torch.arange(n), {}, data.modality)


@dataclass(frozen=True, eq=False)
class RetrainingAttacks:
    """Set of requested attacks that retrain the model."""

    retrainer: Retrainer | None
    """Retrainer of the run; None if no attack is requested."""
    shadows: int | None
    canaries: int | None

    @staticmethod
    def make(target: AuditTarget, shadows: int | None, canaries: int | None) -> "RetrainingAttacks":
        """Validate the options of the requested attacks before an attack runs, and return the attacks."""
        if shadows is None and canaries is None:
            return RetrainingAttacks(None, None, None)
        retrainer = make_retrainer(target)
        check_number("shadows", shadows, ge=2, remedy="8 or 16 are usual")
        if canaries is not None:
            check_canaries(retrainer, target.train, target.held_out, canaries)
        return RetrainingAttacks(retrainer, shadows, canaries)

    def add_to(self, results: AttackResults, target: AuditTarget, rng: Rng, reporter: Reporter) -> AttackResults:
        """Run the attacks, and return `results` merged with the results of these attacks."""
        if self.retrainer is None:
            return results
        retrainer = self.retrainer
        if self.shadows:
            reporter.log(
                f"training {self.shadows} shadow models: about {format_duration(self.shadows * retrainer.seconds)}"
            )
            results = results.with_(
                shadow_model_attack(target, retrainer, self.shadows, rng.fold_in("shadows"), reporter)
            )
        if self.canaries:
            slowdown = training_slowdown(retrainer, self.canaries)
            reporter.log(f"retraining one model with canaries: about {format_duration(slowdown * retrainer.seconds)}")
            results = results.with_(canary_attack(target, retrainer, self.canaries, rng.fold_in("canaries"), reporter))
        return results


def flags(numbers: Mapping[str, Any]) -> list[str]:
    """Return the command-line flags that request the attacks whose metrics are in `numbers`."""
    counts = {name: numbers.get(name) for name in ("shadows", "canaries")}
    return [argument for name, count in counts.items() if count for argument in (f"--{name}", f"{count:.0f}")]


def candidates(numbers: Mapping[str, Any]) -> list[ReportTable]:
    """Return the report table on the reconstruction canaries of an audit, from its metrics `numbers`.

    In each reconstruction slot, an attacker guesses which of several candidate rows was in the training set. The table
    compares the accuracy of the guesses with the maximum that the guarantee allows. The list is empty if the audit had
    no reconstruction slots.
    """
    if numbers.get("candidates_right") is None:
        return []
    names = ("candidates_places", "candidates_right", "candidates_least", "candidates_bound", "candidates_blind")
    return [
        ReportTable(
            f"Which of {CANDIDATES} candidates was learned from",
            "In a retraining with canaries, each place held one of several candidate rows. An attacker who knows all"
            " other rows and sees each noisy gradient named the likeliest candidate. If the lower bound of the accuracy"
            " exceeds what the guarantee allows, the guarantee does not hold.",
            ("attacker", "places", "named right", "chance of that at least", "allowed at most", "blind guess"),
            [("knows all other rows", *(numbers[name] for name in names))],
        )
    ]
