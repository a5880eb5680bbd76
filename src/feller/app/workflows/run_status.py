"""Status of a run: steps, undertrained or stopped, privacy spent, and its last report."""

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
from feller.app.workflows.next_steps import continue_command
from feller.app.workflows.private import guarantee_text
from feller.app.workflows.private.budget import earlier_lines, ledger_of, steps_in
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.run_config import FitRecord, read_fit_record, read_import_conventions, read_train_config
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.core.serialization import read_json
from feller.data.modality import Dataset, Modality
from feller.evaluation.number_format import format_percent, is_number
from feller.evaluation.report.loss_curve import Curve
from feller.models.recipes.fine_tuning_methods import DEFAULT_TRAINING
from feller.models.recipes.registry import SECOND_STAGES
from feller.privacy.accounting.ledger import Ledger
from feller.training.callbacks import read_metrics
from feller.training.checkpoint import read_counters
from feller.training.optimizer import TrainConfig


@dataclass(frozen=True)
class ReportSummary:
    """What report.json holds that others go by, each of the type that it must have."""

    numbers: Mapping[str, float | int | str | None] = field(default_factory=dict)
    """By their names in --json."""
    explanations: Mapping[str, str] = field(default_factory=dict)
    """One plain sentence for a number."""
    verdict: str = ""
    sketch: str = ""


def read_report_summary(run: Run) -> ReportSummary:
    """Return what the report of a run says; nothing where there is none, or a link to another.

    Raises:
        InputError: If it is damaged.
    """
    file = run.path / "report.json"
    if not file.is_file() or file.is_symlink():
        return ReportSummary()
    anew = f"Write it anew with: feller evaluate {run.path}"
    try:
        content = read_json(file)
    except InputError as error:
        raise InputError(str(error), remedy=anew, file=file) from error
    if not _is_report(content):
        raise InputError("was damaged", remedy=anew, file=file)
    return ReportSummary(**{name: content[name] for name in vars(ReportSummary()) if name in content})


def _is_report(content: Any) -> bool:
    """Tell whether each entry, where it is there, is what it must be."""
    if not isinstance(content, dict):
        return False
    numbers, texts, *words = (content.get(name, usual) for name, usual in vars(ReportSummary()).items())
    if not isinstance(numbers, dict) or not isinstance(texts, dict):
        return False
    return all(map(_is_number, numbers.values())) and all(isinstance(one, str) for one in (*texts.values(), *words))


def _is_number(value: Any) -> bool:
    """Tell whether a value is what a report has for a number; whole ones beyond all floats are none."""
    if isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return value is None or isinstance(value, float | str)


UNDERTRAINED_FRACTION = 0.1
"""Share of what a recipe plans below which a model is called a sketch."""
MIN_REWARD_PROGRESS = 0.25
"""Share of the way from the base's reward to the one aimed at, below which a tuned model is."""
STEPS = 100
"""Steps below which it is one, whatever time they took; so it is before it has seen as many examples as there are."""


def planned_training(record: FitRecord, data: Dataset) -> TrainConfig | None:
    """Return what the recipe plans for such data at its size; None of code of the user's own, which is not run here."""
    if ":" in record.provenance.recipe or record.provenance.recipe in SECOND_STAGES:
        return None
    try:
        return find_recipe(record.provenance.recipe, data, record.provenance.size or "small")[1].train
    except (InputError, UsageError):  # a recipe for other data, by now
        return None


