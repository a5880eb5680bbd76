"""Attacks on a run that is there: what they reach, whatever is promised."""

from dataclasses import dataclass

import torch

from feller.app.modalities.registration import registration_of
from feller.app.reporter import Tell
from feller.app.workflows.auditing.audit_target import Opened
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

MOST = 5_000
"""Members, and others, that are told apart."""
SAMPLES = 5_000
DRAWING, TELLING = 0.5, 0.2
"""Shares of the time that samples, and losses of one of both groups of rows, may take."""
LEAST = 50
"""Held-out examples below which nobody can be told from others."""


@dataclass(frozen=True, eq=False)
class Attacked:
    """What was tried, and what came of it."""

    numbers: dict[str, float | None]
    guesses: tuple[ColumnGuess, ...] = ()
    notes: tuple[str, ...] = ()
    """What was not tried, and why."""
    grids: tuple[ReportTable, ...] = ()
    pictures: tuple[tuple[str, ReportPicture], ...] = ()

    def with_(self, more: "Attacked") -> "Attacked":
        """Return the same with what came of other attacks."""
        return Attacked(
            self.numbers | more.numbers,
            (*self.guesses, *more.guesses),
            (*self.notes, *more.notes),
            (*self.grids, *more.grids),
            (*self.pictures, *more.pictures),
        )


def attack(it: Opened, draws: Rng, effort: EvaluationBudget, tell: Tell) -> Attacked:
    """Try what needs nothing but the model, its samples, and the data.

    Args:
        it: What is attacked.
        draws: Source of all randomness.
        effort: With little time fewer samples are drawn, and fewer rows told apart.
        tell: Hears how it goes.
    """
    model, train, held_out, expenses = it.model, it.train, it.held_out, it.expenses
    notes, numbers = list[str](), dict[str, float | None]()
    tell.task("sampling")
    usual = min(SAMPLES, max(len(train), 2))
    n = effort.num_affordable(
        usual, DRAWING, lambda few: model.sample_dataset(few, rng=draws.fold_in("samples")), get_engine()
    )
    notes += [_saved(it, f"{n:,} of {usual:,} samples")] * (n < usual)
    samples = model.sample_dataset(n, rng=draws.fold_in("samples"), on_progress=tell.progress)
    tell.done()
    made, seen, unseen = (as_table(data) for data in (samples, train, held_out))
    if (apart := registration_of(seen.modality).apart(seen.modality)) is None:
        notes.append(PYMATGEN_MISSING)
    else:
        tell.task("looking for copies")
        numbers |= _copying(made, seen, unseen, draws.fold_in("copies"), apart)
        tell.done()
    if len(held_out) < LEAST:
        notes.append(f"{len(held_out):,} examples are held out, fewer than {LEAST}: nobody can be told from others")
        return Attacked(numbers, notes=tuple(notes))
    members, others = _rows(it, draws, effort, notes)
    numbers |= _losses(it, members, others, draws, tell, notes)
    if (table := seen.modality.view(Table)) is None:
        return Attacked(numbers, notes=tuple(notes))
    numbers |= _density(made, members, unseen, it.delta, draws.fold_in("density"))
    if not model.family.has_row_likelihood:
        notes.append("cells are not guessed, but bounded: this model tells no chances of single rows")
        return Attacked(numbers, bounded_cells(seen, expenses), tuple(notes))
    tell.task("guessing cells")
    guesses = _guesses(model, table, members, others, expenses, draws.fold_in("guesses"))
    tell.done()
    return Attacked(numbers, guesses, tuple(notes))


def attack_told(it: Opened, draws: Rng, effort: EvaluationBudget, tell: Tell) -> Attacked:
    """Try what can be tried of a model that tells of data and draws none: its losses; as `attack`."""
    held_out, cells = it.held_out, bounded_cells(it.train, it.expenses)
    notes = ["this model tells of data and draws none, so that nothing is copied"]
    if len(held_out) < LEAST:
        notes.append(f"{len(held_out):,} examples are held out, fewer than {LEAST}: nobody can be told from others")
        return Attacked({}, cells, tuple(notes))
    members, others = _rows(it, draws, effort, notes)
    return Attacked(_losses(it, members, others, draws, tell, notes), cells, tuple(notes))


