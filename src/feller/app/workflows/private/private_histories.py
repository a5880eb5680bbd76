"""Private fits of tables with several rows per person without a schema: search, placeholder and notes."""

from collections.abc import Sequence

import torch

from feller.app.workflows.private.table_schema import join_names
from feller.app.workflows.run_config import FitRecord
from feller.data.modality import Dataset
from feller.data.tables.column import Boolean
from feller.data.tables.histories import Histories
from feller.data.tables.history_schema import HistorySchema
from feller.data.tables.modality import Table
from feller.data.tables.private_history_search import HistorySearch
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Identifier


def history_search_of(record: FitRecord) -> HistorySearch | None:
    """Return the search for the description of a table with several rows per person; None for other tables."""
    columns = record.config.data_loading.histories
    return None if columns.person is None else HistorySearch(columns.person, columns.order, columns.max_rows)


def placeholder_data(names: Sequence[str], n: int, search: HistorySearch | None) -> Dataset:
    """Return a data set of the same size and kind as the private one, which depends on no cell."""
    if search is None:
        table = Table(Schema(tuple(Boolean(name) for name in names)))
        return Dataset(torch.zeros(n, len(names), dtype=torch.int64), {}, table)
    columns = tuple(Identifier(name) if name == search.person else Boolean(name) for name in names)
    schema = Schema(columns, unit=search.person, history=HistorySchema(max_rows=2))
    return Dataset(torch.zeros(n, 1 + 2 * (len(names) - 1), dtype=torch.int64), {}, Histories(schema))


def history_note(schema: Schema) -> tuple[str, ...]:
    """Return a note on the attributes and the number of rows that noisy counts have found; empty without a history."""
    if (history := schema.history) is None:
        return ()
    listed = join_names(history.attributes) if history.attributes else "none"
    return (
        f"columns with one value per {schema.unit}, by noisy counts: {listed}; at most {history.max_rows} rows of each"
        f" {schema.unit} are used",
    )
