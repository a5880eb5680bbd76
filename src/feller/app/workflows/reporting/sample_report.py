"""Findings of an evaluation for its report."""

from typing import Any

from PIL import Image
from torch import Tensor

from feller.app.modalities.registration import registration_of
from feller.app.workflows.fine_tuned_run import recipe_of, rule_of, tuned_of
from feller.app.workflows.next_steps import evaluating, fitting, onward, steps, tuning
from feller.app.workflows.reporting.comparison import IN_HAND, IN_MEMORY, Judged, from_all_over
from feller.app.workflows.run_config import bringing, brought_of
from feller.app.workflows.run_status import Standing
from feller.evaluation.report.report_page import ReportTable, RunReport
from feller.models.spec import ModelSpec

UNPROTECTED = "No privacy guarantee: without --epsilon, samples and model may reveal rows of the table."
"""What is said first of tables, in which people may stand."""
MOST_SHOWN = {False: 100, True: 5000}
"""Pictures, and points."""


def sample_report(
    stands: Standing,
    about: ModelSpec,
    judged: Judged,
    numbers: dict[str, Any],
    notes: tuple[str, ...],
    sketch: str = "",
    grids: tuple[ReportTable, ...] = (),
) -> RunReport:
    """Put together what the page shows; samples that no run drew here have neither training nor settings."""
    run, asked, training = stands.run, stands.asked, stands.training
    own = judged.samples is None
    kind_of = registration_of(judged.generated.modality)
    tuned, said = tuned_of(run), brought_of(run)
    if said is not None:
        kind = f"{'beside ' if asked.data else ''}samples of the network of {asked.provenance.recipe}"
    elif tuned is not None:
        kind = f"tuned to {' and '.join(tuned.rewards)}"
    else:
        kind = f"fitted with the recipe {asked.provenance.recipe}"
    title = ", ".join(filter(None, (asked.data, kind))) if own else f"Samples in {judged.samples}"
    named = {"--samples": judged.samples, "--data": judged.data}
    measured = evaluating(run, asked, named)
    in_memory = {"--samples": IN_HAND, "--data": IN_MEMORY}
    if any(named[flag] == name for flag, name in in_memory.items()):  # which no command can name
        words = (f"{flag[2:]}=..." for flag, name in named.items() if name is not None)
        measured = f"feller.evaluate({str(run.path)!r}, {', '.join(words)})"
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
        compared=judged.sentence if stands.ledger or kind_of.figures is None else f"{judged.sentence} {UNPROTECTED}",
        numbers=shown,
        guarantee=stands.guarantee,
        expenses=stands.expenses,
        caveat=stands.caveat,
        notes=(*(asked.provenance.notes if own else ()), *notes),
        settings=stands.recipe if own else {},
        curve=stands.curve if own else None,
        pictures=_pictures(judged) if kind_of.figures is None else kind_of.figures(judged, numbers),
        grids=grids,
        next_steps=[
            *(onward(run, asked, about, judged.train) if own and judged.has_train else ()),
            *(steps("audit", run, asked) if own and asked.is_private else ()),
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
        theirs if unseen or not judged.has_train else "Real data, from the training set",
    )
    some, beside = from_all_over(judged.generated, number), registration_of(judged.generated.modality).beside
    shown = list(zip(captions, beside(some, from_all_over(real, number), None), strict=True))
    if judged.before is None:
        return shown
    first, _ = beside(from_all_over(judged.before, number), some, None)
    return [("Before tuning, from the same source points", first), *shown]