def undertrained_notice(run: Run, record: FitRecord, data: Dataset, step: int, seconds: float) -> str:
    """Return one line where a run had far less than its recipe plans; empty where it had enough, or cannot go on.

    Args:
        run: Where it is kept.
        record: What was asked of it; what protects its rows also says how far it may go.
        data: What it was fitted to.
        step: Steps done.
        seconds: Of training.
    """
    whole = None if record.is_private else planned_training(record, data)
    if whole is None or (whole.steps is None and whole.minutes is None):
        return ""
    fewest = min(STEPS, whole.steps or STEPS) if whole.minutes is None else max(STEPS, data.total / whole.batch_size)
    if whole.progress(step, seconds) >= UNDERTRAINED_FRACTION and step >= fewest:
        return ""
    longer = math.ceil(fewest * seconds / max(step, 1) / 60) if step < fewest else 0
    minutes = max(whole.minutes or 0.0, float(longer))
    budget = ("--minutes", f"{minutes:g}") if whole.steps is None else ("--steps", whole.steps)
    words = ("feller", "fit", "--resume", "--out", run.path, *budget)
    many = "1 step" if step == 1 else f"{step:,} steps"
    return f"After {many} this is a first sketch; go on with: {shlex.join(map(str, words))}"


def undertrained_tuning_notice(run: Run, tuning_record: TuningRecord, step: int, numbers: Mapping[str, Any]) -> str:
    """Return one line where a tuning had few rounds, or its reward is far from what is aimed at; else nothing.

    Args:
        run: Where it is kept.
        tuning_record: What was asked of it.
        step: Rounds done.
        numbers: Those of its report: the mean reward, that of the base and that of the law aimed at.
    """
    usual = DEFAULT_TRAINING.steps or 1
    reward, before, target_reward = (numbers.get(name) for name in ("reward", "reward_before", "reward_tilted"))
    is_measured = is_number(reward) and is_number(before) and is_number(target_reward) and target_reward > before
    progress = (reward - before) / (target_reward - before) if is_measured else 1.0
    if step >= UNDERTRAINED_FRACTION * usual and progress >= MIN_REWARD_PROGRESS:
        return ""
    reward_arguments = ("--reward", *tuning_record.rewards) if needs_rewards(tuning_record) else ()
    more = usual if step < usual else 2 * step
    words = ("feller", "tune", "--resume", "--out", run.path, *reward_arguments, "--steps", more)
    many = "1 round" if step == 1 else f"{step:,} rounds"
    far = (
        f" the reward has gone {format_percent(max(progress, 0.0))} of the way to what is aimed at, and"
        if progress < MIN_REWARD_PROGRESS
        else ""
    )
    return f"After {many}{far} this is a first sketch; go on with: {shlex.join(map(str, words))}"


def read_undertrained_notice(run: Run) -> str:
    """Return the line that the report of a run has; empty where none is of the steps that were done by now."""
    summary = read_report_summary(run)
    steps = read_counters(run)["step"] if run.progress.is_file() else None
    return summary.sketch if summary.numbers.get("steps", steps) == steps else ""


def is_spent(run: Run, record: FitRecord) -> bool:
    """Tell whether all steps that were planned of a private fit are paid for: it can train no more."""
    if not isinstance(record.provenance.private, Guarantee) or read_tuning_record(run):
        return False
    ledger = ledger_of(run)
    return ledger is not None and steps_in(ledger) >= record.provenance.private.steps


def incomplete_training_note(run: Run, record: FitRecord, training: TrainConfig, counters: dict[str, Any]) -> str:
    """Say for a report that a training has fewer steps than were planned; empty where it has all."""
    step = counters["step"]
    if is_closed_form(counters) or training.progress(step, counters["seconds"]) >= 1:
        return ""
    if not is_spent(run, record):
        return f"Training stopped after {step:,} steps; go on with the command below."
    planned_steps = record.provenance.private.steps if isinstance(record.provenance.private, Guarantee) else 0
    if step >= planned_steps:
        return ""
    return (
        f"Training ended after {step:,} of {planned_steps:,} steps: all are paid for, and those that were lost when it"
        " was killed cannot be taken again; only a new fit, which spends anew, learns more."
    )


