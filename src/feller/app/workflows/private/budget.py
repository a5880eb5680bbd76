"""Charging of the privacy budget before steps are taken; checks of earlier ledgers and of start models' data."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from feller.app.workflows.fine_tuned_run import read_tuning_record
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.run_config import (
    FitRecord,
    TrainingDataRef,
    is_same_data,
    matches_fingerprint,
    read_fit_record,
)
from feller.core.errors import InputError, UsageError, error_context
from feller.core.interrupts import sigterm_as_interrupt
from feller.core.run_folder import Run, open_run
from feller.core.serialization import from_dict, to_dict
from feller.core.user_code import fingerprint as file_hash
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.modality import Dataset
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.accounting.ledger import Ledger
from feller.training.checkpoint import read_counters
from feller.training.loop import TrainState
from feller.training.trainer import Callback

STEPS_PAID_AHEAD = 25
"""Number of steps charged to the ledger at a time; at most this many charged steps are lost if the process is
killed."""
Batches = Callable[[int, slice], dict[str, Any]]


class PrivacyBudget(Callback):
    """Callback that supplies batches only for steps charged to the ledger, up to the planned number of steps."""

    def __init__(self, run: Run, ledger: Ledger, guarantee: Guarantee, *, writes: bool) -> None:
        self._run, self._guarantee, self._writes = run, guarantee, writes
        self.ledger = ledger
        self._paid = 0
        """Number of steps charged but not yet taken."""

    @property
    def steps(self) -> int:
        """Number of training steps in the ledger."""
        return steps_in(self.ledger)

    @property
    def should_stop(self) -> bool:
        return not self._paid and self.steps >= self._guarantee.steps

    def batches(self, load: Batches) -> Batches:
        """Return a batch loader that charges the ledger before `load` draws a batch.

        A repeated step is charged again.
        """

        def batch(step: int, rows: slice) -> dict[str, Any]:
            if not self._paid:
                self._pay()
            self._paid -= 1
            return load(step, rows)

        return batch

    def _pay(self) -> None:
        n_steps = min(STEPS_PAID_AHEAD, self._guarantee.steps - self.steps)
        if n_steps < 1:
            raise InputError(
                f"the privacy budget of epsilon {self._guarantee.epsilon:g} is spent; the run cannot be trained further"
            )
        self.ledger = self.ledger.add(replace(self._guarantee.step, steps=n_steps))
        self._paid = n_steps
        self.write()

    def write_ledger_first(self, steps_taken: int) -> None:
        """Write the ledger before training is resumed from weights with `steps_taken` steps.

        Raises:
            InputError: If the ledger counts fewer steps than `steps_taken`.
        """
        if steps_taken > self.steps:
            raise InputError(
                f"{self._run.ledger} counts {self.steps:,} steps, but the weights were trained for {steps_taken:,}"
                " steps: the ledger is outdated or belongs to another run",
                remedy="Restore the ledger that belongs to this run, or start a new run",
            )
        self.write()

    def on_train_end(self, state: TrainState) -> None:
        self.refund_unused_steps()

    def refund_unused_steps(self) -> None:
        """Remove from the ledger the steps that were charged but not taken."""
        *earlier, last = self.ledger.events or (None,)
        if self._paid and isinstance(last, PoissonSubsampledGaussian):
            last_expense = [replace(last, steps=last.steps - self._paid)] if last.steps > self._paid else []
            self.ledger, self._paid = replace(self.ledger, events=(*earlier, *last_expense)), 0
            self.write()

    def write(self) -> None:
        """Write the ledger."""
        if self._writes:
            self._run.write_record(self._run.ledger, to_dict(self.ledger))


def steps_in(ledger: Ledger) -> int:
    """Return the number of training steps in a ledger."""
    return sum(event.steps for event in ledger.events if isinstance(event, PoissonSubsampledGaussian))


def own_ledger(run: Run, table: str) -> Ledger | None:
    """Return the privacy ledger of a run, after a check that it belongs to the training data.

    `table` is the keyed hash of the training data, with which the hash in the ledger is compared.

    The result is None if the run is not private.

    Raises:
        InputError: If the ledger file is damaged or belongs to another table.
    """
    ledger = ledger_of(run)
    if ledger is not None and ledger.table and ledger.table != table:
        raise InputError(
            f"belongs to another run: expected a table with hash {table}; found {ledger.table}",
            remedy="Restore the ledger that belongs to this run",
            file=run.ledger,
        )
    return ledger


def ledger_of(run: Run) -> Ledger | None:
    """Return the ledger of a run; None if the run is not private.

    Raises:
        InputError: If the ledger file is damaged, or if a private run has no ledger or the ledger of another run.
    """
    with error_context(run.ledger):
        ledger = from_dict(Ledger, run.read_record(run.ledger)) if run.ledger.is_file() else None
    if not (run.progress.is_file() and run.recipe.is_file()) or read_tuning_record(run) is not None:
        return ledger
    planned, remedy = (
        read_fit_record(run).provenance.private,
        "Restore the ledger that belongs to this run, or start a new run",
    )
    if planned is None:
        return ledger
    if ledger is None:
        raise InputError("is missing, so the spent privacy budget is unknown", remedy=remedy, file=run.ledger)
    taken, counted = read_counters(run)["step"], steps_in(ledger)
    if (ledger.n, ledger.delta) != (planned.n, planned.delta) or taken > counted or not ledger.events:
        raise InputError(
            f"belongs to another run: expected at least {taken:,} steps on {planned.n:,} rows; found {counted:,} steps"
            f" on {ledger.n:,} rows, {len(ledger.events):,} events",
            remedy=remedy,
            file=run.ledger,
        )
    return ledger


def earlier_lines(run: Run, data: str, dataset: Dataset | None) -> tuple[str, ...]:
    """Return one line for each earlier run in the folder that spent, or may have spent, privacy budget on these rows.

    Args:
        run: Run folder, which keeps the ledgers of the runs that it contained before.
        data: Path or example name of the rows.
        dataset: The rows; None to list all earlier private runs, whatever their rows.
    """
    return tuple(line for earlier_run in run.previous_ledgers if (line := _line(earlier_run, data, dataset)))


def _line(run: Run, data: str, dataset: Dataset | None) -> str:
    try:
        ledger = ledger_of(run)
        record = read_fit_record(run) if run.recipe.is_file() else None
    except InputError as error:
        return f"the privacy budget spent by an earlier run in this folder is unknown ({error})"
    if ledger is None:
        return ""
    if record is not None and dataset is not None and not _may_be_same(record, data, dataset):
        return ""
    rows = "possibly the same rows" if record is None else record.data
    return (
        f"an earlier run in this folder spent epsilon {ledger.epsilon():.4g} at delta {ledger.delta:.3g} on {rows},"
        f" which adds to the total for these rows: {run.ledger}"
    )


def _may_be_same(record: FitRecord, data: str, dataset: Dataset) -> bool:
    return is_same_path(record.data, data) or is_same_data(record, dataset, data)


class SchemaSearchBudget:
    """Record of the privacy budget that a private schema search spends before the run has a ledger.

    If the fit fails later, the record is written to the run folder, so that the spent budget is not forgotten.
    """

    def __init__(self) -> None:
        self.ledger: Ledger | None = None

    def record_spending(self, ledger: Ledger) -> None:
        """Record the cost of the search so far."""
        self.ledger = ledger

    @contextmanager
    def keep_on_failure(self, run: Run, *, writes: bool, begun: bool) -> Iterator[None]:
        """If the `with` block fails, write the cost of the schema search to the run folder and mention it in the error.

        Args:
            run: Run folder.
            writes: True if this process writes files.
            begun: True if the folder belongs to this run, so that a ledger in it already includes the search.
        """
        try:
            with sigterm_as_interrupt():
                yield
        except BaseException as error:
            spent = None if begun and run.ledger.is_file() else self.ledger
            if spent is None:
                raise
            note = _keep_ledger(run, spent) if writes else ""
            if not isinstance(error, InputError | UsageError):
                raise
            raise type(error)(
                f"{error}. The schema search spent epsilon {spent.epsilon():.4g} at delta {spent.delta:.3g} on these"
                f" rows nevertheless{note}"
            ) from error


def _keep_ledger(run: Run, ledger: Ledger) -> str:
    """Write the ledger of a failed fit into its run folder; return the end of a message that says where it is."""
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        with run.lock():
            previous_run = run.new_previous_ledger()
            previous_run.write_record(previous_run.ledger, to_dict(ledger))
    except (InputError, OSError):
        return "; this could not be recorded, so note it yourself"
    return f"; this is recorded in {previous_run.ledger}"


def training_data_of(run: Run) -> tuple[TrainingDataRef, ...]:
    """Return the known training data of a run and of all models from whose weights it was started.

    If the run does not record the data of its start models, they are read from the folder of the start model. If that
    folder is missing or has changed, these data are unknown.
    """
    record = read_fit_record(run)
    tuning_record = read_tuning_record(run)
    reward_data = () if tuning_record is None else (TrainingDataRef(f"the reward that {run.path} was fine-tuned on"),)
    references = (TrainingDataRef(record.data, record.provenance.fingerprint, keyed=record.is_private), *reward_data)
    if record.start_from is None:
        return references
    return (*references, *(record.provenance.ancestors or _inherited_training_data(record)))


def _inherited_training_data(record: FitRecord) -> tuple[TrainingDataRef, ...]:
    unknown = (TrainingDataRef(f"the training data of {record.start_from}"),)
    try:
        start = open_run(record.start_from)
        return training_data_of(start) if file_hash(start.ema_weights) == record.provenance.start_hash else unknown
    except (InputError, OSError, RecursionError):
        return unknown


def check_public(start: Run, data: str, dataset: Dataset) -> None:
    """Raise an error if a start model was, or may have been, trained on the private rows."""
    for ancestor in training_data_of(start):
        if not ancestor.fingerprint:
            origin = f"was trained on {ancestor.data}" if ancestor.data else "was imported without its training data"
            raise UsageError(
                f"{origin}, which may contain the private rows: their content is not recorded",
                remedy=(
                    "Start from a model with known training data, or omit --start-from"
                    if ancestor.data
                    else "Record them: `feller import FOLDER --data DATA`"
                ),
                file=start.path,
            )
        if is_same_path(ancestor.data, data) or matches_fingerprint(
            ancestor.fingerprint, dataset, is_keyed=ancestor.keyed
        ):
            raise UsageError(
                f"was trained on the private rows ({ancestor.data}), directly or through its start model, which the"
                " ledger would not count",
                remedy="Start from a model of public data, or omit --start-from",
                file=start.path,
            )


def is_same_path(one: str, other: str) -> bool:
    """Return True if two names refer to the same file, folder or example dataset."""
    if one.startswith(EXAMPLE_PREFIX) or other.startswith(EXAMPLE_PREFIX):
        return one.partition("/")[0] == other.partition("/")[0]
    return os.path.realpath(one) == os.path.realpath(other)
