"""Findings of an evaluation for its report, with figures of tables."""

import pathlib
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from feller.app.workflows.fine_tuned_run import recipe_of, rule_of, tuned_of
from feller.app.workflows.next_steps import auditing, evaluating, fitting, onward, tuning
from feller.app.workflows.private.table_schema import TABLES
from feller.app.workflows.reporting.comparison import Judged, from_all_over, side_by_side
from feller.app.workflows.run_config import bringing, brought_of
from feller.app.workflows.run_status import Standing
from feller.data.loading.find import table_cells
from feller.data.loading.raw import FoundTable
from feller.data.tables.dates import Datetime
from feller.data.tables.modality import Table
from feller.data.tables.numerical import Numerical
from feller.evaluation.number_format import is_number, percent
from feller.evaluation.report.page import Grid, RunReport
from feller.evaluation.report.table_figures import (
    Labelled,
    audit_picture,
    columns_beside,
    numbers_grid,
    pairs_map,
    worth_picture,
)
from feller.evaluation.tables.cells import cells_lost, numbers_beside, written_share
from feller.evaluation.tables.marginal_distance import pair_errors
from feller.evaluation.tables.quality import Numbers
from feller.models.spec import Description


def tables_beside(judged: Judged, numbers: dict[str, Any]) -> list[tuple[str, Image.Image]]:
    """Draw each column, how far each pair of columns is off, what the table is worth, and what it gives away.

    Columns and pairs stand beside the training table, as `tv1`, `tv2` and the worst ones that the page names do.
    """
    kind = judged.generated.modality
    if not isinstance(kind, Table):
        return []
    made, true = kind.coarse(judged.generated.values), kind.coarse(judged.train.values)
    columns = [
        Labelled(column.name, column.coarse_names, isinstance(column, Numerical | Datetime))
        for column in kind.schema.modelled
    ]
    pictures = columns_beside(made.numpy(), true.numpy(), columns)
    parts = [f", part {k}" if len(pictures) > 1 else "" for k in range(1, len(pictures) + 1)]
    beside = f"beside the {len(true):,} training rows"
    shown = [
        (f"Columns{part}, {beside}{_floor('tv1', numbers)}", one) for part, one in zip(parts, pictures, strict=True)
    ]
    if len(columns) > 1:
        errors = np.asarray(pair_errors(made, true))
        caption = f"How far each pair of columns is off, {beside}{_floor('tv2', numbers)}"
        shown.append((caption, pairs_map(errors, [one.name for one in columns])))
    marks = (("What the table is worth", worth_picture(numbers)), ("What it gives away", audit_picture(numbers)))
    return [*shown, *((caption, one) for caption, one in marks if one is not None)]


def _floor(name: str, numbers: dict[str, Any]) -> str:
    """Say how far real rows are off by chance, on average over all that a picture shows."""
    floor = numbers.get(f"{name}_floor")
    return f"; real rows drawn again are {percent(floor)} off on average" if is_number(floor) else ""


UNPROTECTED = "No privacy guarantee: without --epsilon, samples and model may reveal rows of the table."
"""What is said first of tables, in which people may stand."""
MOST_SHOWN = {False: 100, True: 5000}
"""Pictures, and points."""


