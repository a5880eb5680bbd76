"""Schema of a private table: found by noisy counts, hidden columns, and warnings on a public one.

Which words few rows have depends on the rows, so that it is said to the owner alone, on the terminal and on the page,
and never written into what may be given away.

All of it follows from the schema that was found, that is from noisy counts that the ledger charges, from names and
number of the columns and the number of rows, which are public, and from what was asked: never from a cell. So it may
be said, written into the run, and given away with the model; which columns are hidden differs from run to run.
"""

import math
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.run_config import FitRecord
from feller.core.errors import InputError
from feller.data.loading.in_memory import IN_MEMORY_PREFIX
from feller.data.loading.raw import RawTable
from feller.data.modality import Dataset
from feller.data.tables.clipped_cells import ClippedCells, KeptWords
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table
from feller.data.tables.private_schema_search import Charge, NoiseTooLargeError, search_schema
from feller.data.tables.schema import Schema
from feller.data.tables.schema_lint import public_facts, rare_words
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.accounting.zcdp import rho_from_epsilon
from feller.privacy.marginals.one_way_error import SmallBudgetWarning


def owner_notes(record: FitRecord, dataset: Dataset) -> tuple[str, ...]:
    """Return what the page of a private fit says of its schema: what that makes public, and the warnings again."""
    table = as_table(dataset).modality.view(Table)
    if record.provenance.private is None or record.config.data_loading.schema is None or table is None:
        return ()
    return (public_facts(table.schema), *beware(record, dataset))


def beware(record: FitRecord, dataset: Dataset) -> Iterator[str]:
    """Warn the owner of a draft, and of words that one row or two have, before anything is spent.

    Args:
        record: With the name of the schema's file, and whether that is marked as a draft.
        dataset: The table, as it was read by that.
    """
    table = as_table(dataset).modality.view(Table)
    if table is None:
        return
    if record.provenance.draft:
        yield (
            f"{shlex.quote(str(record.config.data_loading.schema))} is still a draft, guessed from the rows: all that"
            " it says"
            ' is public, whatever epsilon is. Keep what is known without the rows, and take out its line "draft": true'
        )
    few = rare_words(table.schema, dataset.values)
    if few:
        yield (
            f"the schema lists words that one row or two have, which points at these people: {'; '.join(few)}. Take"
            ' them out, and give the column an "other"'
        )


@contextmanager
def capture_warnings() -> Iterator[list[str]]:
    """Collect what small budgets are warned of meanwhile, instead of showing it; other warnings go on as they are.

    The list is complete when the context ends.
    """
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    for one in caught:
        if issubclass(one.category, SmallBudgetWarning):
            messages.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


MAX_NAMED_COLUMNS = 8
"""Columns that are named."""


def hidden_columns_note(schema: Schema, data: str, n: int, epsilon: float) -> tuple[str, ...]:
    """Say which columns noise hid, what becomes of them, and what to do; nothing where it hid none.

    Args:
        schema: That was found.
        data: File with the table.
        n: Rows that were looked at.
        epsilon: What looking has spent.
    """
    hidden = schema.hidden_names
    if not hidden:
        return ()
    return (
        f"noise hid what {join_names(hidden)} {'hold' if len(hidden) > 1 else 'holds'} ({len(hidden)} of"
        f" {len(schema.columns)} columns), of {n:,} rows at epsilon {epsilon:.2g} for looking: left out of the model"
        f" and of all samples. {advice(data)}",
    )


def rare_values_note(rare_values: Sequence[KeptWords]) -> tuple[str, ...]:
    """Say of which columns rare words are merged, how many there are kept of each, and from how many rows on.

    Args:
        rare_values: Of each column of words.
    """
    if not rare_values:
        return ()
    order = sorted(rare_values, key=lambda one: -(one.other_fraction or 0.0))
    named = "; ".join(_rare_values_text(one) for one in order[:MAX_NAMED_COLUMNS])
    more = f"; and so on in {len(order) - MAX_NAMED_COLUMNS} more columns" if len(order) > MAX_NAMED_COLUMNS else ""
    rows = max(one.rows for one in rare_values)
    return (f"words of fewer than about {rows:,.0f} rows are {rare_values[0].other}; {named}{more}",)


def _rare_values_text(one: KeptWords) -> str:
    """Tell of one column."""
    words = "1 word" if one.words == 1 else f"{one.words} words"
    if one.other_fraction is None:
        return f"{one.column}: {words} kept, noise hides how many cells hold others"
    return f"{one.column}: {words} kept, all others (about {one.other_fraction:.0%} of its cells) are {one.other}"


