"""Schema of a private table: its search by noisy counts, and notes and warnings for the owner of the rows.

A hidden column is a column whose values cannot be told from the noise of the search; it is excluded from the model and
from all samples.

Warnings about rare values depend on the rows. They are shown to the owner only, in the terminal and on the owner's
page, and are never written to shareable files. All notes depend only on the noisy schema (charged to the ledger), on
public facts (column names, numbers of columns and rows) and on the options, never on a cell. Notes may therefore be
recorded in the run and shared. The set of hidden columns differs between runs.
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
from feller.data.tables.private_history_search import HistorySearch
from feller.data.tables.private_relations import search_relations
from feller.data.tables.private_schema_search import Charge, NoiseTooLargeError, SchemaSearchResult, search_schema
from feller.data.tables.schema import Schema
from feller.data.tables.schema_lint import public_facts, rare_words
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.accounting.zcdp import rho_from_epsilon
from feller.privacy.marginals.one_way_error import SmallBudgetWarning


def owner_notes(record: FitRecord, dataset: Dataset) -> tuple[str, ...]:
    """Return notes on the user-given schema of a private fit, for the page that only the owner of the rows sees.

    They are the facts that the schema makes public, and the warnings of `owner_warnings`. There are none if the fit is
    not private or the schema was not given by the user.
    """
    table = as_table(dataset).modality.view(Table)
    if record.provenance.private is None or record.config.data_loading.schema is None or table is None:
        return ()
    return (public_facts(table.schema), *owner_warnings(record, dataset))


def owner_warnings(record: FitRecord, dataset: Dataset) -> Iterator[str]:
    """Yield warnings about the schema of a table, for the owner of the rows only.

    They say if the schema is an unreviewed draft that was inferred from the rows, and which values in the schema occur
    in only one or two rows.
    """
    table = as_table(dataset).modality.view(Table)
    if record.provenance.draft:
        yield (
            f"{shlex.quote(str(record.config.data_loading.schema))} is still a draft, inferred from the rows, and"
            " everything in it becomes public regardless of epsilon. Keep only public facts, and remove its line"
            ' "draft": true'
        )
    rare = [] if table is None else rare_words(table.schema, dataset.values)
    if rare:
        yield (
            f"the schema lists values that occur in only one or two rows, which identifies them: {'; '.join(rare)}."
            ' Remove these values, and set "other" for the column'
        )


@contextmanager
def capture_warnings() -> Iterator[list[str]]:
    """Context manager that collects the texts of `SmallBudgetWarning` in the list it yields; other warnings are shown.

    The list is complete when the context ends.
    """
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    for warning in caught:
        if issubclass(warning.category, SmallBudgetWarning):
            messages.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


MAX_NAMED_COLUMNS = 8
"""Maximum number of column names in a message."""


def hidden_columns_note(schema: Schema, data: str, n: int, epsilon: float) -> tuple[str, ...]:
    """Return a note on the columns whose values cannot be told from the noise of a schema search.

    Such columns are hidden, that is, excluded from the model and from all samples. Without them, the result is empty.
    """
    hidden = schema.hidden_names
    if not hidden:
        return ()
    return (
        f"{join_names(hidden)} ({len(hidden)} of {len(schema.columns)} columns) excluded from the model and from all"
        f" samples: the noise of the schema search (epsilon {epsilon:.2g}, {n:,} rows) hides the contents."
        f" {advice(data)}",
    )


def rare_values_note(rare_values: Sequence[KeptWords]) -> tuple[str, ...]:
    """Return a note on rare values that were merged into one value; empty if none were merged.

    The note states the number of values that each column keeps, and the approximate number of rows below which a value
    is merged.
    """
    if not rare_values:
        return ()
    ordered = sorted(rare_values, key=lambda kept: -kept.other_fraction)
    text = "; ".join(_rare_values_text(kept) for kept in ordered[:MAX_NAMED_COLUMNS])
    more = f"; {len(ordered) - MAX_NAMED_COLUMNS} more columns" if len(ordered) > MAX_NAMED_COLUMNS else ""
    rows = max(kept.rows for kept in rare_values)
    return (f"values in fewer than about {rows:,.0f} rows are merged into {rare_values[0].other}; {text}{more}",)


def _rare_values_text(kept: KeptWords) -> str:
    values_text = "1 value" if kept.words == 1 else f"{kept.words} values"
    fraction = f"{_with_error(kept.other_fraction, kept.error)} of the cells"
    return f"{kept.column}: {values_text} kept, all others ({fraction}) merged"


def _with_error(fraction: float, error: float) -> str:
    """Format a noisy fraction with its error, such as `about 5 % ± 3 %`."""
    return f"about {fraction:.0%} ± {math.ceil(100 * error)}%"


def clipped_cells_note(beyond: Sequence[ClippedCells], data: str) -> tuple[str, ...]:
    """Return a note on columns with many cells outside the noisy bounds of the column; empty if there are none.

    Args:
        beyond: Column, bounds and noisy fraction of cells outside, for each such column.
        data: Path of the table, for the advice in the note.
    """
    if not beyond:
        return ()
    ordered = sorted(beyond, key=lambda cells: -cells.fraction)
    text = "; ".join(
        f"{cells.column}: {cells.first} to {cells.last}, {_with_error(cells.fraction, cells.error)} outside"
        for cells in ordered[:MAX_NAMED_COLUMNS]
    )
    more = f"; {len(ordered) - MAX_NAMED_COLUMNS} more columns" if len(ordered) > MAX_NAMED_COLUMNS else ""
    return (
        f"many cells lie outside the noisy bounds and are clipped or treated as missing: {text}{more}. {advice(data)}",
    )


def noise_too_large_text(hidden: Sequence[str], columns: int, n: int, sigma: float, data: str) -> str:
    """Return the error text for a schema search in which almost no column can be told from the noise."""
    names = f"{join_names(hidden)} ({len(hidden)} of {columns} columns)" if hidden else "all columns"
    return (
        f"the noise hides the contents of {names}: each count has a standard deviation of {sigma:,.0f} rows, of {n:,}."
        f" {advice(data)}"
    )


def advice(data: str) -> str:
    """Return advice on how to keep columns from being hidden by noise.

    The advice is to describe the columns in a schema, or to use more rows or a larger epsilon.

    `data` is the path of the table, which the suggested command names.
    """
    if data.startswith(IN_MEMORY_PREFIX):
        return (
            "Describe the columns (schema = feller.infer_schema(df), review it, and fit with schema=schema), or use"
            " more rows or a larger epsilon"
        )
    return (
        f"Describe the columns (feller data schema {shlex.quote(data)} --out schema.json, review it, and fit with"
        " --schema schema.json), or use more rows or a larger --epsilon"
    )


def join_names(names: Sequence[str]) -> str:
    """Join column names, abbreviated after `MAX_NAMED_COLUMNS`."""
    n_more = len(names) - MAX_NAMED_COLUMNS
    return f"{', '.join(names[:MAX_NAMED_COLUMNS])} and {n_more} more" if n_more > 0 else ", ".join(names)


TABLE_SUFFIXES = (".csv", ".tsv", ".gz", ".parquet")
"""Suffixes of table files whose schema can be inferred with differential privacy."""
SCHEMA_BUDGET_FRACTION = 0.1
"""Fraction of the zCDP budget, and of delta, that the schema search spends."""
QUERIES_PER_COLUMN = 4
"""Maximum number of noisy queries per column in the schema search."""
RELATIONS_BUDGET_FRACTION = 0.05
"""Maximum fraction of the zCDP budget that the search for relations between columns spends, besides
`SCHEMA_BUDGET_FRACTION`."""


@dataclass(frozen=True, eq=False)
class SchemaCost:
    """Cost and results of a private schema search."""

    expenses: tuple[DpEvent, ...] = ()
    delta: float = 0.0
    """Part of delta that the search spends: the probability of releasing a value that only one row has."""
    rare_values: tuple[KeptWords, ...] = ()
    """For each column, the rare values that were merged, as determined from noisy counts."""
    clipped: tuple[ClippedCells, ...] = ()
    """Columns with cells outside the bounds of the column, as determined from noisy counts."""
    notes: tuple[str, ...] = ()
    """Notes on columns whose values were grouped, or that are related, which depend on noisy counts only."""


def find_schema(
    privacy: PrivacyConfig,
    cells: RawTable,
    data: str,
    on_spending: Callable[[Ledger], None] = lambda ledger: None,
    keep: Sequence[str] = (),
) -> tuple[Schema, SchemaCost]:
    """Infer the schema of a table from noisy counts; return the schema and the cost of the search.

    Args:
        privacy: Privacy options.
        cells: Cells of the table as text.
        data: Path of the table, for messages.
        on_spending: Function called with a ledger of the maximum privacy cost before any row is read, and with a ledger
            of the actual cost afterwards.
        keep: Names of columns that are not computed from others, such as a target.

    Raises:
        UsageError: If delta is unsuitable for the number of rows.
        InputError: If the noise hides all columns or all but one; only the queries made before the error are charged.
    """
    n, k = len(cells.values), len(cells.columns)

    def search(sigma: float, delta: float) -> SchemaSearchResult:
        found = search_schema(cells, sigma, delta, privacy.noise_source("columns"))
        rho = RELATIONS_BUDGET_FRACTION * rho_from_epsilon(privacy.max_epsilon, privacy.delta_for(n))
        related = search_relations(cells, found.schema, rho, privacy.noise_source("relations"), keep)
        return found._replace(schema=related.schema, charges=(*found.charges, *related.charges), notes=related.notes)

    return _paid_search(privacy, search, n, k, QUERIES_PER_COLUMN * k, data, on_spending, RELATIONS_BUDGET_FRACTION)


def find_history_schema(
    privacy: PrivacyConfig,
    cells: RawTable,
    request: HistorySearch,
    data: str,
    on_spending: Callable[[Ledger], None] = lambda ledger: None,
) -> tuple[Schema, SchemaCost]:
    """Infer the schema of a table with several rows per person, as `find_schema`; the cost is that of persons.

    Raises:
        UsageError: If delta is unsuitable for the number of persons.
        InputError: If rows cannot be grouped or sorted, which is checked before anything is spent; or if the noise
            hides the columns.
    """
    n = request.check(cells)

    def search(sigma: float, delta: float) -> SchemaSearchResult:
        return request.search(cells, sigma, delta, privacy.noise_source("columns"))

    return _paid_search(privacy, search, n, len(cells.columns), request.num_queries(cells), data, on_spending)


def _paid_search(
    privacy: PrivacyConfig,
    search: Callable[[float, float], SchemaSearchResult],
    n: int,
    k: int,
    queries: int,
    data: str,
    on_spending: Callable[[Ledger], None],
    relations_fraction: float = 0.0,
) -> tuple[Schema, SchemaCost]:
    """Search a schema with the noise for a number of queries, and record its cost before and after.

    Args:
        privacy: Privacy options.
        search: Function (standard deviation of the noise, delta) -> result.
        n: Number of rows or persons.
        k: Number of columns.
        queries: Maximum number of counts to which a row or person contributes once each.
        data: Path of the table, for messages.
        on_spending: Function called with a ledger of the maximum cost before the search, and of the actual cost after.
        relations_fraction: Maximum fraction of the zCDP budget for relations between columns; 0 if none are searched.
    """
    delta = privacy.delta_for(n)
    rho = rho_from_epsilon(privacy.max_epsilon, delta)
    sigma = math.sqrt(queries / (2 * SCHEMA_BUDGET_FRACTION * rho))
    max_costs = [GaussianMechanism("finding the columns", sigma / math.sqrt(queries))]
    if relations_fraction:
        max_costs.append(GaussianMechanism("finding relations", math.sqrt(1 / (2 * relations_fraction * rho))))
    on_spending(Ledger(tuple(max_costs), delta, n, SCHEMA_BUDGET_FRACTION * delta))

    def pay(charges: tuple[Charge, ...]) -> SchemaCost:
        events = tuple(GaussianMechanism(charge.label, charge.sigma) for charge in charges)
        cost = SchemaCost(events, sum(charge.delta for charge in charges))
        on_spending(Ledger(cost.expenses, delta, n, cost.delta))
        return cost

    try:
        schema, charges, rare_values, clipped, notes = search(sigma, SCHEMA_BUDGET_FRACTION * delta)
    except NoiseTooLargeError as error:
        pay(error.charges)
        raise InputError(noise_too_large_text(error.hidden_columns, k, n, sigma, data)) from error
    return schema, replace(pay(charges), rare_values=rare_values, clipped=clipped, notes=notes)
