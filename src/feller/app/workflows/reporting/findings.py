"""What an evaluation found, put together for its page."""

from typing import Any

from PIL import Image
from torch import Tensor

from feller.app.workflows.brought import bringing, brought_of
from feller.app.workflows.fine_tuned_run import recipe_of, rule_of, tuned_of
from feller.app.workflows.next_steps import auditing, evaluating, fitting, onward, tuning
from feller.app.workflows.private import guarantee_text
from feller.app.workflows.reporting.beside import tables_beside
from feller.app.workflows.reporting.comparison import Judged
from feller.app.workflows.reporting.side_by_side import from_all_over, side_by_side
from feller.app.workflows.standing import Standing
from feller.data.tables.modality import Table
from feller.evaluation import fine_tuning
from feller.evaluation.quality import EXPLAIN
from feller.evaluation.report.grid import Grid
from feller.evaluation.report.page import Findings
from feller.evaluation.tables import as_written, cells, spread
from feller.models.spec import Description

INSIDE = "Share of the samples that lie where the data can be; 1 is best. Only for sets that know where that is."
UNPROTECTED = (
    "Nothing is guaranteed about single rows: no --epsilon was asked for, so that samples and model may show rows of"
    " the table."
)
"""What is said first of tables, in which people may stand."""
MOST_SHOWN = {False: 100, True: 5000}
"""Pictures, and points."""


def findings(
    stands: Standing,
    about: Description,
    judged: Judged,
    numbers: dict[str, Any],
    notes: tuple[str, ...],
    sketch: str = "",
    grids: tuple[Grid, ...] = (),
) -> Findings:
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
        whole = bringing(run, asked, said)
    elif tuned is not None:
        whole = tuning(run, asked, tuned, rule_of(recipe_of(run)), training)
    else:
        whole = fitting(run, asked, training)
    shown = numbers if own else {name: value for name, value in numbers.items() if name not in ("steps", "seconds")}
    sketch = sketch if stands.is_done else ""
    return Findings(
        title=title if judged.data is None else f"{title}, beside {judged.data}",
        command=measured if any(named.values()) else whole,
        unfinished=stands.unfinished if own else "",
        sketch=sketch,
        judged=judged.sentence if stands.ledger or not is_table else f"{judged.sentence} {UNPROTECTED}",
        described=asked.schema is not None,
        numbers=shown,
        explanations={
            **fine_tuning.EXPLAIN,
            **EXPLAIN,
            **cells.EXPLAIN,
            **as_written.EXPLAIN_COPIES,
            **spread.EXPLAIN_NUMBERS,
            **guarantee_text.EXPLAIN,
            "inside": INSIDE,
        },
        missing=judged.missing(shown),
        promise=stands.promise,
        spent=stands.spent,
        beware=stands.beware,
        notes=(*(asked.notes if own else ()), *notes, *cells.told_lost(numbers)),
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
