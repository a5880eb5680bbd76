"""What other runs in a folder spent of the same rows, which nobody may forget."""

from collections.abc import Iterator
from contextlib import contextmanager

from feller.app.workflows.private.ancestors import same_place
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.run_config import Asked, asked_of, same_data
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.core.serialization import to_data
from feller.data.modality import Dataset
from feller.privacy.accounting.ledger import Ledger


def earlier_lines(run: Run, data: str, dataset: Dataset | None) -> tuple[str, ...]:
    """Tell what earlier runs in a folder spent, of the same rows or of nobody knows which.

    Args:
        run: Its folder.
        data: What the present run is fitted to.
        dataset: The same as read; without it, all earlier runs are told.
    """
    return tuple(line for before in run.earlier if (line := _line(before, data, dataset)))


def _line(before: Run, data: str, dataset: Dataset | None) -> str:
    try:
        ledger = ledger_of(before)
        asked = asked_of(before) if before.recipe.is_file() else None
    except InputError as error:
        return f"what an earlier run in this folder spent cannot be told ({error})"
    if ledger is None:
        return ""
    if asked is not None and dataset is not None and not _may_be_same(asked, data, dataset):
        return ""
    of = "rows that may be the same" if asked is None else asked.data
    return (
        f"an earlier run in this folder spent epsilon {ledger.epsilon():.4g} at delta {ledger.delta:.3g} of {of}, which"
        f" adds to all that is spent of the same rows: {before.ledger}"
    )


def _may_be_same(asked: Asked, data: str, dataset: Dataset) -> bool:
    return same_place(asked.data, data) or same_data(asked, dataset, data)


class Search:
    """What a private search for columns has spent, until a run has a ledger of its own."""

    def __init__(self) -> None:
        self.ledger: Ledger | None = None

    def paid(self, ledger: Ledger) -> None:
        """Hear what was spent by now."""
        self.ledger = ledger

    @contextmanager
    def kept(self, run: Run, *, writes: bool) -> Iterator[None]:
        """Where what follows the search is refused, keep in the folder what it has spent, and say so.

        Raises:
            InputError, UsageError: Those of the block, with what was spent.
        """
        try:
            yield
        except (InputError, UsageError) as error:
            if self.ledger is None:
                raise
            raise type(error)(
                f"{error}. Finding the columns has spent epsilon {self.ledger.epsilon():.4g} at delta"
                f" {self.ledger.delta:.3g} of these rows all the same{_keep(run, self.ledger) if writes else ''}"
            ) from error
        except BaseException:
            if self.ledger is not None and writes:
                _keep(run, self.ledger)
            raise


def _keep(run: Run, ledger: Ledger) -> str:
    """Write a ledger beside a run, where that is possible, and say where."""
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        with run.lock():
            kept = run.next_earlier()
            kept.write_record(kept.ledger, to_data(ledger))
    except (InputError, OSError):
        return "; nothing could be written there, so keep that in mind"
    return f"; that is kept in {kept.ledger}"
