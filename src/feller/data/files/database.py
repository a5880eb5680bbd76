"""Reading and writing of database tables with SQLAlchemy, which is imported on first use."""

import contextlib
import datetime
import decimal
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from feller.core.errors import InputError, UsageError, message_of
from feller.core.optional_dependency import require_package
from feller.data.database_urls import connection_url, is_query, selection_of, without_secrets

ROWS_PER_FETCH = 50_000
"""Number of rows that are fetched from a database at a time."""
MAX_LISTED = 20
"""Maximum number of tables that are named in a message."""


def read_frames(source: str) -> Iterator[pd.DataFrame]:
    """Yield the rows of a table or of the result of a query as data frames of at most `ROWS_PER_FETCH` rows.

    Rows of a table come in the order of its primary key. Integers are Int64, Booleans boolean, other numbers float64,
    dates and times datetime64, and texts object.

    Args:
        source: Database URL without password, followed by #TABLE, #SCHEMA.TABLE or #QUERY.

    Raises:
        InputError: If the database cannot be opened, the query fails, or a column has other values.
        UsageError: If there is no such table, or the URL names none of several.
    """
    sql = require_package("sqlalchemy", "reading a database", "sql")
    with _connection(source) as connection:
        selection = selection_of(source)
        if is_query(selection):
            statement = sql.text(selection)
        else:
            inspector = sql.inspect(connection)
            name, schema = _find_table(source, selection, inspector)
            found = inspector.get_columns(name, schema=schema)  # without foreign keys, which may be invalid
            table = sql.table(name, *(sql.column(entry["name"], entry["type"]) for entry in found), schema=schema)
            key = inspector.get_pk_constraint(name, schema=schema).get("constrained_columns") or ()
            statement = sql.select(table).order_by(*(table.columns[column] for column in key))
        result = connection.execution_options(stream_results=True, max_row_buffer=ROWS_PER_FETCH).execute(statement)
        if not result.returns_rows:
            raise InputError("a query that returns rows", "none", file=source)
        names, first_row = [*map(str, result.keys())], 1
        for rows in result.partitions(ROWS_PER_FETCH):
            columns = {
                f"{j}": _series([row[j] for row in rows], name, first_row, source) for j, name in enumerate(names)
            }
            yield pd.DataFrame(columns).set_axis(names, axis=1)
            first_row += len(rows)
        if first_row == 1:
            yield pd.DataFrame(columns=names, dtype=object)


@dataclass(frozen=True)
class DeclaredKeys:
    """Keys of a database table."""

    primary_key: tuple[str, ...]
    foreign_keys: tuple[tuple[tuple[str, ...], str], ...]
    """Columns of each foreign key, and the table to whose primary key they refer."""


def linked_tables(source: str) -> list[str]:
    """Return the names of the tables of a database URL that names several; empty for a single table.

    These are all tables, without views, if the URL names none; otherwise those in `#FIRST,SECOND`.

    Raises:
        InputError: If the database cannot be opened.
        UsageError: If there is no such table.
    """
    selection = selection_of(source)
    if is_query(selection) or (selection and "," not in selection):
        return []
    sql = require_package("sqlalchemy", "reading a database", "sql")
    with _connection(source) as connection:
        inspector = sql.inspect(connection)
        known, names = inspector.get_table_names(), [name.strip() for name in selection.split(",") if name.strip()]
        if selection in known or selection in inspector.get_view_names():
            return []
        names = [*dict.fromkeys(names)] or known
        for name in names:
            _find_table(source, name, inspector)
        return names if len(names) > 1 else []


def declared_keys(source: str, names: Sequence[str]) -> dict[str, DeclaredKeys]:
    """Return the keys of tables of a database; foreign keys to tables that are not in `names` are left out."""
    sql = require_package("sqlalchemy", "reading a database", "sql")
    with _connection(source) as connection:
        inspector = sql.inspect(connection)
        return {name: _declared(name, names, inspector) for name in names}


def _declared(name: str, names: Sequence[str], inspector: Any) -> DeclaredKeys:
    """Return the keys of a table; foreign keys refer to the primary keys of other tables in `names`."""
    known = inspector.get_table_names()
    places = {other: (None, other) if other in known else _split(other) for other in names}

    def place(schema: str | None, table: str) -> tuple[str, str]:
        return schema or str(inspector.default_schema_name), table

    named = {place(*where): other for other, where in places.items()}

    def primary(other: str) -> tuple[str, ...]:
        schema, table = places[other]
        return tuple(inspector.get_pk_constraint(table, schema=schema).get("constrained_columns") or ())

    foreign = []
    schema, table = places[name]
    for key in inspector.get_foreign_keys(table, schema=schema):
        other = named.get(place(key["referred_schema"], key["referred_table"]))
        columns = dict(zip(key["referred_columns"], key["constrained_columns"], strict=False))  # may be invalid
        if other is not None and {*columns} == {*primary(other)}:
            foreign.append((tuple(columns[column] for column in primary(other)), other))
    return DeclaredKeys(primary(name), tuple(foreign))


