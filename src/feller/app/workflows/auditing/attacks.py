"""Attacks on a run that is there: what they reach, whatever is promised."""

from dataclasses import dataclass

import torch

from feller.app.modalities.registration import registration_of
from feller.app.reporter import Reporter
from feller.app.workflows.auditing.audit_target import AuditTarget
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table
from feller.evaluation.attacks.attack_scores import membership_scores
from feller.evaluation.attacks.attribute_inference import infer_columns
from feller.evaluation.attacks.copying import copy_scores
from feller.evaluation.attacks.example_distances import ExampleDistance
from feller.evaluation.attacks.membership import domias_scores, example_losses
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
"""Members, and others, that are told apart."""
SAMPLES = 5_000
SAMPLING_TIME_FRACTION, LOSS_TIME_FRACTION = 0.5, 0.2
"""Shares of the time that samples, and losses of one of both groups of rows, may take."""
MIN_HELD_OUT = 50
"""Held-out examples below which nobody can be told from others."""


@dataclass(frozen=True, eq=False)
class AttackResults:
    """What was tried, and what came of it."""

    numbers: dict[str, float | None]
    guesses: tuple[ColumnGuess, ...] = ()
    notes: tuple[str, ...] = ()
    """What was not tried, and why."""
    grids: tuple[ReportTable, ...] = ()
    pictures: tuple[tuple[str, ReportPicture], ...] = ()

    def with_(self, more: "AttackResults") -> "AttackResults":
        """Return the same with what came of other attacks."""
        return AttackResults(
            self.numbers | more.numbers,
            (*self.guesses, *more.guesses),
            (*self.notes, *more.notes),
            (*self.grids, *more.grids),
            (*self.pictures, *more.pictures),
        )


def attack(target: AuditTarget, rng: Rng, effort: EvaluationBudget, reporter: Reporter) -> AttackResults:
    """Try what needs nothing but the model, its samples, and the data.

    Args:
        target: What is attacked.
        rng: Source of all randomness.
        effort: With little time fewer samples are drawn, and fewer rows told apart.
        reporter: Hears how it goes.
    """
    model, train, held_out, expenses = target.model, target.train, target.held_out, target.expenses
    notes, numbers = list[str](), dict[str, float | None]()
    reporter.start("sampling")
    usual = min(SAMPLES, max(len(train), 2))
    n = effort.num_affordable(
        usual, SAMPLING_TIME_FRACTION, lambda few: model.sample_dataset(few, rng=rng.fold_in("samples")), get_engine()
    )
    notes += [_skipped_note(target, f"{n:,} of {usual:,} samples")] * (n < usual)
    samples = model.sample_dataset(n, rng=rng.fold_in("samples"), on_progress=reporter.progress)
    reporter.finish()
    made, train_rows, held_out_rows = (as_table(data) for data in (samples, train, held_out))
    if (apart := registration_of(train_rows.modality).distance(train_rows.modality)) is None:
        notes.append(PYMATGEN_MISSING)
    else:
        reporter.start("looking for copies")
        numbers |= _copying(made, train_rows, held_out_rows, rng.fold_in("copies"), apart)
        reporter.finish()
    if len(held_out) < MIN_HELD_OUT:
        notes.append(
            f"{len(held_out):,} examples are held out, fewer than {MIN_HELD_OUT}: nobody can be told from others"
        )
        return AttackResults(numbers, notes=tuple(notes))
    members, others = _rows(target, rng, effort, notes)
    numbers |= _losses(target, members, others, rng, reporter, notes)
    if (table := train_rows.modality.view(Table)) is None:
        return AttackResults(numbers, notes=tuple(notes))
    numbers |= _density(made, members, held_out_rows, target.delta, rng.fold_in("density"))
    if not model.family.has_row_likelihood:
        notes.append("cells are not guessed, but bounded: this model tells no chances of single rows")
        return AttackResults(numbers, bounded_cells(train_rows, expenses), tuple(notes))
    reporter.start("guessing cells")
    guesses = _guesses(model, table, members, others, expenses, rng.fold_in("guesses"))
    reporter.finish()
    return AttackResults(numbers, guesses, tuple(notes))


def attack_regressor(target: AuditTarget, rng: Rng, effort: EvaluationBudget, reporter: Reporter) -> AttackResults:
    """Try what can be tried of a model that tells of data and draws none: its losses; as `attack`."""
    held_out, cells = target.held_out, bounded_cells(target.train, target.expenses)
    notes = ["this model tells of data and draws none, so that nothing is copied"]
    if len(held_out) < MIN_HELD_OUT:
        notes.append(
            f"{len(held_out):,} examples are held out, fewer than {MIN_HELD_OUT}: nobody can be told from others"
        )
        return AttackResults({}, cells, tuple(notes))
    members, others = _rows(target, rng, effort, notes)
    return AttackResults(_losses(target, members, others, rng, reporter, notes), cells, tuple(notes))


