"""Assembly of the report page for the evaluation of samples."""

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
"""Maximum number of examples in a figure; key True: for points, key False: for other modalities."""


def sample_report(
    status: RunStatus,
    spec: ModelSpec,
    comparison: SampleComparison,
    numbers: dict[str, Any],
    notes: tuple[str, ...],
    sketch: str = "",
    grids: tuple[ReportTable, ...] = (),
) -> RunReport:
    """Return the report page of an evaluation of samples.

    For samples from a file it omits the loss curve and training settings.
    """
    run, record, training = status.run, status.record, status.training
    is_generated = comparison.samples is None
    registration = registration_of(comparison.generated.modality)
    tuning_record, conventions = read_tuning_record(run), read_import_conventions(run)
    if conventions is not None:
        description = f"{'compared with ' if record.data else ''}samples of the network of {record.provenance.recipe}"
    elif tuning_record is not None:
        description = f"fine-tuned on {' and '.join(tuning_record.rewards)}"
    else:
        description = f"fitted with the recipe {record.provenance.recipe}"
    title = ", ".join(filter(None, (record.data, description))) if is_generated else f"Samples in {comparison.samples}"
    sources = {"--samples": comparison.samples, "--data": comparison.data}
    command = evaluate_command(run, record, sources)
    in_memory = {"--samples": IN_HAND, "--data": IN_MEMORY}
    if any(sources[flag] == name for flag, name in in_memory.items()):  # in-memory data: only the Python API reaches it
        arguments = (f"{flag[2:]}=..." for flag, name in sources.items() if name is not None)
        command = f"feller.evaluate({str(run.path)!r}, {', '.join(arguments)})"
    if conventions is not None:
        full_command = command if conventions.saved else import_command(run, record, conventions)
    elif tuning_record is not None:
        full_command = tune_command(run, record, tuning_record, fine_tuning_of(read_recipe(run)), training)
    else:
        full_command = fit_command(run, record, training)
    metrics = (
        numbers
        if is_generated
        else {name: value for name, value in numbers.items() if name not in ("steps", "seconds")}
    )
    sketch = sketch if status.is_done else ""
    return RunReport(
        title=title if comparison.data is None else f"{title}, compared with {comparison.data}",
        command=command if any(sources.values()) else full_command,
        unfinished=status.incomplete_note if is_generated else "",
        sketch=sketch,
        compared=comparison.sentence
        if status.ledger or registration.figures is None
        else f"{comparison.sentence} {NOT_PRIVATE_NOTE}",
        numbers=metrics,
        guarantee=status.guarantee,
        expenses=status.expenses,
        caveat=status.caveat,
        notes=(*(record.provenance.notes if is_generated else ()), *notes),
        settings=status.recipe if is_generated else {},
        curve=status.curve if is_generated else None,
        pictures=_sample_figures(comparison)
        if registration.figures is None
        else registration.figures(comparison, numbers),
        grids=grids,
        next_steps=[
            *(suggest_commands(run, record, spec, comparison.train) if is_generated and comparison.has_train else ()),
            *(fill_templates("audit", run, record) if is_generated and record.is_private else ()),
            (command, "evaluate again"),
            *(status.continue_commands(tuning_record, sketch) if is_generated else ()),
        ],
    )


def _sample_figures(comparison: SampleComparison) -> list[tuple[str, Image.Image]]:
    has_held_out = len(comparison.held_out) > 0
    real = comparison.held_out if has_held_out else comparison.train
    is_points = isinstance(comparison.generated.values, Tensor) and comparison.generated.values.ndim == 2
    count = min(len(comparison.generated), len(real), MAX_SHOWN[is_points])
    real_caption = "Held-out real data" if comparison.data is None else f"Real data in {comparison.data}"
    captions = (
        "Samples" if comparison.samples is None else f"Samples in {comparison.samples}",
        real_caption if has_held_out or not comparison.has_train else "Real data, from the training set",
    )
    samples = evenly_spaced(comparison.generated, count)
    draw_pair = registration_of(comparison.generated.modality).beside
    figures = list(zip(captions, draw_pair(samples, evenly_spaced(real, count), None), strict=True))
    if comparison.base_samples is None:
        return figures
    before, _ = draw_pair(evenly_spaced(comparison.base_samples, count), samples, None)
    return [("Before fine-tuning, from the same source points", before), *figures]