@contextlib.contextmanager
def writer(target: str, *, overwrite: bool) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Return a function that appends rows to a new database table, whose columns have the types of the first rows.

    If an error occurs, a table that did not exist before is removed again.

    Args:
        target: Database URL without password, followed by #TABLE or #SCHEMA.TABLE.
        overwrite: True to replace an existing table.

    Raises:
        InputError: If the database cannot be opened or written.
        UsageError: If the table exists and `overwrite` is False, or the URL names no table.
    """
    sql = require_package("sqlalchemy", "writing to a database", "sql")
    selection = selection_of(target)
    if not selection or is_query(selection):
        raise UsageError(argument="out", expected="the name of a table after #", found=selection or "none", file=target)
    with _connection(target, creates=True) as connection:
        schema, name = _split(selection)
        exists = sql.inspect(connection).has_table(name, schema=schema)
        if exists and not overwrite:
            raise UsageError("table exists", remedy="Replace the table with --overwrite, or name another", file=target)
        is_first = True

        def append(frame: pd.DataFrame) -> None:
            nonlocal is_first
            mode = "append" if not is_first else "replace" if overwrite else "fail"
            frame.to_sql(name, connection, schema=schema, if_exists=mode, index=False, chunksize=ROWS_PER_FETCH)
            is_first = False

        try:
            yield append
            connection.commit()
        except BaseException:
            connection.rollback()
            if not exists and sql.inspect(connection).has_table(name, schema=schema):
                sql.Table(name, sql.MetaData(), schema=schema).drop(connection)
                connection.commit()
            raise


@contextlib.contextmanager
def _connection(source: str, *, creates: bool = False) -> Iterator[Any]:
    """Connect to a database; errors of the database become an InputError without the password."""
    sql = require_package("sqlalchemy", "reading a database", "sql")
    try:
        url = sql.make_url(connection_url(source))
        engine = sql.create_engine(url)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the driver of the database is not installed: {error.name}", remedy=f"pip install {error.name}"
        ) from None
    except (sql.exc.ArgumentError, ValueError) as error:
        raise UsageError(
            argument="data",
            expected="a database URL as of SQLAlchemy, such as sqlite:///shop.db#orders",
            found=without_secrets(message_of(error), source),
        ) from None
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    if is_file and not creates and not url.database.startswith("file:") and not os.path.isfile(url.database):
        raise InputError("a database file", "none", file=source)  # SQLite would create an empty one
    try:
        with engine.connect() as connection:
            yield connection
    except sql.exc.SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise InputError(without_secrets(message_of(cause, 300), source), file=source) from None
    finally:
        engine.dispose()


def _split(name: str) -> tuple[str | None, str]:
    schema, _, table = name.rpartition(".")
    return schema or None, table


def _find_table(source: str, selection: str, inspector: Any) -> tuple[str, str | None]:
    """Return the name and the database schema of a table."""
    names = [*inspector.get_table_names(), *inspector.get_view_names()]
    if not selection:
        if len(names) == 1:
            return names[0], None
        listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
        raise UsageError(
            argument="data",
            expected="the name of a table, or a query, after #",
            found=f"none; the database has {listed or 'no tables'}",
            file=source,
        )
    if selection in names:
        return selection, None
    schema, table = _split(selection)
    if schema is not None and inspector.has_table(table, schema=schema):
        return table, schema
    raise UsageError.unknown_name("table", selection, names)


_NUMBERS = (float, decimal.Decimal, np.floating)
_TIMES = (datetime.datetime, datetime.date)


def _series(values: Sequence[Any], name: str, first_row: int, source: str) -> pd.Series:
    """Return values of one column as a series of the dtype that fits all of them."""
    types = {type(value) for value in values} - {type(None)}

    def all_are(*kinds: type) -> bool:
        return all(issubclass(cls, kinds) for cls in types)

    if not types:
        return pd.Series(values, dtype=object)
    if types == {bool}:
        return pd.Series(values, dtype="boolean")
    if all_are(int) and bool not in types:
        return pd.Series(values, dtype="Int64")
    if all_are(int, *_NUMBERS) and bool not in types:
        return pd.Series([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    if all_are(*_TIMES):
        try:
            return pd.Series(np.array([_naive(value) for value in values], dtype="datetime64[us]"))
        except (ValueError, OverflowError):
            return pd.Series([None if value is None else str(value) for value in values], dtype=object)
    if all_are(str, datetime.time, datetime.timedelta) or any(cls.__name__ == "UUID" for cls in types):
        return pd.Series([None if value is None else str(value) for value in values], dtype=object)
    usual = max(types, key=lambda cls: sum(type(value) is cls for value in values))
    is_mixed = issubclass(usual, (str, int, *_NUMBERS, *_TIMES))
    row = next(i for i, value in enumerate(values) if value is not None and (not is_mixed or type(value) is not usual))
    raise InputError(
        f"{usual.__name__} values, as in other rows" if is_mixed else "numbers, texts, dates or Booleans",
        f"a value of type {type(values[row]).__name__}",
        "Convert or leave out the column in a query: URL#SELECT ...",
        file=source,
        row=first_row + row,
        column=name,
    )


def _naive(value: datetime.date | None) -> datetime.date | None:
    """Return a time in UTC without its zone."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value
