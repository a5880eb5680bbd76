"""Attacks on a trained run: detection of copies, membership inference and attribute inference."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.app.modalities.registration import registration_of
from feller.app.reporter import Reporter
from feller.app.workflows.auditing.audit_target import AuditTarget
from feller.app.workflows.auditing.table_risks import table_risks
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.tables.histories import Histories
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table
from feller.evaluation.attacks.attack_scores import membership_scores
from feller.evaluation.attacks.attribute_inference import infer_columns
from feller.evaluation.attacks.coded_histories import coded_histories, coded_persons, persons_dataset
from feller.evaluation.attacks.copying import copy_scores
from feller.evaluation.attacks.example_distances import ExampleDistance
from feller.evaluation.attacks.membership import domias_scores, example_losses
from feller.evaluation.attacks.paired_audit import Scores, paired_audit
from feller.evaluation.attacks.structure_distances import PYMATGEN_MISSING
from feller.evaluation.comparison import subsample
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.evaluation.report.embedded_picture import ReportPicture
from feller.evaluation.report.leakage_plots import ColumnGuess
from feller.evaluation.report.report_page import ReportTable
from feller.models.model import Model
from feller.privacy.accounting.dp_events import DpEvent
from feller.privacy.leakage.rero import guess_probability, rero
from feller.training.engine import get_engine

MAX_ROWS = 5_000
"""Maximum number of members (training rows), and of non-members (held-out rows), in an attack."""
SAMPLES = 5_000
SAMPLING_TIME_FRACTION, LOSS_TIME_FRACTION = 0.5, 0.2
"""Fractions of the time budget of an audit: for drawing samples, and for the losses of members or of non-members."""
MIN_HELD_OUT = 50
"""Minimum number of held-out examples for membership inference."""


@dataclass(frozen=True, eq=False)
class AttackResults:
    """Results of attacks: metrics, tables and images."""

    numbers: Mapping[str, float | str | None]
    guesses: tuple[ColumnGuess, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes on attacks that were skipped or reduced, with the reasons."""
    grids: tuple[ReportTable, ...] = ()
    pictures: tuple[tuple[str, ReportPicture], ...] = ()

    def with_(self, more: "AttackResults") -> "AttackResults":
        """Return these results merged with those of other attacks."""
        return AttackResults(
            {**self.numbers, **more.numbers},
            (*self.guesses, *more.guesses),
            (*self.notes, *more.notes),
            (*self.grids, *more.grids),
            (*self.pictures, *more.pictures),
        )


def attack(target: AuditTarget, rng: Rng, effort: EvaluationBudget, reporter: Reporter) -> AttackResults:
    """Run the attacks that need no retraining: detection of copies, membership inference and attribute inference.

    A short time budget `effort` reduces the number of samples and of attacked rows.
    """
    model, train, held_out, expenses = target.model, target.train, target.held_out, target.expenses
    notes, metrics = list[str](), dict[str, float | str | None]()
    reporter.start("sampling")
    max_samples = min(SAMPLES, max(len(train), 2))
    n = effort.num_affordable(
        max_samples,
        SAMPLING_TIME_FRACTION,
        lambda count: model.sample_dataset(count, rng=rng.fold_in("samples")),
        get_engine(),
    )
    notes += [_skipped_note(target, f"{n:,} of {max_samples:,} samples")] * (n < max_samples)
    samples = model.sample_dataset(n, rng=rng.fold_in("samples"), on_progress=reporter.progress)
    reporter.finish()
    sample_rows, train_rows, held_out_rows = (as_table(dataset) for dataset in (samples, train, held_out))
    if (distance := registration_of(train_rows.modality).distance(train_rows.modality)) is None:
        notes.append(PYMATGEN_MISSING)
    else:
        reporter.start("searching for copies")
        metrics |= _copying(sample_rows, train_rows, held_out_rows, rng.fold_in("copies"), distance)
        reporter.finish()
    reporter.start(f"comparing risks of training and held-out {target.unit}s")
    risks, grids = table_risks(target, sample_rows, train_rows, held_out_rows, rng.fold_in("disclosure"))
    metrics |= risks
    reporter.finish()
    if len(held_out) < MIN_HELD_OUT:
        notes.append(_unmeasured_note(held_out))
        return AttackResults(metrics, notes=tuple(notes), grids=grids)
    members, non_members = _rows(target, rng, effort, notes)
    scores = _losses(target, members, non_members, rng, reporter, notes)
    table, histories = train_rows.modality.view(Table), train_rows.modality.view(Histories)
    if table is not None or histories is not None:
        scores |= _density(sample_rows, members, held_out_rows, rng.fold_in("density"))
    metrics |= _membership(target, scores, rng)
    if histories is not None:
        bounds = bounded_cells(persons_dataset(train_rows, histories), expenses)
        return AttackResults(metrics, bounds, tuple(notes), grids)
    if table is None:
        return AttackResults(metrics, notes=tuple(notes))
    if not model.family.has_row_likelihood:
        notes.append("attribute inference skipped, bounds only: this model has no row likelihood")
        return AttackResults(metrics, bounded_cells(train_rows, expenses), tuple(notes), grids)
    reporter.start("guessing cells")
    guesses = _guesses(model, table, members, non_members, expenses, rng.fold_in("guesses"))
    reporter.finish()
    return AttackResults(metrics, guesses, tuple(notes), grids)