def clipped_cells_note(beyond: Sequence[ClippedCells], data: str) -> tuple[str, ...]:
    """Say of which columns many cells lie beyond the bounds that were found, and what to do.

    Args:
        beyond: Of each such column.
        data: File with the table.
    """
    if not beyond:
        return ()
    order = sorted(beyond, key=lambda one: -one.fraction)
    named = "; ".join(
        f"{one.column}: {one.first} to {one.last}, about {one.fraction:.0%} beyond" for one in order[:MAX_NAMED_COLUMNS]
    )
    more = f"; and so on in {len(order) - MAX_NAMED_COLUMNS} more columns" if len(order) > MAX_NAMED_COLUMNS else ""
    return (
        f"bounds that were found leave much out, which is read as the nearest bound or as empty: {named}{more}."
        f" {advice(data)}",
    )


def noise_too_large_text(hidden: Sequence[str], columns: int, n: int, sigma: float, data: str) -> str:
    """Say that noise left too little to learn.

    Args:
        hidden: Columns that it hid.
        columns: All there are.
        n: Rows that were looked at.
        sigma: Deviation of the noise on each count, in rows.
        data: File with the table.
    """
    which = f"{join_names(hidden)} ({len(hidden)} of {columns} columns)" if hidden else "all columns"
    return (
        f"noise hid what {which} hold: each count of {n:,} rows is off by about {sigma:,.0f}, so that there is nothing"
        f" to learn and samples would be empty. {advice(data)}"
    )


def advice(data: str) -> str:
    """Say what to do about it."""
    if data.startswith(IN_MEMORY_PREFIX):
        return (
            "Describe the columns (schema = feller.infer_schema(df), look through it, and fit with schema=schema), or"
            " take more rows or a larger epsilon"
        )
    return (
        f"Describe the columns (feller data schema {shlex.quote(data)} --out schema.json, look through it, and fit with"
        " --schema schema.json), or take more rows or a larger --epsilon"
    )


def join_names(names: Sequence[str]) -> str:
    """Name columns, not all of many."""
    more = len(names) - MAX_NAMED_COLUMNS
    return f"{', '.join(names[:MAX_NAMED_COLUMNS])} and {more} more" if more > 0 else ", ".join(names)


TABLE_SUFFIXES = (".csv", ".tsv", ".gz", ".parquet")
"""Files whose columns are found privately."""
SCHEMA_BUDGET_FRACTION = 0.1
"""Share of the budget, in rho, and of delta, that finding columns takes, where no schema says what they are."""
QUERIES_PER_COLUMN = 3
"""How often a column is counted for that, at most."""


@dataclass(frozen=True, eq=False)
class SchemaCost:
    """What was paid for columns that no schema described."""

    expenses: tuple[DpEvent, ...] = ()
    delta: float = 0.0
    """Chance that a word of one row alone was told."""
    rare_values: tuple[KeptWords, ...] = ()
    """What becomes of rare words, by the counts that were paid for."""
    clipped: tuple[ClippedCells, ...] = ()
    """What lies beyond bounds, by the same counts."""


def find_schema(
    privacy: PrivacyConfig, cells: RawTable, data: str, on_spending: Callable[[Ledger], None] = lambda ledger: None
) -> tuple[Schema, SchemaCost]:
    """Find what the columns of a table hold, with noise.

    Args:
        privacy: How private.
        cells: The table.
        data: Where it was read.
        on_spending: Hears the most that it can cost before a row is looked at, and then what it did.

    Raises:
        UsageError: If delta does not suit so many rows.
        InputError: If the noise hides all columns, or all but one; where their kinds are hidden, nothing else is spent.
    """
    n, k = len(cells.values), len(cells.columns)
    delta = privacy.delta_for(n)
    sigma = math.sqrt(
        QUERIES_PER_COLUMN * k / (2 * SCHEMA_BUDGET_FRACTION * rho_from_epsilon(privacy.max_epsilon, delta))
    )
    whole = GaussianMechanism("finding the columns", sigma / math.sqrt(QUERIES_PER_COLUMN * k))
    on_spending(Ledger((whole,), delta, n, SCHEMA_BUDGET_FRACTION * delta))

    def pay(charges: tuple[Charge, ...]) -> SchemaCost:
        spent = tuple(GaussianMechanism(charge.label, charge.sigma) for charge in charges)
        charged = SchemaCost(spent, sum(charge.delta for charge in charges))
        on_spending(Ledger(charged.expenses, delta, n, charged.delta))
        return charged

    try:
        schema, charges, rare_values, far = search_schema(
            cells, sigma, SCHEMA_BUDGET_FRACTION * delta, privacy.noise_source("columns")
        )
    except NoiseTooLargeError as drowned:
        pay(drowned.charges)
        raise InputError(noise_too_large_text(drowned.hidden_columns, k, n, sigma, data)) from drowned
    return schema, replace(pay(charges), rare_values=rare_values, clipped=far)