def _rows(it: Opened, draws: Rng, effort: EvaluationBudget, notes: list[str]) -> tuple[Dataset, Dataset]:
    """Return the rows that are told apart: those that were learned from, and others; notes hear if they are few."""
    both = {"members": it.train, "others": it.held_out}
    usual = min(MOST, max(map(len, both.values())))

    def lost(few: int) -> None:
        if it.objective is not None:
            example_losses(
                it.model.network, it.objective, subsample(it.train, few, draws.fold_in("pace")), draws.fold_in("pace")
            )

    n = effort.num_affordable(usual, TELLING, lost, get_engine())
    notes += [_saved(it, f"{n:,} of {usual:,} rows that are told apart")] * (n < usual)
    members, others = (subsample(data, n, draws.fold_in(name)) for name, data in both.items())
    return members, others


def _saved(it: Opened, what: str) -> str:
    return f"to save time: {what}; all of them with: feller audit {it.run.path} --report full"


def _losses(
    it: Opened, members: Dataset, others: Dataset, draws: Rng, tell: Tell, notes: list[str]
) -> dict[str, float | None]:
    """Tell members by losses; notes hear where that is not possible."""
    objective = it.objective
    if objective is None:
        notes.append(
            "the loss of this model needs the older model that it learned from, and is not used to tell members"
        )
        return {}
    tell.task("telling members by losses")
    seen, unseen = (
        example_losses(it.model.network, objective, data, draws.fold_in("loss")) for data in (members, others)
    )
    tell.done()
    return membership_scores(-seen, -unseen, it.delta).with_prefix("loss")


def _copying(
    made: Dataset, seen: Dataset, unseen: Dataset, draws: Rng, apart: ExampleDistance
) -> dict[str, float | None]:
    found = copy_scores(made, seen, unseen, draws, apart)
    numbers: dict[str, float | None] = {
        "copies": found.copies,
        "copies_held_out": found.copies_held_out,
        "nearest_ratio": found.nearest_ratio,
    }
    if found.passages is not None:
        numbers |= {"passages": found.passages, "passages_held_out": found.passages_held_out}
    return numbers | ({} if found.nearness is None else found.nearness.with_prefix("nearness"))


def _density(made: Dataset, members: Dataset, unseen: Dataset, delta: float, draws: Rng) -> dict[str, float | None]:
    """Compare densities of synthetic rows with those of one half of the unseen rows, and judge by the other half."""
    if (kind := made.modality.view(Table)) is None:
        return {}
    order = torch.randperm(len(unseen), generator=draws.stream("halves").shared_generator())
    half = len(unseen) // 2
    synthetic, reference = (kind.to_levels(data.values) for data in (made, unseen.subset(order[:half])))
    rooms = tuple(len(column.level_names) for column in kind.schema.modelled)
    others = subsample(unseen.subset(order[half:]), MOST, draws.fold_in("others"))
    seen, rest = (
        domias_scores(synthetic, reference, kind.to_levels(as_table(data).values), rooms) for data in (members, others)
    )
    return membership_scores(seen, rest, delta).with_prefix("density")


def bounded_cells(rows: Dataset, expenses: tuple[DpEvent, ...]) -> tuple[ColumnGuess, ...]:
    """Say for each column of a table how often a cell is guessed right, at most, by who would name the commonest."""
    table = rows.modality.view(Table)
    if not expenses or table is None:
        return ()
    known = table.with_marginals_of(rows.values)
    found = (guess_probability(torch.tensor(share, dtype=torch.float64), expenses) for share in known.marginals)
    return tuple(
        ColumnGuess(column.name, one.prior, None, None, one.posterior_bound)
        for column, one in zip(known.schema.modelled, found, strict=True)
    )


def _guesses(
    model: Model, kind: Table, members: Dataset, others: Dataset, expenses: tuple[DpEvent, ...], draws: Rng
) -> tuple[ColumnGuess, ...]:
    """Guess each column, and say what bounds that: whoever would be right with a chance without one row."""
    found = infer_columns(model, members, others, kind.counts, draws)
    known = kind if kind.marginals else kind.with_marginals_of(members.values)
    guesses = []
    for column, one, share in zip(kind.schema.modelled, found, known.marginals, strict=True):
        if one is None:
            continue
        likely = max(share)
        bound = rero(min(1.0, max(one.others, likely)), expenses) if expenses else None
        guesses.append(ColumnGuess(column.name, likely, one.others, one.members, bound))
    return tuple(guesses)
