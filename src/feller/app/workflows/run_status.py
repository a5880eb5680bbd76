"""Reading of the status of a run: completed steps, undertraining, interruption, privacy spent, and report metrics."""

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feller.app.modalities.registration import find_recipe
from feller.app.workflows.bridges.bridge_detection import is_bridge
from feller.app.workflows.fine_tuned_run import TuningRecord, needs_rewards, read_tuning_record
from feller.app.workflows.fitting.closed_form import is_closed_form
from feller.app.workflows.next_steps import CONTINUE_PREFIX, continue_command
from feller.app.workflows.private import guarantee_text
from feller.app.workflows.private.budget import earlier_lines, ledger_of, steps_in
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.run_config import FitRecord, read_fit_record, read_import_conventions, read_train_config
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.core.serialization import read_json
from feller.data.modality import Dataset, Modality
from feller.evaluation.number_format import format_percent
from feller.evaluation.report.loss_curve import Curve
from feller.evaluation.report.verdict import target_progress
from feller.models.recipes.fine_tuning_methods import DEFAULT_TRAINING
from feller.models.recipes.registry import FLOW_MAPS, SECOND_STAGES
from feller.models.spec import load_spec
from feller.privacy.accounting.ledger import Ledger
from feller.training.callbacks import read_metrics
from feller.training.checkpoint import STOPPED_KEY, read_counters
from feller.training.optimizer import TrainConfig


@dataclass(frozen=True)
class ReportSummary:
    """Summary of a run's report: the entries of report.json that other commands use, with validated types."""

    numbers: Mapping[str, float | int | str | None] = field(default_factory=dict)
    """Metrics by name, as in the output of --json."""
    explanations: Mapping[str, str] = field(default_factory=dict)
    """One-sentence explanation of each metric, by metric name."""
    verdict: str = ""
    sketch: str = ""
    cautions: tuple[str, ...] = ()
    """Limitations that the metrics do not show."""


def read_report_summary(run: Run) -> ReportSummary:
    """Return the summary of a run's report; empty if the report is missing or is a symbolic link.

    Raises:
        InputError: If the report is damaged.
    """
    file = run.path / "report.json"
    if not file.is_file() or file.is_symlink():
        return ReportSummary()
    remedy = f"Rewrite it with: feller evaluate {run.path}"
    content = read_json(file, remedy)
    if not _is_report(content):
        raise InputError("is damaged", remedy=remedy, file=file)
    entries = {name: content[name] for name in vars(ReportSummary()) if name in content}
    return ReportSummary(**entries | {"cautions": tuple(entries.get("cautions", ()))})


def _is_report(content: Any) -> bool:
    """Return True if `content`, read from report.json, is a dict whose known entries have the right types."""
    if not isinstance(content, dict):
        return False
    entries = {name: content.get(name, default) for name, default in vars(ReportSummary()).items()}
    metrics, texts, cautions = entries["numbers"], entries["explanations"], entries["cautions"]
    if not (isinstance(metrics, dict) and isinstance(texts, dict) and isinstance(cautions, list | tuple)):
        return False
    strings = (*texts.values(), *cautions, entries["verdict"], entries["sketch"])
    return all(map(_is_number, metrics.values())) and all(isinstance(text, str) for text in strings)


def _is_number(value: Any) -> bool:
    """Return True if a value is a valid metric; integers beyond the range of floats are not."""
    if isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return value is None or isinstance(value, float | str)


UNDERTRAINED_FRACTION = 0.1
"""Fraction of the planned training below which a run counts as undertrained."""
MIN_REWARD_PROGRESS = 0.25
"""Fraction of the expected reward gain below which a fine-tuned run counts as undertrained.

The expected gain is the mean reward of the tilted distribution minus that of the base model.
"""
STEPS = 100
"""Number of training steps below which a run counts as undertrained, whatever its training time. One epoch is also
required."""


def planned_training(record: FitRecord, data: Dataset) -> TrainConfig | None:
    """Return the training configuration that the recipe plans for the data.

    The result is None for a user-defined recipe, which is not executed.
    """
    if ":" in record.provenance.recipe or record.provenance.recipe in (*SECOND_STAGES, *FLOW_MAPS):
        return None
    try:
        return find_recipe(record.provenance.recipe, data, record.provenance.size or "small")[1].train
    except (InputError, UsageError):  # the recipe no longer accepts these data
        return None