def _unmeasured_note(held_out: Dataset) -> str:
    return (
        f"not measured: membership and the risks of single examples, which need {MIN_HELD_OUT} held-out examples;"
        f" {len(held_out):,} are held out. This says nothing about the safety of the model"
    )


def _membership(target: AuditTarget, scores: Scores, rng: Rng) -> dict[str, float | str | None]:
    """Return the metrics of membership attacks, and of the one-run audit that uses their scores."""
    metrics: dict[str, float | str | None] = {}
    for name, (members, others) in scores.items():
        metrics |= membership_scores(members, others, target.delta).with_prefix(name)
    epsilon = None if target.ledger is None else target.ledger.epsilon()
    return metrics | paired_audit(scores, epsilon, target.delta, rng.fold_in("pairs"))


def attack_regressor(target: AuditTarget, rng: Rng, effort: EvaluationBudget, reporter: Reporter) -> AttackResults:
    """Run membership inference by losses on a regressor; other attacks need samples, which it cannot generate."""
    held_out, guesses = target.held_out, bounded_cells(target.train, target.expenses)
    notes = ["this model is a regressor without samples, so copies are not measured"]
    if len(held_out) < MIN_HELD_OUT:
        notes.append(_unmeasured_note(held_out))
        return AttackResults({}, guesses, tuple(notes))
    members, non_members = _rows(target, rng, effort, notes)
    scores = _losses(target, members, non_members, rng, reporter, notes)
    return AttackResults(_membership(target, scores, rng), guesses, tuple(notes))


def _rows(target: AuditTarget, rng: Rng, effort: EvaluationBudget, notes: list[str]) -> tuple[Dataset, Dataset]:
    """Return members (training rows) and non-members (held-out rows) to attack, as many as the time limit allows.

    A note is added if these are not all rows.
    """
    datasets = {"members": target.train, "others": target.held_out}
    max_rows = min(MAX_ROWS, max(map(len, datasets.values())))

    def compute_losses(count: int) -> None:
        if target.objective is not None:
            example_losses(
                target.model.network,
                target.objective,
                subsample(target.train, count, rng.fold_in("pace")),
                rng.fold_in("pace"),
            )

    n = effort.num_affordable(max_rows, LOSS_TIME_FRACTION, compute_losses, get_engine())
    notes += [_skipped_note(target, f"{n:,} of {max_rows:,} {target.unit}s for membership attacks")] * (n < max_rows)
    members, non_members = (subsample(dataset, n, rng.fold_in(name)) for name, dataset in datasets.items())
    return members, non_members


def _skipped_note(target: AuditTarget, subset: str) -> str:
    return f"to save time: {subset}; for all of them, run: feller audit {target.run.path} --report full"


