"""Privacy budget: steps are paid before they are taken; what earlier runs spent, and what models have seen."""

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
from feller.core.errors import InputError, UsageError
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
"""Steps that are paid for at once: so many are lost, at most, if the process is killed."""
Batches = Callable[[int, slice], dict[str, Any]]


class PrivacyBudget(Callback):
    """Gives batches out, one for each step that is paid for, and never more than were planned."""

    def __init__(self, run: Run, ledger: Ledger, guarantee: Guarantee, *, writes: bool) -> None:
        self._run, self._guarantee, self._writes = run, guarantee, writes
        self.ledger = ledger
        self._paid = 0
        """Steps that are in the ledger and were not taken."""

    @property
    def steps(self) -> int:
        """Steps that the ledger counts."""
        return steps_in(self.ledger)

    @property
    def should_stop(self) -> bool:
        return not self._paid and self.steps >= self._guarantee.steps

    def batches(self, load: Batches) -> Batches:
        """Return what draws a batch once it is paid for; asking twice for a step pays twice."""

        def batch(step: int, rows: slice) -> dict[str, Any]:
            if not self._paid:
                self._pay()
            self._paid -= 1
            return load(step, rows)

        return batch

    def _pay(self) -> None:
        more = min(STEPS_PAID_AHEAD, self._guarantee.steps - self.steps)
        if more < 1:
            raise InputError(f"epsilon {self._guarantee.epsilon:g} is spent; this run learns no more")
        self.ledger = self.ledger.add(replace(self._guarantee.step, steps=more))
        self._paid = more
        self.write()

    def write_ledger_first(self, steps_taken: int) -> None:
        """Write the ledger before the first of some steps.

        Args:
            steps_taken: Steps that the weights have behind them.
        """
        if steps_taken > self.steps:
            raise InputError(
                f"{self._run.ledger} counts {self.steps:,} steps, and these weights took {steps_taken:,}: it is older"
                " than they are, or of another run",
                remedy="Bring the right one back, or start a new run",
            )
        self.write()

    def on_train_end(self, state: TrainState) -> None:
        self.refund_unused_steps()

    def refund_unused_steps(self) -> None:
        """Take back what was paid for and not taken."""
        *others, last = self.ledger.events or (None,)
        if self._paid and isinstance(last, PoissonSubsampledGaussian):
            last_expense = [replace(last, steps=last.steps - self._paid)] if last.steps > self._paid else []
            self.ledger, self._paid = replace(self.ledger, events=(*others, *last_expense)), 0
            self.write()

    def write(self) -> None:
        """Write the ledger."""
        if self._writes:
            self._run.write_record(self._run.ledger, to_dict(self.ledger))


def steps_in(ledger: Ledger) -> int:
    """Return the steps of training that a ledger counts."""
    return sum(one.steps for one in ledger.events if isinstance(one, PoissonSubsampledGaussian))


def own_ledger(run: Run, table: str) -> Ledger | None:
    """Return what a run has spent; None of one that is not private.

    Args:
        run: Holds it.
        table: Keyed hash of the table that it learned from.

    Raises:
        InputError: If the file is damaged, or about another table.
    """
    ledger = ledger_of(run)
    if ledger is not None and ledger.table and ledger.table != table:
        raise InputError(
            f"is of another run: it is about a table with the hash {ledger.table}, and this run's has {table}",
            remedy="Bring the right one back",
            file=run.ledger,
        )
    return ledger


def ledger_of(run: Run) -> Ledger | None:
    """Return what a run has spent; None of one that is not private.

    Raises:
        InputError: If the file is damaged, or missing or of another run where this one has learned from protected rows.
    """
    ledger = from_dict(Ledger, run.read_record(run.ledger)) if run.ledger.is_file() else None
    if not (run.progress.is_file() and run.recipe.is_file()) or read_tuning_record(run) is not None:
        return ledger
    planned, right = read_fit_record(run).provenance.private, "Bring the right one back, or start a new run"
    if planned is None:
        return ledger
    if ledger is None:
        raise InputError("is missing, so nobody knows what this run has spent", remedy=right, file=run.ledger)
    taken, counted = read_counters(run)["step"], steps_in(ledger)
    if (ledger.n, ledger.delta) != (planned.n, planned.delta) or taken > counted or not ledger.events:
        raise InputError(
            f"is of another run: it counts {len(ledger.events):,} expenses, {counted:,} steps, on {ledger.n:,} rows,"
            f" and this run took {taken:,} on {planned.n:,}",
            remedy=right,
            file=run.ledger,
        )
    return ledger


def earlier_lines(run: Run, data: str, dataset: Dataset | None) -> tuple[str, ...]:
    """Tell what earlier runs in a folder spent, of the same rows or of nobody knows which.

    Args:
        run: Its folder.
        data: What the present run is fitted to.
        dataset: The same as read; without it, all earlier runs are told.
    """
    return tuple(line for before in run.previous_ledgers if (line := _line(before, data, dataset)))


