"""Detection of the keys of several tables from their cells; the result depends on the rows, and is not private."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from feller.core.errors import InputError, error_context
from feller.data.loading.raw import RawTable, RawTables
from feller.data.tables.column import Categorical, Column
from feller.data.tables.dates import Datetime
from feller.data.tables.history_schema import MAX_ROWS
from feller.data.tables.linked_rows import LinkedRows, linked_rows
from feller.data.tables.linked_schema import ForeignKey, LinkedSchema, TableKeys, schemas_of
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical, numerical_column
from feller.data.tables.relations import with_relations
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import detect_columns
from feller.data.tables.transforms import cells_of, read_values
from feller.data.tables.unmodelled_columns import Identifier

KEY_ENDINGS = ("id", "key", "no", "nr", "number", "code", "uuid")
"""Endings of the names of key columns."""


def detect_linked_schema(
    raw: RawTables, persons: str | None = None, order: str | None = None, max_rows: int | None = None
) -> LinkedSchema:
    """Return the schemas of tables and their keys, as detected from names and cells.

    A primary key is a column of distinct cells whose name sounds like a key. A foreign key is a column whose name is
    that of a primary key, or of its table, and whose cells are cells of that key.

    Args:
        raw: Tables.
        persons: Name of the table with one row per person (default: the table to which most rows belong).
        order: Column by which the rows of a parent are sorted, as TABLE.COLUMN, or COLUMN of all tables that have it.
        max_rows: Maximum number of rows per person (default: that of the tables, but at most `MAX_ROWS`).

    Raises:
        InputError: If no table is linked to the persons, or a name is unknown.
    """
    if persons is not None and persons not in raw.tables:
        raise InputError.unknown_name("person", persons, raw.tables, alternatives=" of the folder")
    for name, table in raw.tables.items():
        if not len(table.values):
            raise InputError("rows", "none", "Leave the table out", place=name)
    declared = {name: keys.primary_key for name, keys in raw.keys.items() if keys.primary_key}
    primary = {name: declared.get(name) or _primary_key(name, raw, name == persons) for name in raw.tables}
    foreign = {name: _all_foreign_keys(name, raw, primary) for name in raw.tables}
    primary = {name: key or _composite_key(raw.tables[name], foreign[name]) for name, key in primary.items()}
    root = persons or _root(raw, primary, foreign)
    generated = {root}
    while added := {name for name in raw.tables if any(k.table in generated for k in foreign[name])} - generated:
        generated |= added
    if generated == {root}:
        raise _unlinked(raw)
    sorted_by = _orders(raw, order, generated - {root})
    keys, schemas = [], {}
    for name, table in raw.tables.items():
        if name not in generated:
            keys.append(TableKeys(name, (), primary[name]))
            continue
        own = tuple(key for key in foreign[name] if name != root or key.table not in generated)
        keys.append(TableKeys(name, table.columns, primary[name], own, sorted_by.get(name)))
        with error_context(place=name):
            schemas[name] = _schema(raw, keys[-1], generated, primary)
    limit = MAX_ROWS if max_rows is None else max_rows
    schema = LinkedSchema(root, tuple(keys), schemas, limit)
    parts = tuple(schemas_of(schema.flat, schema.links))
    rows = linked_rows(raw, schema.links, parts, limit)
    with_gaps = tuple(replace(key, gap=_gap(raw, schema, parts, rows, key)) for key in keys)
    longest = int(rows.step.max(initial=1)) + 1
    return replace(schema, keys=with_gaps, max_rows=longest if max_rows is None else max_rows)


def _gap(
    raw: RawTables, schema: LinkedSchema, parts: Sequence[Schema], rows: LinkedRows, keys: TableKeys
) -> Numerical | None:
    """Return bounds and bins of the differences of the order column of a child table.

    None if there is no order, or a cell is missing, or no parent has several rows, or a rule has the column.
    """
    if keys.order is None or any(len(r.names) > 1 and keys.order in r.names for r in schema.schemas[keys.name].rules):
        return None
    child = schema.links.tables.index(keys)
    column = parts[child].by_name[f"{keys.name}.{keys.order}"]
    if not isinstance(column, Numerical | Datetime) or column.missing is not None:
        return None
    values = read_values(cells_of(raw.table(keys.name), keys.order), column)[1]
    own = rows.child == child
    is_next = rows.parent[own][1:] == rows.parent[own][:-1]
    units, counts = np.unique(np.diff(values[rows.index[own]])[is_next], return_counts=True)
    if not len(units):
        return None
    form = NumberFormat(column.form.decimals) if isinstance(column, Numerical) else NumberFormat()
    return numerical_column(keys.order, units, counts.astype(np.int64), form)


def _primary_key(name: str, raw: RawTables, is_persons: bool) -> tuple[str, ...]:
    """Return the column whose cells identify the rows of a table, by its name and cells; empty if there is none.

    `is_persons` is True if the table is known to have one row per person, so that it has a key even if a cell repeats.
    """
    table, fraction = raw.tables[name], 0.9 if is_persons else 1.0
    found = [column for column in table.columns if _sounds_like_key(column, name) and _is_unique(table, column)]
    if not found:  # repeated keys are an error of their own
        found = [column for column in table.columns if _names_table(column, name) and _is_unique(table, column, 0.9)]
    if not found:  # a column of texts that another table has as well
        others = [other for other in raw.tables if other != name]
        found = [
            c for c in table.columns if _is_unique(table, c, fraction) and any(_holds(raw, o, c, name) for o in others)
        ]
    return (min(found, key=lambda column: not _names_table(column, name)),) if found else ()


def _holds(raw: RawTables, name: str, column: str, other: str) -> bool:
    """Return True if a table has a column of this name, and most of its cells are cells of the other table."""
    if column not in raw.tables[name].columns:
        return False
    cells, known = (cells_of(raw.tables[table], column).unique() for table in (name, other))
    return bool(np.isin(cells.to_pylist(), known.to_pylist()).mean() > 0.5)


def _sounds_like_key(column: str, table: str) -> bool:
    words = column.lower().replace("-", "_").split("_")
    return words[-1] in KEY_ENDINGS or column.lower().endswith(("id", "key")) or _names_table(column, table)


def _names_table(column: str, table: str) -> bool:
    """Return True for names such as customer, customer_id or CustomerNo of a table of customers."""
    stem = _singular(table.lower())
    rest = column.lower().removeprefix(stem).strip("_- .")
    return column.lower().startswith(stem) and rest in ("", "s", *KEY_ENDINGS)


def _singular(name: str) -> str:
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def _is_unique(table: RawTable, column: str, fraction: float = 1.0) -> bool:
    """Return True if a column has no empty cells, and at least this fraction of its cells differ."""
    words = cells_of(table, column).unique().to_pylist()
    return len(words) >= fraction * len(table.values) and "" not in words


def _all_foreign_keys(name: str, raw: RawTables, primary: Mapping[str, tuple[str, ...]]) -> tuple[ForeignKey, ...]:
    """Return the foreign keys of a table that its database declares, and those found of the other columns."""
    declared = [ForeignKey(*key) for key in raw.keys[name].foreign_keys] if name in raw.keys else []
    taken = {column for key in declared for column in key.columns}
    return (*declared, *(key for key in _foreign_keys(name, raw, primary) if not taken & {*key.columns}))


def _foreign_keys(name: str, raw: RawTables, primary: Mapping[str, tuple[str, ...]]) -> Iterator[ForeignKey]:
    """Yield the foreign keys of a table; its own primary key may be one, of a table with at most one row per parent."""
    table = raw.tables[name]
    for column in table.columns:
        fitting = [other for other in raw.tables if other != name and _refers(raw, name, column, other, primary)]
        if fitting:
            yield ForeignKey(
                (column,), min(fitting, key=lambda o: (not _names_table(column, o), -len(raw.tables[o].values)))
            )


def _refers(raw: RawTables, name: str, column: str, other: str, primary: Mapping[str, tuple[str, ...]]) -> bool:
    """Return True if a column of a table has the name of the key of another table, and most of its cells."""
    if len(primary[other]) != 1:
        return False
    key, table = primary[other][0], raw.tables[name]
    same_name = column.lower() == key.lower() and key.lower() not in KEY_ENDINGS
    if not same_name and not _names_table(column, other):
        return False
    if column in primary[name]:  # each row of the other table has at most one row
        num_others, num_rows = len(raw.tables[other].values), len(table.values)
        is_own = _names_table(column, name) and not _names_table(column, other)
        if num_others < num_rows or (num_others == num_rows and is_own):
            return False
    cells, known = cells_of(table, column).unique(), cells_of(raw.tables[other], key).unique()
    return bool(np.isin(cells.to_pylist(), known.to_pylist()).mean() > 0.5)  # orphans are an error of their own


def _composite_key(table: RawTable, foreign: Sequence[ForeignKey]) -> tuple[str, ...]:
    """Return a foreign key with a column that numbers its rows, such as line; empty if there is none."""
    for key in foreign:
        for column in table.columns:
            if column in key.columns or not _sounds_like_key(column, "line"):
                continue
            frame = table.values.select([*key.columns, column]).to_pandas()
            if not frame.duplicated().any() and not any(column in other.columns for other in foreign):
                return (*key.columns, column)
    return ()


def _root(raw: RawTables, primary: Mapping[str, tuple[str, ...]], foreign: Mapping[str, Sequence[ForeignKey]]) -> str:
    """Return the table that is no child and to which most rows belong; of equal ones, that with the most rows."""
    tops = [name for name in raw.tables if not foreign[name] and primary[name]]

    def below(name: str) -> int:
        reached, rows = {name}, 0
        while added := {n for n in raw.tables if any(k.table in reached for k in foreign[n])} - reached:
            rows += sum(len(raw.tables[n].values) for n in added)
            reached |= added
        return rows

    if not tops and (same := _same_keys(foreign)):
        raise InputError(
            argument="person",
            expected=f"one of {', '.join(same)}, which have the same keys",
            found="no name",
            remedy=f"Name the table of persons, such as --person {same[0]}",
        )
    ranked = sorted(tops, key=lambda name: (below(name), len(raw.tables[name].values)), reverse=True)
    if not ranked or not below(ranked[0]):
        raise _unlinked(raw)
    return ranked[0]


def _same_keys(foreign: Mapping[str, Sequence[ForeignKey]]) -> list[str]:
    """Return the tables that refer to a table that refers to them."""
    pairs = {(name, key.table) for name, keys in foreign.items() for key in keys}
    return [name for name in foreign if any((name, other) in pairs and (other, name) in pairs for other in foreign)]


def _unlinked(raw: RawTables) -> InputError:
    return InputError(
        "tables that are linked by keys: a column of one table with the cells of a key of another one",
        ", ".join(raw.tables),
        "Name the keys in a schema, set --person TABLE, or fit one file",
    )


def _orders(raw: RawTables, order: str | None, children: set[str]) -> dict[str, str]:
    """Return the column by which the rows of each child table are sorted."""
    if order is None:
        return {}
    table, _, column = order.rpartition(".")
    found = {name: column for name in children if table in ("", name) and column in raw.tables[name].columns}
    if not found:
        names = [f"{name}.{c}" for name in sorted(children) for c in raw.tables[name].columns]
        raise InputError.unknown_name("order", order, names, alternatives=" of the tables")
    return found


def _schema(raw: RawTables, keys: TableKeys, generated: set[str], primary: Mapping[str, tuple[str, ...]]) -> Schema:
    """Return the schema of one table, whose keys are identifiers and whose keys of lookup tables are categorical."""
    table = raw.tables[keys.name]
    base = detect_columns(table)
    copied = {name for key in keys.foreign_keys if key.table in generated for name in key.columns}
    lookups = [key for key in keys.foreign_keys if key.table not in generated]
    looked_up = {name: (key.table, primary[key.table][i]) for key in lookups for i, name in enumerate(key.columns)}

    def adapted(column: Column) -> Column:
        if column.name in copied or (column.name in keys.primary_key and column.name not in looked_up):
            return column if isinstance(column, Identifier) else Identifier(column.name, dtype=column.dtype)
        if column.name in looked_up:
            other, key = looked_up[column.name]
            words = tuple(sorted({*cells_of(raw.tables[other], key).to_pylist()}))
            missing = "" if "" in cells_of(table, column.name).unique().to_pylist() else None
            return Categorical(column.name, words, missing=missing, dtype=column.dtype)
        return column

    return with_relations(table, Schema(tuple(map(adapted, base))))