def sample_report(
    stands: Standing,
    about: Description,
    judged: Judged,
    numbers: dict[str, Any],
    notes: tuple[str, ...],
    sketch: str = "",
    grids: tuple[Grid, ...] = (),
) -> RunReport:
    """Put together what the page shows; samples that no run drew here have neither training nor settings."""
    run, asked, training = stands.run, stands.asked, stands.training
    own = judged.samples is None
    is_table = isinstance(judged.generated.modality, Table)
    tuned, said = tuned_of(run), brought_of(run)
    kind = f"fitted with the recipe {asked.recipe}" if tuned is None else f"tuned to {' and '.join(tuned.rewards)}"
    kind = kind if said is None else f"beside samples of the network of {asked.recipe}"
    title = f"{asked.data}, {kind}" if own else f"Samples in {judged.samples}"
    named = {"--samples": judged.samples, "--data": judged.data}
    measured = evaluating(run, asked, named)
    if said is not None:
        whole = measured if said.saved else bringing(run, asked, said)
    elif tuned is not None:
        whole = tuning(run, asked, tuned, rule_of(recipe_of(run)), training)
    else:
        whole = fitting(run, asked, training)
    shown = numbers if own else {name: value for name, value in numbers.items() if name not in ("steps", "seconds")}
    sketch = sketch if stands.is_done else ""
    return RunReport(
        title=title if judged.data is None else f"{title}, beside {judged.data}",
        command=measured if any(named.values()) else whole,
        unfinished=stands.unfinished if own else "",
        sketch=sketch,
        compared=judged.sentence if stands.ledger or not is_table else f"{judged.sentence} {UNPROTECTED}",
        numbers=shown,
        guarantee=stands.guarantee,
        expenses=stands.expenses,
        caveat=stands.caveat,
        notes=(*(asked.notes if own else ()), *notes),
        settings=stands.recipe if own else {},
        curve=stands.curve if own else None,
        pictures=tables_beside(judged, numbers) if is_table else _pictures(judged),
        grids=grids,
        next_steps=[
            *((*onward(run, asked, about, judged.train), *auditing(run, asked)) if own else ()),
            (measured, "measure again"),
            *(stands.again(tuned, sketch) if own else ()),
        ],
    )


def _pictures(judged: Judged) -> list[tuple[str, Image.Image]]:
    """Show samples and real data, and say which these are."""
    unseen = len(judged.held_out) > 0
    real = judged.held_out if unseen else judged.train
    is_points = isinstance(judged.generated.values, Tensor) and judged.generated.values.ndim == 2
    number = min(len(judged.generated), len(real), MOST_SHOWN[is_points])
    theirs = "Real data that training did not see" if judged.data is None else f"Real data in {judged.data}"
    captions = (
        "Samples" if judged.samples is None else f"Samples in {judged.samples}",
        theirs if unseen else "Real data, from the training set",
    )
    some = from_all_over(judged.generated, number)
    shown = list(zip(captions, side_by_side(some, from_all_over(real, number)), strict=True))
    if judged.before is None:
        return shown
    first, _ = side_by_side(from_all_over(judged.before, number), some)
    return [("Before tuning, from the same source points", first), *shown]


def cell_metrics(judged: Judged, data: str, cells: FoundTable | None = None) -> tuple[Numbers, tuple[Grid, ...]]:
    """Measure rows that stand in the table as they are written, what reading lost, and where numbers lie.

    Nothing is measured of other data.

    The numbers are of real rows, without noise: like the rest of a report they are for whoever owns the rows.

    Args:
        judged: What is compared.
        data: What the run was fitted to.
        cells: Its cells, where they were read.

    Returns:
        Numbers by their names, and means and quantiles of the columns of numbers, if there are any.
    """
    kind = judged.generated.modality
    if not isinstance(kind, Table):
        return {}, ()
    learned = cells or _cells(data)
    real = _cells(judged.data) if judged.data else learned
    lost = cells_lost(judged.generated.values, real, kind.schema) if kind.schema.outside == "clip" else {}
    made = _cells(judged.samples) if judged.samples else kind.cells(judged.generated.values)
    if learned is None or made is None:
        return lost, ()
    columns = numbers_beside(made, learned, kind.schema)
    off = ", ".join(column.name for column in columns if column.is_far_off)
    numbers = {"copies_written": written_share(made, learned, kind.schema), **lost}
    return numbers | ({"numbers_off": off} if off else {}), (numbers_grid(columns),) if columns else ()


def _cells(place: str) -> FoundTable | None:
    """Return the cells of a file; None where it holds no such table, or is gone."""
    path = pathlib.Path(place)
    return table_cells(path) if path.suffix.lower() in TABLES and path.is_file() else None