def undertrained_notice(run: Run, record: FitRecord, data: Dataset, step: int, seconds: float) -> str:
    """Return a notice if a run was trained far less than its recipe plans, with the command that resumes it.

    The notice is empty if the run was trained long enough or cannot be resumed.

    Args:
        run: Run folder.
        record: Fit record; a private fit has no notice, because its privacy plan limits the training.
        data: Training data.
        step: Number of completed steps.
        seconds: Training time in seconds.
    """
    plan = None if record.is_private else planned_training(record, data)
    if plan is None or (plan.steps is None and plan.minutes is None):
        return ""
    min_steps = min(STEPS, plan.steps or STEPS) if plan.minutes is None else max(STEPS, data.total / plan.batch_size)
    if plan.progress(step, seconds) >= UNDERTRAINED_FRACTION and step >= min_steps:
        return ""
    min_minutes = math.ceil(min_steps * seconds / max(step, 1) / 60) if step < min_steps else 0
    minutes = max(plan.minutes or 0.0, float(min_minutes))
    budget = ("--minutes", f"{minutes:g}") if plan.steps is None else ("--steps", plan.steps)
    args = ("feller", "fit", "--resume", "--out", run.path, *budget)
    steps_text = "1 step" if step == 1 else f"{step:,} steps"
    return f"Undertrained ({steps_text}); {CONTINUE_PREFIX}{shlex.join(map(str, args))}"


def undertrained_tuning_notice(run: Run, tuning_record: TuningRecord, step: int, numbers: Mapping[str, Any]) -> str:
    """Return a notice if fine-tuning took few rounds, or its reward is far from the target; otherwise an empty text."""
    default_rounds = DEFAULT_TRAINING.steps or 1
    measured = target_progress("reward", numbers)
    progress = 1.0 if measured is None else measured
    if step >= UNDERTRAINED_FRACTION * default_rounds and progress >= MIN_REWARD_PROGRESS:
        return ""
    reward_arguments = ("--reward", *tuning_record.rewards) if needs_rewards(tuning_record) else ()
    rounds = default_rounds if step < default_rounds else 2 * step
    args = ("feller", "tune", "--resume", "--out", run.path, *reward_arguments, "--steps", rounds)
    rounds_text = "1 round" if step == 1 else f"{step:,} rounds"
    gain_text = (
        f", {format_percent(max(progress, 0.0))} of the possible reward gain" if progress < MIN_REWARD_PROGRESS else ""
    )
    return f"Undertrained ({rounds_text}{gain_text}); {CONTINUE_PREFIX}{shlex.join(map(str, args))}"


def read_undertrained_notice(run: Run) -> str:
    """Return the undertraining notice in a run's report; empty if the run was trained further after the report."""
    summary = read_report_summary(run)
    steps = read_counters(run)["step"] if run.progress.is_file() else None
    return summary.sketch if summary.numbers.get("steps", steps) == steps else ""


def is_spent(run: Run, record: FitRecord) -> bool:
    """Return True if the ledger of a private fit contains all its planned steps, so that no budget is left."""
    if not isinstance(record.provenance.private, Guarantee) or read_tuning_record(run):
        return False
    ledger = ledger_of(run)
    return ledger is not None and steps_in(ledger) >= record.provenance.private.steps


def is_stopped_early(training: TrainConfig, counters: Mapping[str, Any]) -> bool:
    """Return True if training ended before its budget, because the loss on held-out examples no longer fell."""
    return training.may_stop_early and bool(counters.get(STOPPED_KEY))


def is_trained(training: TrainConfig, counters: Mapping[str, Any]) -> bool:
    """Return True if the training budget is spent, or training stopped early."""
    return training.progress(counters["step"], counters["seconds"]) >= 1 or is_stopped_early(training, counters)


def incomplete_training_note(run: Run, record: FitRecord, training: TrainConfig, counters: dict[str, Any]) -> str:
    """Return a note if training took fewer steps than planned; empty if training is complete."""
    step = counters["step"]
    if is_closed_form(counters) or is_trained(training, counters):
        return ""
    if not is_spent(run, record):
        return f"Training stopped after {step:,} steps; resume with the command below."
    planned_steps = record.provenance.private.steps if isinstance(record.provenance.private, Guarantee) else 0
    if step >= planned_steps:
        return ""
    return (
        f"Training ended after {step:,} of {planned_steps:,} steps: the privacy budget of all steps is spent, and the"
        " steps lost when training was killed cannot be repeated. Only a new fit, with a new budget, can train further."
    )


def incomplete_notice(run: Run) -> str:
    """Return a notice if a fit stopped before its end; empty if the fit is complete, or if the run is not a fit."""
    if not run.progress.is_file():
        return ""
    if read_tuning_record(run) or is_bridge(run) or read_import_conventions(run):
        return ""
    training = read_train_config(run)
    counters = read_counters(run)
    record = read_fit_record(run)
    note = incomplete_training_note(run, record, training, counters)
    if not note or is_spent(run, record):
        return note[:1].lower() + note[1:].removesuffix(".")
    total = f" of {training.steps:,}" if training.steps else ""
    if run.is_locked:
        step = f"{counters['step']:,}{total}"
        return f"this run is incomplete: a process is training it; its weights are from step {step}"
    code = record.code_arguments
    command = shlex.join(map(str, ("feller", "fit", "--resume", *code, "--out", run.path)))
    return f"this run is incomplete: training stopped after {counters['step']:,}{total} steps; resume with: {command}"


