"""Steps of a private training are paid for before they are taken."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from feller.app.workflows.private.guarantee import Guarantee
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.core.serialization import from_data, to_data
from feller.privacy.accounting.dp_events import Subsampled
from feller.privacy.accounting.ledger import Ledger

AHEAD = 25
"""Steps that are paid for at once: so many are lost, at most, if the process is killed."""
Batches = Callable[[int, slice], dict[str, Any]]


class Purse:
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
    def empty(self) -> bool:
        """Whether no step is left."""
        return not self._paid and self.steps >= self._guarantee.steps

    def batches(self, draw: Batches) -> Batches:
        """Return what draws a batch once it is paid for; asking twice for a step pays twice."""

        def batch(step: int, rows: slice) -> dict[str, Any]:
            if not self._paid:
                self._pay()
            self._paid -= 1
            return draw(step, rows)

        return batch

    def _pay(self) -> None:
        more = min(AHEAD, self._guarantee.steps - self.steps)
        if more < 1:
            raise InputError(f"epsilon {self._guarantee.epsilon:g} is spent; this run learns no more")
        self.ledger = self.ledger.with_(replace(self._guarantee.step, steps=more))
        self._paid = more
        self.write()

    def open(self, taken: int) -> None:
        """Write the ledger before the first of some steps.

        Args:
            taken: Steps that the weights have behind them.

        Raises:
            InputError: If the ledger counts fewer, so that it is not that of these weights.
        """
        if taken > self.steps:
            raise InputError(
                f"{self._run.ledger} counts {self.steps:,} steps, and these weights took {taken:,}: it is older than"
                " they are, or of another run; bring the right one back, or start a new run"
            )
        self.write()

    def close(self) -> None:
        """Take back what was paid for and not taken."""
        *others, last = self.ledger.expenses or (None,)
        if self._paid and isinstance(last, Subsampled):
            kept = [replace(last, steps=last.steps - self._paid)] if last.steps > self._paid else []
            self.ledger, self._paid = replace(self.ledger, expenses=(*others, *kept)), 0
            self.write()

    def write(self) -> None:
        """Write the ledger."""
        if self._writes:
            self._run.write_record(self._run.ledger, to_data(self.ledger))


def steps_in(ledger: Ledger) -> int:
    """Return the steps of training that a ledger counts."""
    return sum(one.steps for one in ledger.expenses if isinstance(one, Subsampled))


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
            f"{run.ledger} is of another run: it is about a table with the hash {ledger.table}, and this run's has"
            f" {table}; bring the right one back"
        )
    return ledger


def ledger_of(run: Run) -> Ledger | None:
    """Return what a run has spent; None of one that is not private.

    Raises:
        InputError: If the file is damaged.
    """
    return from_data(Ledger, run.read_record(run.ledger)) if run.ledger.is_file() else None