def incomplete_notice(run: Run) -> str:
    """Return one line where a fit was stopped before its end; empty where it was not, or the run is of another kind."""
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
    whole = f" of {training.steps:,}" if training.steps else ""
    if run.is_locked:
        step = f"{counters['step']:,}{whole}"
        return f"this run is not complete: a process works on it, and its weights are those of step {step}"
    code = record.code_arguments
    command = shlex.join(map(str, ("feller", "fit", "--resume", *code, "--out", run.path)))
    return f"this run is not complete: training stopped after {counters['step']:,}{whole} steps; go on with: {command}"


@dataclass(frozen=True, kw_only=True, eq=False)
class RunStatus:
    """What the folder of a run tells, whatever is measured of its model."""

    run: Run
    record: FitRecord
    modality: Modality
    """Of what the model draws or takes."""
    recipe: Mapping[str, Any]
    """As it is recorded."""
    training: TrainConfig
    """What was planned."""
    counters: dict[str, Any]
    """What was done."""
    ledger: Ledger | None
    """What its rows were charged; None of a run that is not private."""
    earlier_spending: Sequence[str]
    """What other fits of the same rows spent, line by line."""

    @property
    def at_once(self) -> bool:
        """Whether the model was found by a look at all rows, without any training."""
        return is_closed_form(self.counters)

    @property
    def is_done(self) -> bool:
        """Whether all was done that was planned, or all that may be."""
        enough = self.training.progress(self.counters["step"], self.counters["seconds"]) >= 1
        return self.at_once or enough or is_spent(self.run, self.record)

    @property
    def incomplete_note(self) -> str:
        """Why it is not complete, and how to go on; empty if it is."""
        return incomplete_training_note(self.run, self.record, self.training, self.counters)

    @property
    def numbers(self) -> dict[str, Any]:
        """Return what was promised, in numbers, how many steps there were and how long they took."""
        return _numbers(self.run, self.counters, self.ledger)

    @property
    def guarantee(self) -> str:
        """What is guaranteed of the rows, to be quoted."""
        return guarantee_text.sentence(self.ledger, self.record, self.modality) if self.ledger else ""

    @property
    def expenses(self) -> Sequence[str]:
        """What was paid for in privacy, line by line."""
        return (*self.ledger.describe_events(), *self.earlier_spending) if self.ledger else ()

    @property
    def caveat(self) -> str:
        """What is not covered by the guarantee."""
        return guarantee_text.caveat(self.ledger)

    @property
    def curve(self) -> Curve | None:
        """The recorded steps; None where there were none."""
        return None if self.at_once else read_metrics(self.run.metrics)

    def continue_commands(self, tuning_record: TuningRecord | None = None, sketch: str = "") -> list[tuple[str, str]]:
        """Return the command that trains more, and what it does; none where no more training can be.

        Args:
            tuning_record: What a tuning was asked for.
            sketch: What is said of a run that had little training.
        """
        if self.at_once or (self.is_done and self.record.is_private):
            return []
        return [continue_command(self.run, self.record, tuning_record, self.training if self.is_done else None, sketch)]


def run_numbers(run: Run) -> dict[str, Any]:
    """Return what is known of a run without an evaluation: steps, time, and what was spent in privacy."""
    return _numbers(run, read_counters(run), ledger_of(run))


def _numbers(run: Run, counters: dict[str, Any], ledger: Ledger | None) -> dict[str, Any]:
    """Return what was promised, steps and time; of a network that was trained elsewhere neither of these."""
    promised = guarantee_text.guarantee_numbers(ledger) if ledger else {}
    return promised | ({} if read_import_conventions(run) is not None else guarantee_text.timing(counters, ledger))


def read_run_status(run: Run, record: FitRecord, kind: Modality, data: Dataset) -> RunStatus:
    """Read how a run stands.

    Args:
        run: Its folder.
        record: What was asked of it.
        kind: Of what the model draws or takes.
        data: All that it was fitted to, which earlier fits may have spent of.

    Raises:
        InputError: If a file of it is damaged.
    """
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