@dataclass(frozen=True, kw_only=True, eq=False)
class RunStatus:
    """Status of a run, as read from its folder without an evaluation."""

    run: Run
    record: FitRecord
    modality: Modality
    """Modality of the samples that the model generates; for a regressor, modality of the inputs."""
    recipe: Mapping[str, Any]
    """Recorded recipe, as JSON data."""
    training: TrainConfig
    """Planned training configuration."""
    counters: dict[str, Any]
    """Number of steps, training time and other counts so far."""
    ledger: Ledger | None
    """Privacy ledger; None for a run without differential privacy."""
    earlier_spending: Sequence[str]
    """Privacy budget that other fits spent on the same rows, as one line of text per fit."""

    @property
    def at_once(self) -> bool:
        """True if the model was fitted in closed form, without training steps."""
        return is_closed_form(self.counters)

    @property
    def is_done(self) -> bool:
        """True if the planned training is complete, or the privacy budget is spent."""
        return self.at_once or is_trained(self.training, self.counters) or is_spent(self.run, self.record)

    @property
    def stopped_early(self) -> bool:
        """True if training ended before its budget, because the loss on held-out examples no longer fell."""
        return is_stopped_early(self.training, self.counters)

    @property
    def incomplete_note(self) -> str:
        """Note that states why training is incomplete and how to resume it; empty if training is complete."""
        return incomplete_training_note(self.run, self.record, self.training, self.counters)

    @property
    def numbers(self) -> dict[str, Any]:
        """Privacy guarantee, number of training steps and training time, as metrics."""
        return _numbers(self.run, self.counters, self.ledger, guarantee_text.privacy_unit(self.modality))

    @property
    def guarantee(self) -> str:
        """Privacy guarantee as a sentence; empty for a run without differential privacy."""
        return guarantee_text.sentence(self.ledger, self.record, self.modality) if self.ledger else ""

    @property
    def expenses(self) -> Sequence[str]:
        """Privacy budget spent on the rows, as one line of text per DP event."""
        unit = guarantee_text.privacy_unit(self.modality)
        return (*self.ledger.describe_events(unit), *self.earlier_spending) if self.ledger else ()

    @property
    def caveat(self) -> str:
        """Text that says which files may be shared and which are for the owner of the rows; empty without privacy."""
        return guarantee_text.caveat(self.ledger)

    @property
    def curve(self) -> Curve | None:
        """Curve of the logged losses over training steps; None for a closed-form fit."""
        return None if self.at_once else read_metrics(self.run.metrics)

    def continue_commands(self, tuning_record: TuningRecord | None = None, sketch: str = "") -> list[tuple[str, str]]:
        """Return the command that continues training, with its description; empty if no more training is possible."""
        if self.at_once or self.stopped_early or (self.is_done and self.record.is_private):
            return []
        return [continue_command(self.run, self.record, tuning_record, self.training if self.is_done else None, sketch)]


def run_numbers(run: Run) -> dict[str, Any]:
    """Return the metrics of a run that need no evaluation: steps, time and privacy spent."""
    ledger = ledger_of(run)
    return _numbers(
        run, read_counters(run), ledger, "" if ledger is None else guarantee_text.privacy_unit(load_spec(run).modality)
    )


def _numbers(run: Run, counters: dict[str, Any], ledger: Ledger | None, unit: str) -> dict[str, Any]:
    """Return the metrics of a run's privacy guarantee, and its training steps and time.

    An imported network has no steps and time.
    """
    guarantee = guarantee_text.guarantee_numbers(ledger, unit) if ledger else {}
    return guarantee | ({} if read_import_conventions(run) is not None else guarantee_text.timing(counters, ledger))


def read_run_status(run: Run, record: FitRecord, kind: Modality, data: Dataset) -> RunStatus:
    """Read the status of a run from its folder; InputError if a file of the run is damaged."""
    recipe, ledger = run.read_field(run.recipe, "recipe"), ledger_of(run)
    return RunStatus(
        run=run,
        record=record,
        modality=kind,
        recipe=recipe,
        training=read_train_config(run),
        counters=read_counters(run),
        ledger=ledger,
        earlier_spending=earlier_lines(run, record.data, data) if ledger else (),
    )