def _line(before: Run, data: str, dataset: Dataset | None) -> str:
    try:
        ledger = ledger_of(before)
        record = read_fit_record(before) if before.recipe.is_file() else None
    except InputError as error:
        return f"what an earlier run in this folder spent cannot be told ({error})"
    if ledger is None:
        return ""
    if record is not None and dataset is not None and not _may_be_same(record, data, dataset):
        return ""
    of = "rows that may be the same" if record is None else record.data
    return (
        f"an earlier run in this folder spent epsilon {ledger.epsilon():.4g} at delta {ledger.delta:.3g} of {of}, which"
        f" adds to all that is spent of the same rows: {before.ledger}"
    )


def _may_be_same(record: FitRecord, data: str, dataset: Dataset) -> bool:
    return is_same_path(record.data, data) or is_same_data(record, dataset, data)


class SchemaSearchBudget:
    """What a private search for columns has spent, until a run has a ledger of its own."""

    def __init__(self) -> None:
        self.ledger: Ledger | None = None

    def record_spending(self, ledger: Ledger) -> None:
        """Hear what was spent by now."""
        self.ledger = ledger

    @contextmanager
    def keep_on_failure(self, run: Run, *, writes: bool, begun: bool) -> Iterator[None]:
        """Write what the search has spent to the folder if the block fails or is interrupted, and report it.

        Args:
            run: The folder.
            writes: Whether this process writes there.
            begun: Whether the folder is empty of older runs, so that a ledger there counts the search, too.

        Raises:
            InputError, UsageError: Those of the block, with what was spent.
        """
        try:
            with sigterm_as_interrupt():
                yield
        except BaseException as error:
            spent = None if begun and run.ledger.is_file() else self.ledger
            if spent is None:
                raise
            place = _keep_ledger(run, spent) if writes else ""
            if not isinstance(error, InputError | UsageError):
                raise
            raise type(error)(
                f"{error}. Finding the columns has spent epsilon {spent.epsilon():.4g} at delta {spent.delta:.3g} of"
                f" these rows all the same{place}"
            ) from error


def _keep_ledger(run: Run, ledger: Ledger) -> str:
    """Write a ledger beside a run, where that is possible, and say where."""
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        with run.lock():
            folder = run.new_previous_ledger()
            folder.write_record(folder.ledger, to_dict(ledger))
    except (InputError, OSError):
        return "; nothing could be written there, so keep that in mind"
    return f"; that is kept in {folder.ledger}"


def training_data_of(run: Run) -> tuple[TrainingDataRef, ...]:
    """Return what a run was fitted to, and what those were that it started from, as far back as anybody knows.

    A run that does not say it is asked for the folder that it started from; where that is gone, nothing is known.
    """
    record = read_fit_record(run)
    tuning_record = read_tuning_record(run)
    wishes = () if tuning_record is None else (TrainingDataRef(f"the wishes that {run.path} was tuned to"),)
    own = (TrainingDataRef(record.data, record.provenance.fingerprint, keyed=record.is_private), *wishes)
    if record.start_from is None:
        return own
    return (*own, *(record.provenance.ancestors or _inherited_training_data(record)))


def _inherited_training_data(record: FitRecord) -> tuple[TrainingDataRef, ...]:
    unknown = (TrainingDataRef(f"what {record.start_from} was fitted to"),)
    try:
        start = open_run(record.start_from)
        return training_data_of(start) if file_hash(start.ema_weights) == record.provenance.start_hash else unknown
    except (InputError, OSError, RecursionError):
        return unknown


def check_public(start: Run, data: str, dataset: Dataset) -> None:
    """Refuse to begin with a model that saw the rows which are to be protected, or may have.

    Args:
        start: Holds the model.
        data: What a person named.
        dataset: The same as read.
    """
    for ancestor in training_data_of(start):
        if not ancestor.fingerprint:
            raise UsageError(
                f"has learned from {ancestor.data}, of which nobody knows any more whether it held the rows that are to"
                " be protected",
                remedy="Start from a model whose beginnings are there, or leave --start-from out",
                file=start.path,
            )
        if is_same_path(ancestor.data, data) or matches_fingerprint(
            ancestor.fingerprint, dataset, is_keyed=ancestor.keyed
        ):
            raise UsageError(
                f"was fitted to {ancestor.data}, or began with a model that was: the rows that are to be protected, and"
                " what it knows of them would not be counted",
                remedy="Start from a model of public data, or leave --start-from out",
                file=start.path,
            )


def is_same_path(one: str, other: str) -> bool:
    """Tell whether two names are of one file, folder or example."""
    if one.startswith(EXAMPLE_PREFIX) or other.startswith(EXAMPLE_PREFIX):
        return one.partition("/")[0] == other.partition("/")[0]
    return os.path.realpath(one) == os.path.realpath(other)