def _losses(
    target: AuditTarget, members: Dataset, non_members: Dataset, rng: Rng, reporter: Reporter, notes: list[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Run the membership attack by losses and return its scores of members and non-members.

    Without the training objective it is skipped with a note.
    """
    objective = target.objective
    if objective is None:
        notes.append("loss attack skipped: the loss of this model needs its teacher model")
        return {}
    reporter.start("loss attack on membership")
    member_losses, non_member_losses = (
        example_losses(target.model.network, objective, dataset, rng.fold_in("loss"))
        for dataset in (members, non_members)
    )
    reporter.finish()
    return {"loss": (-member_losses, -non_member_losses)}


def _copying(
    samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng, distance: ExampleDistance
) -> dict[str, float | None]:
    scores = copy_scores(samples, train, held_out, rng, distance)
    metrics: dict[str, float | None] = {
        "copies": scores.copies,
        "copies_held_out": scores.copies_held_out,
        "nearest_ratio": scores.nearest_ratio,
    }
    if scores.passages is not None:
        metrics |= {"passages": scores.passages, "passages_held_out": scores.passages_held_out}
    return metrics | ({} if scores.nearness is None else scores.nearness.with_prefix("nearness"))


def _density(samples: Dataset, members: Dataset, held_out: Dataset, rng: Rng) -> dict[str, tuple[Tensor, Tensor]]:
    """Run the DOMIAS attack on a table, which compares densities of samples and of reference rows; return its scores.

    Half of the held-out rows are the reference, the other half the non-members. Of histories, the rows are persons.
    """
    order = torch.randperm(len(held_out), generator=rng.stream("halves").shared_generator())
    half = len(held_out) // 2
    reference = held_out.subset(order[:half])
    non_members = subsample(held_out.subset(order[half:]), MAX_ROWS, rng.fold_in("others"))
    table, histories = samples.modality.view(Table), samples.modality.view(Histories)
    if histories is not None:
        counts = coded_histories(histories, samples, members, held_out).counts
        levels = [coded_persons(histories, data.values) for data in (samples, reference, members, non_members)]
    elif table is not None:
        counts = tuple(len(column.level_names) for column in table.schema.modelled)
        levels = [table.to_levels(as_table(data).values) for data in (samples, reference, members, non_members)]
    else:
        return {}
    synthetic, unseen, *attacked = levels
    member_scores, non_member_scores = (domias_scores(synthetic, unseen, rows, counts) for rows in attacked)
    return {"density": (member_scores, non_member_scores)}


def bounded_cells(rows: Dataset, expenses: tuple[DpEvent, ...]) -> tuple[ColumnGuess, ...]:
    """Return, for each table column, an upper bound on the probability of guessing a row's value in it with the model.

    Next to the bound is the probability of guessing it without the model, which is the frequency of the column's most
    frequent value. The result is empty for other modalities and without differential privacy.

    Args:
        rows: Rows of the table, whose value frequencies are the guesses without the model.
        expenses: DP events of the training.
    """
    table = rows.modality.view(Table)
    if not expenses or table is None:
        return ()
    with_frequencies = table.with_marginals_of(rows.values)
    bounds = (
        guess_probability(torch.tensor(frequencies, dtype=torch.float64), expenses)
        for frequencies in with_frequencies.marginals
    )
    return tuple(
        ColumnGuess(column.name, bound.prior, None, None, bound.posterior_bound)
        for column, bound in zip(with_frequencies.schema.modelled, bounds, strict=True)
    )


def _guesses(
    model: Model, table: Table, members: Dataset, non_members: Dataset, expenses: tuple[DpEvent, ...], rng: Rng
) -> tuple[ColumnGuess, ...]:
    """Guess each cell of attacked rows from the row's other cells; return the accuracies for each column.

    The bound on the accuracy for members assumes that without the model it equals that for held-out rows.
    """
    accuracies = infer_columns(model, members, non_members, table.counts, rng)
    with_frequencies = table if table.marginals else table.with_marginals_of(members.values)
    guesses = []
    for column, accuracy, frequencies in zip(
        table.schema.modelled, accuracies, with_frequencies.marginals, strict=True
    ):
        if accuracy is None:
            continue
        prior = max(frequencies)
        bound = rero(min(1.0, max(accuracy.others, prior)), expenses) if expenses else None
        guesses.append(ColumnGuess(column.name, prior, accuracy.others, accuracy.members, bound))
    return tuple(guesses)
