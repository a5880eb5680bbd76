"""Private grouping of the values of wide categorical columns, whose counts the noise would hide."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.table_schema import SCHEMA_BUDGET_FRACTION, SchemaCost, join_names
from feller.data.loading.raw import text_array
from feller.data.modality import Dataset
from feller.data.tables.column import Categorical, ModelledColumn
from feller.data.tables.modality import Table
from feller.data.tables.private_groups import group_values, prefix_lengths
from feller.data.tables.private_support import NoisyCounter
from feller.data.tables.rules import named_values
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Derived
from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.accounting.zcdp import rho_from_epsilon
from feller.privacy.marginals.one_way_error import one_way_sigma

WIDE = 100
"""Number of values up to which a column is never grouped."""
ROWS_PER_VALUE = 5.0
"""Mean number of rows per value, in standard deviations of the noise on one-way counts, below which a column is
grouped."""
LABEL = "values of wide columns"
"""Label of the charge in the ledger."""


def wide_columns(schema: Schema, privacy: PrivacyConfig, n: int) -> tuple[str, ...]:
    """Return the names of the categorical columns with more values than the noise permits; it depends on no row."""
    sigma = one_way_sigma(privacy.max_epsilon, privacy.delta_for(n), len(schema.modelled))
    limit = max(WIDE, n / (ROWS_PER_VALUE * sigma))
    sources = {column.source for column in schema.columns if isinstance(column, Derived)}
    return tuple(
        column.name
        for column in schema.modelled
        if isinstance(column, Categorical) and column.num_values > limit and column.name not in sources
    )


def group_wide_columns(
    privacy: PrivacyConfig, dataset: Dataset, table: Table, on_spending: Callable[[Ledger], None]
) -> tuple[Dataset, SchemaCost]:
    """Group the values of wide columns by noisy counts; return the data set with new codes, and the cost.

    The counts spend as much of the budget as a schema search, and nothing if no column is wide.

    Args:
        privacy: Privacy options.
        dataset: Rows, one per unit of privacy.
        table: Modality of the rows.
        on_spending: Function called with a ledger of the cost before any row is counted.
    """
    schema, n = table.schema, len(dataset)
    names = wide_columns(schema, privacy, n)
    if not names:
        return dataset, SchemaCost()
    delta = privacy.delta_for(n)
    rho = SCHEMA_BUDGET_FRACTION * rho_from_epsilon(privacy.max_epsilon, delta)
    lengths = {name: prefix_lengths(_words(schema, name)) for name in names}
    num_queries = sum(1 + len(prefixes) for prefixes in lengths.values())
    sigma = math.sqrt(num_queries / (2 * rho))
    expenses = (GaussianMechanism(LABEL, sigma / math.sqrt(num_queries)),)
    on_spending(Ledger(expenses, delta, n, 0.0))
    noisy = NoisyCounter(sigma, privacy.noise_source("wide columns"))
    columns: dict[str, ModelledColumn] = {}
    values, notes = dataset.values.clone(), []
    for name in names:
        j = schema.place(name)
        column, words = _categorical(schema, name), _words(schema, name)
        exact = values[:, j].bincount(minlength=column.num_codes).tolist()[: len(words)]
        counts = {str(word): count for word, count in noisy.counts(words, words, exact).items()}
        prefix_counts: dict[str, float] = {}
        for length in lengths[name]:
            prefixes = [word[:length] for word in words]
            found = noisy.counts(prefixes, tuple(dict.fromkeys(prefixes)), exact)
            prefix_counts |= {str(prefix): count for prefix, count in found.items()}
        named = [pair for rule in schema.rules for pair in named_values(rule)]
        kept = {value for column_name, value in named if column_name == name}
        grouped = group_values(column, counts, prefix_counts, sigma, kept)
        new_codes = grouped.value_codes(text_array(words)).tolist()
        new_codes += [grouped.num_values] * (column.missing is not None)
        values[:, j] = torch.tensor(new_codes)[values[:, j]]
        columns[name] = grouped
        notes.append(f"{name}: {len(words):,} values, {len(grouped.values):,} kept and {len(grouped.groups):,} groups")
    merged = replace(schema, columns=tuple(columns.get(column.name, column) for column in schema.columns))
    note = (
        f"values of {join_names(names)} are grouped, because the noise hides their counts; samples of a group are any"
        f" of its values ({'; '.join(notes)})"
    )
    grouped_data = replace(dataset, values=values, modality=replace(table, schema=merged))
    return grouped_data, SchemaCost(expenses, notes=(note,))


def _categorical(schema: Schema, name: str) -> Categorical:
    column = schema.modelled[schema.place(name)]
    if not isinstance(column, Categorical):
        raise TypeError(f"expected a categorical column, found {type(column).__name__}")
    return column


def _words(schema: Schema, name: str) -> tuple[str, ...]:
    return _categorical(schema, name).value_names
