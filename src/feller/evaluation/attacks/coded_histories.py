"""Persons with all of their rows as codes, for attacks on synthetic histories."""

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.data.modality import Dataset
from feller.data.tables.column import ModelledColumn
from feller.data.tables.histories import Histories
from feller.data.tables.modality import Table
from feller.evaluation.attacks.coded_tables import CodedTables

MAX_COLUMNS = 40
"""Maximum number of columns, unless the attributes and a single row have more: attacks use the first rows."""


def num_coded_rows(modality: Histories) -> int:
    """Return the number of rows of each person that attacks use."""
    a, k = len(modality.persons.counts), len(modality.rows.counts)
    return min(modality.history.max_rows, max(1, (MAX_COLUMNS - a) // k))


def coded_columns(modality: Histories) -> tuple[str, ...]:
    """Return the names of the columns of `coded_persons`."""
    names = [column.name for column in modality.persons.schema.modelled]
    rows = [column.name for column in modality.rows.schema.modelled]
    return (*names, *(f"{name}, row {i + 1}" for i in range(num_coded_rows(modality)) for name in rows))


def coded_persons(modality: Histories, values: Int64[Tensor, "n codes"]) -> Int64[Tensor, "n columns"]:
    """Return the levels of the attributes of each person and of their first rows.

    A column that may be missing, and each column of rows, has a last code: missing, or no such row.
    """
    attributes, rows = modality.split(values)
    lengths = modality.lengths(values)
    parts = [modality.persons.to_levels(attributes)]
    sizes = torch.tensor([_values_of(column) for column in modality.rows.schema.modelled])
    for step in range(num_coded_rows(modality)):
        levels = torch.minimum(modality.rows.to_levels(rows[:, step]), sizes)
        parts.append(torch.where((lengths > step)[:, None], levels, sizes))
    return torch.cat(parts, 1)


def coded_histories(modality: Histories, samples: Dataset, train: Dataset, held_out: Dataset) -> CodedTables:
    """Return the codes of synthetic persons, of training persons and of held-out persons."""
    persons, rows = modality.persons.schema.modelled, modality.rows.schema.modelled
    steps = num_coded_rows(modality)
    synthetic, members, unseen = (coded_persons(modality, data.values).numpy() for data in (samples, train, held_out))
    counts = (*(len(column.level_names) for column in persons), *[_values_of(column) + 1 for column in rows] * steps)
    return CodedTables(
        synthetic,
        members,
        unseen,
        counts,
        (*(column.is_ordered for column in persons), *[column.is_ordered for column in rows] * steps),
        (*(column.missing is not None for column in persons), *[True] * (len(rows) * steps)),
    )


def persons_dataset(data: Dataset, modality: Histories) -> Dataset:
    """Return the attributes of persons as rows of a table."""
    return Dataset(modality.split(data.values)[0], {}, Table(modality.persons.schema))


def _values_of(column: ModelledColumn) -> int:
    return len(column.level_names) - (column.missing is not None)
