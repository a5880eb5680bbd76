"""Rows of tables that are linked by keys, grouped by person: each row directly before the rows that belong to it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow
from jaxtyping import Int64

from feller.core.errors import InputError
from feller.data.loading.raw import RawTable, RawTables
from feller.data.tables.dates import Datetime
from feller.data.tables.linked_schema import ForeignKey, Links, TableKeys
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.transforms import cells_of, read_values

NO_PARENT = -1


@dataclass(frozen=True, eq=False)
class LinkedRows:
    """Rows of all tables except the persons, one person after the other."""

    child: Int64[np.ndarray, " m"]
    """Index of the table of each row, in `Links.tables`."""
    index: Int64[np.ndarray, " m"]
    """Index of each row in its table."""
    person: Int64[np.ndarray, " m"]
    """Index of the person of each row."""
    step: Int64[np.ndarray, " m"]
    """Index of each row within its person."""
    parent: Int64[np.ndarray, " m"]
    """Index, in its table, of the row to which each row belongs."""
    num_dropped: int
    """Number of rows after the maximum number of rows of their person."""


def linked_rows(raw: RawTables, links: Links, schemas: Sequence[Schema], max_rows: int) -> LinkedRows:
    """Group the rows of linked tables by person, at most `max_rows` per person.

    Args:
        raw: Tables, with their own column names.
        links: Generated tables and their keys.
        schemas: Schema of each generated table, with the column names of `Links.prefixed`.
        max_rows: Maximum number of rows per person.

    Raises:
        InputError: If keys are empty or not unique, or a foreign key refers to no row; it names table, column and row.
    """
    tables = [raw.table(table.name) for table in links.tables]
    for table, cells in zip(links.tables, tables, strict=True):
        _check_primary_key(table, cells)
    for lookup in links.lookups:
        if lookup.name in raw.tables:
            _check_primary_key(lookup, raw.table(lookup.name))
    for key in links.persons.foreign_keys:
        _referenced(raw, links.persons, key, links)
    paths = [np.zeros((len(tables[0].values), 0), dtype=np.int64)]
    people = [np.arange(len(tables[0].values))]
    above = [people[0]]
    for child, table in enumerate(links.children, 1):
        parents = _parents(raw, links, child, above)
        parent = links.parents[child - 1]
        rank = _ranks(tables[child], schemas[child], table, links.prefixed(child))
        own = np.stack([np.full(len(rank), child), rank], 1)
        paths.append(np.concatenate([paths[parent][parents], own], 1))
        people.append(people[parent][parents])
        above.append(parents)
    depth = max(path.shape[1] for path in paths)
    path = np.concatenate([np.pad(p, ((0, 0), (0, depth - p.shape[1])), constant_values=-1) for p in paths[1:]])
    child = np.concatenate([np.full(len(people[i]), i) for i in range(1, len(people))])
    index = np.concatenate([np.arange(len(people[i])) for i in range(1, len(people))])
    person = np.concatenate(people[1:])
    order = np.lexsort([*path.T[::-1], person])
    child, index, person, parent = (x[order] for x in (child, index, person, np.concatenate(above[1:])))
    counts = np.bincount(person, minlength=len(people[0]))
    step = np.arange(len(person)) - (counts.cumsum() - counts)[person]
    kept = step < max_rows
    return LinkedRows(child[kept], index[kept], person[kept], step[kept], parent[kept], int((~kept).sum()))


def _check_primary_key(table: TableKeys, raw: RawTable) -> None:
    if not table.primary_key:
        return
    cells = _key_cells(raw, table.primary_key, table)
    duplicated = cells.duplicated()
    if duplicated.any():
        row = int(np.asarray(duplicated).argmax())
        raise InputError(
            f"a primary key that no other row of {table.name} has",
            _shown(cells, row),
            "Remove the row, or correct the key",
            **raw.error_fields(row),
            place=table.name,
            column=", ".join(table.primary_key),
        )


def _key_cells(raw: RawTable, names: Sequence[str], table: TableKeys, *, may_be_empty: bool = False) -> pd.Index:
    """Return the cells of key columns, of each row together; InputError for an empty cell."""
    columns = []
    for name in names:
        if name not in raw.columns:
            raise InputError.unknown_name("key column", name, raw.columns).with_context(place=table.name)
        cells = cells_of(raw, name)
        is_empty = np.asarray(pyarrow.compute.equal(pyarrow.compute.utf8_trim_whitespace(cells), ""))  # pyrefly: ignore
        if is_empty.any() and not may_be_empty:
            row = int(is_empty.argmax())
            raise InputError(
                "a key", "an empty cell", "Remove the row, or fill in the key",
                **raw.error_fields(row), place=table.name, column=name,
            )  # fmt: skip
        columns.append(cells.to_pandas())
    return pd.Index(columns[0]) if len(columns) == 1 else pd.MultiIndex.from_arrays(columns)


def _shown(keys: pd.Index, row: int) -> str:
    key = keys[row]
    return repr(", ".join(key) if isinstance(key, tuple) else key)[:60]


def _parents(
    raw: RawTables, links: Links, child: int, above: Sequence[Int64[np.ndarray, " _"]]
) -> Int64[np.ndarray, " m"]:
    """Return the index of the parent of each row of a child table, after a check of all of its foreign keys.

    `above` holds the index of the parent of each row of the tables before the child table.
    """
    table = links.tables[child]
    parent = links.tables[links.parents[child - 1]]
    found = {key: _referenced(raw, table, key, links) for key in table.foreign_keys}
    for key in table.foreign_keys:
        if key.table == parent.name:
            _check_ancestors(raw, links, child, found, found[key], above)
            return found[key]
    raise AssertionError("a child table without a key to its parent")


def _referenced(raw: RawTables, table: TableKeys, key: ForeignKey, links: Links) -> Int64[np.ndarray, " m"]:
    """Return the index of the row to which each foreign key refers; InputError for a key without a row."""
    other = next(t for t in (*links.tables, *links.lookups) if t.name == key.table)
    is_lookup = other in links.lookups
    cells = _key_cells(raw.table(table.name), key.columns, table, may_be_empty=is_lookup)
    if other.name not in raw.tables:
        return np.full(len(cells), NO_PARENT)
    index = _key_cells(raw.table(other.name), other.primary_key, other).get_indexer(cells)
    is_orphan = index < 0
    if is_lookup:  # a key of public facts may be missing
        is_orphan &= np.array([any(part != "" for part in (c if isinstance(c, tuple) else (c,))) for c in cells])
    if is_orphan.any():
        row = int(is_orphan.argmax())
        raise InputError(
            f"a key of {other.name}",
            f"{_shown(cells, row)}, which no row of {other.name} has",
            "Remove the row, or add the missing row",
            **raw.table(table.name).error_fields(row),
            place=table.name,
            column=", ".join(key.columns),
        )
    return index.astype(np.int64)


def _check_ancestors(
    raw: RawTables,
    links: Links,
    child: int,
    found: dict[ForeignKey, np.ndarray],
    parents: np.ndarray,
    above: Sequence[np.ndarray],
) -> None:
    """Raise an InputError if a row refers to another ancestor than its parent does."""
    ancestors, index = links.ancestors(child), parents
    table = links.tables[child]
    for below, ancestor in itertools.pairwise(ancestors):
        index = above[below][index]
        for own, rows in found.items():
            if own.table == links.tables[ancestor].name and (rows != index).any():
                row = int((rows != index).argmax())
                raise InputError(
                    f"the row of {own.table} to which the row of {links.tables[ancestors[0]].name} belongs",
                    "another",
                    "Correct the key, or skip its column and remove the foreign key",
                    **raw.table(table.name).error_fields(row),
                    place=table.name,
                    column=", ".join(own.columns),
                )


def _ranks(raw: RawTable, schema: Schema, table: TableKeys, names: dict[str, str]) -> Int64[np.ndarray, " m"]:
    """Return the rank of each row of a table in its order; rows without a value come first."""
    if table.order is None:
        return np.arange(len(raw.values))
    column = schema.text_forms[names[table.order]]
    if not isinstance(column, Numerical | Datetime):
        raise InputError(
            "numbers or dates, by which rows can be sorted",
            "another kind of column",
            place=table.name,
            column=table.order,
        )
    has_value, values = read_values(cells_of(raw, table.order), column)
    order = np.lexsort([np.arange(len(values)), values, has_value])
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank
