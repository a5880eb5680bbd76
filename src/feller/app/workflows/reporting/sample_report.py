"""Report page for the evaluation of samples."""

from typing import Any

from PIL import Image
from torch import Tensor

from feller.app.modalities.registration import registration_of
from feller.app.workflows.fine_tuned_run import fine_tuning_of, read_recipe, read_tuning_record
from feller.app.workflows.next_steps import (
    evaluate_command,
    fill_templates,
    fit_command,
    suggest_commands,
    tune_command,
)
from feller.app.workflows.reporting.comparison import IN_HAND, IN_MEMORY, SampleComparison, evenly_spaced
from feller.app.workflows.run_config import import_command, read_import_conventions
from feller.app.workflows.run_status import RunStatus
from feller.evaluation.report.report_page import ReportTable, RunReport
from feller.models.spec import ModelSpec

NOT_PRIVATE_NOTE = "No privacy guarantee: without --epsilon, samples and model may reveal rows of the table."
"""Note at the top of reports on tables without differential privacy, because the rows may be personal data."""
MAX_SHOWN = {False: 100, True: 5000}
"""Maximum number of examples in a figure, for points (key True) and for other modalities (key False)."""


def sample_report(
    status: RunStatus,
    spec: ModelSpec,
    comparison: SampleComparison,
    numbers: dict[str, Any],
    notes: tuple[str, ...],
    sketch: str = "",
    grids: tuple[ReportTable, ...] = (),
) -> RunReport:
    """Return the report page of an evaluation.

    For samples from a file it omits the loss curve and training settings.
    """
    run, record, training = status.run, status.record, status.training
    own = comparison.samples is None
    kind_of = registration_of(comparison.generated.modality)
    tuning_record, conventions = read_tuning_record(run), read_import_conventions(run)
    if conventions is not None:
        kind = f"{'compared with ' if record.data else ''}samples of the network of {record.provenance.recipe}"
    elif tuning_record is not None:
        kind = f"fine-tuned on {' and '.join(tuning_record.rewards)}"
    else:
        kind = f"fitted with the recipe {record.provenance.recipe}"
    title = ", ".join(filter(None, (record.data, kind))) if own else f"Samples in {comparison.samples}"
    named = {"--samples": comparison.samples, "--data": comparison.data}
    measured = evaluate_command(run, record, named)
    in_memory = {"--samples": IN_HAND, "--data": IN_MEMORY}
    if any(named[flag] == name for flag, name in in_memory.items()):  # in-memory data: only the Python API reaches it
        words = (f"{flag[2:]}=..." for flag, name in named.items() if name is not None)
        measured = f"feller.evaluate({str(run.path)!r}, {', '.join(words)})"
    if conventions is not None:
        whole = measured if conventions.saved else import_command(run, record, conventions)
    elif tuning_record is not None:
        whole = tune_command(run, record, tuning_record, fine_tuning_of(read_recipe(run)), training)
    else:
        whole = fit_command(run, record, training)
    shown = numbers if own else {name: value for name, value in numbers.items() if name not in ("steps", "seconds")}
    sketch = sketch if status.is_done else ""
    return RunReport(
        title=title if comparison.data is None else f"{title}, compared with {comparison.data}",
        command=measured if any(named.values()) else whole,
        unfinished=status.incomplete_note if own else "",
        sketch=sketch,
        compared=comparison.sentence
        if status.ledger or kind_of.figures is None
        else f"{comparison.sentence} {NOT_PRIVATE_NOTE}",
        numbers=shown,
        guarantee=status.guarantee,
        expenses=status.expenses,
        caveat=status.caveat,
        notes=(*(record.provenance.notes if own else ()), *notes),
        settings=status.recipe if own else {},
        curve=status.curve if own else None,
        pictures=_sample_figures(comparison) if kind_of.figures is None else kind_of.figures(comparison, numbers),
        grids=grids,
        next_steps=[
            *(suggest_commands(run, record, spec, comparison.train) if own and comparison.has_train else ()),
            *(fill_templates("audit", run, record) if own and record.is_private else ()),
            (measured, "evaluate again"),
            *(status.continue_commands(tuning_record, sketch) if own else ()),
        ],
    )


def _sample_figures(comparison: SampleComparison) -> list[tuple[str, Image.Image]]:
    has_held_out = len(comparison.held_out) > 0
    real = comparison.held_out if has_held_out else comparison.train
    is_points = isinstance(comparison.generated.values, Tensor) and comparison.generated.values.ndim == 2
    number = min(len(comparison.generated), len(real), MAX_SHOWN[is_points])
    theirs = "Held-out real data" if comparison.data is None else f"Real data in {comparison.data}"
    captions = (
        "Samples" if comparison.samples is None else f"Samples in {comparison.samples}",
        theirs if has_held_out or not comparison.has_train else "Real data, from the training set",
    )
    some, draw_pair = evenly_spaced(comparison.generated, number), registration_of(comparison.generated.modality).beside
    shown = list(zip(captions, draw_pair(some, evenly_spaced(real, number), None), strict=True))
    if comparison.base_samples is None:
        return shown
    first, _ = draw_pair(evenly_spaced(comparison.base_samples, number), some, None)
    return [("Before fine-tuning, from the same source points", first), *shown]