def _rows(target: AuditTarget, rng: Rng, effort: EvaluationBudget, notes: list[str]) -> tuple[Dataset, Dataset]:
    """Return the rows that are told apart: those that were learned from, and others; notes hear if they are few."""
    both = {"members": target.train, "others": target.held_out}
    usual = min(MAX_ROWS, max(map(len, both.values())))

    def lost(few: int) -> None:
        if target.objective is not None:
            example_losses(
                target.model.network,
                target.objective,
                subsample(target.train, few, rng.fold_in("pace")),
                rng.fold_in("pace"),
            )

    n = effort.num_affordable(usual, LOSS_TIME_FRACTION, lost, get_engine())
    notes += [_skipped_note(target, f"{n:,} of {usual:,} rows that are told apart")] * (n < usual)
    members, others = (subsample(data, n, rng.fold_in(name)) for name, data in both.items())
    return members, others


def _skipped_note(target: AuditTarget, what: str) -> str:
    return f"to save time: {what}; all of them with: feller audit {target.run.path} --report full"


def _losses(
    target: AuditTarget, members: Dataset, others: Dataset, rng: Rng, reporter: Reporter, notes: list[str]
) -> dict[str, float | None]:
    """Tell members by losses; notes hear where that is not possible."""
    objective = target.objective
    if objective is None:
        notes.append(
            "the loss of this model needs the older model that it learned from, and is not used to tell members"
        )
        return {}
    reporter.start("telling members by losses")
    member_losses, other_losses = (
        example_losses(target.model.network, objective, data, rng.fold_in("loss")) for data in (members, others)
    )
    reporter.finish()
    return membership_scores(-member_losses, -other_losses, target.delta).with_prefix("loss")


def _copying(
    made: Dataset, train: Dataset, held_out: Dataset, rng: Rng, apart: ExampleDistance
) -> dict[str, float | None]:
    copies = copy_scores(made, train, held_out, rng, apart)
    numbers: dict[str, float | None] = {
        "copies": copies.copies,
        "copies_held_out": copies.copies_held_out,
        "nearest_ratio": copies.nearest_ratio,
    }
    if copies.passages is not None:
        numbers |= {"passages": copies.passages, "passages_held_out": copies.passages_held_out}
    return numbers | ({} if copies.nearness is None else copies.nearness.with_prefix("nearness"))


def _density(made: Dataset, members: Dataset, held_out: Dataset, delta: float, rng: Rng) -> dict[str, float | None]:
    """Compare densities of synthetic rows with those of one half of the unseen rows, and judge by the other half."""
    if (kind := made.modality.view(Table)) is None:
        return {}
    order = torch.randperm(len(held_out), generator=rng.stream("halves").shared_generator())
    half = len(held_out) // 2
    synthetic, reference = (kind.to_levels(data.values) for data in (made, held_out.subset(order[:half])))
    rooms = tuple(len(column.level_names) for column in kind.schema.modelled)
    others = subsample(held_out.subset(order[half:]), MAX_ROWS, rng.fold_in("others"))
    member_scores, rest = (
        domias_scores(synthetic, reference, kind.to_levels(as_table(data).values), rooms) for data in (members, others)
    )
    return membership_scores(member_scores, rest, delta).with_prefix("density")


def bounded_cells(rows: Dataset, expenses: tuple[DpEvent, ...]) -> tuple[ColumnGuess, ...]:
    """Say for each column of a table how often a cell is guessed right, at most, by who would name the commonest."""
    table = rows.modality.view(Table)
    if not expenses or table is None:
        return ()
    with_frequencies = table.with_marginals_of(rows.values)
    bounds = (
        guess_probability(torch.tensor(share, dtype=torch.float64), expenses) for share in with_frequencies.marginals
    )
    return tuple(
        ColumnGuess(column.name, one.prior, None, None, one.posterior_bound)
        for column, one in zip(with_frequencies.schema.modelled, bounds, strict=True)
    )


def _guesses(
    model: Model, kind: Table, members: Dataset, others: Dataset, expenses: tuple[DpEvent, ...], rng: Rng
) -> tuple[ColumnGuess, ...]:
    """Guess each column, and say what bounds that: whoever would be right with a chance without one row."""
    accuracies = infer_columns(model, members, others, kind.counts, rng)
    with_frequencies = kind if kind.marginals else kind.with_marginals_of(members.values)
    guesses = []
    for column, one, frequencies in zip(kind.schema.modelled, accuracies, with_frequencies.marginals, strict=True):
        if one is None:
            continue
        likely = max(frequencies)
        bound = rero(min(1.0, max(one.others, likely)), expenses) if expenses else None
        guesses.append(ColumnGuess(column.name, likely, one.others, one.members, bound))
    return tuple(guesses)
